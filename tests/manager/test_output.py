"""The pipes of services: always read, and written as the terminal takes it."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator

import pytest
import trio

from tractor.manager._lines import MAX_HELD
from tractor.manager._output import Outputs


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A pipe that stands for stdout: its ends for reading and writing."""
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def test_lines_of_several_arrive(terminal: tuple[int, int]) -> None:
    read_fd, write_fd = terminal

    async def main() -> None:
        async with trio.open_nursery() as tn:
            outputs = Outputs(tn, write_fd)
            one, two = outputs.for_child("one"), outputs.for_child("two.0")
            assert outputs.for_child("one") == one
            os.write(one, b"hello\n")
            await trio.lowlevel.wait_readable(read_fd)
            assert os.read(read_fd, 4096) == b"one | hello\n"
            os.write(two, b"un")
            await trio.lowlevel.wait_readable(read_fd)
            assert os.read(read_fd, 4096) == b"two.0 | un\n"
            os.write(two, b"last words")
            await outputs.aclose()
            assert os.read(read_fd, 4096) == b"two.0 | last words\n"

    trio.run(main)


def test_a_terminal_that_stands_still_blocks_no_service(terminal: tuple[int, int]) -> None:
    read_fd, write_fd = terminal
    total = 20 * 2**20
    found = bytearray()

    async def main() -> None:
        async with trio.open_nursery() as tn:
            outputs = Outputs(tn, write_fd)
            fd = outputs.for_child("noisy")

            def print_a_lot() -> None:
                line = b"x" * 99 + b"\n"
                for _ in range(total // len(line) // 500):
                    os.write(fd, line * 500)

            with trio.fail_after(60):
                await trio.to_thread.run_sync(print_a_lot)
            assert outputs.held <= MAX_HELD
            reader = threading.Thread(target=_read_until, args=(read_fd, b"END\n", found))
            reader.start()
            os.write(fd, b"END\n")
            await trio.to_thread.run_sync(reader.join)
            await outputs.aclose()

    trio.run(main)
    lines = found.decode().splitlines()
    assert all(line.startswith("noisy | ") and line.count("noisy | ") == 1 for line in lines)
    notes = [line for line in lines if "dropped" in line]
    dropped = sum(int(note.split()[3]) for note in notes)
    assert len(lines) - len(notes) + dropped == total // 100 // 500 * 500 + 1


def _read_until(fd: int, end: bytes, into: bytearray) -> None:
    while not into.endswith(end):
        into += os.read(fd, 65536)


def test_a_pipe_whose_service_is_gone_ends_with_its_last_holder(terminal: tuple[int, int]) -> None:
    read_fd, write_fd = terminal

    async def main() -> None:
        async with trio.open_nursery() as tn:
            outputs = Outputs(tn, write_fd)
            held = os.dup(outputs.for_child("gone"))
            outputs.forget("gone")
            os.write(held, b"still here\n")
            await trio.lowlevel.wait_readable(read_fd)
            assert os.read(read_fd, 4096) == b"gone | still here\n"
            # The next of that name has a pipe of its own.
            again = outputs.for_child("gone")
            os.close(held)
            os.write(again, b"again\n")
            await trio.lowlevel.wait_readable(read_fd)
            assert os.read(read_fd, 4096) == b"gone | again\n"
            await outputs.aclose()

    trio.run(main)


def test_without_a_reader_the_services_go_on() -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)

    async def main() -> None:
        async with trio.open_nursery() as tn:
            outputs = Outputs(tn, write_fd)
            fd = outputs.for_child("a")

            def print_a_lot() -> None:
                for _ in range(100):
                    os.write(fd, b"x" * 10_000 + b"\n")

            with trio.fail_after(60):
                await trio.to_thread.run_sync(print_a_lot)
            await outputs.aclose()

    trio.run(main)
    os.close(write_fd)


def test_a_stdout_that_does_not_block_is_waited_for(terminal: tuple[int, int]) -> None:
    read_fd, write_fd = terminal
    os.set_blocking(write_fd, False)
    size = fcntl.fcntl(write_fd, fcntl.F_GETPIPE_SZ)
    found = bytearray()

    async def main() -> None:
        async with trio.open_nursery() as tn:
            outputs = Outputs(tn, write_fd)
            fd = outputs.for_child("a")
            for _ in range(size // 1000 * 3):
                await trio.lowlevel.wait_writable(fd)
                os.write(fd, b"y" * 999 + b"\n")
            os.write(fd, b"END\n")
            await trio.to_thread.run_sync(_read_until, read_fd, b"END\n", found)
            await outputs.aclose()

    trio.run(main)
    assert found.count(b"\n") == size // 1000 * 3 + 1
