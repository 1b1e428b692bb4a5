"""What a row is, how its figures are taken, and how it is judged."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

__all__ = ["Options", "Row", "Series", "Target", "alternate", "row", "rows"]


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        transport: ``'uds'`` or ``'tcp'``, for tractor and for the echo that is its floor.
        repeat: samples of each figure; floor and measurement take turns.
        smoke: tiny counts, to see that a row runs; its figures mean nothing.
        placement: whether rows about round trips keep all processes on one CPU.
    """

    transport: str = "uds"
    repeat: int = 10
    smoke: bool = False
    placement: bool = True

    def count(self, full: int, smoke: int = 2) -> int:
        """How many messages or actors: all, or the few of a smoke run."""
        return min(full, smoke) if self.smoke else full


@dataclass(frozen=True)
class Target:
    """A limit for a row's figure.

    Attributes:
        limit: the figure, or with `times_floor` what it may be as a multiple of the floor.
        times_floor: whether the limit is relative.
    """

    limit: float
    times_floor: bool = False


@dataclass
class Series:
    """The samples of one row, in the row's unit; one of each for every round.

    Attributes:
        measured: of tractor.
        floor: of the floor; empty where there is none.
        notes: what else was seen, for people.
    """

    measured: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: for selection on the command line.
        work: what is done, for people.
        unit: of every figure; a rate ends in ``/s`` and is better when it is higher.
        floor: what the floor is, for people; ``None`` where there is none.
        target: ``None`` for a figure that is only informative.
        run: takes the samples.
    """

    name: str
    work: str
    unit: str
    floor: str | None
    target: Target | None
    run: Callable[[Options], Series]

    @property
    def higher_is_better(self) -> bool:
        """Whether the unit is a rate."""
        return self.unit.endswith("/s")

    def best(self, samples: list[float]) -> float | None:
        """The best sample; ``None`` of none."""
        if not samples:
            return None
        return max(samples) if self.higher_is_better else min(samples)

    def pick(self, samples: list[float], statistic: str) -> float | None:
        """The best sample or the median, as asked."""
        if statistic == "best" or not samples:
            return self.best(samples)
        return statistics.median(samples)

    @staticmethod
    def paired(series: Series) -> float | None:
        """The median of the ratios of neighbours in time, which a change of the machine's state hits alike."""
        if not series.floor:
            return None
        pairs = zip(series.measured, series.floor, strict=True)
        return statistics.median(measured / floor for measured, floor in pairs)

    def meets(self, figure: float, floor: float | None) -> bool | None:
        """Whether the target is met; ``None`` where there is none."""
        if self.target is None:
            return None
        limit = self.target.limit
        if self.target.times_floor:
            assert floor is not None, f"{self.name}: a target in floors needs a floor"
            limit *= floor
        return figure >= limit if self.higher_is_better else figure <= limit

    def target_text(self) -> str:
        """The target for people."""
        if self.target is None:
            return "-"
        sign = ">=" if self.higher_is_better else "<="
        unit = "x floor" if self.target.times_floor else self.unit
        return f"{sign} {self.target.limit:,g} {unit}"


rows: dict[str, Row] = {}
"""Every row, in the order of the table."""


def row(
    name: str, work: str, unit: str, floor: str | None = None, target: Target | None = None
) -> Callable[[Callable[[Options], Series]], Callable[[Options], Series]]:
    """Register the decorated function as a row; arguments as the attributes of :class:`Row`."""

    def register(run: Callable[[Options], Series]) -> Callable[[Options], Series]:
        rows[name] = Row(name, work, unit, floor, target, run)
        return run

    return register


async def alternate(
    options: Options,
    measured: Callable[[], Awaitable[float]],
    floor: Callable[[], Awaitable[float]] | None = None,
) -> Series:
    """Take the samples of both in turns, so that noise of the machine meets both; each is warmed up once."""
    if floor is not None:
        await floor()
    await measured()
    series = Series()
    for number in range(options.repeat):
        turns = [(measured, series.measured)]
        if floor is not None:
            turns.append((floor, series.floor))
        if number % 2:
            turns.reverse()
        for take, samples in turns:
            samples.append(await take())
    return series
