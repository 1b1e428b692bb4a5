"""What every test gets: private directories, a leak check, a hang report, addresses.

The leak check is a promise of the package turned into a fixture: when a test is over there is no
process, no thread, no file descriptor and no socket file more than when it began.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import secrets
import shutil
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeAlias

import pytest
import trio

# Endpoints live here: a child gets `sys.path` handed down and can import them by name.
sys.path.insert(0, str(Path(__file__).parent / "endpoints"))

LEAK_GRACE = 1.0
"""Seconds that a test's last resources may take to vanish, say an exiting process."""

RUNTIME_VARIABLES = (
    "PYTHONBREAKPOINT",
    # Lines of several processes on one pipe stay whole only when each is written at once.
    "PYTHONUNBUFFERED",
    "TRACTOR_AUTHKEY_FILE",
    "TRACTOR_ENABLE_STACKSCOPE",
    "TRACTOR_LOGLEVEL",
    "TRACTOR_MAX_FRAME_SIZE",
    "TRACTOR_SPAWN_METHOD",
)
"""Variables that change what a program does: a test that wants one sets it itself."""

ON_LINUX = sys.platform == "linux"

RegistryAddress: TypeAlias = tuple[str, int] | tuple[str, str]


# -- private directories --


@pytest.fixture(scope="session", autouse=True)
def private_dir() -> Iterator[Path]:
    """A short, private stand-in for the user's runtime, state and cache directories.

    Short, because a Unix socket's path has 108 bytes at most.  Its name is in the environment of
    every process that a test starts, and so it also tells these processes from all others.
    """
    path = Path(tempfile.mkdtemp(prefix="tr-", dir="/tmp" if os.name == "posix" else None))
    with pytest.MonkeyPatch.context() as patch:
        for variable in RUNTIME_VARIABLES:
            patch.delenv(variable, raising=False)
        for variable, name in (
            ("XDG_RUNTIME_DIR", "r"),
            ("XDG_STATE_HOME", "s"),
            ("XDG_CACHE_HOME", "c"),
        ):
            (path / name).mkdir(mode=0o700)
            patch.setenv(variable, str(path / name))
        yield path
    shutil.rmtree(path, ignore_errors=True)


def runtime_dir() -> Path:
    """Where actors of this test session keep their socket files; it need not exist yet."""
    if ON_LINUX:
        return Path(os.environ["XDG_RUNTIME_DIR"]) / "tractor"
    return Path(f"/tmp/tractor-{os.getuid() if os.name == 'posix' else 'user'}")


# -- the leak check --


@dataclass(frozen=True)
class Resources:
    """What exists at one moment; members of two records are equal while they are the same thing."""

    processes: frozenset[tuple[int, str]]
    """Pid and start time of each descendant, also of those that were orphaned."""
    threads: frozenset[threading.Thread]
    descriptors: frozenset[tuple[int, str]]
    """Number and target of each open file descriptor."""
    socket_files: frozenset[Path]

    @classmethod
    def now(cls) -> Resources:
        """Take stock."""
        return cls(
            processes=frozenset(_processes()),
            # trio keeps idle worker threads under this name; a busy one has its job's name.
            threads=frozenset(
                t for t in threading.enumerate() if not t.name.startswith("Trio thread ")
            ),
            descriptors=frozenset(_descriptors()),
            socket_files=frozenset(_socket_files()),
        )

    def more_than(self, before: Resources) -> list[str]:
        """One line for each thing that is here and was not there *before*."""
        return [
            *(
                f"process {pid}: {_command_line(pid)}"
                for pid, _ in sorted(self.processes - before.processes)
            ),
            *(f"thread {thread!r}" for thread in self.threads - before.threads),
            *(f"fd {fd}: {to}" for fd, to in sorted(self.descriptors - before.descriptors)),
            *(f"socket file {path}" for path in sorted(self.socket_files - before.socket_files)),
        ]


def _processes() -> Iterator[tuple[int, str]]:
    if not ON_LINUX:
        import psutil

        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                yield child.pid, str(child.create_time())
        return
    mark = os.fsencode(os.environ["XDG_RUNTIME_DIR"])
    parents: dict[int, int] = {}
    started: dict[int, str] = {}
    marked: set[int] = set()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        pid = int(entry)
        try:
            # After the name, in brackets that it may itself contain: state, parent, ..., start.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            parents[pid], started[pid] = int(fields[1]), fields[19]
            if mark in Path(f"/proc/{pid}/environ").read_bytes():
                marked.add(pid)
        except OSError:
            continue  # it ended while we looked, or is another user's
    me = os.getpid()
    for pid in parents:
        above = pid
        while above in parents and above != me:
            above = parents[above]
        if pid != me and (above == me or pid in marked):
            yield pid, started[pid]


def _command_line(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "gone by now"
    return os.fsdecode(b" ".join(words)).strip() or "a zombie"


def _descriptors() -> Iterator[tuple[int, str]]:
    if os.name != "posix":
        return
    for entry in os.listdir("/dev/fd"):
        fd = int(entry)
        try:
            # The descriptor of this very listing is closed by now, and so left out.
            info = os.fstat(fd)
        except OSError:
            continue
        to = f"{stat.filemode(info.st_mode)} inode {info.st_ino}"
        with contextlib.suppress(OSError):
            to = os.readlink(f"/proc/self/fd/{fd}")
        yield fd, to


def _socket_files() -> Iterator[Path]:
    for path in runtime_dir().rglob("*"):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(path.lstat().st_mode):
                yield path


def leaks_since(before: Resources, grace: float = LEAK_GRACE) -> list[str]:
    """What is left over since *before* and does not vanish within *grace* seconds."""
    deadline = time.monotonic() + grace
    while left := Resources.now().more_than(before):
        if time.monotonic() >= deadline:
            return left
        gc.collect()
        time.sleep(0.02)
    return []


@pytest.fixture
def take_stock() -> Callable[[], Resources]:
    """`Resources.now`, for tests that start and stop many things and compare within one test."""
    return Resources.now


@pytest.fixture(autouse=True)
def leaves_nothing_behind(private_dir: Path) -> Iterator[None]:
    """Fail a test that leaves a process, thread, descriptor or socket file; kill what it left."""
    before = Resources.now()
    yield
    left = leaks_since(before)
    if not left:
        return
    for pid, _ in Resources.now().processes - before.processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    for path in _socket_files():
        path.unlink(missing_ok=True)
    pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)


# -- a test that hangs --


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Iterator[None]:
    """Let pytest-timeout's alarm print the trio task tree before it fails the test."""
    result = yield
    if settings.method == "signal":
        fail_test: Any = signal.getsignal(signal.SIGALRM)

        def report_and_fail(signum: int, frame: Any) -> None:
            __tracebackhide__ = True
            with contextlib.suppress(RuntimeError):  # raised where no trio.run() is under way
                if (root := trio.lowlevel.current_root_task()) is not None:
                    print_task_tree(root, sys.stderr)
            fail_test(signum, frame)

        signal.signal(signal.SIGALRM, report_and_fail)
    return result


def print_task_tree(task: trio.lowlevel.Task, out: TextIO, depth: int = 0) -> None:
    """Write *task*, where it waits, and the tasks in its nurseries, one a line."""
    awaited: Any = task.coro
    where = []
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
        if frame is not None:
            code = frame.f_code
            where.append(f"{code.co_qualname}:{frame.f_lineno}")
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
    print(f"{'    ' * depth}{task.name}: {' > '.join(where)}", file=out)
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            print_task_tree(child, out, depth + 1)


# -- addresses --


@pytest.fixture(params=["tcp", "uds"])
def tpt_proto(request: pytest.FixtureRequest) -> str:
    """The transport: a test that asks for it runs once on each."""
    proto: str = request.param
    if proto == "uds" and not hasattr(socket, "AF_UNIX"):
        pytest.skip("no Unix sockets on this platform")
    return proto


_ports = random.SystemRandom().sample(range(10_000, 32_000), 22_000)


def unused_port() -> int:
    """A loopback TCP port below the ephemeral range that nobody uses and no test had before."""
    while True:
        port = _ports.pop()
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


@pytest.fixture
def reg_addr(tpt_proto: str) -> RegistryAddress:
    """A registry address, unwrapped, of the test's transport, that nobody has used."""
    if tpt_proto == "tcp":
        return "127.0.0.1", unused_port()
    directory = runtime_dir()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(directory), f"registry-{secrets.token_hex(4)}.sock"
