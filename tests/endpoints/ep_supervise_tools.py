"""What the tests of supervision, boot and discovery share; not imported by children."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio
from ep_run import run as run

import tractor

T = TypeVar("T")

LIMIT = 45.0
"""Seconds after which a test counts as hanging; nothing here takes that long."""

PROGRAM = Path(__file__).with_name("ep_supervise_prog.py")


def alive(pid: int) -> bool:
    """Whether the process, or a sub-interpreter's thread, runs; a zombie that somebody else has to reap does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in "ZX"
    return not Path("/proc").is_dir()


def place_of(portal: tractor.Portal) -> int:
    """What `alive()` tells of a child: its pid, or in a sub-interpreter of this process its thread's id."""
    aid = portal.chan.aid
    assert aid is not None
    assert aid.pid is not None
    if aid.pid != os.getpid():
        return aid.pid
    places = [t.native_id for t in threading.enumerate() if t.name == f"subint-trio[{aid.name}]"]
    assert len(places) == 1
    assert places[0] is not None
    return places[0]


async def until(condition: Callable[[], Any], limit: float = 10.0) -> None:
    """Wait for what no event tells: another process's file, or its end."""
    with trio.fail_after(limit):
        while not condition():
            await trio.sleep(0.01)


async def until_gone(pids: Iterable[int], limit: float = 10.0) -> None:
    await until(lambda: not any(map(alive, pids)), limit)


async def until_exists(path: str | Path, limit: float = 10.0) -> None:
    await until(Path(path).exists, limit)


@asynccontextmanager
async def one_daemon(
    name: str = "daemon", **root_kwargs: Any
) -> AsyncIterator[tuple[tractor.ActorNursery, tractor.Portal]]:
    """A nursery with one daemon that serves `ep_supervise`; still there if the block wants it so."""
    async with tractor.open_nursery(**root_kwargs) as an:
        yield an, await an.start_actor(name, enable_modules=["ep_supervise"])


class Program:
    """A program under test, in a session of its own, as a shell with job control would start it."""

    def __init__(self, *args: str, script: Path = PROGRAM, **variables: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(script), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, **variables},
        )
        self.stderr = ""

    @property
    def pid(self) -> int:
        return self.process.pid

    def read_line(self) -> str:
        """The next line that it prints; an error, with its stderr, if it prints no more."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the program ended: {self.finish()}, {self.stderr}")
        return line.rstrip("\n")

    def signal_group(self, number: int) -> None:
        """As a ctrl-c in a terminal does: to every process of the program."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def finish(self, limit: float = LIMIT) -> int:
        """Wait for its end; its exit status."""
        _, self.stderr = self.process.communicate(timeout=limit)
        return self.process.returncode

    def close(self) -> None:
        """Make sure that it is gone; its descendants end by the loss of their parent."""
        if self.process.poll() is None:
            self.process.kill()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        self.process.wait()


@contextmanager
def program(*args: str, script: Path = PROGRAM, **variables: str) -> Iterator[Program]:
    started = Program(*args, script=script, **variables)
    try:
        yield started
    finally:
        started.close()


def spoken(addr: Any) -> str:
    """An unwrapped address as a program's argument."""
    return f"{addr[0]}|{addr[1]}"


def free_uds() -> tuple[str, str]:
    """A Unix socket address in the session's runtime directory that nobody uses."""
    directory = Path(os.environ["XDG_RUNTIME_DIR"]) / "tractor"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(directory), f"registry-{os.urandom(4).hex()}.sock"
