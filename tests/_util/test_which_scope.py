"""Which scope has cancelled a task, by its frame and its reason."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from tractor._util._which_scope import which_scope

told: list[str] = []

HERE = Path(__file__)


async def wait() -> None:
    try:
        await trio.sleep_forever()
    except trio.Cancelled:
        told.append(which_scope())
        raise


async def by_deadline() -> None:
    with trio.move_on_after(0.01):  # here
        await wait()


async def by_fail_after() -> None:
    with pytest.raises(trio.TooSlowError), trio.fail_after(0.01):  # here
        await wait()


async def by_call() -> None:
    with trio.move_on_after(60), trio.CancelScope() as stop, trio.CancelScope():  # here
        stop.cancel()
        await wait()


async def by_call_of_the_outer() -> None:
    with trio.CancelScope() as stop, trio.CancelScope(), trio.move_on_after(60):  # here
        stop.cancel()
        await wait()


async def by_nursery() -> None:
    async with trio.open_nursery() as tn:  # here
        tn.start_soon(wait)
        with trio.CancelScope():
            await trio.testing.wait_all_tasks_blocked()
            tn.cancel_scope.cancel()


async def by_failed_sibling() -> None:
    async def fail() -> None:
        await trio.testing.wait_all_tasks_blocked()
        raise ValueError("no")

    async with trio.open_nursery() as tn:  # here
        tn.start_soon(wait)
        tn.start_soon(fail)


async def around_a_nursery() -> None:
    with trio.move_on_after(0.01):  # here
        with trio.CancelScope():
            async with trio.open_nursery() as tn:
                tn.start_soon(wait)
                with trio.move_on_after(60):
                    await trio.sleep_forever()


async def around_a_nursery_that_ends_first() -> None:
    async def wait_shielded() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.05)
        await wait()

    with trio.move_on_after(0.01):  # here
        async with trio.open_nursery() as tn:
            # By the time it looks the nursery's block has been cancelled, and so the nursery, too.
            tn.start_soon(wait_shielded)
            await trio.sleep_forever()


CASES: dict[Callable[[], Awaitable[None]], tuple[str, str]] = {
    by_deadline: ("a cancel scope", "by its deadline"),
    by_fail_after: ("a cancel scope", "by its deadline"),
    by_call: ("a cancel scope 'stop'", "by a call of cancel()"),
    by_call_of_the_outer: ("a cancel scope 'stop'", "by a call of cancel()"),
    by_nursery: ("a nursery 'tn'", "by a call of cancel()"),
    by_failed_sibling: ("a nursery 'tn'", "because a task in it, or its block, has failed"),
    around_a_nursery: ("a cancel scope", "by its deadline"),
    around_a_nursery_that_ends_first: ("a cancel scope", "by its deadline"),
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_scope_is_named(case: Callable[[], Awaitable[None]]) -> None:
    told.clear()
    with contextlib.suppress(ExceptionGroup):
        trio.run(case)
    (text,) = told
    what, why = CASES[case]
    lines = HERE.read_text().splitlines()
    start = next(
        n for n, line in enumerate(lines) if line.startswith(f"async def {case.__name__}(")
    )
    line = next(n for n in range(start, len(lines)) if lines[n].endswith("# here")) + 1
    assert re.fullmatch(
        re.escape(f"{what} in {case.__name__}() at {__file__}:{line}, {why}") + r"( \(.*\))?", text
    ), text


def test_known_scopes_are_named_so() -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            assert which_scope({id(scope): "the end of it all"}) == (
                "the end of it all, by a call of cancel()"
            )

    trio.run(main)


def test_it_never_raises() -> None:
    async def main() -> None:
        assert which_scope() == "a surrounding scope"

    trio.run(main)
