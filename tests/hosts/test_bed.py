"""The test bed itself: what it promises to the tests over it, and that nothing is left of it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bed import Bed, Process, missing, open_bed
from bed_claim import BEDS
from bed_keeper import wait_for

HERE = Path(__file__).parent
LISTEN = """
import socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.bind(sys.argv[1])
sock.listen()
print("listens", flush=True)
sys.stdin.read()
"""
CONNECT = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])"
SLEEP = ["sleep", "1000"]


def ssh(name: str, command: str, seconds: float = 30.0) -> str:
    """Run a command on a host by ssh."""
    return subprocess.run(
        ["ssh", "-o", "ConnectTimeout=5", name, command],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=True,
        stdin=subprocess.DEVNULL,
    ).stdout.strip()


def reaches(bed: Bed, address: str, frm: str) -> bool:
    """Whether a connection can be made from a host to the sshd at an address."""
    program = f"import socket; socket.create_connection(({address!r}, 22), 0.5)"
    return not bed.run(frm, [sys.executable, "-c", program]).returncode


@contextlib.contextmanager
def sleeper(bed: Bed, name: str) -> Iterator[Process]:
    """The only command on a host, which sleeps until it is killed: at the end of the block at the latest."""
    with bed.popen(name, SLEEP):
        try:
            # Before it is `sleep`, that process is `nsenter`.
            wait_for(
                lambda: [p.argv[:1] for p in bed.processes(name)] == [("sleep",)], f"one on {name}"
            )
            (process,) = bed.processes(name)
            yield process
        finally:
            # Without this a failure in the block would wait for the end of the sleep.
            for left in bed.processes(name):
                with contextlib.suppress(ProcessLookupError):
                    bed.kill(name, left.pid, signal.SIGKILL)


def links() -> set[str]:
    return {name for name in os.listdir("/sys/class/net") if name.startswith("trbed")}


# -- what is there --


def test_a_command_by_ssh_on_each_host(bed: Bed) -> None:
    assert [ssh(name, "hostname") for name in bed.hosts] == ["h1", "h2", "h3"]


def test_by_ssh_from_a_host_to_another(bed: Bed) -> None:
    assert ssh("h1", "ssh h2 hostname") == "h2"


def test_the_users_own_ssh_is_not_touched(bed: Bed) -> None:
    words = subprocess.run(
        ["ssh", "-v", "h1", "true"], capture_output=True, text=True, check=True
    ).stderr
    assert os.path.expanduser("~/.ssh") not in words
    assert str(bed.ssh_config) in words


def test_the_project_runs_there_and_cannot_be_changed(bed: Bed) -> None:
    assert ssh("h1", f"{bed.python} -c 'import tractor; print(tractor.__name__)'") == "tractor"
    touched = bed.run("h1", ["touch", str(HERE / "x")])
    assert "Read-only" in touched.stderr


def test_hosts_know_each_other_by_name(bed: Bed) -> None:
    assert bed.run("h1", ["getent", "hosts", "h2"]).stdout.split() == [
        bed.hosts["h2"].address,
        "h2",
    ]
    assert reaches(bed, "h2", frm="h1")


def test_no_route_leads_further(bed: Bed) -> None:
    assert "unreachable" in bed.run("h1", ["ip", "route", "get", "192.0.2.2"]).stderr


def test_a_unix_socket_of_a_host_is_not_there_on_another(bed: Bed) -> None:
    for folder in ("/tmp", "/run", "/dev/shm", os.path.expanduser("~")):
        path = f"{folder}/one.sock"
        with bed.popen("h1", [sys.executable, "-c", LISTEN, path]) as listener:
            assert listener.stdin is not None
            assert listener.stdout is not None
            assert listener.stdout.readline() == "listens\n"
            assert not bed.run("h1", [sys.executable, "-c", CONNECT, path]).returncode
            assert (
                "FileNotFoundError" in bed.run("h2", [sys.executable, "-c", CONNECT, path]).stderr
            )
            assert not os.path.exists(path)
            listener.stdin.close()


def test_processes_are_a_hosts_own(bed: Bed) -> None:
    assert bed.processes("h1") == []
    with sleeper(bed, "h1") as process:
        assert process.argv == tuple(SLEEP)
        assert process.pid_here != process.pid
        assert bed.processes("h2") == []
        assert str(process.pid) in bed.run("h1", ["pgrep", "sleep"]).stdout.split()
        bed.kill("h1", process.pid, signal.SIGSTOP)
        wait_for(lambda: bed.processes("h1")[0].state == "T", "stopped")
        bed.kill("h1", process.pid, signal.SIGKILL)
    assert bed.processes("h1") == []
    with pytest.raises(ProcessLookupError, match=f"no process {process.pid} on h1"):
        bed.kill("h1", process.pid, signal.SIGKILL)


def test_two_processes_of_one_pid(bed: Bed) -> None:
    for name in ("h1", "h2"):
        bed.next_pid(name, 4321)
    with sleeper(bed, "h1") as one, sleeper(bed, "h2") as two:
        assert one.pid == two.pid == 4321
        assert one.pid_here != two.pid_here
        bed.kill("h1", 4321, signal.SIGKILL)
        wait_for(lambda: not bed.processes("h1"), "the end of the one")
        # Its state changes by itself, its pid does not.
        assert [process.pid for process in bed.processes("h2")] == [two.pid]


def test_monotonic_clocks_have_nothing_to_do_with_each_other(bed: Bed) -> None:
    program = "import time; print(time.monotonic())"
    there = [float(bed.run(name, [sys.executable, "-c", program]).stdout) for name in bed.hosts]
    apart = [there[0] - time.monotonic(), there[1] - there[0], there[2] - there[1]]
    assert min(map(abs, apart)) > 1000


# -- cuts --


@pytest.mark.parametrize("how", ["cut", "drop"])
def test_a_cut_and_its_end(bed: Bed, how: str) -> None:
    getattr(bed, how)("h1")
    for address, frm in ((bed.hosts["h1"].address, "h2"), (bed.hosts["h2"].address, "h1")):
        assert not reaches(bed, address, frm)
    with pytest.raises(subprocess.SubprocessError):
        ssh("h1", "true", seconds=1.0)
    assert ssh("h2", "hostname") == "h2"
    bed.heal("h1")
    assert ssh("h1", "hostname") == "h1"
    # h2 may still believe that there is nobody.
    wait_for(lambda: reaches(bed, bed.hosts["h1"].address, "h2"), "h2 reaches h1")


def test_a_connection_outlives_a_cut(bed: Bed) -> None:
    with subprocess.Popen(
        ["ssh", "h1", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as cat:
        assert cat.stdin is not None
        assert cat.stdout is not None
        for how in (bed.cut, bed.drop):
            cat.stdin.write("before\n")
            assert cat.stdout.readline() == "before\n"
            how("h1")
            cat.stdin.write("meanwhile\n")
            bed.heal("h1")
            assert cat.stdout.readline() == "meanwhile\n"


@pytest.mark.usefixtures("require_bed")
def test_power_off() -> None:
    with open_bed(["h1", "h2"]) as bed:
        with sleeper(bed, "h1"):
            bed.power_off("h1")
        assert bed.processes("h1") == []
        assert bed.run("h2", ["hostname"]).stdout == "h2\n"


# -- slurm --


def test_steps_on_nodes(slurm_bed: Bed) -> None:
    for name in ("h1", "h2", "h3"):
        argv = ["srun", f"--nodelist={name}", "--nodes=1", "--ntasks=1", "--overlap", "hostname"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
        assert done.stdout == f"{name}\n"


# -- how long it takes --


@pytest.mark.alone
@pytest.mark.usefixtures("require_bed")
def test_three_hosts_are_up_soon() -> None:
    """Within two seconds on two free cores."""
    began = time.monotonic()
    with open_bed() as bed:
        print(f"up after {time.monotonic() - began:.2f} s")
        assert len(bed.hosts) == 3


# -- what is left --


@pytest.mark.usefixtures("require_bed")
def test_two_at_once() -> None:
    with open_bed(["h1"]) as one, open_bed(["h1"]) as two:
        assert one.hosts["h1"].address != two.hosts["h1"].address
        both = {one.claim.link, two.claim.link}
        assert len(both & links()) == 2
        with sleeper(one, "h1"):
            assert two.processes("h1") == []
        two.cut("h1")
        assert one.run("h1", ["hostname"]).stdout == "h1\n"
        assert not reaches(one, two.hosts["h1"].address, "h1")
    for bed in (one, two):
        wait_for(functools.partial(is_gone, str(bed.claim.number), os.getpid()), "the end of a bed")


def is_gone(number: str, owner: int) -> bool:
    """Whether nothing is left of an owner's bed; its number may be another session's by now."""
    return owner_of(number) != owner


OWNER = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from bed import open_bed
with open_bed(["h1", "h2"], slurm={{slurm}}) as bed:
    running = bed.popen("h1", ["sleep", "1000"])
    print(bed.claim.number, *(host.keeper.pid for host in bed.hosts.values()), flush=True)
    sys.stdin.read()
"""


@pytest.mark.usefixtures("require_bed")
def test_nothing_runs_when_the_owner_was_killed_and_the_next_bed_removes_the_rest() -> None:
    slurm = missing(slurm=True) is None
    with subprocess.Popen(
        [sys.executable, "-c", OWNER.format(slurm=slurm)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        number, *keepers = owner.stdout.readline().split()
        assert owner_of(number) == owner.pid
        namespaces = {os.readlink(f"/proc/{pid}/ns/pid") for pid in keepers}
        owner.kill()
    wait_for(lambda: not in_namespaces(namespaces), "every process of the bed is gone")
    wait_for(lambda: f"trbed{number}" not in links() or is_gone(number, owner.pid), "its link")
    with open_bed(["h1"]):
        assert is_gone(number, owner.pid)


def owner_of(number: str) -> int | None:
    """The process whose bed has that number, or has left it."""
    try:
        pid, _ = json.loads((BEDS / number / "owner").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return int(pid)


def in_namespaces(namespaces: set[str]) -> list[str]:
    """Pids of what runs in these pid namespaces; what is dead and not reaped yet runs no more."""
    found = []
    for pid in os.listdir("/proc"):
        try:
            if pid.isdecimal() and os.readlink(f"/proc/{pid}/ns/pid") in namespaces:
                found += [pid] if "State:\tZ" not in Path(f"/proc/{pid}/status").read_text() else []
        except OSError:
            continue
    return found
