"""The id of a host: one for all processes of a machine's run and a pid namespace, and never none."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tractor.process._stat import ProcessId, process_start_time
from tractor.process.host import _find_host_id, _host_id
from tractor.process.host._host_id import SEAM, host_id, is_here, is_same_boot, pid_space

PRINT = "from tractor.process.host._host_id import host_id; print(host_id())"

can_unshare = pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True
    ).returncode
    != 0,
    reason="no pid namespace can be made here",
)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As in a process that has not asked yet."""
    monkeypatch.setattr(_host_id._own, "value", None)
    return monkeypatch


def printed(*before: str, **env: str) -> str:
    """What another interpreter takes for its host's id."""
    command = [*before, sys.executable, "-c", PRINT]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **env}
    )
    return done.stdout.strip()


def test_it_is_short_and_tells_boot_and_namespace() -> None:
    assert re.fullmatch(r"[0-9a-f]{16}\.[0-9a-f]{1,8}", host_id())
    if sys.platform == "linux":
        assert pid_space() == os.stat("/proc/self/ns/pid").st_ino
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        assert boot[:8] not in host_id(), "what identifies the machine goes to no peer"


def test_all_processes_of_a_host_have_the_same() -> None:
    assert printed() == host_id()
    assert is_here(host_id())
    assert is_here(None)
    assert not is_here("feed.1")


def test_another_pid_namespace_is_another_host_of_the_same_boot() -> None:
    boot = host_id().partition(".")[0]
    assert is_same_boot(f"{boot}.1")
    assert not is_same_boot("feed.1")


@can_unshare
def test_a_real_one_is() -> None:
    other = printed("unshare", "--pid", "--fork", "--mount-proc")
    assert not is_here(other)
    assert is_same_boot(other)


@can_unshare
@pytest.mark.skipif(not hasattr(os, "unshare"), reason="os.unshare() came with Python 3.12")
def test_who_unshares_stays_and_what_it_forks_does_not() -> None:
    program = """
import os
from tractor.process.host._host_id import host_id
before = host_id()
os.unshare(os.CLONE_NEWPID)
assert host_id() == before
pid = os.fork()
if not pid:
    os._exit(0 if host_id() != before else 1)
assert os.waitpid(pid, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_a_test_may_give_a_process_another_one() -> None:
    assert printed(**{SEAM: "feed.1"}) == "feed.1"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_is_never_none(fresh: pytest.MonkeyPatch) -> None:
    real = _find_host_id._read

    def nothing(path: str) -> str:
        raise OSError(13, "no", path)

    fresh.setattr(_find_host_id, "_read", nothing)
    fresh.setattr(_find_host_id, "_pid_space", lambda: 0)
    assert re.fullmatch(r"[0-9a-f]{16}\.0", host_id())
    fresh.setattr(_host_id._own, "value", None)
    first = host_id()
    fresh.setattr(_host_id._own, "value", None)
    assert host_id() == first, "another process of this machine finds the same"
    fresh.setattr(socket, "gethostname", lambda: "")
    fresh.setattr(_host_id._own, "value", None)
    assert host_id() != first
    fresh.setattr(_find_host_id, "_read", real)


def test_a_process_of_another_host_is_not_here() -> None:
    own = ProcessId.of(os.getpid())
    assert own == (host_id(), os.getpid(), process_start_time(os.getpid()))
    assert own.is_here
    assert not own._replace(host="feed.1").is_here
