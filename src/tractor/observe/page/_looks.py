"""Takes the looks of the page: each a question to actors, in the thread of whoever calls."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tractor.control._protocol import Refusal
from tractor.observe._asking import Kept, ask_all
from tractor.observe._assembling import assemble
from tractor.observe._finding import LIMIT, find
from tractor.observe._naming import called, matching, with_all_below
from tractor.observe._processes import Stray
from tractor.observe.page._shown import Dialogs, Events, Shown
from tractor.process._proc import ON_LINUX, read_stat
from tractor.runtime.seen._samples import Missing, Sample, TreeSample

STRAYS_INTERVAL = 15.0
"""Seconds between two looks at every process of the machine: those that are no actors of this page's cost it most."""

ASK_LIMIT = 3.5
"""Seconds: a loop has three."""


class Unknown(Exception):
    """There is no such actor, or it can't be asked."""


class Looks:
    """Asks for all viewers.  One call at a time of each of its methods.

    Args:
        dirs: runtime directories.
        actor: it and those below it alone; ``None``: all.
        limit: seconds for answers to a look.

    Attributes:
        dirs: runtime directories.
    """

    def __init__(
        self, dirs: Sequence[Path], actor: str | None = None, limit: float = LIMIT
    ) -> None:
        self.dirs = dirs
        self._actor = actor
        self._limit = limit
        self._kept = Kept()
        self._strays: tuple[float, list[Stray]] = (-STRAYS_INTERVAL, [])
        self._shown = Shown(is_part=actor is not None)
        self._events = Events()
        self._dialogs: tuple[str, Dialogs] = ("", Dialogs())
        # The last look's, by uuid.
        self.actors: dict[str, Sample] = {}
        self.paths: dict[str, Path] = {}

    def tree(self) -> dict[str, Any]:
        """How all actors do."""
        at, strays = self._strays
        is_due = time.monotonic() - at >= STRAYS_INTERVAL
        found = find(
            self.dirs,
            limit=self._limit,
            kept=self._kept,
            known_strays=None if is_due else strays,
        )
        if is_due:
            self._strays = (time.monotonic(), found.strays)
        tree = assemble(found)
        if self._actor is not None:
            addrs = {uuid: one.who.addrs for uuid, one in found.by_uuid.items()}
            actors = with_all_below(matching(self._actor, tree.actors, addrs), tree.actors)
            names = {called(one) for one in actors}
            missing = tuple(one for one in tree.missing if one.what in names)
            if not actors:
                missing = (Missing(what=self._actor, why="there is no such actor"),)
            tree = TreeSample(time=tree.time, host=tree.host, actors=tuple(actors), missing=missing)
        self._shown.add(tree, _statuses(tree.actors))
        self.paths = {uuid: one.path for uuid, one in found.by_uuid.items()}
        self.actors = {one.uuid: one for one in self._shown.latest.actors if one.uuid}
        return self._shown.state()

    def actor(self, uuid: str) -> dict[str, Any]:
        """What an actor has open, and the log levels it has.  Raises Unknown."""
        (answer,) = self._ask(uuid, [{"op": "sample", "dialogs": True}])
        if isinstance(answer, Refusal):
            raise Unknown(answer.text)
        try:
            sample = msgspec.convert(answer, Sample)
        except msgspec.ValidationError as exc:
            raise Unknown(f"an answer that is none: {exc}") from None
        if self._dialogs[0] != uuid:
            self._dialogs = (uuid, Dialogs())
        told = self._dialogs[1].state(sample)
        # Its loop answers that, which one that is blocked would be waited for in vain.
        levels = None if sample.stale else self._ask(uuid, [{"op": "log"}])[0]
        told["levels"] = levels.get("levels") if isinstance(levels, dict) else None
        told["levels_why"] = levels.text if isinstance(levels, Refusal) else None
        return told

    def recent(self) -> tuple[dict[str, Any], bool]:
        """What has happened, and whether something is new."""
        actors = [one for uuid, one in self.actors.items() if uuid in self.paths]
        own = {
            self.paths[one.uuid]: [{"op": "recent", "since": self._events.since(one.uuid)}]
            for one in actors
        }
        replies = ask_all(list(own), (), self._limit, own=own, kept=self._kept)
        self._events.forget(self.actors)
        is_new = False
        missing = []
        for one in actors:
            reply = replies[self.paths[one.uuid]]
            answer = reply.answers[0] if reply.answers else None
            if isinstance(answer, dict):
                is_new = self._events.add(one, answer) or is_new
            else:
                why = answer.text if isinstance(answer, Refusal) else reply.problem
                missing.append({"what": called(one), "why": why or "no answer"})
        return self._events.state(time.time(), missing), is_new

    def stacks(self, uuid: str) -> Any:
        """Where the tasks of an actor are.  Raises Unknown."""
        (answer,) = self._ask(uuid, [{"op": "stacks"}])
        if isinstance(answer, Refusal):
            raise Unknown(answer.text)
        return answer

    def path_of(self, uuid: str) -> Path:
        """Where an actor is asked.  Raises Unknown."""
        path = self.paths.get(uuid)
        if path is None:
            one = self.actors.get(uuid)
            why = f"{called(one)} can't be asked: {one.state}" if one else "there is no such actor"
            raise Unknown(why)
        return path

    def _ask(self, uuid: str, requests: list[dict[str, Any]]) -> list[Any]:
        path = self.path_of(uuid)
        reply = ask_all([path], requests, ASK_LIMIT)[path]
        if not reply.answers:
            raise Unknown(reply.problem or "no answer")
        return reply.answers

    def rest(self) -> None:
        """Nobody looks: hold no connection."""
        self._kept.close()


def _statuses(actors: Iterable[Sample]) -> dict[int, int | None]:
    """How those have ended that are zombies."""
    return {
        one.pid: exit_status(one.pid)
        for one in actors
        if one.state == "zombie" and one.pid is not None
    }


def exit_status(pid: int) -> int | None:
    """That of a process that nobody has waited for yet, negative for a signal; ``None``: it can't be known."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        if ON_LINUX and (stat := read_stat(pid)).has_ended:
            return os.waitstatus_to_exitcode(int(stat.fields[49]))
    return None
