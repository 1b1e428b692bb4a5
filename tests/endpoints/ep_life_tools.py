"""What the tests of an actor's life share; not imported by children."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ep_life
import pytest
import trio

import tractor

Notes = Callable[[], list[str]]

SCRIPT = Path(ep_life.__file__).with_name("ep_life_prog.py")


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Notes:
    """What actors have noted so far."""
    path = tmp_path / "notes"
    path.touch()
    monkeypatch.setenv(ep_life.VARIABLE, str(path))
    return lambda: path.read_text().split("\n")[:-1]


@pytest.fixture(params=["exec", "forked"])
def start(request: pytest.FixtureRequest) -> str:
    """How actors start; the second is a fork of this process."""
    if request.param == "forked":
        request.getfixturevalue("forked_actors")
    how: str = request.param
    return how


async def until_it_refuses(portal: tractor.Portal) -> None:
    """An actor is asked to drain by a request or a signal of its own, which takes a moment."""
    with trio.fail_after(10):
        while True:
            try:
                await portal.run(ep_life.pid)
            except tractor.ActorBusy:
                return
            await trio.sleep(0.005)
