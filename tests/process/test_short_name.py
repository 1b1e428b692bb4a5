"""An actor that was forked can be told from its parent where no process titles can be set."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import ep_short_name
import pytest
import trio

import tractor
from tractor import _child
from tractor.process import _title
from tractor.testing import find_descendants

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="short names are set by /proc")


@pytest.fixture
def no_titles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `setproctitle`, in forked children, too; whatever backend the suite runs on."""
    monkeypatch.setattr(_child, "set_actor_proctitle", lambda _aid: None)
    monkeypatch.delenv("TRACTOR_SPAWN_METHOD", raising=False)


@pytest.mark.usefixtures("no_titles")
def test_a_forked_actor_is_known_by_its_short_name(tmp_path: Path) -> None:
    own = Path("/proc/self/comm").read_text()

    async def main() -> None:
        async with tractor.open_nursery(start_method="main_thread_forkserver") as an:
            portal = await an.start_actor("a worker", enable_modules=["ep_short_name"])
            assert portal.chan.aid is not None
            assert find_descendants(os.getpid(), only_actors=True) == [portal.chan.aid.pid]
            assert await portal.run(ep_short_name.own) == "_subactor[a wor\n"
            # What it forks off is not an actor, and must not be taken for one.
            told = await portal.run(ep_short_name.of_a_fork, path=str(tmp_path / "comm"))
            assert told == own
            await an.cancel()

    trio.run(main)
    assert Path("/proc/self/comm").read_text() == own


def test_where_it_cannot_be_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_title, "COMM_PATH", str(tmp_path / "no such file"))
    assert _title.set_short_name("_subactor[name@1]") is False
