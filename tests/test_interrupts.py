"""A ctrl-c at any line of the package's own code ends the program as any other ctrl-c does."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any

import ep_supervise
import pytest
import trio

import tractor

OURS = str(Path(tractor.__file__).parent)

PLACES = 24
"""How many lines are tried, of the thousands that are run; others each time that this file is changed."""

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="many programs: started by fork"),
    pytest.mark.skipif(sys.gettrace() is not None, reason="a debugger or coverage has the trace"),
]


class Interruption:
    """SIGINT when a numbered line of ours is about to run."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.lines = 0
        self.where: str | None = None

    def counts(self, frame: FrameType) -> bool:
        return frame.f_code.co_filename.startswith(OURS)

    def __call__(self, frame: FrameType, event: str, _arg: Any) -> Any:
        if not self.counts(frame):
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self.at:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                signal.raise_signal(signal.SIGINT)
        return self


async def program() -> None:
    """Something of everything that a root does."""
    with trio.fail_after(30):
        async with tractor.open_nursery(start_method="main_thread_forkserver") as an:
            one = await an.start_actor("one", enable_modules=["ep_supervise"])
            assert await one.run(ep_supervise.add, one=1) == 11
            other = await an.run_in_actor(ep_supervise.add, one=2)
            async with one.open_context(ep_supervise.hold) as (ctx, _):
                async with tractor.find_actor("one") as found:
                    assert isinstance(found, tractor.Portal)
                    await found.run(ep_supervise.uid)
                await ctx.cancel()
            assert await other.wait_for_result() == 12
            await one.cancel_actor()


def run_with(interruption: Interruption, main: Callable[[], Awaitable[None]] = program) -> None:
    sys.settrace(interruption)
    try:
        trio.run(main)
    finally:
        sys.settrace(None)


@pytest.fixture(scope="module")
def lines() -> int:
    """How many lines the program runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TRACTOR_SPAWN_METHOD", raising=False)
        # What is imported late counts only once.
        trio.run(program)
        counter = Interruption(None)
        run_with(counter)
    assert counter.lines > 1000
    return counter.lines


@pytest.mark.parametrize("place", range(PLACES))
def test_an_interrupt_at_some_line(place: int, lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRACTOR_SPAWN_METHOD", raising=False)
    share = (place + random.Random(f"interrupt {place}").random()) / PLACES
    interruption = Interruption(max(1, int(lines * share)))
    try:
        run_with(interruption)
    except KeyboardInterrupt:
        assert interruption.where is not None
    except BaseException as exc:
        raise AssertionError(f"interrupted at {interruption.where}") from exc
    else:
        assert interruption.where is None, "the interrupt was swallowed"


# -- on the way into and out of a block, in code that is not ours --


async def enters_and_leaves() -> None:
    async with tractor.open_nursery():
        pass


THEIRS = (contextlib.__file__, str(Path(trio.__file__).parent / "_core" / "_asyncgens.py"))


class Around(Interruption):
    """In the lines of `contextlib` and trio between the user's `async with` and the first or next step of ours."""

    def counts(self, frame: FrameType) -> bool:
        above = frame.f_back
        if above is None or frame.f_code.co_filename not in THEIRS:
            return False
        return above.f_code is enters_and_leaves.__code__ or self.counts(above)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_line_around_a_block() -> None:
    """Neither trio nor the interpreter has to speak of an async generator that nobody closed."""
    trio.run(enters_and_leaves)
    counter = Around(None)
    run_with(counter, enters_and_leaves)
    assert counter.lines > 6
    for at in range(1, counter.lines + 1):
        interruption = Around(at)
        with pytest.raises(KeyboardInterrupt):
            run_with(interruption, enters_and_leaves)
        assert interruption.where is not None
        assert tractor.current_actor(err_on_no_runtime=False) is None, interruption.where
