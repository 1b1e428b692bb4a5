"""The file of a trace: a place that can't be written to is told at once, a full disk costs only what has no room."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tractor.observe.tracing import _writing
from tractor.observe.tracing._format import Trace
from tractor.observe.tracing._recorded import Recorded, Recording
from tractor.observe.tracing._writing import TraceFile
from tractor.runtime.seen._events import ChannelOpened

MARKS = 5000


@pytest.fixture
def trace() -> Trace:
    events = [
        ChannelOpened(number, "a" * 32, "b" * 32, f"peer {number * 7919}", "uds")
        for number in range(MARKS)
    ]
    actor = Recorded("a", "a" * 32, 7, "h", None, 0, MARKS, events=list(events))
    return Trace(Recording(1.0, "h", 0, MARKS, [actor]))


def read(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The metadata, and the names of the marks."""
    data = path.read_bytes()
    found = msgspec.json.decode(gzip.decompress(data) if path.suffix == ".gz" else data)
    marks = [one["name"] for one in found["traceEvents"] if one["ph"] == "i"]
    return found["metadata"], marks


@pytest.mark.parametrize("name", ["t.json", "t.json.gz"])
def test_all_of_it(tmp_path: Path, trace: Trace, name: str) -> None:
    path = tmp_path / name
    # What is there is replaced.
    path.write_bytes(b"x" * 10_000_000)
    written = TraceFile(path).write(trace)
    metadata, marks = read(path)
    assert marks == [f"connected to peer {number * 7919}" for number in range(MARKS)]
    assert metadata == trace.metadata
    assert written.left_out == 0
    assert written.error is None
    assert written.records == MARKS + 5
    assert written.size == path.stat().st_size


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file become larger: as a disk that is full, which Python reports in the same way."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process")
@pytest.mark.parametrize(("name", "size"), [("t.json", 300_000), ("t.json.gz", 30_000)])
def test_a_full_disk_cuts_it(
    tmp_path: Path, trace: Trace, name: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_writing, "CHUNK", 100)
    path = tmp_path / name
    with room_for(size):
        written = TraceFile(path).write(trace)
    metadata, marks = read(path)
    # The beginning, as much of it as there was room for, and readable.
    assert 0 < len(marks) < MARKS
    assert marks == [f"connected to peer {number * 7919}" for number in range(len(marks))]
    assert metadata == trace.metadata
    assert written.records == len(marks) + 5
    assert written.records + written.left_out == MARKS + 5
    assert size * 0.7 < path.stat().st_size <= size
    assert isinstance(written.error, OSError)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_no_room_at_all(trace: Trace) -> None:
    with pytest.raises(OSError, match="No space left"):
        TraceFile(Path("/dev/full")).write(trace)


def test_a_place_that_cant_be_written_to_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TraceFile(tmp_path / "nowhere" / "t.json")
    with pytest.raises(IsADirectoryError):
        TraceFile(tmp_path)


def test_what_comes_to_nothing_leaves_things_as_they_were(tmp_path: Path) -> None:
    new, old = tmp_path / "new.json", tmp_path / "old.json"
    old.write_text("old")
    for path in (new, old):
        TraceFile(path).give_up()
    assert not new.exists()
    assert old.read_text() == "old"
