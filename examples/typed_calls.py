"""Calls as one writes them: arguments by position, types as they are, and errors that say where.

What to learn:

- Arguments and results arrive as what the function is annotated with: dataclasses, sets, enums, dates, decimals, paths.
  There is nothing to declare besides.
- What does not fit the function is a `TypeError` right here, before anything is sent; a type checker sees it, too. What
  does not fit an annotation over there is a `MsgTypeError` that names the argument.
- A function is found by its module and name. One that its name does not lead to is refused here.
- The report of a failed call says which line has made it.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import functools
import pathlib
from dataclasses import dataclass

import trio

import tractor
from tractor.trionics import open_worker_pool


class Unit(enum.Enum):
    """What a price is for."""

    PIECE = "piece"
    KILO = "kilo"


@dataclass
class Line:
    """One line of an order."""

    what: str
    price: decimal.Decimal
    unit: Unit = Unit.PIECE


@dataclass
class Bill:
    """What `order()` gives."""

    total: decimal.Decimal
    due: datetime.date
    tags: set[str]


async def order(lines: list[Line], placed: datetime.date, tags: set[str] | None = None) -> Bill:
    """Sum up an order."""
    total = sum((line.price for line in lines), start=decimal.Decimal(0))
    return Bill(total, placed + datetime.timedelta(days=14), tags or {"no tags"})


async def greet(name: str, lines: int = 1) -> str:
    """A function with a parameter that `run_in_actor()` has, too."""
    if lines < 1:
        raise ValueError(f"{lines} lines can't be printed")
    return f"Hello {name}"


def suffix_of(path: pathlib.Path) -> str:
    """Sync: for the pool."""
    return path.suffix


async def main() -> None:
    """Call in all ways."""
    async with tractor.open_nursery() as an:
        shop = await an.start_actor("shop", enable_modules=[__name__])
        lines = [Line("tea", decimal.Decimal("3.50")), Line("rice", decimal.Decimal(2), Unit.KILO)]
        bill = await shop.run(order, lines, datetime.date(2026, 11, 30), tags={"gift"})
        print(bill.total, bill.due, bill.tags)

        try:
            await shop.run(order, lines, date="today")  # type: ignore[call-arg]
        except TypeError as error:
            print("here:", error)
        try:
            await shop.run_from_ns(__name__, "order", lines=lines, placed="soon")
        except tractor.MsgTypeError as error:
            print("there:", error.message.splitlines()[0])
        try:
            await shop.run(greet, "Ann", lines=0)
        except tractor.RemoteActorError as error:
            print("failed:", error.message, "in", error.caller.split(" at ")[0])

        # `name` is what the actor is called; the function's goes by position, or in a partial.
        ann = await an.run_in_actor(functools.partial(greet, name="Ann"), name="greeter")
        print(await ann.wait_for_result())
        await shop.cancel_actor()

    async with open_worker_pool(1) as pool:
        print(await pool.run(suffix_of, pathlib.Path("notes.txt")))


if __name__ == "__main__":
    trio.run(main)
