"""Start, call, stream, cancel and kill in any order: each ends as the state of its actor says."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import ep_chaos
import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import tractor
from tractor.testing import get_rando_addr

T = TypeVar("T")

LIMIT = 20.0
"""Seconds that one step may take."""


class Host:
    """One actor in a nursery of its own, and how that ended."""

    def __init__(self) -> None:
        self.portal: tractor.Portal
        self.pid = 0
        self.up = trio.Event()
        self.over = trio.Event()
        self.error: BaseException | None = None

    async def run(self) -> None:
        """Start it, and wait for its end."""
        try:
            async with tractor.open_nursery() as an:
                self.portal = await an.start_actor(
                    "one", enable_modules=["ep_chaos"], inherit_parent_main=False
                )
                self.pid = await self.portal.run(ep_chaos.own_pid)
                self.up.set()
        except Exception as exc:
            self.error = exc
        finally:
            self.over.set()


class Root:
    """A root actor in a thread; functions are run in its trio, one after the other."""

    def __init__(self) -> None:
        self._token: trio.lowlevel.TrioToken
        self._ready = threading.Event()
        self._done: trio.Event
        self._tasks: trio.Nursery
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._main)
        self._thread.start()
        assert self._ready.wait(LIMIT)

    def _main(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as exc:
            self.error = exc
            self._ready.set()

    async def _serve(self) -> None:
        self._done = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        async with (
            tractor.open_root_actor(registry_addrs=[get_rando_addr("uds")], loglevel="critical"),
            trio.open_nursery() as self._tasks,
        ):
            self._ready.set()
            await self._done.wait()
            self._tasks.cancel_scope.cancel()

    def do(self, what: Callable[..., Awaitable[T]], *args: Any) -> T:
        """What a function gives, or raises; TooSlowError when that takes longer than the limit."""

        async def limited() -> T:
            with trio.fail_after(LIMIT):
                return await what(*args)

        return trio.from_thread.run(limited, trio_token=self._token)

    async def start(self) -> Host:
        """A new actor, up."""
        host = Host()
        self._tasks.start_soon(host.run)
        await host.up.wait()
        return host

    def close(self) -> None:
        """End it, and everything below."""
        self._token.run_sync_soon(self._done.set)
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()
        assert self.error is None


async def count_up(portal: tractor.Portal, size: int) -> list[int]:
    """All values of a one-way stream."""
    async with portal.open_stream_from(ep_chaos.count, n=size) as stream:
        return [value async for value in stream]


async def talk(portal: tractor.Portal, size: int) -> int:
    """A dialog; its result."""
    result = -1
    async with portal.open_context(ep_chaos.dialog, n=size) as (ctx, _):
        async with ctx.open_stream() as stream:
            for number in range(size):
                await stream.send(number)
                assert await stream.receive() == number
        result = await ctx.wait_for_result()
    return result


class Actors(RuleBasedStateMachine):
    """The model is who is alive; each actor's end is known at once, and told by its nursery."""

    actors: Bundle[Host] = Bundle("actors")

    def __init__(self) -> None:
        super().__init__()
        self.root = Root()
        self.alive: set[Host] = set()

    @precondition(lambda self: len(self.alive) < 3)
    @rule(target=actors)
    def start(self) -> Host:
        host = self.root.do(self.root.start)
        self.alive.add(host)
        return host

    def use(self, host: Host, what: Callable[..., Awaitable[T]], *args: Any) -> T | None:
        """The value if it lives; `None` if it does not, and then the peer must be lost."""
        if host in self.alive:
            return self.root.do(what, *args)
        with pytest.raises(tractor.TransportClosed):
            self.root.do(what, *args)
        return None

    @rule(host=actors, value=st.one_of(st.integers(-(2**60), 2**60), st.text(), st.none()))
    def call(self, host: Host, value: Any) -> None:
        async def call() -> list[Any]:
            return [await host.portal.run(ep_chaos.echo, value=value)]

        assert self.use(host, call) in (None, [value])

    @rule(host=actors, size=st.integers(0, 300))
    def stream(self, host: Host, size: int) -> None:
        assert self.use(host, count_up, host.portal, size) in (None, list(range(size)))

    @rule(host=actors, size=st.integers(0, 50))
    def dialog(self, host: Host, size: int) -> None:
        assert self.use(host, talk, host.portal, size) in (None, size)

    @rule(host=actors)
    def cancel(self, host: Host) -> None:
        was_alive = host in self.alive
        assert self.root.do(host.portal.cancel_actor) is was_alive
        self.root.do(host.over.wait)
        self.alive.discard(host)
        if was_alive:
            assert host.error is None

    @precondition(lambda self: self.alive)
    @rule(host=actors)
    def kill(self, host: Host) -> None:
        if host not in self.alive:
            return
        os.kill(host.pid, signal.SIGKILL)
        self.root.do(host.over.wait)
        self.alive.discard(host)
        assert isinstance(host.error, tractor.ActorFailure)
        assert host.error.returncode == -signal.SIGKILL

    @invariant()
    def only_the_living_are_there(self) -> None:
        for host in self.alive:
            assert not host.over.is_set()
            os.kill(host.pid, 0)

    def teardown(self) -> None:
        self.root.close()


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
@pytest.mark.skipon_spawn_backend("subint", reason="its actors have no process to kill")
@pytest.mark.usefixtures("forked_actors")
def test_any_order_of_start_call_stream_cancel_and_kill() -> None:
    run_state_machine_as_test(
        Actors,
        settings=settings(
            max_examples=8,
            stateful_step_count=12,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
