from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tractor.spawn._boot import (
    MAX_RECORD,
    BootError,
    BootRecord,
    open_boot_pipe,
    read_boot_record,
    release_all_lifelines,
    restore_stderr,
)


def open_fds() -> set[str]:
    return set(os.listdir("/dev/fd"))


@pytest.fixture(autouse=True)
def _no_fd_leak() -> Iterator[None]:
    before = len(open_fds())
    yield
    assert len(open_fds()) == before


def test_record_travels_and_the_pipe_then_ends_with_the_lifeline() -> None:
    record = BootRecord(authkey=b"k" * 32, parent_pid=7)
    fd, end = open_boot_pipe(record)
    try:
        assert not os.get_inheritable(fd)
        assert read_boot_record(fd) == record
        os.set_blocking(fd, False)
        with pytest.raises(BlockingIOError):
            os.read(fd, 1)
        end.release()
        # A byte, in case that another process holds the write end, too.
        assert os.read(fd, 1) == b"\0"
        assert os.read(fd, 1) == b""
        end.release()
    finally:
        os.close(fd)


def test_release_all_reaches_every_end_and_never_a_reused_number() -> None:
    pipes = [open_boot_pipe(BootRecord()) for _ in range(3)]
    release_all_lifelines()
    new_fd, new_end = open_boot_pipe(BootRecord())
    for fd, end in pipes:
        end.release()
        read_boot_record(fd)
        assert os.read(fd, 2) == b"\0"
        assert os.read(fd, 1) == b""
        os.close(fd)
    read_boot_record(new_fd)
    os.set_blocking(new_fd, False)
    with pytest.raises(BlockingIOError):
        os.read(new_fd, 1)
    new_end.release()
    os.close(new_fd)


def test_a_forked_child_holds_no_lifeline() -> None:
    fd, end = open_boot_pipe(BootRecord())
    read_boot_record(fd)
    go_r, go_w = os.pipe()
    done_r, done_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(done_w, b"1")
        os.close(go_w)
        os.read(go_r, 1)
        os._exit(0)
    os.read(done_r, 1)
    end.release()
    os.set_blocking(fd, False)
    try:
        assert os.read(fd, 2) == b"\0"
        assert os.read(fd, 1) == b""
    finally:
        os.close(go_w)
        os.waitpid(pid, 0)
        for each in (fd, go_r, done_r, done_w):
            os.close(each)


def test_key_that_cannot_fit_is_refused_before_any_process() -> None:
    with pytest.raises(ValueError, match="shorter authkey"):
        open_boot_pipe(BootRecord(authkey=b"k" * MAX_RECORD))
    fd, end = open_boot_pipe(BootRecord(authkey=b"k" * (MAX_RECORD - 200)))
    read_boot_record(fd)
    end.release()
    os.close(fd)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "closed it before the boot record"),
        (b"\x05\x00\x00\x00ab", "closed it before the boot record"),
        (b"\xff\xff\xff\xff", "over"),
        (b"\x01\x00\x00\x00\xc1", "held no boot record"),
        (b"\x01\x00\x00\x00\x01", "held no boot record"),
    ],
)
def test_bad_records(data: bytes, text: str) -> None:
    r, w = os.pipe()
    os.write(w, data)
    os.close(w)
    try:
        with pytest.raises(BootError, match=text):
            read_boot_record(r)
    finally:
        os.close(r)


def test_late_record_and_closed_descriptor() -> None:
    r, w = os.pipe()
    with pytest.raises(BootError, match="in time"):
        read_boot_record(r, timeout=0.0)
    os.close(r)
    os.close(w)
    with pytest.raises(BootError, match="never by hand"):
        read_boot_record(r)


def test_record_hides_its_key() -> None:
    assert "secret" not in repr(BootRecord(authkey=b"secret"))


def test_restore_stderr_moves_the_duplicate_to_fd_2() -> None:
    keep = os.dup(2)
    r, w = os.pipe()
    try:
        restore_stderr(BootRecord(stderr_fd=w))
        os.write(2, b"x")
    finally:
        os.dup2(keep, 2)
        os.close(keep)
    assert os.read(r, 2) == b"x"
    assert os.read(r, 1) == b""
    os.close(r)
    restore_stderr(BootRecord())
    assert sys.stderr is not None
