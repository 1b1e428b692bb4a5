"""The process around a root or an actor: what user code forks, other runs, standard streams, signals, logs, files."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "endpoints" / "ep_process_prog.py"
LIMIT = 60

ROOT = Path(__file__).resolve().parents[1]

FRESH_TMP = "mount -t tmpfs none /tmp"
if ROOT.is_relative_to("/tmp"):
    # That hides the checkout: it is put back.
    AT = shlex.quote(str(ROOT))
    FRESH_TMP = f"""
mount -t tmpfs none /mnt; mkdir /mnt/kept; mount --bind {AT} /mnt/kept
{FRESH_TMP}
mkdir -p {AT}; mount --bind /mnt/kept {AT}
"""

EVERY_METHOD = pytest.mark.parametrize(
    "method",
    [
        "trio",
        "mp_spawn",
        "mp_forkserver",
        "main_thread_forkserver",
        pytest.param(
            "subint", marks=pytest.mark.skipif(sys.version_info < (3, 14), reason="Python 3.14")
        ),
    ],
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and forks")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRACTOR_SPAWN_METHOD", "TRACTOR_LOGLEVEL"):
        monkeypatch.delenv(name, raising=False)


class Program:
    """One that runs beside the test, in a process group of its own."""

    def __init__(self, *args: str, prefix: tuple[str, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, str(PROGRAM), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def read_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> tuple[str, str, int]:
        out, err = self.process.communicate(timeout=LIMIT)
        return out, err, self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=LIMIT)


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    started: list[Program] = []
    yield started
    for program in started:
        if program.process.poll() is None:
            program.kill()


def run(*args: str, code: int = 0, shell: str = "") -> tuple[str, str]:
    """Run a program to its end; ``shell``: redirections."""
    command = ["sh", "-c", f'exec "$0" "$@" {shell}', sys.executable, str(PROGRAM), *args]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT, start_new_session=True
    )
    assert done.returncode == code, done
    return done.stdout, done.stderr


# -- what user code forks --


@EVERY_METHOD
def test_what_user_code_forks_is_as_without_a_runtime(method: str) -> None:
    if method == "subint":
        pytest.skip("CPython does not let a sub-interpreter fork")
    out, err = run("forks", method)
    fine = "[0, -15, True]"
    assert out.splitlines() == [
        f"root {fine} {fine}",
        f"actor {fine}",
        f"thread {fine}",
        "copies [7, 1, 0]",
        "left True",
        "again",
    ], err
    assert err.count("Traceback") == err.count("ValueError: in the copy") == 1


@pytest.mark.parametrize(("how", "status"), [("exit", 7), ("raise", 1), ("return", 0)])
def test_a_forked_process_that_leaves_the_block_ends_there(how: str, status: int) -> None:
    out, err = run("block", how)
    assert out.splitlines() == [f"copy {status}", "still 3"]
    assert err.count("ValueError: in the copy") == (how == "raise")


def test_what_an_infected_actor_forks() -> None:
    out, _ = run("forks", "trio", "infected")
    assert out.splitlines()[-1] == "again"


# -- two runs --


def test_a_runtime_belongs_to_its_run() -> None:
    out, err = run("threads")
    lines = out.splitlines()
    assert lines[:2] == ["no runtime"] * 2
    assert len(lines) == 6, out
    for line in lines[2:4]:
        assert "'the first one'" in line
        assert "'MainThread'" in line
    assert lines[4:] == ["first ended", "then root"]
    assert not err


# -- the standard library beside us --


@EVERY_METHOD
@pytest.mark.parametrize("when", ["before", "after"])
def test_who_attaches_to_shared_memory_destroys_nothing(method: str, when: str) -> None:
    if method in ("mp_spawn", "mp_forkserver") and when == "before":
        pytest.skip("the same code as with the others")
    out, err = run("shm", method, when)
    assert out.strip() == repr(bytes([1, 2, 3, 0]))
    assert not err


def test_shared_memory_that_is_left_is_removed_by_the_one_tracker() -> None:
    out, err = run("shm", "trio", "leak")
    assert out.splitlines()[1] == repr(bytes([1, 2, 3, 0]))
    assert "1 leaked shared_memory objects" in err
    assert err.count("leaked") == 1
    # The tracker ends once nobody holds its pipe; the program's end of stderr came after that.
    assert not Path("/dev/shm", out.split()[1]).exists()


# -- standard streams --


@EVERY_METHOD
@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_closed_stream_is_never_a_descriptor_of_the_user(
    method: str, closed: str, tmp_path: Path
) -> None:
    if method != "trio" and closed != "1>&-":
        pytest.skip("the same code as with that")
    path = tmp_path / "data"
    run("streams", method, str(path), shell=closed)
    number, _, content = Path(f"{path}.log").read_text().partition(" ")
    assert content == repr(b"RECORD\n")
    if len(closed) > 4 or (closed != "2>&-" and sys.version_info < (3, 14)):
        # Else the interpreter itself may have got the number for something.
        assert number == closed[0]


@pytest.mark.parametrize("shell", ["", "1>&- 2>&-", ">/dev/full 2>&1"])
def test_no_stream_loses_a_signal(shell: str) -> None:
    out, _ = run("term", "trio", code=-signal.SIGTERM, shell=shell)
    assert out == ("" if shell else "buffered\n")


# -- signals --


@EVERY_METHOD
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_is_the_roots_to_handle(
    method: str, number: signal.Signals, programs: list[Program], tmp_path: Path
) -> None:
    if method == "subint":
        pytest.skip("one process")
    if number == signal.SIGINT and method != "trio":
        pytest.skip("the same code as with SIGTERM")
    program = Program("drain", method, str(tmp_path / "over"))
    programs.append(program)
    assert program.read_line() == "ready"
    os.killpg(program.process.pid, number)
    out, err, code = program.end()
    assert out.splitlines() == [f"root got {number.name}", "result worked"], err
    assert code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("everybody", [True, False])
def test_a_signal_without_a_handler_cleans_up(
    number: signal.Signals, everybody: bool, programs: list[Program]
) -> None:
    program = Program("forever", "trio")
    programs.append(program)
    _, pid = program.read_line().split()
    send = os.killpg if everybody else os.kill
    send(program.process.pid, number)
    out, err, code = program.end()
    assert (out, err, code) == ("", "", -number)
    assert not Path("/proc", pid).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_actor_that_alone_gets_a_signal_cancels_itself(number: signal.Signals) -> None:
    out, err = run("alone", "trio", str(int(number)))
    assert out == "cancelled by itself True\n", err


def test_a_hangup_that_is_ignored_stays_so(programs: list[Program]) -> None:
    program = Program("forever", "trio", prefix=("nohup",))
    programs.append(program)
    program.read_line()
    os.killpg(program.process.pid, signal.SIGHUP)
    os.killpg(program.process.pid, signal.SIGTERM)
    assert program.end()[2] == -signal.SIGTERM


# -- containers --


def unshared(*args: str, script: str = "", first: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program as the first process of a namespace; ``script``: shell commands before it."""
    flags = ["--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]
    last = "exec " if first else ""
    shell = f'{FRESH_TMP}\n{script}\n{last}"$0" "$@"'
    command = ["unshare", *flags, "bash", "-ec", shell, sys.executable, str(PROGRAM), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)


needs_namespaces = pytest.mark.skipif(
    subprocess.run(
        ["unshare", "--pid", "--fork", "--mount", "--mount-proc", "true"],
        capture_output=True,
    ).returncode
    != 0
    if shutil.which("unshare")
    else True,
    reason="no namespaces can be made here",
)


@needs_namespaces
@pytest.mark.parametrize("redirect", ["", "exec 1>&-"])
def test_the_first_process_of_a_container_ends_by_sigterm(redirect: str) -> None:
    done = unshared("term", "trio", script=redirect)
    assert done.returncode == 128 + signal.SIGTERM, done
    assert "never" not in done.stdout


@needs_namespaces
def test_the_first_process_reaps_what_it_inherits() -> None:
    done = unshared("orphans", "trio")
    assert done.stdout.splitlines()[1:] == ["zombies []"], done


READ_ONLY = """
mount -t tmpfs none /run; mkdir -m 700 /run/mine
mount --bind / / && mount -o remount,ro,bind / || true
export XDG_RUNTIME_DIR=/run/mine
"""


@needs_namespaces
@pytest.mark.parametrize(
    "script",
    [
        READ_ONLY,
        "unset HOME XDG_RUNTIME_DIR XDG_STATE_HOME USER LOGNAME",
        "mount -t tmpfs -o ro none /dev/shm",
        "ulimit -n 64",
        "umask 0",
    ],
    ids=["read-only", "no-home", "no-shm", "few-descriptors", "umask"],
)
@pytest.mark.parametrize("method", ["trio", "main_thread_forkserver"])
def test_poor_surroundings(script: str, method: str) -> None:
    if method != "trio" and "ulimit" not in script:
        pytest.skip("the same code as with the other")
    done = unshared("poor", method, script=script)
    assert done.returncode == 0, done
    assert done.stdout == "3 from uds\n3 from tcp\n"
    assert not done.stderr


# -- files of the killed --


def test_files_of_the_killed_are_removed_by_registrar_and_next_root(
    programs: list[Program], tmp_path: Path
) -> None:
    where = str(tmp_path)
    kept = tmp_path / "gone@4194303.sock"
    kept.write_text("no socket")

    def start(*args: str) -> Program:
        program = Program("service", *args)
        programs.append(program)
        assert program.read_line() == "ready", program.end()
        return program

    def sockets() -> set[str]:
        return {path.name.partition("@")[0] for path in tmp_path.iterdir() if path.is_socket()}

    registrar = start("registrar", where)
    killed = start("killed", where), start("named", where, "named.sock")
    lives = start("lives", where)
    everyone = {"registrar.sock", "killed", "named.sock", "lives"}
    assert sockets() == everyone
    for program in killed:
        program.kill()
    # The registrar sees the loss of the channels.
    until(lambda: sockets() == {"registrar.sock", "lives"})
    late = start("late", where), start("later", where, "later.sock")
    for program in (registrar, *late):
        program.kill()
    assert sockets() == {"registrar.sock", "lives", "late", "later.sock"}
    start("next", where)
    assert sockets() == {"registrar.sock", "lives"}
    assert lives.process.poll() is None
    assert kept.read_text() == "no socket"


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- logs and errors --


@EVERY_METHOD
def test_records_come_once(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if method in ("subint", "mp_spawn"):
        pytest.skip("the same code as with the others")
    monkeypatch.setenv("OWN_HANDLER", "1")
    _, err = run("logs", method, "info")
    for text in ("from the root", "from the actor", "Root actor terminated"):
        lines = [line for line in err.splitlines() if text in line]
        assert len(lines) == 1, err
        assert lines[0].startswith("MINE INFO")


def test_the_level_is_that_of_every_record(monkeypatch: pytest.MonkeyPatch) -> None:
    _, err = run("logs", "trio", "info")
    for text in (
        "from the root",
        "from the actor",
        "Root actor terminated",
        "Actor-runtime-shutdown",
    ):
        assert err.count(text) == 1, err
    # It is said of the environment, but at a level that is not asked for.
    monkeypatch.setenv("TRACTOR_SPAWN_METHOD", "mp_spawn")
    assert run("logs", "trio", "error")[1] == ""


def test_a_relayed_interrupt_prints_no_traceback() -> None:
    out, err = run("raises", "trio")
    assert out.splitlines() == ["<class 'KeyboardInterrupt'>", "its actor ended with it"]
    assert not err
