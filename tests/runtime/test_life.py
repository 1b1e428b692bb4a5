"""`Life` by itself: a lifespan that is entered is left, whenever and however its actor ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

import tractor
from tractor.runtime._life import Life

STEPS = 3
"""Checkpoints on the way in, and on the way out."""


class Probe:
    """A life that is lived in one process, and what happens in it."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.crashes: list[BaseException] = []
        self.log: list[str] = []
        self.scope = trio.CancelScope()
        # It is cancelled in the very turn in which it is entered.
        self.at_the_last_moment = False
        self.life = Life(self.errors.append, self.on_crash)

    async def on_crash(self, exc: BaseException) -> None:
        self.crashes.append(exc)
        await trio.lowlevel.checkpoint()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[str]:
        for _ in range(STEPS):
            await trio.lowlevel.checkpoint()
        if self.at_the_last_moment:
            self.scope.cancel()
        self.log.append("open")
        yield "state"
        for _ in range(STEPS):
            await trio.lowlevel.checkpoint()
        self.log.append("closed")

    async def live(self, make: Any, turns: int | None = None) -> bool:
        """Enter it, be cancelled after so many turns of the loop, or after it, and close; whether it was entered."""
        entered = False
        async with trio.open_nursery() as io:
            with self.scope as scope:
                async with trio.open_nursery() as tn:

                    async def cancel() -> None:
                        for _ in range(turns or 0):
                            await trio.lowlevel.checkpoint()
                        scope.cancel()

                    if turns is not None:
                        tn.start_soon(cancel)
                    await self.life.enter(make, io)
                    entered = True
                    assert self.life.state == "state"
                    scope.cancel()
            with trio.CancelScope(shield=True):
                await self.life.close()
        with pytest.raises(tractor.RuntimeFailure):
            _ = self.life.state
        return entered


@pytest.mark.parametrize("turns", range(4 * STEPS))
def test_a_cancel_at_any_moment(turns: int) -> None:
    probe = Probe()
    entered = trio.run(probe.live, probe.lifespan, turns)
    # All or nothing; and what is entered, is open.
    assert probe.log in ([], ["open", "closed"])
    assert probe.log or not entered
    assert not probe.errors
    assert not probe.crashes


def test_a_cancel_at_the_moment_when_it_is_entered() -> None:
    probe = Probe()
    probe.at_the_last_moment = True
    assert not trio.run(probe.live, probe.lifespan)
    assert probe.log == ["open", "closed"]
    assert not probe.errors


def test_the_moments_are_before_and_after_the_entry() -> None:
    """Or the test above would look at one of them alone."""
    entered = []
    for turns in range(4 * STEPS):
        probe = Probe()
        entered.append((trio.run(probe.live, probe.lifespan, turns), bool(probe.log)))
    assert {(False, False), (True, True)} <= set(entered)


def test_an_error_while_it_is_entered_is_told_to_the_debugger_and_raised() -> None:
    @asynccontextmanager
    async def fails() -> AsyncIterator[None]:
        await trio.lowlevel.checkpoint()
        raise KeyError("no database")
        yield

    probe = Probe()
    with pytest.raises(ExceptionGroup) as caught:
        trio.run(probe.live, fails)
    (found,) = probe.crashes
    assert isinstance(found, KeyError)
    assert caught.group_contains(KeyError)
    assert not probe.errors


def test_an_error_when_it_is_left_is_told_to_the_debugger_and_kept() -> None:
    @asynccontextmanager
    async def fails() -> AsyncIterator[str]:
        yield "state"
        raise KeyError("no disk")

    probe = Probe()
    assert trio.run(probe.live, fails)
    assert probe.errors == probe.crashes
    assert [type(exc) for exc in probe.errors] == [KeyError]


def test_insisting_before_the_end_changes_nothing() -> None:
    async def main() -> None:
        probe = Probe()
        async with trio.open_nursery() as io:
            await probe.life.enter(probe.lifespan, io)
            probe.life.insist()
            await trio.testing.wait_all_tasks_blocked()
            assert probe.life.state == "state"
            await probe.life.close()
        assert probe.log == ["open", "closed"]

    trio.run(main)


def test_insisting_at_the_end_cancels_what_it_does() -> None:
    async def main() -> None:
        probe = Probe()

        @asynccontextmanager
        async def hangs() -> AsyncIterator[str]:
            yield "state"
            await trio.sleep_forever()

        async with trio.open_nursery() as io:
            await probe.life.enter(hangs, io)
            io.start_soon(probe.life.close)
            await trio.testing.wait_all_tasks_blocked()
            probe.life.insist()
            await probe.life.left()
        assert not probe.errors

    trio.run(main)
