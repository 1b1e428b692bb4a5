"""A block that takes too long leaves its threads' stacks in a file."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import sys
import threading
from pathlib import Path

import pytest

from tractor.devx import _hang
from tractor.devx._hang import dump_on_hang


def wait_for_text(path: Path) -> str:
    """Spin, as what hangs does, until something was written."""
    while not path.stat().st_size:
        pass
    return path.read_text()


@pytest.mark.parametrize("all_threads", [True, False])
def test_a_block_that_hangs_is_written_down_and_goes_on(tmp_path: Path, all_threads: bool) -> None:
    file = tmp_path / "hang"
    ready, done = threading.Event(), threading.Event()

    def wait_in_a_thread() -> None:
        ready.set()
        done.wait()

    thread = threading.Thread(target=wait_in_a_thread)
    thread.start()
    ready.wait()
    with dump_on_hang(0.01, path=str(file), all_threads=all_threads) as path:
        assert path == str(file)
        wait_for_text(file)
    done.set()
    thread.join()
    text = file.read_text()
    assert "wait_for_text" in text
    assert ("wait_in_a_thread" in text) is all_threads
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("all_threads", [True, False])
def test_a_block_that_ends_in_time_leaves_no_file(tmp_path: Path, all_threads: bool) -> None:
    file = tmp_path / "hang"
    file.write_text("of an earlier run")
    with dump_on_hang(60, path=str(file), all_threads=all_threads):
        assert file.read_text() == ""
    assert not file.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="usleep() of the C library")
def test_a_hang_that_holds_the_gil_is_written_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_hang, "GIL_LIMIT", 0.1)
    file = tmp_path / "hang"
    with dump_on_hang(0.05, path=str(file)):
        ctypes.PyDLL(None).usleep(600_000)
        text = file.read_text()
    assert "most recent call first" in text
    assert "test_a_hang_that_holds_the_gil_is_written_too" in text


def test_stacks_are_not_read_again_without_the_gil(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "hang"
    armed: list[float] = []
    monkeypatch.setattr(
        faulthandler, "dump_traceback_later", lambda seconds, file: armed.append(seconds)
    )
    with dump_on_hang(0.01, path=str(file)):
        wait_for_text(file)
    assert len(armed) == 1


def test_nested_blocks_are_written_each_by_its_own_time(tmp_path: Path) -> None:
    outer, inner, late = tmp_path / "outer", tmp_path / "inner", tmp_path / "late"
    with dump_on_hang(60, path=str(outer)), dump_on_hang(0.02, path=str(late)):
        with dump_on_hang(0.01, path=str(inner)):
            wait_for_text(inner)
        assert wait_for_text(late)
    assert not outer.exists()


def test_an_error_passes_and_the_watchdog_is_off(tmp_path: Path) -> None:
    file = tmp_path / "hang"
    with pytest.raises(ZeroDivisionError), dump_on_hang(60, path=str(file)):
        raise ZeroDivisionError
    assert not file.exists()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_text("precious")
    link.symlink_to(victim)
    with pytest.raises(OSError, match="link"), dump_on_hang(path=str(link)):
        pass
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("seconds", [0, -1.5])
def test_no_time_at_all_is_refused(seconds: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=str(seconds)), dump_on_hang(seconds):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_plain_file_is_not_removed(tmp_path: Path) -> None:
    # As /dev/null is none, which root could remove.
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with dump_on_hang(60, path=str(path)):
        pass
    assert path.is_fifo()
