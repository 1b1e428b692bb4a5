"""The terminal's lock in real trees: one at a time, first come first served, free again whatever its holder does."""

from __future__ import annotations

import contextlib
import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import ep_repl
import pytest
import trio
from repl_tree import MODULES, Results, tree, until, until_asked
from repl_user import User
from repl_wire import Wire, raw

import tractor
from tractor._errors import DebugRequestError, TransportClosed
from tractor.address._types import UnwrappedAddress
from tractor.devx.debug import DebugStatus, Lock, LockRelease, LockStatus
from tractor.devx.debug.lock._debugger import debugger_of
from tractor.devx.debug.lock._request import LocalAsk, ServedAsk, UpRequest
from tractor.devx.debug.lock._session import acquire
from tractor.devx.debug.lock._status import Holder
from tractor.msg.types import Error, Return, Start, Started, Stop, Yield

if TYPE_CHECKING:
    from tractor.ipc._chan import Channel
    from tractor.runtime._actor import Actor

pytestmark = pytest.mark.usefixtures("forked_actors")


def test_each_has_its_turn_in_the_order_of_asking(user: User, reg_addr: UnwrappedAddress) -> None:
    async def main() -> None:
        let_go = user.keep_next()
        results = Results()
        async with tree(registry_addrs=[reg_addr]) as an, trio.open_nursery() as tn:
            for i, name in enumerate(("ann", "ben", "cid")):
                portal = await an.start_actor(name, enable_modules=MODULES)
                tn.start_soon(partial(results.keep, name, portal.run, ep_repl.pause))
                await until_asked(i + 1)
            stats = Lock.statistics()
            assert stats.holder is not None
            assert [uid[0] for uid in (stats.holder, *stats.waiting)] == ["ann", "ben", "cid"]
            assert "pause" in str(stats.holder_task)
            assert Lock.subactor_in_debug == stats.holder
            assert Lock.remote_task_in_debug == stats.holder_task
            assert Lock.repr().startswith(f"<Lock held by {stats.holder}")
            # This actor itself neither has nor wants it.
            assert tractor.get_debug_req() is None
            assert not Lock.release()
            let_go()
            await until(lambda: len(results) == 3)
            assert Lock.statistics().holder is None
            await an.cancel()
        assert results == {"ann": "ann", "ben": "ben", "cid": "cid"}
        assert user.actors == ["ann", "ben", "cid"]

    trio.run(main)


def test_an_actors_own_repl_can_be_asked_about_and_given_back() -> None:
    async def main() -> None:
        async with tree() as an:
            task = trio.lowlevel.current_task()
            await acquire(Holder(task, "<this task>"))
            assert tractor.get_debug_req() is DebugStatus
            assert DebugStatus.repr() == "<DebugStatus held, holder <this task>>"
            assert DebugStatus.repl_task is task
            assert DebugStatus.is_main_trio_thread()
            # No subactor's.
            assert Lock.ctx_in_debug is None
            assert Lock.is_held()
            assert Lock.release()
            assert not Lock.is_held()
            assert not DebugStatus.release()
            DebugStatus.shield_sigint()
            assert signal.getsignal(signal.SIGINT) is tractor.devx.sigint_shield
            DebugStatus.unshield_sigint()
            assert signal.getsignal(signal.SIGINT) is not tractor.devx.sigint_shield
            await an.cancel()

    trio.run(main)


def test_every_ancestor_knows_who_is_below(user: User) -> None:
    """From three levels down; also the shield against ctrl-c is up at each level, and down again afterwards."""

    async def main() -> None:
        let_go = user.keep_next()
        results = Results()
        async with tree() as an, trio.open_nursery() as tn:
            top = await an.start_actor("top", enable_modules=MODULES)
            run = partial(results.keep, "it", top.run, ep_repl.below, depth=2, what="pause")
            tn.start_soon(run)
            prompt = await user.wait_for(1)
            holder = Lock.statistics().holder
            assert holder is not None
            assert holder[0] == prompt["actor"] == "bottom_pause"
            assert await top.run(ep_repl.lock_state) == [list(holder), 0, "none"]
            assert await top.run(ep_repl.sigint_handler) == "sigint_shield"
            assert prompt["sigint"] == "sigint_shield"
            assert signal.getsignal(signal.SIGINT).__name__ == "sigint_shield"  # type: ignore[union-attr]
            let_go()
            await until(lambda: "it" in results)
            assert await top.run(ep_repl.lock_state) == [None, 0, "none"]
            assert await top.run(ep_repl.sigint_handler) != "sigint_shield"
            assert Lock.statistics().holder is None
            await an.cancel()
        assert results["it"] == "bottom_pause"

    before = signal.getsignal(signal.SIGINT)
    trio.run(main)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("depth", [1, 3])
def test_a_killed_holder_makes_way(user: User, depth: int) -> None:
    """The next in line gets its prompt, before the dead one's parents ask, or its nursery ends the others."""

    async def main() -> None:
        user.keep_next()
        results = Results()
        async with tree() as an, trio.open_nursery() as tn:
            ann = await an.start_actor("ann", enable_modules=MODULES)
            ben = await an.start_actor("ben", enable_modules=MODULES)
            run = partial(ann.run, ep_repl.pause)
            if depth > 1:
                run = partial(ann.run, ep_repl.below, depth=depth - 1, what="pause")
            tn.start_soon(partial(results.keep, "ann", run))
            prompt = await user.wait_for(1)
            tn.start_soon(partial(results.keep, "ben", ben.run, ep_repl.pause))
            await until_asked(2)
            os.kill(prompt["pid"], signal.SIGKILL)
            await user.wait_for(2)
            await until(lambda: len(results) == 2)
            await an.cancel()

    with contextlib.suppress(tractor.ActorFailure):
        trio.run(main)
    assert user.actors[1] == "ben"
    ancestors = ["level2", "ann"] if depth == 3 else ["root"]
    assert user.actors[2:] == ancestors


def test_what_is_below_a_killed_actor_makes_way(user: User) -> None:
    """The holder's parent is killed: the way to the holder is gone, and soon the holder, too."""

    async def main() -> None:
        user.keep_next()
        results = Results()
        async with tree() as an, trio.open_nursery() as tn:
            ann = await an.start_actor("ann", enable_modules=MODULES)
            ben = await an.start_actor("ben", enable_modules=MODULES)
            pid = await ann.run(ep_repl.pid)
            run = partial(ann.run, ep_repl.below, depth=1, what="pause")
            tn.start_soon(partial(results.keep, "ann", run))
            await user.wait_for(1)
            tn.start_soon(partial(results.keep, "ben", ben.run, ep_repl.pause))
            await until_asked(2)
            os.kill(pid, signal.SIGKILL)
            await trio.sleep_forever()

    # Until it is dead the old holder still sits at its prompt.
    user.allow_clashes = True
    with pytest.raises(tractor.ActorFailure):
        trio.run(main)
    assert user.actors == ["bottom_pause", "ben", "root"]


def test_a_killed_waiter_is_forgotten(user: User) -> None:
    async def main() -> None:
        let_go = user.keep_next()
        async with tree() as an, trio.open_nursery() as tn:
            pids = {}
            for i, name in enumerate(("ann", "ben", "cid")):
                portal = await an.start_actor(name, enable_modules=MODULES)
                pids[name] = await portal.run(ep_repl.pid)
                tn.start_soon(partial(results.keep, name, portal.run, ep_repl.pause))
                await until_asked(i + 1)
            os.kill(pids["ben"], signal.SIGKILL)
            await until_asked(2)
            let_go()
            await trio.sleep_forever()

    results = Results()
    with pytest.raises(tractor.ActorFailure):
        trio.run(main)
    # The nursery's failure is then the root's own post-mortem.
    assert user.actors == ["ann", "cid", "root"]
    assert isinstance(results["ben"], tractor.TransportClosed)


def test_who_gives_up_waiting_leaves_the_queue(user: User) -> None:
    async def main() -> None:
        let_go = user.keep_next()
        results = Results()
        async with tree() as an, trio.open_nursery() as tn:
            ann = await an.start_actor("ann", enable_modules=MODULES)
            ben = await an.start_actor("ben", enable_modules=MODULES)
            tn.start_soon(partial(results.keep, "ann", ann.run, ep_repl.pause))
            await until_asked(1)
            assert await ben.run(ep_repl.pause_for, seconds=0.05) == "gave up"
            await until_asked(1)
            assert await ben.run(ep_repl.lock_state) == [None, 0, "released"]
            let_go()
            await until(lambda: "ann" in results)
            assert await ben.run(ep_repl.pause) == "ben"
            await an.cancel()

    trio.run(main)


def test_a_holder_that_hangs_up_makes_way(user: User) -> None:
    """Its channel is lost while it is still at the prompt, of which nobody can know; the next one is let in."""

    async def main() -> None:
        user.answer = lambda prompt: "hang up" if prompt["actor"] == "ann" else "c"
        let_go = user.keep_next()
        async with tree() as an, trio.open_nursery() as tn:
            for i, name in enumerate(("ann", "ben")):
                portal = await an.start_actor(name, enable_modules=MODULES)
                tn.start_soon(partial(Results().keep, name, portal.run, ep_repl.pause))
                await until_asked(i + 1)
            let_go()
            await user.wait_for(2)
            await an.cancel()

    with contextlib.suppress(tractor.ActorFailure):
        trio.run(main)
    assert user.actors[:2] == ["ann", "ben"]


def test_a_closing_root_refuses_and_lets_the_holder_finish(user: User) -> None:
    async def main() -> None:
        let_go = user.keep_next()
        refusal = ""
        async with tree() as an, trio.open_nursery() as tn:
            ann = await an.start_actor("ann", enable_modules=MODULES)
            ben = await an.start_actor("ben", enable_modules=MODULES)
            tn.start_soon(partial(Results().keep, "ann", ann.run, ep_repl.pause))
            await until_asked(1)
            tractor.current_actor().cancel_soon()
            refusal = await ben.run(ep_repl.pause_refused)
            let_go()
            await trio.sleep_forever()
        assert "Debug lock blocked for subactor" in refusal
        assert user.actors == ["ann"]

    trio.run(main)


def test_two_tasks_of_one_actor_queue_in_it(user: User) -> None:
    async def main() -> None:
        let_go = user.keep_next()
        results = Results()
        async with tree() as an, trio.open_nursery() as tn:
            ann = await an.start_actor("ann", enable_modules=MODULES)
            tn.start_soon(partial(results.keep, "ann", ann.run, ep_repl.two_tasks))
            await until_asked(1)
            let_go()
            await until(lambda: bool(results))
            await an.cancel()
        assert results["ann"] == ["a", "b"]
        assert user.actors == ["ann", "ann"]

    trio.run(main)


def test_one_armed_child_in_a_tree_that_is_not(user: User) -> None:
    async def main() -> None:
        async with tree(debug_mode=False) as an:
            quiet = await an.start_actor("quiet", enable_modules=MODULES)
            armed = await an.start_actor("armed", enable_modules=MODULES, debug_mode=True)
            for portal in (armed, quiet):
                with pytest.raises(tractor.RemoteActorError):
                    await portal.run(ep_repl.crash)
            # Pausing works without it.
            assert await quiet.run(ep_repl.pause) == "quiet"
            assert await armed.run(ep_repl.below, depth=2, what="pause") == "bottom_pause"
            await an.cancel()
        assert user.actors == ["armed", "quiet", "bottom_pause"]

    trio.run(main)


def test_the_lock_without_a_repl(user: User) -> None:
    async def main() -> None:
        async with tree() as an:
            me = tractor.current_actor().aid.uid
            ann = await an.start_actor("ann", enable_modules=MODULES)
            results = Results()
            async with trio.open_nursery() as tn, tractor.devx.acquire_debug_lock(me) as dialog:
                assert dialog is None
                assert Lock.statistics().holder == me
                tn.start_soon(partial(results.keep, "ann", ann.run, ep_repl.pause))
                await until_asked(2)
                assert user.prompts == []
            assert results["ann"] == "ann"
            assert await ann.run(ep_repl.hold_lock, times=3) == "released"
            with pytest.raises(ValueError, match="for this actor"):
                async with tractor.devx.acquire_debug_lock(("ann", "?")):
                    pass
            await an.cancel()

    trio.run(main)


def test_without_debug_mode_the_lock_is_not_taken() -> None:
    async def main() -> None:
        async with tree(debug_mode=False):
            me = tractor.current_actor().aid.uid
            async with tractor.devx.acquire_debug_lock(me) as dialog:
                assert dialog is None
                assert Lock.statistics().holder is None

    trio.run(main)
    assert Lock.statistics().holder is None


def test_to_a_peer_that_is_no_child_there_is_no_lock() -> None:
    async def main() -> None:
        async with tree() as an:
            ann = await an.start_actor("ann", enable_modules=MODULES)
            with pytest.raises(tractor.RemoteActorError, match="is not a request that"):
                await ann.run_from_ns("self", "_debug_lock", task=1, uid=["x", "y"], text="x")
            await an.cancel()

    trio.run(main)


# -- the dialog, message by message --


class Asking:
    """The asking end, with what it told."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.ask = LocalAsk(("me", "1"), 5, "<Task>")
        self.told: list[object] = []
        self.ask.on_returned = lambda: self.told.append("returned")  # type: ignore[method-assign]
        self.up = UpRequest(
            cast("Channel", self.wire),
            self.ask,
            lambda ask, exc: self.told.append(str(exc)),
            lambda ask: self.told.append("granted"),
        )


def test_the_asking_end_speaks_the_grammar() -> None:
    end = Asking()
    (start,) = end.wire.take()
    assert isinstance(start, Start)
    assert (start.ns, start.func) == ("self", "_debug_lock")
    assert start.kwargs["task"] == 5
    end.up.on_started(Started(7, raw(LockStatus(("me", "1"), 7, True))))
    end.up.release()
    end.up.release()
    assert end.wire.take() == [Yield(7, LockRelease(("me", "1"), 7))]
    end.up.on_return(Return(7, raw(LockStatus(("me", "1"), 7, False))))
    assert end.told == ["granted", "returned"]
    assert end.wire.dialogs == {}


def test_a_grant_that_crosses_the_release_is_late_news() -> None:
    end = Asking()
    end.up.release()
    end.up.on_started(Started(7, raw(LockStatus(("me", "1"), 7, True))))
    end.up.on_lost(TransportClosed("gone"))
    assert end.told == ["returned"]


@pytest.mark.parametrize(
    "message",
    [
        Stop(7),
        Return(7, raw(None)),
        Yield(7, raw(1)),
        Error(src_uid=("x", "y"), src_type_str="E", boxed_type_str="E", message="no", cid=7),
    ],
    ids=lambda msg: type(msg).__name__,
)
def test_the_asking_end_takes_anything_else_for_a_refusal(message: Any) -> None:
    end = Asking()
    getattr(end.up, f"on_{type(message).__name__.lower()}")(message)
    assert len(end.told) == 1
    assert end.told != ["granted"]
    end.wire.take()
    end.up.release()
    assert end.wire.take() == []


class Serving:
    """The serving end, with whether it has left."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.left: list[bool] = []

        class FakeActor:
            class aid:
                uid = ("root", "0")

        self.end = ServedAsk(
            cast("Actor", FakeActor),
            cast("Channel", self.wire),
            3,
            {"uid": ["kid", "2"], "task": 9, "text": "t" * 10_000},
            lambda ask, lost: self.left.append(lost),
        )


def test_the_serving_end_speaks_the_grammar() -> None:
    served = Serving()
    served.end.on_granted()
    served.end.on_yield(Yield(3, raw(LockRelease(("kid", "2"), 3))))
    served.end.on_returned()
    assert served.left == [False]
    started, returned = served.wire.take()
    assert started == Started(3, LockStatus(("kid", "2"), 3, True))
    assert returned == Return(3, LockStatus(("kid", "2"), 3, False))
    assert served.wire.dialogs == {}
    assert len(served.end.text) <= 500


@pytest.mark.parametrize("payload", [1, None, {"type": "x"}, LockStatus(("kid", "2"), 3, True)])
def test_garbage_from_below_gives_the_terminal_back(payload: object) -> None:
    served = Serving()
    served.end.on_yield(Yield(3, raw(payload)))
    assert served.left == [True]
    (error,) = served.wire.take()
    assert isinstance(error, Error)
    assert error.boxed_type_str == "MessagingError"


def test_the_serving_end_survives_a_broken_wire() -> None:
    served = Serving()
    served.wire.broken = True
    served.end.on_granted()
    served.end.on_lost(TransportClosed("gone"))
    served.end.on_returned()
    assert served.left == [True]


@pytest.mark.parametrize(
    "kwargs", [{}, {"uid": 1, "task": 1, "text": ""}, {"uid": ["a", "b"], "task": "x", "text": ""}]
)
def test_arguments_that_are_none(kwargs: dict[str, Any]) -> None:
    async def main() -> None:
        async with tree() as an:
            ann = await an.start_actor("ann", enable_modules=MODULES)
            child_chan = tractor.current_actor().ipc_server.peer_channels()[0]
            del ann
            queue = debugger_of(tractor.current_actor()).queue
            with pytest.raises((KeyError, TypeError, ValueError)):
                ServedAsk(tractor.current_actor(), child_chan, 2, kwargs, queue.leave)
            assert queue.asks == []
            assert child_chan.dialogs.get(2) is None
            await an.cancel()

    trio.run(main)


def test_a_refusal_is_a_debug_request_error() -> None:
    ask = LocalAsk(("me", "1"), 5, "<Task>")
    ask.on_refused(DebugRequestError("no"))
    with pytest.raises(DebugRequestError, match="no"):
        trio.run(ask.wait)
