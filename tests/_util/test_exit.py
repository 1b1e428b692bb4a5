"""How a process ends itself: buffers, exit handlers and status."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from typing import Any

import pytest

from tractor._util._exit import flush_standard_streams


class Full(io.StringIO):
    def flush(self) -> None:
        raise OSError("no space left")


@pytest.mark.parametrize("last", [None, io.StringIO()], ids=["missing", "closed"])
def test_a_stream_that_is_not_there_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, last: Any
) -> None:
    if last is not None:
        last.close()
    monkeypatch.setattr(sys, "stdout", last)
    assert flush_standard_streams()


def test_a_stream_that_is_full_is_told_of_and_keeps_no_other_from_being_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flushed = []
    err = io.StringIO()
    monkeypatch.setattr(err, "flush", lambda: flushed.append(True), raising=False)
    monkeypatch.setattr(sys, "stdout", Full())
    monkeypatch.setattr(sys, "stderr", err)
    assert not flush_standard_streams()
    assert flushed == [True]


def ended(end: str) -> tuple[int, str]:
    program = f"""
import atexit, sys, threading
from tractor._util._exit import end_by_signal, leave
atexit.register(lambda: print("exit handler"))
threading.Thread(target=lambda: (threading.main_thread().join(), print("thread"))).start()
print("main")
{end}
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout


def test_leaving_waits_for_threads_then_runs_exit_handlers_then_writes_what_is_buffered() -> None:
    assert ended("leave(256 + 3)") == (3, "main\nthread\nexit handler\n")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_an_end_by_a_signal_has_its_buffers_written_and_runs_nothing() -> None:
    assert ended("end_by_signal(15)") == (-signal.SIGTERM, "main\n")
