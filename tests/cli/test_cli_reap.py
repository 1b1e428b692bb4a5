"""``tractor-reap``: flags, output, exit codes; and real trees that it takes apart."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import reap_strays as strays
import reap_tree

from tractor import cli, testing
from tractor import reap as reap_module
from tractor.cli import _reap as command
from tractor.reaping import _strays
from tractor.reaping._strays import StrayId
from tractor.reaping._table import ProcessInfo, process_table
from tractor.shm._record import add_record
from tractor.testing import find_orphaned_shm, find_orphaned_uds
from tractor.testing._adopter import bears_mark

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc and /dev/shm")

DEAD = 2_000_000_000
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def runtime_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory of this test's own."""
    base = Path(tempfile.mkdtemp(prefix="tr-", dir="/tmp"))
    (base / "tractor").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    yield base / "tractor"
    # What ends late removes its own files meanwhile.
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(autouse=True)
def no_foreign_orphans(monkeypatch: pytest.MonkeyPatch, runtime_dir: Path) -> None:
    """Let the command see nobody but this process, those above it and this test's own.

    The user who runs the tests may have stray actors of other programs.
    """
    mark = os.fsencode(runtime_dir.parent)

    def has_mark(pid: int) -> bool:
        with contextlib.suppress(OSError):
            return bears_mark(pid, mark)
        return False

    def own_table() -> dict[int, ProcessInfo]:
        table = process_table()
        keep = {1, os.getpid()}
        pid = os.getpid()
        while pid in table:
            keep.add(pid)
            pid = table[pid].ppid
        own = {pid for pid in table if has_mark(pid)}
        # An actor's title may be in the place of its environment.
        while more := {pid for pid in table if table[pid].ppid in own} - own:
            own |= more
        keep |= own
        # A zombie has no environment any more.
        keep.update(pid for pid in table if table[pid].is_zombie and table[pid].ppid in keep - {1})
        return {pid: table[pid] for pid in keep if pid in table}

    monkeypatch.setattr(_strays, "process_table", own_table)


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process; gives its exit code and output."""

    def run(*args: str) -> tuple[int, str]:
        code = command.main(args, "tractor-reap")
        return code, capsys.readouterr().out

    return run


def left_over(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    return path


@pytest.fixture
def segment() -> Iterator[str]:
    """The key of a recorded segment whose owner is dead."""
    key = f"tr-test-{secrets.token_hex(6)}"
    path = Path("/dev/shm", key)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    add_record(key, fd, DEAD)
    os.close(fd)
    yield key
    path.unlink(missing_ok=True)


# -- processes --


def test_nothing_to_do(run: Run) -> None:
    assert run("--shm", "--uds") == (0, "nothing to reap\n")


def test_a_stopped_orphan_is_killed(run: Run) -> None:
    with strays.booting_actor() as (process, _):
        process.orphan()
        adopter = strays.parent_of(process.pid)
        code, out = run("-g", "0")
        assert code == 0
        assert out == f"process {process.pid} (stray, parent {adopter}): killed\n"
        assert not strays.runs(process.pid)


def test_an_orphan_that_can_end_is_only_asked(run: Run) -> None:
    with strays.booting_actor(stopped=False) as (process, _):
        process.orphan()
        code, out = run("--grace", str(strays.LIMIT))
        assert code == 0
        assert out.endswith(": ended after SIGINT\n")
        assert not strays.runs(process.pid)


def test_a_dry_run_only_tells(run: Run, runtime_dir: Path, segment: str) -> None:
    path = left_over(runtime_dir / f"a@{DEAD}.sock")
    with strays.booting_actor() as (process, _):
        process.orphan()
        code, out = run("-n", "--shm", "--uds", "-g", "0")
        assert code == 0
        actor, shm, uds = out.splitlines()
        assert actor.startswith(f"process {process.pid} (stray, ")
        assert actor.endswith("would be ended")
        assert shm == f"segment {segment}: would be removed"
        assert uds == f"socket {path}: would be removed"
        assert strays.runs(process.pid)
        assert strays.state(process.pid) == "T"
    assert path.exists()
    assert find_orphaned_shm() == [segment]


def test_the_children_of_a_living_parent_are_no_orphans_but_its_descendants(run: Run) -> None:
    with strays.booting_actor() as (process, _):
        assert run("-g", "0") == (0, "nothing to reap\n")
        code, out = run("-g", "0", "-p", str(process.launcher))
        assert code == 0
        assert out.startswith(
            f"process {process.pid} (stray, parent {process.launcher}): killed\n"
            f"zombie {process.pid} "
        )


def test_descendants_that_are_no_actors_are_taken_on_demand_only(run: Run) -> None:
    with strays.started(["sleep", "600"]) as process:
        parent = str(process.launcher)
        assert run("-p", parent) == (0, "nothing to reap\n")
        assert strays.runs(process.pid)
        code, out = run("-p", parent, "--all")
        assert code == 0
        assert out.startswith(f"process {process.pid} (sleep, parent {parent}): ended after SIGINT")
        assert not strays.runs(process.pid)


def test_a_parent_that_is_gone(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["-p", str(DEAD)], "tractor-reap") == 1
    assert f"tractor-reap: there is no process {DEAD}" in capsys.readouterr().err


def test_zombies_are_told(run: Run) -> None:
    with subprocess.Popen("true") as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        code, out = run("-p", str(os.getpid()))
        assert code == 0
        assert f"zombie {process.pid} (true): waits for its parent {os.getpid()}" in out


def test_survivors_make_it_fail(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with strays.booting_actor() as (process, _):
        process.orphan()
        # A process that is stuck in the kernel.
        monkeypatch.setattr(command, "reap", lambda pids, grace: (list(pids), list(pids)))
        code, out = run()
        assert code == 1
        assert out.endswith(": survived SIGKILL\n")
        assert out.count("\n") == 1


def test_orphans_that_a_killed_actor_leaves_are_found_too(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with strays.booting_actor() as (one, _), strays.booting_actor() as (other, _):
        one.orphan()
        reap = testing.reap

        def reap_and_orphan(*args: Any, **kwargs: Any) -> tuple[list[int], list[int]]:
            done = reap(*args, **kwargs)
            if strays.runs(other.pid):
                other.orphan()
            return done

        monkeypatch.setattr(command, "reap", reap_and_orphan)
        code, out = run("-g", "0")
        assert code == 0
        assert out.count(": killed\n") == 2


def test_nobody_is_hunted_for_ever(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps: list[int] = []

    def one_more() -> list[StrayId]:
        sweeps.append(0)
        pid = StrayId.of(ProcessInfo(DEAD + len(sweeps), 1, os.getuid(), 1.0, "x", (), False))
        return [pid]

    monkeypatch.setattr(command, "find_orphans", one_more)
    code, out = run("-g", "0")
    assert code == 0
    assert out.count("ended by itself") == len(sweeps) == command.MAX_SWEEPS


# -- files --


@pytest.mark.parametrize(
    ("flags", "removed"),
    [
        ([], set()),
        (["--shm"], {"process", "segment"}),
        (["--uds"], {"process", "socket"}),
        (["--shm", "--uds"], {"process", "segment", "socket"}),
        (["--shm-only"], {"segment"}),
        (["--uds-only"], {"socket"}),
        (["--shm-only", "--uds-only"], {"segment", "socket"}),
        (["--shm-only", "--uds"], {"segment", "socket"}),
    ],
)
def test_what_is_looked_at(
    flags: list[str], removed: set[str], run: Run, runtime_dir: Path, segment: str
) -> None:
    path = left_over(runtime_dir / f"a@{DEAD}.sock")
    with strays.booting_actor() as (process, _):
        process.orphan()
        code, out = run(*flags, "-g", "0")
        assert code == 0
        told = {line.split()[0] for line in out.splitlines()}
        assert told == (removed or {"process"})
        assert strays.runs(process.pid) == ("process" not in told)
    assert path.exists() == ("socket" not in told)
    assert Path("/dev/shm", segment).exists() == ("segment" not in told)
    assert bool(find_orphaned_uds()) == path.exists()


def test_a_file_that_somebody_else_removed_is_no_failure(
    run: Run, monkeypatch: pytest.MonkeyPatch, runtime_dir: Path
) -> None:
    path = left_over(runtime_dir / f"a@{DEAD}.sock")
    find = testing.find_orphaned_uds

    def find_and_lose() -> list[Path]:
        found = find()
        path.unlink()
        return found

    monkeypatch.setattr(command, "find_orphaned_uds", find_and_lose)
    code, out = run("--uds-only")
    assert code == 0
    assert out == f"socket {path}: left alone: No such file or directory\n"


def test_what_could_not_be_removed_makes_it_fail(
    run: Run, monkeypatch: pytest.MonkeyPatch, runtime_dir: Path
) -> None:
    path = left_over(runtime_dir / f"a@{os.getpid()}.sock")
    monkeypatch.setattr(command, "find_orphaned_uds", lambda: [path])
    code, out = run("--uds-only")
    assert code == 1
    assert out == f"socket {path}: left alone: process {os.getpid()} lives\n"


def test_an_error_in_one_job_does_not_keep_the_others_from_theirs(
    run: Run, monkeypatch: pytest.MonkeyPatch, runtime_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> list[str]:
        raise NotImplementedError("no segments on this platform")

    path = left_over(runtime_dir / f"a@{DEAD}.sock")
    monkeypatch.setattr(command, "find_orphaned_shm", refuse)
    assert command.main(["--shm", "--uds"], "tractor-reap") == 1
    told = capsys.readouterr()
    assert told.err == "tractor-reap: no segments on this platform\n"
    assert told.out == f"socket {path}: removed\n"


def test_a_runtime_directory_that_is_not_ours_is_an_error(
    runtime_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime_dir.chmod(0o777)
    assert command.main(["--uds-only"], "tractor-reap") == 1
    told = capsys.readouterr()
    assert "others may write to it" in told.err
    assert told.out == ""


# -- arguments and ways to call it --


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-p", "0"], "'0' is not a process id"),
        (["-p", "x"], "'x' is not a process id"),
        (["-p", "-3"], "-p"),
        (["-p", "99999999999"], "not a process id"),
        (["-g", "-1"], "-g"),
        (["-g", "soon"], "'soon' is not a number of seconds"),
        (["-g", "inf"], "'inf' is not a number of seconds"),
        (["-g", "nan"], "'nan' is not a number of seconds"),
        (["1234"], "unrecognized arguments: 1234"),
    ],
)
def test_wrong_arguments(args: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(args, "tractor-reap")
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("way", [["-m", "tractor.reap"], ["-m", "tractor", "reap"]])
def test_as_a_command(way: list[str], runtime_dir: Path) -> None:
    path = left_over(runtime_dir / f"a@{DEAD}.sock")
    done = subprocess.run(
        [sys.executable, *way, "--uds-only"], capture_output=True, text=True, timeout=strays.LIMIT
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"socket {path}: removed\n", "")


def test_all_three_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["tractor-reap"] == "tractor.reap:main"
    assert cli.COMMANDS["reap"].module == command.__name__
    got: list[object] = []

    def run_it(argv: Sequence[str], prog: str) -> int:
        got.append((list(argv), prog))
        return 5

    monkeypatch.setattr(reap_module, "reap", run_it)
    monkeypatch.setattr(sys, "argv", ["tractor-reap", "-n"])
    assert reap_module.main() == 5
    assert reap_module.main(["--uds"]) == 5
    assert got == [(["-n"], "tractor-reap"), (["--uds"], "tractor-reap")]


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(argv: object, prog: str) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(reap_module, "reap", interrupt)
    assert reap_module.main([]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


# -- real trees --


@contextlib.contextmanager
def tree(runtime_dir: Path) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    with subprocess.Popen(
        [sys.executable, reap_tree.__file__, str(runtime_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as root:
        assert root.stdout is not None
        pids = list(map(int, root.stdout.readline().split()))
        try:
            assert pids[0] == root.pid
            yield root, pids[1], pids[2]
        finally:
            for pid in reversed(pids):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def test_the_actors_of_a_living_root(run: Run, runtime_dir: Path) -> None:
    with tree(runtime_dir) as (root, branch, leaf):
        assert run("-n") == (0, "nothing to reap\n")
        os.kill(branch, signal.SIGSTOP)
        code, out = run("-p", str(root.pid), "-g", "0.5")
        assert code == 0
        assert f"process {branch} (branch, parent {root.pid}): killed" in out
        assert f"process {leaf} (leaf, parent {branch}): " in out
        assert not strays.runs(branch)
        assert not strays.runs(leaf)
        # The root learns of it, as of any other crash.
        assert root.wait(strays.LIMIT) != 0


def test_a_tree_whose_root_was_killed(run: Run, runtime_dir: Path) -> None:
    with tree(runtime_dir) as (root, branch, leaf):
        os.kill(leaf, signal.SIGSTOP)
        os.kill(branch, signal.SIGSTOP)
        root.kill()
        root.wait()
        code, out = run("-g", "0.2", "--uds")
        # Whoever is not gone by then is stuck on its own way out.
        strays.until(lambda: not strays.runs(branch) and not strays.runs(leaf), out)
        assert code == 0
        run("--uds-only")
        assert find_orphaned_uds() == []


CONTAINER = """
import os, subprocess, sys
sys.path[:0] = [{endpoints!r}]
import reap_strays as strays
# This program is the container's pid 1, and a parent like any other.
assert os.getpid() == 1
read_fd, write_fd = os.pipe()
actor = [*strays.ACTOR, "--parent_addr", "('127.0.0.1', 1)", "--boot_fd", str(read_fd)]
child = subprocess.Popen(actor, pass_fds=[read_fd])
strays.until(lambda: strays.has_word(child.pid, "--boot_fd"), "the child")
os.kill(child.pid, 19)
with strays.booting_actor() as (stray, lifeline):
    os.close(lifeline)
    stray.orphan()
    assert strays.parent_of(stray.pid) == strays.parent_of(child.pid) == 1
    done = subprocess.run([sys.executable, "-m", "tractor.reap", "-g", "0"], text=True,
                          stdout=subprocess.PIPE)
    print(done.stdout, end="")
    print(done.returncode, strays.runs(stray.pid), strays.runs(child.pid))
"""


def test_a_container_whose_first_program_is_a_root() -> None:
    enter = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if os.getuid() != 0:
        enter.append("--map-root-user")
    with contextlib.suppress(OSError):
        if subprocess.run([*enter, "true"], capture_output=True, check=False).returncode == 0:
            code = CONTAINER.format(endpoints=str(ROOT / "tests" / "endpoints"))
            done = subprocess.run(
                [*enter, sys.executable, "-c", code],
                capture_output=True,
                text=True,
                timeout=strays.LIMIT * 2,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            first, last = done.stdout.splitlines()
            assert first.endswith("(stray, parent 1): killed")
            assert last == "0 False True"
            return
    pytest.skip("can't make a pid namespace here")
