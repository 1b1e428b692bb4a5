"""What owns descriptors in a parent, and how it ends in an actor that is forked off."""

from __future__ import annotations

import contextlib
import gc
import io
import mmap
import multiprocessing
import os
import select
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import trio
from trio._core._wakeup_socketpair import WakeupSocketpair

import tractor
from tractor.spawn.fork import _backend

owners: dict[str, list[Any]] = {}
"""By kind; the only references."""

TEXT = "said once, and not yet flushed"


class Handle:
    """A number, as libraries keep it."""

    def __init__(self) -> None:
        self.fd = os.open(os.devnull, os.O_RDONLY)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


async def make_owners(folder: Path) -> list[Path]:
    """Two of each kind; the files into which something was written, and not yet flushed."""
    owners.clear()
    files = []
    for number in range(2):
        for kind, make in _makers(folder, number).items():
            owners.setdefault(kind, []).append(make())
        a_file = await trio.open_file(folder / f"trio{number}", "w")
        await a_file.write(TEXT)
        owners.setdefault("trio.open_file", []).append(a_file)
        for kind in ("file", "os.fdopen"):
            owners[kind][number].write(TEXT)
            files.append(folder / f"{kind}{number}")
        files.append(folder / f"trio{number}")
    return files


def _makers(folder: Path, number: int) -> dict[str, Callable[[], Any]]:
    def fdopened() -> io.TextIOWrapper:
        return os.fdopen(os.open(folder / f"os.fdopen{number}", os.O_WRONLY | os.O_CREAT), "w")

    def database() -> sqlite3.Connection:
        db = sqlite3.connect(folder / f"sqlite{number}")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE t (x)")
        db.commit()
        return db

    def mapped() -> mmap.mmap:
        with tempfile.TemporaryFile() as file:
            file.truncate(4096)
            return mmap.mmap(file.fileno(), 4096)

    def process() -> Any:
        # `cat` ends with its stdin.
        return subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    makers: dict[str, Callable[[], Any]] = {
        "file": lambda: open(folder / f"file{number}", "w"),  # noqa: SIM115
        "raw file": lambda: open(folder / "raw", "wb", 0),  # noqa: SIM115
        "os.fdopen": fdopened,
        "socket": socket.socket,
        "pair": lambda: _Several(socket.socketpair()),
        "tempfile": tempfile.TemporaryFile,
        "Popen": process,
        "sqlite": database,
        "mmap": mapped,
        "scandir": lambda: os.scandir(folder),
        "multiprocessing": lambda: _Several(multiprocessing.Pipe()),
        "number": Handle,
        "trio.socket": lambda: trio.socket.socket(),
        "FdStream": lambda: _Several(map(trio.lowlevel.FdStream, os.pipe())),
        "WakeupSocketpair": WakeupSocketpair,
    }
    if sys.platform == "linux":
        from trio._core._io_epoll import EpollIOManager

        makers["epoll"] = select.epoll
        makers["trio's epoll"] = EpollIOManager
    return makers


class _Several:
    def __init__(self, parts: Any) -> None:
        self.parts = list(parts)

    def close(self) -> None:
        for part in self.parts:
            _close(part)


def _close(owner: Any) -> None:
    """As user code would, and without trio's loop."""
    with contextlib.suppress(OSError, sqlite3.ProgrammingError):
        if isinstance(owner, trio.lowlevel.FdStream):
            owner._fd_holder._raw_close()
        elif isinstance(owner, subprocess.Popen):
            _Several([owner.stdin, owner.stdout]).close()
        else:
            getattr(owner, "wrapped", owner).close()


def end(kind: str, how: str) -> None:
    """The end of all that is left of a kind."""
    for owner in owners.pop(kind):
        if how == "closed":
            _close(owner)
        elif how == "in a cycle":
            cycle = [owner]
            cycle.append(cycle)
            del cycle
    if how == "closed":
        return
    del owner
    gc.collect()


@contextlib.contextmanager
def own_pipes(wrong: list[str]) -> Iterator[Callable[[str], None]]:
    """Pipes that take each free number; the function notes by whose end one of them came to harm."""
    pipes = [os.pipe() for _ in range(60)]
    before = {fd: os.fstat(fd).st_ino for pipe in pipes for fd in pipe}

    def check(whose: str) -> None:
        for fd, inode in before.items():
            try:
                same = os.fstat(fd).st_ino == inode
            except OSError:
                same = False
            if not same:
                wrong.append(f"{whose}: {fd} was closed")
                del before[fd]
                return
        for fd, _ in pipes:
            if fd in before and select.select([fd], [], [], 0)[0]:
                wrong.append(f"{whose}: something was written into {fd + 1}")
                return

    try:
        yield check
    finally:
        for fd in before:
            os.close(fd)


async def end_all(how: str) -> list[str]:
    """In an actor: let each kind end, and tell by whose end descriptors of its own were closed."""
    wrong: list[str] = []
    with own_pipes(wrong) as check:
        for kind in list(owners):
            end(kind, how)
            check(kind)
    return wrong


async def end_all_below(how: str) -> list[str]:
    """As :func:`end_all`, in an actor that is forked off this one."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("below", enable_modules=[__name__])
        told: list[str] = await portal.run(end_all, how=how)
        await portal.cancel_actor()
    return told + await end_all(how)


async def use_all() -> dict[str, str]:
    """What comes of the parent's files and sockets when an actor uses them."""
    found = {}
    uses: dict[str, Callable[[Any], Any]] = {
        "file": lambda file: file.flush(),
        "raw file": lambda file: file.write(b"x"),
        "socket": lambda sock: sock.getsockname(),
        "number": lambda handle: os.read(handle.fd, 1),
    }
    for kind, use in uses.items():
        try:
            found[kind] = repr(use(owners[kind][0]))
        except OSError as exc:
            found[kind] = os.strerror(exc.errno or 0)
    return found


async def lose_some_in_a_fork(kind: str) -> int:
    """Have objects end just when this actor's pipes for a new one are there; the new one's pid."""
    fork = vars(_backend)["fork_in_fresh_thread"]

    def fork_late(*args: Any, **kwargs: Any) -> int:
        end(kind, "dropped")
        pid: int = fork(*args, **kwargs)
        return pid

    vars(_backend)["fork_in_fresh_thread"] = fork_late
    numbers = [fd for owner in owners[kind] for fd in _numbers(owner)]
    async with tractor.open_nursery() as an:
        with _lower_ones_taken(numbers):
            portal = await an.start_actor("below", enable_modules=[__name__])
        pid: int = await portal.run(its_pid)
        await portal.cancel_actor()
    return pid


def _numbers(owner: Any) -> list[int]:
    if isinstance(owner, WakeupSocketpair):
        return [owner.wakeup_sock.fileno(), owner.write_sock.fileno()]
    return [part.fileno() for part in owner.parts]


@contextlib.contextmanager
def _lower_ones_taken(numbers: list[int]) -> Iterator[None]:
    """What is opened in the block gets these numbers, if they are to be had."""
    taken: list[int] = []
    try:
        while not taken or (taken[-1] not in numbers and taken[-1] < max(numbers)):
            taken.append(os.open(os.devnull, os.O_RDONLY))
        os.close(taken.pop())
        yield
    finally:
        for fd in taken:
            os.close(fd)


async def its_pid() -> int:
    return os.getpid()


async def numbers_taken() -> list[str]:
    """Where this actor's descriptors lead to."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return found
