"""Asking the same actors again and again: who does not answer is told once and asked again, who is new is taken up."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from tractor.cli._exit import fail
from tractor.cli.watch._common import chosen, look_at
from tractor.observe._finding import Found
from tractor.observe._naming import called, with_all_below
from tractor.observe._requests import Told, ask_each
from tractor.observe.afar._by_message import NoRegistrar
from tractor.runtime.seen._samples import Sample

LOOK_INTERVAL = 2.0
"""Seconds between two looks at who is there."""

GONE = ("gone", "zombie")


class Following:
    """The actors that a command is about, for as long as there are any.

    Args:
        options: the command's, with ``actor`` and ``tree``.
        actors: who there is at first.
        found: the look that has found them.
        prog: for messages.

    Attributes:
        actors: who there is; empty: nobody is left.
        code: the exit status: not 0 once somebody did not answer.
    """

    def __init__(
        self, options: argparse.Namespace, actors: list[Sample], found: Found, prog: str
    ) -> None:
        self.actors = actors
        self.code = 0
        self._options = options
        self._found = found
        self._prog = prog
        self._silent: set[str] = set()
        self._looked = time.monotonic()

    def ask(self, limit: float, op: str, **fields: Any) -> list[Told]:
        """What those say that answer; it is told on stderr who has ceased, or begun again, to.

        Args:
            limit: seconds for each answer.
            op, fields: the request.
        """
        told, missing = ask_each(self.actors, self._found, limit, op, **fields)
        for one in missing:
            if one.what not in self._silent:
                self.code = fail(f"{self._prog}: {one.what}: {one.why}")
        silent = {one.what for one in missing}
        for name in self._silent & {called(one) for one, _ in told}:
            print(f"{self._prog}: {name} answers again", file=sys.stderr, flush=True)
        self._silent = silent
        if silent or time.monotonic() - self._looked >= LOOK_INTERVAL:
            self._look()
        return told

    def _look(self) -> None:
        self._looked = time.monotonic()
        try:
            found, tree = look_at(self._options)
        except NoRegistrar as exc:
            if "registrar" not in self._silent:
                self.code = fail(f"{self._prog}: {exc}")
            self._silent.add("registrar")
            return
        actors, _ = chosen([self._options.actor], found, tree, every=True)
        if self._options.tree:
            actors = with_all_below(actors, tree.actors)
        self._found = found
        self.actors = [one for one in actors if one.state not in GONE]
