"""Two trees in pid namespaces of their own that share a /tmp, with equal pids: each acts on its own alone."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tractor.process.host._host_id import host_id, is_same_boot

ENTER = ["unshare", "--pid", "--fork", "--kill-child"]
PROGRAM = Path(__file__).parents[1] / "endpoints" / "ep_twin.py"


def _can_enter() -> bool:
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run([*ENTER, "--mount-proc", "true"], capture_output=True, check=False)
    return done.returncode == 0


pytestmark = pytest.mark.skipif(not _can_enter(), reason="no pid namespace can be made here")


class Twin:
    """A tree in a namespace of its own.

    Args:
        mount: have a /proc of its own.
    """

    def __init__(self, mount: bool = True) -> None:
        self.key = f"twin-{secrets.token_hex(4)}"
        enter = [*ENTER, "--mount-proc"] if mount else ENTER
        self.process = subprocess.Popen(
            [*enter, sys.executable, str(PROGRAM), self.key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(PROGRAM.parent)},
        )
        self.told = self.heard()
        self.segment = Path("/dev/shm", self.key)
        self.socket = Path(self.told["socket"])

    def heard(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "it has ended"
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, *order: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.heard()

    def lives(self) -> None:
        """All that is its own is there, and answers."""
        assert self.ask("ping") == {"pid": self.told["child"][1]}
        assert self.socket.is_socket()
        assert self.segment.exists()

    def pids(self) -> list[int]:
        """All processes of its namespace, as they are numbered out here, the first one first."""
        first = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        (root,) = map(int, first.split())
        space = os.readlink(f"/proc/{root}/ns/pid")
        found = []
        for name in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if name.isdecimal() and os.readlink(f"/proc/{name}/ns/pid") == space:
                    found.append(int(name))
        return [root, *(pid for pid in sorted(found) if pid != root)]

    def end(self) -> None:
        assert self.ask("end") == {"over": True}
        assert self.process.wait() == 0

    def kill(self) -> None:
        """SIGKILL of the first process, and so of all in the namespace."""
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()
        self.segment.unlink(missing_ok=True)


@pytest.fixture
def twins() -> Iterator[tuple[Twin, Twin]]:
    made: list[Twin] = []
    try:
        made.append(Twin())
        made.append(Twin())
        yield made[0], made[1]
    finally:
        for twin in made:
            twin.kill()
            for pipe in (twin.process.stdin, twin.process.stdout):
                if pipe is not None:
                    pipe.close()


def test_they_are_hosts_of_one_boot_with_equal_pids(twins: tuple[Twin, Twin]) -> None:
    hosts = {twin.told["host"] for twin in twins} | {host_id()}
    assert len(hosts) == 3
    assert all(map(is_same_boot, hosts))
    assert twins[0].told["root"][1] == twins[1].told["root"][1] == 1
    if Path("/proc/sys/kernel/ns_last_pid").exists():
        assert twins[0].told["child"][1] == twins[1].told["child"][1]
    assert twins[0].socket != twins[1].socket
    assert twins[0].socket.parent == twins[1].socket.parent
    for twin in twins:
        twin.end()
        assert not twin.socket.exists()


def test_what_one_reports_of_the_other_is_nobodys(twins: tuple[Twin, Twin]) -> None:
    one, other = twins
    # As the other's, and as its own: of the numbers that both have.
    theirs = [other.told["root"], other.told["child"]]
    own = [[one.told["host"], pid, start] for _, pid, start in theirs]
    found = one.ask("claim", [*theirs, *own])
    assert found == {"answer": "Return", "believed": []}
    one.lives()
    other.lives()
    one.end()
    other.lives()
    other.end()


def test_the_reaper_of_one_leaves_the_other_alone(twins: tuple[Twin, Twin]) -> None:
    one, other = twins
    found = one.ask("reap")
    assert found["status"] == 0, found["text"]
    one.lives()
    other.lives()
    # Nor is one that is stopped taken for dead.
    pids = other.pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    found = one.ask("reap")
    assert found["status"] == 0, found["text"]
    assert other.socket.is_socket()
    assert other.segment.exists()
    # Of those that are dead it can't tell: a process of that number lives here, and whether the segment's owner does is
    # for its own namespace to know.
    for pid in reversed(pids):
        os.kill(pid, signal.SIGKILL)
    other.process.wait()
    found = one.ask("reap")
    assert found["status"] == 0, found["text"]
    assert other.socket.is_socket()
    assert other.segment.exists()
    one.lives()
    one.end()
    for left in (other.socket, other.socket.with_name(f"{other.key}.sock")):
        left.unlink()


def test_a_proc_of_another_namespace_tells_nothing() -> None:
    program = """
import os, time
from tractor.process._proc import proc_is_own
from tractor.process._stat import ProcessId, is_below, pid_alive, process_start_time
from tractor.testing import find_orphans
assert os.getpid() == 1 and os.path.exists("/proc/1/stat")
assert not proc_is_own()
assert process_start_time(1) is None
pid = os.fork()
if not pid:
    time.sleep(1000)
assert pid_alive(pid)
assert not is_below(ProcessId.of(pid), os.getpid())
try:
    find_orphans()
except OSError as exc:
    assert "no /proc of this pid namespace" in str(exc)
else:
    raise AssertionError
os.kill(pid, 9)
os.waitpid(pid, 0)
assert not pid_alive(pid)
"""
    done = subprocess.run(
        [*ENTER, sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_tree_runs_without_a_proc_of_its_own(private_dir: Path) -> None:
    twin = Twin(mount=False)
    try:
        twin.lives()
        twin.end()
    finally:
        twin.kill()
        for pipe in (twin.process.stdin, twin.process.stdout):
            if pipe is not None:
                pipe.close()
