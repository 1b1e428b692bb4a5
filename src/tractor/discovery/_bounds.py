"""How long a look-up may take, and several ways tried at once within that."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import trio

from tractor._errors import RuntimeFailure
from tractor.trionics._groups import collapse_eg

LOOKUP_TIMEOUT = 3.0
"""Seconds that a look-up takes at most, unless it is told otherwise."""

STEP_TIMEOUT = 3.0
"""Seconds that one step (a registrar's answer, a connection) of a longer wait takes at most."""

STAGGER = 0.25
"""Seconds after which the next way is tried beside one that has not led anywhere yet, at most."""

PATIENCE = 0.5
"""Seconds after which a way that does not hold yet is passed over for a later one, at most."""

T = TypeVar("T")
U = TypeVar("U")


class Bound(NamedTuple):
    """Until when something may take.

    Attributes:
        seconds: how long that was at the beginning, for messages.
        deadline: on trio's clock.
    """

    seconds: float
    deadline: float

    def step(self) -> Bound:
        """The bound of one step of it."""
        deadline = trio.current_time() + STEP_TIMEOUT
        return self if self.deadline <= deadline else Bound(STEP_TIMEOUT, deadline)

    def left(self) -> float:
        """Seconds until its end; never negative."""
        return max(0.0, self.deadline - trio.current_time())


def bound_of(timeout: Any) -> Bound:
    """The bound that a caller asks for.

    Args:
        timeout: seconds from now; ``None``: none.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative, or not a number in the other sense.
    """
    if timeout is None:
        return Bound(math.inf, math.inf)
    if not isinstance(timeout, int | float) or isinstance(timeout, bool):
        raise TypeError(f"timeout is a number of seconds or None, not {timeout!r}")
    if not timeout >= 0:
        raise ValueError(f"timeout is a number of seconds from 0 on, not {timeout!r}")
    return Bound(timeout, trio.current_time() + timeout)


async def first_of(
    ways: Sequence[T], attempt: Callable[[T], Awaitable[U | None]], bound: Bound
) -> U | None:
    """The first value that a way leads to; ``None`` if none does.

    They are begun in order: each when the one before has failed, or a moment later beside it, so that one that does
    not answer takes no time from the others.  Those that are under way when there is a value are cancelled.

    Args:
        ways: in order of preference.
        attempt: tries one; ``None``: it has led nowhere.  What it makes is its own to clean up where it is cancelled,
            or another one has been faster.
        bound: of the attempts, which keep it themselves.

    Raises:
        RuntimeFailure: of an attempt; the others are cancelled.
    """
    if len(ways) == 1:
        return await attempt(ways[0])
    found: list[U] = []
    failures: list[RuntimeFailure] = []
    stagger = min(STAGGER, bound.left() / (2 * max(1, len(ways))))

    async with collapse_eg(add_notes=False), trio.open_nursery() as tn:

        async def one(way: T, over: trio.Event) -> None:
            try:
                value = await attempt(way)
            except RuntimeFailure as exc:
                failures.append(exc)
                tn.cancel_scope.cancel()
                return
            if value is not None:
                found.append(value)
                tn.cancel_scope.cancel()
            over.set()

        for way in ways:
            over = trio.Event()
            tn.start_soon(one, way, over)
            with trio.move_on_after(stagger):
                await over.wait()
    if not found and failures:
        raise failures[0]
    return found[0] if found else None


class Way:
    """One way that :func:`first_in_order` tries, as its attempt sees it.

    Attributes:
        holds: whether it is worth waiting for, however long it takes.
        ended: whether it has led to something, or nowhere.
        passed: whether it has had its time, and others may be faster.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.holds = self.ended = self.passed = False
        self._changed = changed

    def hold(self) -> None:
        """From now on this way is waited for: no later one is taken in its place."""
        self.holds = True
        self._changed()


async def first_in_order(
    ways: Sequence[T],
    attempt: Callable[[T, Way], Awaitable[U | None]],
    is_good: Callable[[U], bool],
    bound: Bound,
) -> U | None:
    """What the first way in the order of preference that leads to what counts leads to.

    They are begun as with :func:`first_of`.  A later one is taken as soon as each before it has ended without a good
    value, or has had half a second (less, where there are many) and does not hold.

    Args:
        ways: in order of preference.
        attempt: tries one; ``None``: it has led nowhere.
        is_good: whether a value is what was looked for.  Of a way that holds every value counts.
        bound: of the attempts, which keep it themselves.

    Returns:
        The value that counts; without one the first of the other values; ``None``: no way has led anywhere.

    Raises:
        RuntimeFailure: of an attempt; the others are cancelled.
    """
    if len(ways) == 1:
        return await attempt(ways[0], Way(lambda: None))
    changed = trio.Event()

    def note() -> None:
        nonlocal changed
        changed.set()
        changed = trio.Event()

    states = [Way(note) for _ in ways]
    values: dict[int, U] = {}
    failures: list[RuntimeFailure] = []
    stagger = min(STAGGER, bound.left() / (2 * max(1, len(ways))))
    patience = min(PATIENCE, bound.left() / 4)

    async def one(number: int) -> None:
        state = states[number]
        try:
            value = await attempt(ways[number], state)
        except RuntimeFailure as exc:
            failures.append(exc)
            value = None
        if value is not None:
            values[number] = value
        state.ended = True
        note()

    async def pass_over(state: Way) -> None:
        await trio.sleep(patience)
        state.passed = True
        note()

    def decided() -> bool:
        for number, state in enumerate(states):
            if number in values and (state.holds or is_good(values[number])):
                return True
            if not (state.ended or (state.passed and not state.holds)):
                return bool(failures)
        return bool(failures) or all(state.ended for state in states)

    async def begin_all() -> None:
        for number, state in enumerate(states):
            tn.start_soon(one, number)
            tn.start_soon(pass_over, state)
            with trio.move_on_after(stagger):
                while not state.ended:
                    await changed.wait()

    async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
        tn.start_soon(begin_all)
        while not decided():
            await changed.wait()
        tn.cancel_scope.cancel()
    if failures:
        raise failures[0]
    chosen = [n for n in sorted(values) if states[n].holds or is_good(values[n])]
    return values[(chosen or sorted(values))[0]] if values else None
