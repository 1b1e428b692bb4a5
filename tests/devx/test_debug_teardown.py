"""Nothing is cancelled or killed from under the user's fingers; and ctrl-c while somebody has the REPL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path
from typing import Any

import ep_repl
import pytest
import trio
import trio.testing
from repl_tree import MODULES, Results, tree, until, until_asked
from repl_user import User

import tractor
from tractor.devx.debug import Lock
from tractor.devx.debug.lock._debugger import Debugger, debugger_of
from tractor.devx.debug.lock._request import LocalAsk
from tractor.devx.debug.lock._session import acquire
from tractor.devx.debug.lock._status import Holder
from tractor.runtime._hooks import RuntimeHooks
from tractor.spawn._contract import selected_start_method

pytestmark = pytest.mark.usefixtures("forked_actors")

LONGER_THAN_THE_LADDER = 3.2
"""Seconds in which a child that does not answer would have been killed."""


@pytest.mark.parametrize("depth", [1, 2])
def test_a_nursery_that_is_cancelled_waits(user: User, depth: int) -> None:
    """Also for longer than all limits of its ladder together."""

    async def main() -> None:
        let_go = user.keep_next()
        async with tree() as an:
            if depth == 1:
                await an.run_in_actor(ep_repl.pause, name="top")
            else:
                await an.run_in_actor(ep_repl.below, name="top", depth=1, what="pause")
            prompt = await user.wait_for(1)

            async def at_leisure() -> None:
                await trio.sleep(LONGER_THAN_THE_LADDER)
                os.kill(prompt["pid"], 0)
                assert an.statistics().escalations == 0
                let_go()

            async with trio.open_nursery() as tn:
                tn.start_soon(at_leisure)
                await an.cancel()
            assert an.statistics().escalations == 0

    trio.run(main)
    assert len(user.prompts) == 1


def test_a_timeout_of_the_root_waits(user: User) -> None:
    async def main() -> None:
        let_go = user.keep_next()
        with trio.fail_after(60) as scope:
            async with tree() as an:
                await an.run_in_actor(ep_repl.crash, name="ann")
                await user.wait_for(1)
                scope.deadline = trio.current_time()
                tractor.current_actor().io_nursery.start_soon(_later, let_go)
                await trio.sleep_forever()

    # The child's own error comes in time to be the block's.
    with pytest.raises(tractor.RemoteActorError):
        trio.run(main)
    assert user.actors == ["ann", "root"]


async def _later(let_go: Any) -> None:
    await trio.testing.wait_all_tasks_blocked(0.1)
    let_go()


def test_an_error_of_a_sibling_waits_for_the_repl(user: User) -> None:
    """The second error is the nursery's; who is at the prompt goes on undisturbed, and then its own error counts."""

    async def main() -> None:
        let_go = user.keep_next()
        async with tree() as an:
            await an.run_in_actor(ep_repl.crash, name="ann", text="at the prompt")
            await until_asked(1)
            await an.run_in_actor(ep_repl.crash, name="ben", text="waits")
            await until_asked(2)
            bystander = await an.start_actor("cid", enable_modules=MODULES)
            pid = await bystander.run(ep_repl.pid)
            os.kill(pid, signal.SIGKILL)
            with trio.CancelScope(shield=True):
                # The nursery is failing now.
                await until(lambda: an.statistics().reaped == 1)
                let_go()
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as info:
        trio.run(main)
    assert user.actors == ["ann", "ben", "root"]
    assert sorted(type(exc).__name__ for exc in info.value.exceptions) == [
        "ActorFailure",
        "RemoteActorError",
        "RemoteActorError",
    ]


def test_a_cancel_request_is_acknowledged_after_the_release(user: User) -> None:
    async def main() -> None:
        let_go = user.keep_next()
        async with tree() as an, trio.open_nursery() as tn:
            ann = await an.start_actor("ann", enable_modules=MODULES)
            ben = await an.start_actor("ben", enable_modules=MODULES)
            tn.start_soon(partial(Results().keep, "ann", ann.run, ep_repl.pause))
            await until_asked(1)
            tn.start_soon(partial(Results().keep, "ben", ben.run, ep_repl.pause))
            await until_asked(2)
            # One is at the prompt and hears nothing; the other one waits, and hears.
            assert not await ann.cancel_actor(timeout=0.2)
            assert not await ben.cancel_actor(timeout=0.2)
            await until_asked(2)
            done = trio.Event()

            async def cancel() -> None:
                assert await ben.cancel_actor(timeout=30)
                done.set()

            tn.start_soon(cancel)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert not done.is_set()
            let_go()
            await done.wait()

    trio.run(main)
    assert user.actors == ["ann", "ben"]


def test_sigterm_of_the_root_waits(user: User) -> None:
    async def main() -> None:
        let_go = user.keep_next()
        async with tree() as an:
            await an.run_in_actor(ep_repl.pause, name="ann")
            prompt = await user.wait_for(1)
            tractor.current_actor().cancel_soon()
            await trio.testing.wait_all_tasks_blocked(0.05)
            os.kill(prompt["pid"], 0)
            assert not tractor.current_actor().main_scope.cancel_called
            let_go()
            await trio.sleep_forever()

    trio.run(main)
    assert user.actors == ["ann"]


def test_a_pause_on_the_way_out_is_waited_for(user: User) -> None:
    """A cancelled child that asks only then has its time, too."""

    async def main() -> None:
        let_go = user.keep_next()
        async with tree() as an:
            ann = await an.start_actor("ann", enable_modules=MODULES)
            async with trio.open_nursery() as tn:
                tn.start_soon(partial(Results().keep, "ann", ann.run, ep_repl.pause_after_nap))
                await ann.run(ep_repl.pid)
                tn.start_soon(an.cancel)
                await user.wait_for(1)
                await trio.sleep(LONGER_THAN_THE_LADDER)
                let_go()
            assert an.statistics().escalations == 0

    trio.run(main)
    assert user.actors == ["ann"]


@pytest.mark.parametrize("depth", [1, 2])
def test_one_that_pauses_again_and_again_ends_all_the_same(user: User, depth: int) -> None:
    """The teardown waits for the sessions that are open or asked for, not for those that follow."""

    async def main() -> None:
        let_go = user.keep_next()
        async with tree() as an:
            what: dict[str, Any] = {"times": 10**6}
            if depth == 1:
                await an.run_in_actor(ep_repl.pause, name="top", **what)
            else:
                await an.run_in_actor(ep_repl.below, name="top", depth=1, what="pause", **what)
            await user.wait_for(1)
            tractor.current_actor().io_nursery.start_soon(_later, let_go)
            await an.cancel()

    trio.run(main)
    assert len(user.prompts) < 20


def test_a_root_that_fails_opens_after_its_children(user: User) -> None:
    async def main() -> None:
        let_go = user.keep_next()
        async with tree() as an:
            await an.run_in_actor(ep_repl.crash, name="ann")
            await until_asked(1)
            await an.run_in_actor(ep_repl.crash, name="ben")
            await until_asked(2)
            let_go()
            raise AssertionError("the root's own")

    with pytest.raises(BaseExceptionGroup) as info:
        trio.run(main)
    assert user.actors == ["ann", "ben", "root"]
    assert "the root's own" in {str(exc) for exc in info.value.exceptions}


def test_a_root_that_fails_while_a_child_boots(user: User) -> None:
    async def main() -> None:
        async with tree() as an, trio.open_nursery() as tn:
            tn.start_soon(an.start_actor, "late")
            await until(lambda: bool(an.children))
            raise ValueError("the root's own")

    with pytest.raises(ValueError, match="the root's own"):
        trio.run(main)
    assert user.actors == ["root"]


def test_stepping_into_the_own_teardown_does_not_hang() -> None:
    """The user steps over the end of the block: who holds the REPL is who tears down."""

    async def main() -> None:
        async with tree() as an:
            await an.start_actor("ann")
            task = trio.lowlevel.current_task()
            await acquire(Holder(task, repr(task)))
            await an.cancel()

    trio.run(main)


# -- ctrl-c --


def test_a_ctrl_c_is_for_who_has_the_repl(user: User) -> None:
    """Sent to every process of the tree, as a terminal does: all live on.  With nobody at a prompt it counts."""

    async def main() -> None:
        let_go = user.keep_next()
        results = Results()
        async with tree() as an, trio.open_nursery() as tn:
            ann = await an.start_actor("ann", enable_modules=MODULES)
            ben = await an.start_actor("ben", enable_modules=MODULES)
            run = partial(ann.run, ep_repl.below, depth=2, what="pause")
            tn.start_soon(partial(results.keep, "ann", run))
            prompt = await user.wait_for(1)
            mids = [await ann.run(ep_repl.pid), await ben.run(ep_repl.pid)]
            for pid in (prompt["pid"], *mids, os.getpid()):
                os.kill(pid, signal.SIGINT)
            for portal in (ann, ben):
                assert await portal.run(ep_repl.pause_for, seconds=0.05) == "gave up"
            let_go()
            await until(lambda: "ann" in results)
            assert results["ann"] == "bottom_pause"

            # A busy machine: they see it only now, when nobody is at a prompt any more.
            for pid in mids:
                os.kill(pid, signal.SIGINT)
            for portal in (ann, ben):
                assert await portal.run(ep_repl.pause_for, seconds=60) == "paused"
            await an.cancel()

    trio.run(main)


def test_a_ctrl_c_of_one_child_alone_is_meant(user: User) -> None:
    async def main() -> None:
        async with tree() as an:
            ann = await an.start_actor("ann", enable_modules=MODULES)
            pid = await ann.run(ep_repl.pid)
            assert await ann.run(ep_repl.pause) == "ann"

            async def interrupt() -> None:
                async with ann.open_context(ep_repl.context_nap) as (ctx, _):
                    os.kill(pid, signal.SIGINT)
                    await ctx.wait_for_result()

            with pytest.raises(tractor.ContextCancelled):
                await interrupt()

    trio.run(main)


def test_a_ctrl_c_while_the_root_is_at_the_prompt(user: User) -> None:
    """The root is deaf then: children ask it, and hear after the release that it was not meant for them."""

    async def main() -> None:
        async with tree() as an:
            ann = await an.start_actor("ann", enable_modules=MODULES)
            deep = await ann.run(ep_repl.start_deeper)
            pids = [await ann.run(ep_repl.pid), deep]

            def interrupt(_prompt: object) -> str:
                for pid in (*pids, os.getpid()):
                    os.kill(pid, signal.SIGINT)
                time.sleep(0.1)
                return "c"

            user.answer = interrupt
            await tractor.pause()
            assert await ann.run(ep_repl.pid) == pids[0]
            await trio.sleep(0.1)
            for pid in pids:
                os.kill(pid, 0)
            assert await ann.run(ep_repl.pid) == pids[0]
            await an.cancel()

    trio.run(main)
    assert user.actors == ["root"]


class _Verdict:
    """A debugger whose parts a test sets, and what came of a ctrl-c."""

    def __init__(self, hooks: Debugger) -> None:
        self.hooks = hooks

    def ctrl_c(self) -> str:
        before = self.hooks.shield.up
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            return "KeyboardInterrupt"
        return "ignored" if self.hooks.shield.up and before else "restored"


def test_the_shield_in_the_root(user: User, capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with tree() as an:
            hooks = debugger_of(tractor.current_actor())
            verdict = _Verdict(hooks)
            uid = tractor.current_actor().aid.uid
            lease = await acquire(Holder("me", "<Thread(me)>"))
            lease.repl = ep_repl.FakeREPL(lease.release)
            assert verdict.ctrl_c() == "ignored"
            assert lease.repl.redrawn == 1
            err = capfd.readouterr().err
            assert f"Ignoring SIGINT while debug REPL in use by <Thread(me)> of actor {uid}" in err
            # Stepping over something that does not come back: the next one is an ordinary ctrl-c.
            lease.repl.redraw_prompt = lambda: False
            verdict.ctrl_c()
            assert lease.released
            assert signal.getsignal(signal.SIGINT).__name__ != "sigint_shield"  # type: ignore[union-attr]
            # A child has it.
            let_go = user.keep_next()
            ann = await an.start_actor("ann", enable_modules=MODULES)
            async with trio.open_nursery() as tn:
                tn.start_soon(ann.run, ep_repl.pause)
                await user.wait_for(1)
                assert verdict.ctrl_c() == "ignored"
                # Its channel is gone, and nobody has noticed yet.
                assert hooks.queue.granted is not None
                chan = hooks.queue.granted.chan
                assert chan is not None
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(chan, "connected", lambda: False)
                    assert verdict.ctrl_c() == "restored"
                await until(lambda: Lock.statistics().holder is None)
                let_go()
            await an.cancel()

    trio.run(main)


def test_the_shield_in_a_child() -> None:
    """As a child sees it: it waits; it neither has nor wants the REPL; its parent is gone."""

    class Parent:
        alive = True

        def connected(self) -> bool:
            return self.alive

    async def main() -> None:
        async with tractor.open_root_actor(debug_mode=False) as actor:
            hooks = debugger_of(actor)
            hooks.queue.lock = None
            actor.parent_chan = parent = Parent()  # type: ignore[assignment]
            verdict = _Verdict(hooks)
            try:
                hooks.shield.install()
                hooks.queue.asks.append(LocalAsk(actor.aid.uid, 1, "<Task>"))
                assert verdict.ctrl_c() == "ignored"
                parent.alive = False
                assert verdict.ctrl_c() == "restored"
                parent.alive = True
                hooks.queue.asks.clear()
                hooks.shield.install()
                actor.cancel_called = True
                assert verdict.ctrl_c() == "KeyboardInterrupt"
                actor.cancel_called = False
                hooks.shield.install()
                assert verdict.ctrl_c() == "restored"
                # From here on it is told nothing.
                parent.alive = False
                await until(lambda: actor.cancel_called)
            finally:
                actor.parent_chan = None
                actor.cancel_called = False

    # Its own runtime was cancelled, by itself.
    trio.run(main)


def test_a_shield_without_a_runtime_is_an_ordinary_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt):
        tractor.devx.sigint_shield(signal.SIGINT, None)


def test_somebody_elses_handler_stays() -> None:
    async def main() -> None:
        async with tractor.open_root_actor(debug_mode=True, maybe_enable_greenback=False):
            lease = await acquire(Holder("me", "me"))
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            lease.release()
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN

    before = signal.getsignal(signal.SIGINT)
    try:
        trio.run(main)
    finally:
        signal.signal(signal.SIGINT, before)


# -- the root's loss --


def test_a_killed_root_takes_everybody_along(user: User, tmp_path: Path) -> None:
    """Also those who are at a prompt: with the root gone, so is the terminal."""
    script = tmp_path / "prog.py"
    script.write_text(
        textwrap.dedent(
            """
            import ep_repl, trio
            from repl_tree import tree

            async def main():
                async with tree() as an:
                    await an.run_in_actor(ep_repl.below, depth=1, what="pause")

            if __name__ == "__main__":
                trio.run(main)
            """
        )
    )
    endpoints = Path(ep_repl.__file__).parent
    env = {**os.environ, "PYTHONPATH": str(endpoints)}
    user.keep_next()
    with subprocess.Popen([sys.executable, str(script)], env=env) as root:
        trio.run(user.wait_for, 1)
        at_prompt = user.prompts[0]["pid"]
        root.kill()
        root.wait()

        async def gone() -> None:
            with trio.fail_after(20):
                while _lives(at_prompt):
                    await trio.sleep(0.02)

        trio.run(gone)


def _lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


# -- without the debugger --


def test_the_hooks_do_nothing_without_debug_mode() -> None:
    async def main() -> None:
        async with tree(debug_mode=False) as an:
            ann = await an.start_actor("ann", enable_modules=MODULES)
            hooks = tractor.current_actor().hooks
            assert type(hooks) is RuntimeHooks
            assert not hooks.repl_busy()
            assert not hooks.repl_below()
            await hooks.wait_for_repl()
            await hooks.wait_for_repl_below(("x", "y"))
            hooks.note_leaving(True)
            # A forked child has what its parent has.
            inherited = set() if selected_start_method() == "trio" else set(sys.modules)
            assert set(await ann.run(ep_repl.loaded)) <= inherited
            await an.cancel()

    trio.run(main)
