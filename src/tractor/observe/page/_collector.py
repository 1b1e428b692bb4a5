"""One collector for all viewers: it asks only for what somebody looks at, and nothing at all where nobody does.

A viewer is a stream of states to a browser.  It has a place for the latest state of each kind, so one that reads slowly
misses states and holds nobody up.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec
import trio

from tractor import log as _log
from tractor.observe.page._looks import Unknown

log = _log.get_logger()

MAX_VIEWERS = 8

ALIVE_LIMIT = 5.0
"""Seconds without a sign of life after which a viewer counts as gone."""

TREE_INTERVAL = 1.0
RECENT_INTERVAL = 2.0
SHORTEST_PAUSE = 0.2
"""Seconds between two looks, however long one takes."""

PANELS = frozenset({"tree", "recent", "actor"})


class TakesLooks(Protocol):
    """What asks; each method in a thread."""

    def tree(self) -> dict[str, Any]:
        """How all actors do."""

    def actor(self, uuid: str) -> dict[str, Any]:
        """What one has open.  Raises Unknown."""

    def recent(self) -> tuple[dict[str, Any], bool]:
        """What has happened, and whether something is new."""

    def rest(self) -> None:
        """Nobody looks."""


class Full(Exception):
    """There are as many viewers as there may be."""


class Viewer:
    """Somebody who looks.

    Attributes:
        name: by which it says what it looks at.
        panels: what it looks at.
        actor: the uuid of whom; empty: of nobody.
    """

    def __init__(self) -> None:
        self.name = secrets.token_urlsafe(9)
        self.panels: frozenset[str] = frozenset()
        self.actor = ""
        self.is_gone = False
        self._seen = trio.current_time()
        self._states: dict[str, bytes] = {}
        self._changed = trio.Event()

    def touch(self) -> None:
        """It has shown that it is there."""
        self._seen = trio.current_time()

    @property
    def is_alive(self) -> bool:
        """Whether it has shown that lately."""
        return not self.is_gone and trio.current_time() - self._seen < ALIVE_LIMIT

    def put(self, kind: str, line: bytes) -> None:
        """Have it get a state, in the place of an older one of the same kind."""
        self._states[kind] = line
        self._changed.set()

    def leave(self) -> None:
        """End its stream."""
        self.is_gone = True
        self._changed.set()

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """What it gets, until it is gone."""
        while not self.is_gone:
            while self._states and not self.is_gone:
                kind = next(iter(self._states))
                yield self._states.pop(kind)
            if not self.is_gone:
                self._changed = trio.Event()
                await self._changed.wait()


class Collector:
    """Asks for all viewers.

    Args:
        looks: takes the looks.
        facts: what each viewer is told at its beginning.
    """

    def __init__(self, looks: TakesLooks, facts: dict[str, Any] | None = None) -> None:
        self._looks = looks
        self._facts = facts or {}
        self._viewers: dict[str, Viewer] = {}
        self._wanted = trio.Event()
        self._latest: dict[str, bytes] = {}
        # One look at a time uses the connections that are kept.
        self._busy = trio.Lock()
        self._rests = True

    def __len__(self) -> int:
        return len(self._viewers)

    @contextmanager
    def viewing(self, panels: frozenset[str], actor: str) -> Iterator[Viewer]:
        """A place for a viewer, for the block.  Raises Full."""
        self._drop_the_gone()
        if len(self._viewers) >= MAX_VIEWERS:
            raise Full
        viewer = Viewer()
        self._viewers[viewer.name] = viewer
        viewer.put("hello", _line("hello", {"viewer": viewer.name, **self._facts}))
        self.look(viewer.name, panels, actor)
        try:
            yield viewer
        finally:
            viewer.is_gone = True
            self._viewers.pop(viewer.name, None)

    def look(self, name: str, panels: frozenset[str], actor: str) -> bool:
        """A viewer says what it looks at, and with that, that it is there; whether it is known."""
        viewer = self._viewers.get(name)
        if viewer is None or viewer.is_gone:
            return False
        viewer.touch()
        for kind in panels - viewer.panels & self._latest.keys():
            # What is known already need not be waited for.
            if kind in self._latest:
                viewer.put(kind, self._latest[kind])
        viewer.panels, viewer.actor = panels, actor
        self._wanted.set()
        return True

    def close(self) -> None:
        """End all streams."""
        for viewer in self._viewers.values():
            viewer.leave()

    def _drop_the_gone(self) -> None:
        for viewer in list(self._viewers.values()):
            if not viewer.is_alive:
                viewer.leave()
                self._viewers.pop(viewer.name, None)

    def _watching(self, panel: str) -> list[Viewer]:
        self._drop_the_gone()
        return [one for one in self._viewers.values() if panel in one.panels]

    async def run(self) -> None:
        """Take looks as long as somebody wants them; never returns."""
        async with trio.open_nursery() as tn:
            tn.start_soon(self._repeat, "tree", TREE_INTERVAL, self._tree)
            tn.start_soon(self._repeat, "actor", TREE_INTERVAL, self._actors)
            tn.start_soon(self._repeat, "recent", RECENT_INTERVAL, self._recent)

    async def _repeat(self, panel: str, interval: float, take: Callable[[], Any]) -> None:
        while True:
            while not self._watching(panel):
                await self._until_wanted()
            begun = trio.current_time()
            try:
                await take()
            except Exception as exc:
                # Whoever looks must know that what is shown is old.
                log.exception("a look for the page failed")
                self._tell("problem", {"panel": panel, "why": repr(exc)}, panel)
            pause = max(SHORTEST_PAUSE, begun + interval - trio.current_time())
            await trio.sleep(pause)

    async def _until_wanted(self) -> None:
        self._wanted = trio.Event() if self._wanted.is_set() else self._wanted
        if not self._viewers and not self._rests:
            async with self._busy:
                if not self._viewers:
                    self._rests = True
                    self._latest.clear()
                    self._looks.rest()
        with trio.move_on_after(ALIVE_LIMIT if self._viewers else float("inf")):
            await self._wanted.wait()

    async def _tree(self) -> None:
        async with self._busy:
            self._rests = False
            state = await in_thread(self._looks.tree)
        state["viewers"] = len(self._viewers)
        state["viewers_most"] = MAX_VIEWERS
        self._latest["tree"] = self._tell("tree", state, "tree")

    async def _recent(self) -> None:
        if "tree" not in self._latest:
            # It says whom to ask.
            await self._tree()
        async with self._busy:
            state, is_new = await in_thread(self._looks.recent)
        if is_new or "recent" not in self._latest:
            self._latest["recent"] = self._tell("recent", state, "recent")

    async def _actors(self) -> None:
        for uuid in {one.actor for one in self._watching("actor")} - {""}:
            try:
                state = await in_thread(self._looks.actor, uuid)
            except Unknown as exc:
                state = {"uuid": uuid, "why": str(exc)}
            line = _line("actor", state)
            for viewer in self._watching("actor"):
                if viewer.actor == uuid:
                    viewer.put("actor", line)

    def _tell(self, kind: str, state: Any, panel: str) -> bytes:
        line = _line(kind, state)
        for viewer in self._watching(panel):
            viewer.put(kind, line)
        return line


def _line(kind: str, state: Any) -> bytes:
    return msgspec.json.encode({"kind": kind, "data": state}) + b"\n"


async def in_thread(fn: Callable[..., Any], *args: Any) -> Any:
    """What a function returns that blocks; one that is cancelled is left to itself, and ends by its limits."""
    return await trio.to_thread.run_sync(lambda: fn(*args), abandon_on_cancel=True)
