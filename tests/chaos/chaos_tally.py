"""Counts operations with their one outcome, and tells an outcome that was promised from one that was not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from chaos_outcomes import UNTOUCHED, Figures, NotThereError, describe, outcome_of
from chaos_plan import Branch, Fault, Operation, Plan

from tractor.testing import fail_after_w_trace
from tractor.trionics._groups import is_multi_cancelled

__all__ = ["DEADLINE", "Tally"]

DEADLINE = 15.0
"""Seconds that each operation, each start and each end of a branch may take."""


class Tally:
    """What was seen of one plan; in `figures` afterwards."""

    def __init__(self, plan: Plan, out_dir: Path) -> None:
        self.figures = Figures(actors=plan.actors)
        self._plan = plan
        self._out_dir = out_dir

    @asynccontextmanager
    async def counted(
        self, kind: str, what: Operation | Fault
    ) -> AsyncIterator[Callable[[str], None]]:
        """Count what the block does as an operation, with its one outcome; the block's errors end here.

        Yields:
            What tells the outcome of a block that ends without an error, ``'value'`` by default.
        """
        began = trio.current_time()
        outcome = "value"

        def note(given: str) -> None:
            nonlocal outcome
            outcome = given

        try:
            async with fail_after_w_trace(DEADLINE, label="chaos", out_dir=self._out_dir):
                yield note
        except NotThereError as exc:
            if self._is_untouched(what):
                self.figures.wrong.append(f"{what} found nobody: {describe(exc)}")
            return
        except BaseException as exc:
            outcome = self.outcome(what, exc, outcome_of(exc))
            if outcome == "Cancelled":
                self.count(kind, outcome, what, began)
                raise
        self.count(kind, outcome, what, began)

    def outcome(
        self, what: Operation | Fault | Branch, exc: BaseException, known: str | None
    ) -> str:
        """The outcome of what has ended with an exception; noted where it breaks a promise."""
        if type(exc) is trio.TooSlowError:
            self.figures.hangs.append(f"{what} did not end in time")
            return "hang"
        outcome = "Cancelled" if is_multi_cancelled(exc) else known
        if outcome in UNTOUCHED or (outcome and not self._is_untouched(what)):
            return outcome
        self.figures.wrong.append(f"{what} ended with {describe(exc)}")
        return "wrong"

    def _is_untouched(self, what: Operation | Fault | Branch) -> bool:
        if isinstance(what, Operation) and what.breaks is not None:
            return False
        path = what.node.path if isinstance(what, Branch) else what.path
        return path.partition(".")[0] not in self._plan.touched

    def count(self, kind: str, outcome: str, what: object, began: float) -> None:
        """Count what began at a time, on trio's clock, and has just ended."""
        self.figures.operations[kind] += 1
        self.figures.outcomes[outcome] += 1
        took = trio.current_time() - began
        self.figures.slowest = max(self.figures.slowest, (took, f"{what} of {self._plan.seed}"))
