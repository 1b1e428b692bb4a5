"""How long a look-up may take, and several ways tried at once within that."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

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
        TypeError: it is not a number.
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
    stagger = _stagger(ways, bound)

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
    race = _Race(ways, attempt, is_good)
    async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
        tn.start_soon(race.begin_all, tn, _stagger(ways, bound), min(PATIENCE, bound.left() / 4))
        while not race.decided():
            await race.changed.wait()
        tn.cancel_scope.cancel()
    return race.result()


class _Race(Generic[T, U]):
    """The ways of one :func:`first_in_order`, and what they have led to."""

    def __init__(
        self,
        ways: Sequence[T],
        attempt: Callable[[T, Way], Awaitable[U | None]],
        is_good: Callable[[U], bool],
    ) -> None:
        self.changed = trio.Event()
        self._ways = ways
        self._attempt = attempt
        self._is_good = is_good
        self._states = [Way(self._note) for _ in ways]
        self._values: dict[int, U] = {}
        self._failures: list[RuntimeFailure] = []

    def _note(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def begin_all(self, tn: trio.Nursery, stagger: float, patience: float) -> None:
        for number, state in enumerate(self._states):
            tn.start_soon(self._try, number)
            tn.start_soon(self._pass_over, state, patience)
            with trio.move_on_after(stagger):
                while not state.ended:
                    await self.changed.wait()

    async def _try(self, number: int) -> None:
        state, value = self._states[number], None
        try:
            value = await self._attempt(self._ways[number], state)
        except RuntimeFailure as exc:
            self._failures.append(exc)
        if value is not None:
            self._values[number] = value
        state.ended = True
        self._note()

    async def _pass_over(self, state: Way, patience: float) -> None:
        await trio.sleep(patience)
        state.passed = True
        self._note()

    def _counts(self, number: int) -> bool:
        return self._states[number].holds or self._is_good(self._values[number])

    def decided(self) -> bool:
        """Whether nothing that is still under way can change the result."""
        for number, state in enumerate(self._states):
            if number in self._values and self._counts(number):
                return True
            if not (state.ended or (state.passed and not state.holds)):
                return bool(self._failures)
        return bool(self._failures) or all(state.ended for state in self._states)

    def result(self) -> U | None:
        """As of :func:`first_in_order`."""
        if self._failures:
            raise self._failures[0]
        numbers = sorted(self._values)
        chosen = [*filter(self._counts, numbers), *numbers]
        return self._values[chosen[0]] if chosen else None


def _stagger(ways: Sequence[object], bound: Bound) -> float:
    """Seconds after which the next of several ways is begun."""
    return min(STAGGER, bound.left() / (2 * max(1, len(ways))))
