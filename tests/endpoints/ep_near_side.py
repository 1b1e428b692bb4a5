"""The near side of a link, for tests: a real agent in a process of its own, and frames to and from it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tractor.hosts._bundle import boot_command, boot_input
from tractor.hosts._frames import Decoder, FrameError, encode, to_bytes
from tractor.hosts.agent._link import MAGIC
from tractor.process._stat import pid_alive

PATIENCE = 40.0
"""Seconds until a test gives up waiting: far more than anything takes."""

Frame = dict[str, Any]


class Near:
    """An agent, and what came from it.

    Attributes:
        popen: the agent's process, or what starts it.
        frames: all frames that came.
        noise: what came before the first of them.
        answers: whether pings are answered; only while something is waited for.
    """

    def __init__(
        self,
        *,
        command: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        deadline: float | None = 20.0,
        cwd: str | None = None,
        before: bytes = b"",
    ) -> None:
        self.popen = subprocess.Popen(
            command or boot_command(sys.executable),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd=cwd,
            bufsize=0,
        )
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.to_agent, self.from_agent = self.popen.stdin, self.popen.stdout
        self.frames: list[Frame] = []
        self.noise = b""
        self.answers = True
        self.ended = False
        self._begun = False
        self._decoder = Decoder()
        self._taken: set[int] = set()
        self.write(before + boot_input())
        if deadline is not None:
            self.send("hello", deadline=deadline, name="test")

    # -- out ------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.to_agent.fileno(), view) :]

    def send(self, kind: str, /, raw: bytes | None = None, **fields: Any) -> None:
        self.write(encode({"t": kind, **fields}, raw))

    def spawn(self, ident: str | int, program: str, *args: str, **fields: Any) -> Frame:
        """Start a Python program, given as text; its ``up``."""
        argv = ["{python}", "-u", "-c", program, *args]
        self.send("spawn", id=ident, argv=argv, **fields)
        return self.wait_for("up", id=ident)

    # -- in -------------------------------------------------------------------------------------------

    def read(self, timeout: float) -> bool:
        """Take in what comes within a time; whether something came."""
        ready, _, _ = select.select([self.from_agent], [], [], timeout)
        if not ready or self.ended:
            return False
        data = os.read(self.from_agent.fileno(), 1 << 20)
        self.ended = not data
        if not self._begun:
            self.noise += data
            before, magic, data = self.noise.partition(MAGIC)
            if not magic:
                return True
            self.noise, self._begun = before, True
        for frame, _ in self._decoder.feed(data):
            self.frames.append(frame)
            if frame["t"] == "ping" and self.answers:
                # A test may have closed that way.
                with contextlib.suppress(BrokenPipeError, ValueError):
                    self.send("pong", n=frame["n"])
        return True

    def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Take in what comes until something is so."""
        give_up = time.monotonic() + PATIENCE
        while not condition():
            self.read(0.05)
            if time.monotonic() > give_up:
                raise AssertionError(f"{what or 'it'} has not come; there were {self.frames[-20:]}")
            if self.ended and not condition():
                raise AssertionError(f"the agent has ended without {what}: {self.frames[-20:]}")

    def wait_for(self, kind: str, /, **fields: Any) -> Frame:
        """The first frame of a type with these fields that nobody has waited for."""

        def find() -> int | None:
            for place, frame in enumerate(self.frames):
                wanted = {"t": kind, **fields}
                if place not in self._taken and wanted.items() <= frame.items():
                    return place
            return None

        self.until(lambda: find() is not None, f"{kind} {fields}")
        place = find()
        assert place is not None
        self._taken.add(place)
        return self.frames[place]

    def serve(self, seconds: float) -> None:
        """Do what the near side does for some time: answer."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self.ended:
            self.read(left)

    @property
    def hello(self) -> Frame:
        """What the agent has said first."""
        self.until(lambda: self.frames, "hello")
        assert self.frames[0]["t"] == "hello"
        return self.frames[0]

    def output(self, ident: str | int) -> bytes:
        """What a child has printed, as far as it came."""
        return b"".join(to_bytes(f["data"]) for f in self.frames if is_of(f, "err", ident))

    def wait_for_output(self, ident: str | int, text: bytes) -> None:
        self.until(lambda: text in self.output(ident), f"{text!r} of {ident!r}")

    def kinds(self) -> list[str]:
        return [frame["t"] for frame in self.frames if frame["t"] != "ping"]

    def wait_until_ended(self) -> int:
        """Take in all that comes until the agent is gone; its exit status."""
        give_up = time.monotonic() + PATIENCE
        while not self.ended:
            self.read(0.05)
            assert time.monotonic() < give_up, f"it does not end: {self.frames[-20:]}"
        return self.popen.wait(PATIENCE)

    def stderr(self) -> bytes:
        """All that it said there, once it has ended."""
        assert self.popen.stderr is not None
        return self.popen.stderr.read()

    # -- the end --------------------------------------------------------------------------------------

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.to_agent.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(5)
        self.popen.kill()
        self.popen.wait()
        for stream in (self.popen.stdout, self.popen.stderr):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Near:
        return self

    def __exit__(self, *_: object) -> None:
        if self.popen.poll() is not None:
            # Its sentinel, if it has outlived it, has the last word.
            give_up = time.monotonic() + PATIENCE
            while not (self.from_agent.closed or self.ended) and time.monotonic() < give_up:
                with contextlib.suppress(FrameError):
                    self.read(0.05)
        self.close()


def is_of(frame: Frame, kind: str, ident: str | int) -> bool:
    return bool(frame["t"] == kind and frame.get("id") == ident)


def wait_until(condition: Callable[[], bool], what: str = "it") -> None:
    """Wait for something that the agent does not tell of."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, f"{what} has not come"
        time.sleep(0.01)


def sentinel_of(near: Near) -> int:
    """The agent's child in a session of its own."""
    agent = near.hello["pid"]
    found: list[int] = []

    def look() -> bool:
        with open(f"/proc/{agent}/task/{agent}/children") as file:
            pids = map(int, file.read().split())
        found[:] = [pid for pid in pids if pid_alive(pid) and os.getsid(pid) == pid]
        return bool(found)

    wait_until(look, "a sentinel")
    return found[0]


def wait_gone(*processes: Frame) -> None:
    """Wait until what ``up`` has told of is gone."""
    for process in processes:
        pid, start = process["pid"], process["start"]
        wait_until(lambda pid=pid, start=start: not pid_alive(pid, start), f"the end of {pid}")  # type: ignore[misc]


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that is stopped for the time of the block, if it lives so long."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


WAITS_FOR_LIFELINE = """
import os, sys
print("up")
os.read(int(sys.argv[1]), 1)
print("released")
sys.exit(7)
"""
"""A well-behaved child: ends with 7 when its lifeline does; its argument is ``{boot_fd}``."""

SLEEPS = 'import time; print("up"); time.sleep(600)'
"""One that cares for no lifeline."""

IGNORES_SIGTERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up")
time.sleep(600)
"""
