"""Ending an actor from outside: asked first, then by the signals of the ladder, until its process is gone."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tractor._proto.children.ladder import Ladder, LadderDo, LadderEvent, Rung
from tractor.control._client import Asked
from tractor.control._protocol import Refusal
from tractor.observe._naming import called
from tractor.process._stat import pid_alive, process_start_time
from tractor.reaping._signals import Target
from tractor.runtime.seen._samples import Sample

LOOK_INTERVAL = 0.02
"""Seconds between two looks at processes that are to end."""

ASK_LIMIT = 3.0


class Ended(NamedTuple):
    """How one ended.

    Attributes:
        actor: it.
        rung: what it took; empty: it went with the one above it.
        seconds: from the beginning on; ``None``: it is still there.
        why: it could not be asked.
    """

    actor: Sample
    rung: str
    seconds: float | None
    why: str = ""


class _Going:
    """An actor on its way down.

    Args:
        actor: it.
        path: its control socket; ``None``: it has none.
        hard: begin with the signals.
    """

    def __init__(self, actor: Sample, path: Path | None, hard: bool) -> None:
        assert actor.pid is not None
        self.actor = actor
        self.why = ""
        self._path = path
        self._target = Target(actor.pid)
        self._ladder = Ladder(hard_kill=hard or path is None, booting=False)
        self.last = self._ladder.rung

    def begin(self) -> None:
        """The first rung."""
        self._carry_out(self._ladder.start(time.monotonic()))

    def go_on(self) -> None:
        """What is due by now."""
        self._carry_out(self._ladder.tick(time.monotonic()))

    def _carry_out(self, todo: list[LadderDo]) -> None:
        self.last = self._ladder.rung
        for do in todo:
            if do is LadderDo.SEND_CANCEL:
                self._ask()
            else:
                if sys.platform == "win32":
                    raise NotImplementedError
                number = signal.SIGTERM if do is LadderDo.SIGTERM else signal.SIGKILL
                self._target.send(number)

    def _ask(self) -> None:
        assert self._path is not None
        try:
            with Asked(self._path, ASK_LIMIT) as asked:
                asked.ask("cancel")
        except Refusal as exc:
            self.why = exc.text
        except (OSError, ValueError) as exc:
            # It may have ended before it could say so.
            self.why = str(exc)
        else:
            self._carry_out(self._ladder.handle(LadderEvent.ACK, time.monotonic()))

    def close(self) -> None:
        self._target.__exit__()


def end_actors(
    actors: Sequence[Sample],
    below: Sequence[Sample],
    paths: dict[str, Path],
    *,
    hard: bool,
    limit: float,
) -> list[Ended]:
    """Have actors end, and wait until they, and those below them, have.

    Args:
        actors: those that are told to.
        below: those that go with them.
        paths: control sockets, by uuid.
        hard: begin with the signals.
        limit: seconds to wait in all.

    Returns:
        How each ended; one whose process is of another host, or unknown, is not in it.
    """
    begun = time.monotonic()
    going = {
        one.pid: _Going(one, paths.get(one.uuid), hard) for one in actors if one.pid is not None
    }
    starts = {one.pid: process_start_time(one.pid) for one in [*actors, *below] if one.pid}
    ended: dict[int, float] = {}
    for one in going.values():
        one.begin()
    while (passed := time.monotonic() - begun) < limit:
        for pid, start in starts.items():
            if pid not in ended and not pid_alive(pid, start):
                ended[pid] = passed
        if len(ended) == len(starts):
            break
        for pid, one in going.items():
            if pid not in ended and one.last is not Rung.GONE:
                one.go_on()
        time.sleep(LOOK_INTERVAL)
    for one in going.values():
        one.close()
    told = []
    for sample in [*actors, *below]:
        if sample.pid is None:
            continue
        own = going.get(sample.pid)
        rung = own.last.value if own is not None and own.actor is sample else ""
        told.append(Ended(sample, rung, ended.get(sample.pid), own.why if own is not None else ""))
    return told


def ended_text(one: Ended) -> str:
    """How one ended, in words."""
    how = f", {one.rung}" if one.rung else ", with the one above it"
    if one.seconds is None:
        more = f": {one.why}" if one.why else ""
        return f"{called(one.actor)} is still there{how}{more}"
    return f"{called(one.actor)} ended in {one.seconds:.2f} s{how}"
