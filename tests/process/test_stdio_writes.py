"""Writing to what may block, or was made not to."""

from __future__ import annotations

import os
import threading

import pytest

from tractor.process._stdio import write_and_close

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes that do not block")

DATA = b"0123456789" * 100_000


@pytest.mark.parametrize("blocking", [True, False])
def test_all_is_written(blocking: bool) -> None:
    """Also where somebody else has made it non-blocking, as ssh does with a terminal's."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, blocking)
    ends: list[OSError | None] = []
    writer = threading.Thread(target=lambda: ends.append(write_and_close(write_fd, DATA)))
    writer.start()
    with open(read_fd, "rb") as file:
        assert file.read() == DATA
    writer.join()
    assert ends == [None]


def test_a_reader_that_is_gone_is_told_of() -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    assert isinstance(write_and_close(write_fd, DATA), BrokenPipeError)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(write_fd)
