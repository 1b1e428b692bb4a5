"""Eventfds as a public tool."""

from __future__ import annotations

import errno
import os
import sys

import pytest
import trio
import trio.testing

import tractor.ipc
from tractor.ipc import EventFD, close_eventfd, open_eventfd, read_eventfd, write_eventfd
from tractor.shm.ring._eventfd import eventfd_id, require_linux

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="eventfds are Linux's")


def test_a_counter_adds_up_and_is_taken_as_a_whole() -> None:
    fd = open_eventfd(3)
    write_eventfd(fd, 4)
    write_eventfd(fd, 5)
    assert read_eventfd(fd) == 12
    close_eventfd(fd)


def test_failures_have_their_errno() -> None:
    fd = open_eventfd(0, os.EFD_NONBLOCK)
    with pytest.raises(BlockingIOError) as empty:
        read_eventfd(fd)
    assert empty.value.errno == errno.EAGAIN
    write_eventfd(fd, 2**64 - 2)
    with pytest.raises(BlockingIOError):
        write_eventfd(fd, 1)
    with pytest.raises(OSError, match="Invalid argument") as too_much:
        write_eventfd(fd, 2**64 - 1)
    assert too_much.value.errno == errno.EINVAL
    close_eventfd(fd)
    for use in (lambda: read_eventfd(fd), lambda: write_eventfd(fd, 1), lambda: close_eventfd(fd)):
        with pytest.raises(OSError, match="Bad file descriptor") as closed:
            use()
        assert closed.value.errno == errno.EBADF
    with pytest.raises(OSError, match="Invalid argument"):
        open_eventfd(0, 1 << 20)


def test_ids_tell_eventfds_apart_and_other_descriptors_are_named() -> None:
    with EventFD() as one, EventFD() as other:
        copy = os.dup(one.fd)
        assert eventfd_id(copy) == eventfd_id(one.fd)
        assert eventfd_id(one.fd) != eventfd_id(other.fd)
        os.close(copy)
        with pytest.raises(
            ValueError, match=f"descriptor {copy} is not an eventfd of this process: it is closed"
        ):
            eventfd_id(copy)
    with open("/dev/null", "rb") as null, pytest.raises(ValueError, match="it is /dev/null"):
        eventfd_id(null.fileno())


def test_waiting_for_a_counter() -> None:
    async def main() -> None:
        with EventFD() as event:
            async with trio.open_nursery() as tn:
                got: list[int] = []

                async def read() -> None:
                    got.append(await event.read())

                tn.start_soon(read)
                await trio.testing.wait_all_tasks_blocked()
                assert got == []
                event.write(7)
            assert got == [7]
            with trio.CancelScope() as scope:
                scope.cancel()
                await event.read()
            assert scope.cancelled_caught

    trio.run(main)


def test_closing_wakes_who_waits() -> None:
    async def main() -> None:
        event = EventFD(open_eventfd())
        async with trio.open_nursery() as tn:

            async def read() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await event.read()

            tn.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            event.close()
        event.close()
        assert event.fd == -1
        with pytest.raises(trio.ClosedResourceError, match="on this side"):
            event.write()

    trio.run(main)


def test_elsewhere_it_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(
        NotImplementedError, match="rings need Linux's eventfds, which darwin does not have"
    ):
        require_linux("rings")
    for use in (
        open_eventfd,
        lambda: read_eventfd(0),
        lambda: write_eventfd(0, 1),
        lambda: close_eventfd(0),
        EventFD,
        lambda: tractor.ipc.open_ringbuf("r").__enter__(),
    ):
        with pytest.raises(NotImplementedError):
            use()
