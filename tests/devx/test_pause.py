"""Pausing in a trio task: where it opens, what it needs, what becomes of it in cancelled scopes."""

from __future__ import annotations

import asyncio
import bdb
import contextlib
import signal
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import ep_repl
import pytest
import trio
import trio.testing
from repl_tree import MODULES, tree, until_asked
from repl_user import User

import tractor
import tractor.devx.debug as debug
from tractor._errors import DebugStateError
from tractor.devx.debug import DebugStatus, Lock
from tractor.devx.debug.lock._debugger import debugger_of
from tractor.devx.debug.lock._session import acquire
from tractor.devx.debug.lock._status import Holder
from tractor.runtime._vars import runtime_vars

pytestmark = pytest.mark.usefixtures("forked_actors")


def root(**kwargs: Any) -> Any:
    kwargs = {"debug_mode": True, "maybe_enable_greenback": False, **kwargs}
    return tractor.open_root_actor(**kwargs)


def test_it_opens_in_the_callers_frame(user: User, capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with root():
            uid = tractor.current_actor().aid.uid
            await tractor.pause()
        err = capfd.readouterr().err
        assert "Opening a pdb REPL in paused actor\n" in err
        after = err.partition("Opening a pdb REPL in paused actor\n")[2].split("\n")
        assert [line for line in after if line][:2] == [">(", f"|_{uid}"]
        assert after[3].startswith("<Task '")

    trio.run(main)
    (prompt,) = user.prompts
    assert (prompt["kind"], prompt["function"]) == ("pause", "main")


def test_it_opens_in_the_caller_of_an_api_frame(user: User) -> None:
    async def my_pause() -> None:
        await tractor.pause(api_frame=sys._getframe())

    async def main() -> None:
        async with root():
            await my_pause()

    trio.run(main)
    assert user.prompts[0]["function"] == "main"


@pytest.mark.parametrize("debug_mode", [True, False])
def test_it_works_with_and_without_debug_mode(user: User, debug_mode: bool) -> None:
    async def main() -> None:
        async with root(debug_mode=debug_mode):
            await tractor.pause()
            await debug.maybe_pause_bp()

    trio.run(main)
    assert len(user.prompts) == 1 + debug_mode


def test_the_outdated_name_warns(user: User) -> None:
    async def main() -> None:
        async with root():
            with pytest.warns(DeprecationWarning, match=r"use `tractor\.pause\(\)`"):
                await tractor.breakpoint()

    trio.run(main)
    assert user.prompts[0]["function"] == "main"


def test_it_needs_a_runtime() -> None:
    with pytest.raises(tractor.NoRuntime):
        trio.run(tractor.pause)


def test_quitting_leaves_the_task_and_opens_no_repl_in_its_own_actor(user: User) -> None:
    user.answer = lambda prompt: "q"

    async def main() -> None:
        async with root():
            await tractor.pause()

    with pytest.raises(bdb.BdbQuit):
        trio.run(main)
    assert [prompt["kind"] for prompt in user.prompts] == ["pause"]


def test_quitting_in_a_child_opens_the_parents(user: User) -> None:
    user.answer = lambda prompt: "q" if prompt["kind"] == "pause" else "c"

    async def main() -> None:
        async with tree() as an:
            await an.run_in_actor(ep_repl.below, name="top", depth=1, what="pause")

    with pytest.raises(tractor.RemoteActorError) as info:
        trio.run(main)
    assert info.value.src_type is bdb.BdbQuit
    assert user.actors == ["bottom_pause", "top", "root"]


@pytest.mark.parametrize("shield", [True, False])
def test_in_a_cancelled_scope(user: User, shield: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """Unshielded it fails with a hint; shielded it opens, and the cancellation goes on afterwards."""

    async def main() -> None:
        async with root():
            with trio.CancelScope() as scope:
                scope.cancel()
                await tractor.pause(shield=shield)
                await trio.lowlevel.checkpoint()
            assert scope.cancelled_caught

    trio.run(main)
    assert len(user.prompts) == shield
    err = capfd.readouterr().err
    assert ("Failed to REPl via `_pause()`" in err) is not shield
    assert ("await tractor.pause(shield=True)" in err) is not shield


def test_the_shield_covers_the_wait_for_the_lock(user: User) -> None:
    async def main() -> None:
        let_go = user.keep_next()
        async with tree() as an, trio.open_nursery() as tn:
            ann = await an.start_actor("ann", enable_modules=MODULES)
            tn.start_soon(ann.run, ep_repl.pause)
            await until_asked(1)
            with trio.CancelScope() as scope:
                scope.cancel()
                async with trio.open_nursery() as paused:
                    paused.start_soon(partial(tractor.pause, shield=True))
                    with trio.CancelScope(shield=True):
                        await until_asked(2)
                    let_go()
            assert user.actors == ["ann", "root"]
            await an.cancel()

    trio.run(main)


def test_a_holder_that_asks_again_goes_on(user: User) -> None:
    """As when the user steps over a further `pause()`."""

    async def main() -> None:
        async with root():
            task = trio.lowlevel.current_task()
            lease = await acquire(Holder(task, repr(task)))
            assert DebugStatus.state() == "held"
            assert DebugStatus.holder() == repr(task)
            await tractor.pause()
            await debug.post_mortem(tb=_some_tb())
            assert user.prompts == []
            with pytest.raises(DebugStateError):
                await acquire(Holder(task, repr(task)))
            lease.release()
            lease.release()
            assert lease.released
            assert DebugStatus.state() == "released"
            await tractor.pause()

    trio.run(main)
    assert len(user.prompts) == 1


def _some_tb() -> Any:
    try:
        raise ValueError
    except ValueError as exc:
        return exc.__traceback__


def test_a_task_that_ends_gives_the_repl_back() -> None:
    """The user has stepped until the task's end, and an exception took it there."""

    async def forgets() -> None:
        task = trio.lowlevel.current_task()
        await acquire(Holder(task, repr(task)))
        raise ValueError

    async def main() -> None:
        async with root():
            with pytest.RaisesGroup(ValueError):
                async with trio.open_nursery() as tn:
                    tn.start_soon(forgets)
            assert Lock.statistics().holder is None
            with trio.fail_after(20):
                (await acquire(Holder("next", "next"))).release()

    trio.run(main)


def test_released_from_another_thread() -> None:
    async def main() -> None:
        async with root():
            lease = await acquire(Holder("thread", "<Thread(x)>"))
            assert Lock.statistics().holder_task == "<Thread(x)>"
            await trio.to_thread.run_sync(lease.release)
            await trio.testing.wait_all_tasks_blocked()
            assert Lock.statistics().holder is None

    trio.run(main)


def test_a_lease_of_a_runtime_that_is_over_is_released_without_a_word() -> None:
    leases = []

    async def main() -> None:
        async with root():
            task = trio.lowlevel.current_task()
            leases.append(await acquire(Holder(task, "it")))

    before = signal.getsignal(signal.SIGINT)
    trio.run(main)
    leases[0].release()
    assert signal.getsignal(signal.SIGINT) is before


# -- the user's fixture --


class Fixture:
    """A `repl_fixture` that notes what it is told."""

    def __init__(self, value: object) -> None:
        self.value = value
        self.log: list[Any] = []

    @contextlib.contextmanager
    def __call__(self, *, repl: Any, maybe_bxerr: Any) -> Iterator[object]:
        self.log.append((type(repl).__name__, maybe_bxerr and maybe_bxerr.value))
        yield self.value
        self.log.append(("left", Lock.is_held()))


@pytest.mark.parametrize("by", ["argument", "variable"])
@pytest.mark.parametrize("value", [True, None, False])
def test_repl_fixture(user: User, by: str, value: object) -> None:
    fixture = Fixture(value)

    async def main() -> None:
        async with root():
            given: Any = fixture if by == "argument" else None
            if by == "variable":
                runtime_vars().repl_fixture = fixture
            await tractor.pause(repl_fixture=given)
            error = ValueError("it")
            try:
                raise error
            except ValueError:
                await tractor.post_mortem(repl_fixture=given)
            expected = [("FakeREPL", None), ("left", True), ("FakeREPL", error), ("left", True)]
            assert fixture.log == expected
            assert not Lock.is_held()

    trio.run(main)
    assert len(user.prompts) == (0 if value is False else 2)


def test_a_fixture_that_fails_releases_everything(user: User) -> None:
    @contextlib.contextmanager
    def failing(**_kwargs: Any) -> Iterator[None]:
        raise ValueError("the fixture")
        yield

    async def main() -> None:
        async with root():
            with pytest.raises(ValueError, match="the fixture"):
                await tractor.pause(repl_fixture=failing)
            assert not Lock.is_held()
            await tractor.pause()

    trio.run(main)
    assert len(user.prompts) == 1


@pytest.mark.parametrize("debug_mode", [True, False])
def test_the_loop_of_another_thread_is_not_the_actors(user: User, debug_mode: bool) -> None:
    async def elsewhere() -> None:
        for wait in (tractor.pause, partial(debug.maybe_wait_for_debugger, child_in_debug=True)):
            with pytest.raises(RuntimeError, match="another trio loop than the actor's"):
                await wait()
        try:
            raise ValueError
        except ValueError:
            with pytest.raises(RuntimeError, match="another trio loop than the actor's"):
                await tractor.post_mortem()

    async def main() -> None:
        async with root(debug_mode=debug_mode):
            await trio.to_thread.run_sync(trio.run, elsewhere)
            assert not Lock.is_held()
            await tractor.pause()

    trio.run(main)
    assert len(user.prompts) == 1


def test_a_fixture_that_ends_the_program_gives_the_terminal_back(user: User) -> None:
    @contextlib.contextmanager
    def leaving(**_kwargs: Any) -> Iterator[None]:
        yield
        raise SystemExit(3)

    async def main() -> None:
        async with root():
            with pytest.raises(SystemExit):
                await tractor.pause(repl_fixture=leaving)
            assert not Lock.is_held()
            await tractor.pause()

    trio.run(main)
    assert len(user.prompts) == 2


def test_released_by_a_signal_handler(user: User) -> None:
    """It comes in the middle of anything: what is kept of the lock changes later, in the loop."""

    async def main() -> None:
        async with root() as actor:
            hooks = debugger_of(actor)
            lease = await acquire(Holder("me", "<Thread(me)>"))
            lease.repl = ep_repl.FakeREPL(lease.release)
            lease.repl.redraw_prompt = lambda: False
            signal.raise_signal(signal.SIGINT)
            assert lease.released
            assert Lock.is_held()
            # The next one is an ordinary ctrl-c already.
            assert signal.getsignal(signal.SIGINT) is not debug.sigint_shield
            while Lock.is_held():
                await trio.sleep(0)
            assert hooks.lease is None
            # Nobody has it, and the shield is still up: it is for the handler before.
            hooks.shield.install()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)

    trio.run(main)


def test_who_waits_for_a_repl_that_steps_is_told(
    user: User, capfd: pytest.CaptureFixture[str]
) -> None:
    """The user may have stepped over the wait for just that one."""

    hint = "waits for the REPL, with which <Thread(me)> is being stepped through"

    async def main() -> None:
        async with tree() as an:
            ann = await an.start_actor("ann", enable_modules=MODULES)
            bob = await an.start_actor("bob", enable_modules=MODULES)
            lease = await acquire(Holder("me", "<Thread(me)>"))
            lease.repl = repl = ep_repl.FakeREPL(lease.release)
            async with trio.open_nursery() as tn:
                for asked, child in enumerate((ann, bob), 2):
                    repl.is_interacting = interacting = child is ann
                    tn.start_soon(child.run, ep_repl.pause)
                    await until_asked(asked)
                    tn.start_soon(tractor.pause)
                    await trio.testing.wait_all_tasks_blocked(0.01)
                    assert capfd.readouterr().err.count(hint) == (0 if interacting else 2)
                lease.release()
            await an.cancel()

    trio.run(main)
    assert len(user.prompts) == 4


# -- waiting for it --


def test_waiting_for_the_debugger(user: User) -> None:
    async def main() -> None:
        let_go = user.keep_next()
        async with tree() as an, trio.open_nursery() as tn:
            assert not await debug.maybe_wait_for_debugger(poll_delay=0)
            ann = await an.start_actor("ann", enable_modules=MODULES)
            tn.start_soon(ann.run, ep_repl.pause)
            await user.wait_for(1)
            waited = []

            async def wait() -> None:
                waited.append(await debug.maybe_wait_for_debugger(header_msg="test"))

            tn.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert waited == []
            let_go()
            while not waited:
                await trio.sleep(0.01)
            assert waited == [True]
            await an.cancel()

    trio.run(main)


def test_without_debug_mode_nobody_waits() -> None:
    async def main() -> None:
        async with root(debug_mode=False):
            assert not await debug.maybe_wait_for_debugger()
            assert not await debug.maybe_wait_for_debugger(child_in_debug=True, poll_delay=0)

    trio.run(main)


def test_in_guest_mode(user: User) -> None:
    """Where trio is a guest of an asyncio loop, as in an infected actor."""

    async def trio_main() -> None:
        async with tree() as an:
            ann = await an.start_actor("ann", enable_modules=MODULES)
            await tractor.pause()
            assert await ann.run(ep_repl.pause) == "ann"
            await an.cancel()

    async def aio_main() -> None:
        done = asyncio.get_running_loop().create_future()
        trio.lowlevel.start_guest_run(
            trio_main,
            run_sync_soon_threadsafe=asyncio.get_running_loop().call_soon_threadsafe,
            done_callback=done.set_result,
        )
        (await done).unwrap()

    asyncio.run(aio_main())
    assert user.actors == ["root", "ann"]


def test_debug_mode_needs_the_main_thread() -> None:
    async def main() -> None:
        async with root():
            pass

    async def in_thread() -> None:
        with pytest.raises(RuntimeError, match="needs the main thread"):
            await trio.to_thread.run_sync(trio.run, main)

    trio.run(in_thread)


@pytest.mark.parametrize("method", ["mp_spawn", "mp_forkserver"])
def test_debug_mode_needs_a_backend_that_can(method: str) -> None:
    async def main() -> None:
        async with root(start_method=method):
            pass

    with pytest.raises(
        RuntimeError, match=r"supported: \['trio', 'main_thread_forkserver', 'zygote', 'auto'\]"
    ):
        trio.run(main)


def test_importing_it_loads_no_pdb() -> None:
    import subprocess

    code = (
        "import sys, tractor, tractor.devx.debug._post_mortem\n"
        "assert not {'pdb', 'pdbp', 'asyncio', 'greenback'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
