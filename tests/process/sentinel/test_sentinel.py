from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tractor.process import _ancestry
from tractor.process._stat import ProcessId
from tractor.process._wait_pids import pid_alive, process_start_time
from tractor.process.host._host_id import host_id
from tractor.process.sentinel import _sentinel, _sentinel_main
from tractor.process.sentinel._sentinel_main import ProcessWatch, Sentinel

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what a sentinel is for is Linux's")

NO_SUCH_PID = 2**22 + 5
"""More than the kernel ever gives."""

Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that wait for the end of their stdin."""
    started: list[subprocess.Popen[bytes]] = []

    def start_one() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE))
        return started[-1]

    yield start_one
    for process in started:
        assert process.stdin is not None
        process.kill()
        process.stdin.close()
        process.wait()


@pytest.fixture(params=["pidfd", "no pidfd"])
def with_or_without_pidfd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "no pidfd":
        monkeypatch.delattr(os, "pidfd_open")


@pytest.fixture(autouse=True)
def no_sentinel_left() -> Iterator[None]:
    yield
    _sentinel.stand_down()


def record(kind: str, pid: int) -> bytes:
    start_time = process_start_time(pid)
    return f"{kind} {pid} {'-' if start_time is None else repr(start_time)}\n".encode()


def make_socket(path: Path) -> None:
    """A socket file at which nobody listens; its path may be of any length."""
    os.mknod(path, stat.S_IFSOCK | 0o600)


def file_record(path: Path) -> bytes:
    line = _sentinel._file_line(path)
    assert line is not None
    return line


class Running:
    """A `Sentinel` in a thread, behind a pipe as its process has one."""

    def __init__(self, *lines: bytes, grace: float = 0.0) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.write(self.write_fd, b"".join(lines))
        self.sentinel = Sentinel(self.read_fd, grace)
        self.thread = threading.Thread(target=self.sentinel.run, daemon=True)
        self.thread.start()

    def hang_up(self) -> None:
        os.close(self.write_fd)
        self.write_fd = -1

    def is_over(self) -> bool:
        self.thread.join(10)
        os.close(self.read_fd)
        if self.write_fd >= 0:
            os.close(self.write_fd)
        for watch in self.sentinel._all():
            watch.close()
        return not self.thread.is_alive()


# -- one process --


@pytest.mark.usefixtures("with_or_without_pidfd")
def test_process_is_killed_even_if_stopped(start: Start) -> None:
    process = start()
    watch = ProcessWatch(process.pid, process_start_time(process.pid))
    assert not watch.gone()
    process.send_signal(signal.SIGSTOP)
    watch.kill()
    assert process.wait() == -signal.SIGKILL
    assert watch.gone()
    assert watch.fd == -1
    watch.kill()


@pytest.mark.usefixtures("with_or_without_pidfd")
def test_zombie_is_gone(start: Start) -> None:
    process = start()
    watch = ProcessWatch(process.pid, process_start_time(process.pid))
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert watch.gone()
    assert ProcessWatch(process.pid, None).gone()


@pytest.mark.usefixtures("with_or_without_pidfd")
def test_later_process_with_the_same_number_is_left_alone(start: Start) -> None:
    process = start()
    began = process_start_time(process.pid)
    assert began is not None
    watch = ProcessWatch(process.pid, began - 1)
    assert watch.gone()
    watch.kill()
    assert process.poll() is None
    assert pid_alive(process.pid, began)


def test_reuse_between_the_look_and_the_signal_is_no_danger(start: Start) -> None:
    first, second = start(), start()
    watch = ProcessWatch(first.pid, process_start_time(first.pid))
    first.kill()
    first.wait()
    # As if the number were the second's now: what was opened means the first for ever.
    watch.pid = second.pid
    watch.ended = False
    watch.kill()
    assert second.poll() is None


@pytest.mark.usefixtures("with_or_without_pidfd")
def test_no_process() -> None:
    watch = ProcessWatch(NO_SUCH_PID, None)
    assert watch.gone()
    watch.kill()
    watch.close()


def test_many_processes_leave_descriptors_free(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start()
    monkeypatch.setattr(_sentinel_main, "_LAST_FD", 2)
    watch = ProcessWatch(process.pid, process_start_time(process.pid))
    assert watch.fd == -1
    assert not watch.gone()
    watch.kill()
    assert process.wait() == -signal.SIGKILL
    assert watch.gone()


def test_process_that_cannot_be_looked_at_is_not_taken_for_gone(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    process = start()
    monkeypatch.setattr(os, "pidfd_open", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    assert not ProcessWatch(process.pid, 1.0).gone()
    assert ProcessWatch(NO_SUCH_PID, 1.0).gone()


# -- the protocol --


def test_lines_in_pieces_and_lines_without_sense(start: Start) -> None:
    pid = start().pid
    sentinel = Sentinel(0)
    for byte in record("below", pid):
        assert sentinel.below == {}
        sentinel.feed(bytes([byte]))
    assert list(sentinel.below) == [pid]
    for line in (
        b"",
        b"below",
        b"below  ",
        b"below x -",
        b"below 12",
        b"below 12 13 14",
        b"below 12 x",
        b"below 99999999999999999999 -",
        b"what 12 -",
        b"file 1 2 3",
        b"file x 2 3 /tmp/x",
        bytes(range(11, 256)),
    ):
        sentinel.feed(line + b"\n")
    assert list(sentinel.below) == [pid]
    assert sentinel.files == {}
    sentinel.below[pid].close()


@pytest.mark.parametrize("pid", [-1, 0, 1, -5, pytest.param(os.getpid(), id="own")])
def test_numbers_that_mean_others_are_refused(pid: int) -> None:
    sentinel = Sentinel(0)
    for kind in (b"self", b"above", b"below"):
        sentinel.feed(b"%b %d -\n" % (kind, pid))
    assert sentinel._all() == []


def test_same_number_again(start: Start) -> None:
    pid = start().pid
    before = len(os.listdir("/dev/fd"))
    sentinel = Sentinel(0)
    for _ in range(3):
        sentinel.feed(record("below", pid))
        assert len(sentinel.below) == 1
        assert len(os.listdir("/dev/fd")) == before + 1
    # A later process: the former one has ended.
    sentinel.feed(b"below %d 1.0\n" % pid)
    assert sentinel.below[pid].gone()
    assert len(os.listdir("/dev/fd")) == before


def test_what_is_gone_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    make_socket(path)
    sentinel = Sentinel(0)
    sentinel.feed(file_record(path))
    for number in range(1000):
        sentinel.feed(b"below %d -\nfile 1 2 3 /no/such/%d\n" % (NO_SUCH_PID + number, number))
    assert len(sentinel.below) + len(sentinel.files) <= 256
    assert os.fsencode(path) in sentinel.files


# -- the watch --


def test_nothing_to_do_at_the_end() -> None:
    running = Running(grace=1000)
    running.hang_up()
    assert running.is_over()


@pytest.mark.usefixtures("with_or_without_pidfd")
def test_end_of_the_actor_ends_what_is_below(start: Start) -> None:
    one, other, spared = start(), start(), start()
    running = Running(record("below", one.pid), record("below", other.pid))
    other.send_signal(signal.SIGSTOP)
    running.hang_up()
    assert running.is_over()
    assert one.wait() == other.wait() == -signal.SIGKILL
    assert spared.poll() is None


@pytest.mark.usefixtures("with_or_without_pidfd")
def test_what_ends_by_itself_is_not_killed(start: Start) -> None:
    process = start()
    running = Running(record("below", process.pid), grace=1000)
    running.hang_up()
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait() == 0
    assert running.is_over()


def test_actor_gone_while_its_pipe_is_held_open(start: Start) -> None:
    actor, child = start(), start()
    running = Running(record("self", actor.pid), record("below", child.pid))
    actor.kill()
    assert child.wait() == -signal.SIGKILL
    assert running.is_over()


def test_end_of_one_above_ends_the_actor_too(start: Start) -> None:
    above, actor, child = start(), start(), start()
    running = Running(
        record("self", actor.pid), record("above", above.pid), record("below", child.pid)
    )
    above.kill()
    assert child.wait() == -signal.SIGKILL
    assert actor.wait() == -signal.SIGKILL
    assert running.is_over()


def test_one_above_that_was_gone_before(start: Start) -> None:
    actor = start()
    running = Running(record("self", actor.pid), b"above %d 1.0\n" % NO_SUCH_PID)
    assert actor.wait() == -signal.SIGKILL
    assert running.is_over()


def test_child_that_is_recorded_after_the_loss(start: Start) -> None:
    above, actor, child = start(), start(), start()
    actor.send_signal(signal.SIGSTOP)
    running = Running(record("self", actor.pid), record("above", above.pid), grace=0.3)
    above.kill()
    os.write(running.write_fd, record("below", child.pid))
    assert child.wait() == -signal.SIGKILL
    assert actor.wait() == -signal.SIGKILL
    assert running.is_over()


def test_pipe_closed_by_hand_leaves_the_actor_and_its_files(start: Start, tmp_path: Path) -> None:
    actor, child = start(), start()
    path = tmp_path / "socket"
    make_socket(path)
    running = Running(
        record("self", actor.pid), record("below", child.pid), file_record(path), grace=0.1
    )
    running.hang_up()
    assert child.wait() == -signal.SIGKILL
    assert running.is_over()
    assert actor.poll() is None
    assert path.exists()


def test_files_of_the_dead_are_removed(start: Start, tmp_path: Path) -> None:
    actor = start()
    names = ("of the actor", "replaced", "removed before")
    own, replaced, removed = paths = [tmp_path / name for name in names]
    for path in paths:
        make_socket(path)
    marks = [*map(file_record, paths)]
    running = Running(record("self", actor.pid), *marks, grace=1000)
    time.sleep(0.02)  # more than the clock of a file system takes to move on
    replaced.unlink()
    make_socket(replaced)
    removed.unlink()
    actor.kill()
    actor.wait()
    running.hang_up()
    assert running.is_over()
    assert not own.exists()
    assert replaced.exists()


def test_a_file_at_which_somebody_listens_stays(start: Start, tmp_path: Path) -> None:
    actor = start()
    # As an actor of another pid namespace does that shares the directory, the name and the pid.
    path = tmp_path / "shared"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        running = Running(record("self", actor.pid), file_record(path), grace=1000)
        actor.kill()
        actor.wait()
        running.hang_up()
        assert running.is_over()
        assert path.exists()


# -- the process --


def watched_by(pid: int) -> set[int]:
    """The processes for which a sentinel has descriptors."""
    found = set()
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            for line in entry.read_text().splitlines():
                if line.startswith("Pid:"):
                    found.add(int(line.split()[1]))
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def guarded(process: subprocess.Popen[bytes]) -> int:
    """Guard it; the sentinel's pid, once it watches."""
    _sentinel.guard(ProcessId.of(process.pid))
    pid = _sentinel.sentinel_pid()
    assert pid is not None
    until(lambda: process.pid in watched_by(pid))
    return pid


def test_process_holds_nothing_and_heeds_no_signal(start: Start) -> None:
    read_fd, write_fd = os.pipe()
    os.set_inheritable(write_fd, True)
    pid = guarded(start())
    os.close(write_fd)
    assert os.read(read_fd, 1) == b""
    os.close(read_fd)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP):
        os.kill(pid, number)
    assert os.getsid(pid) == pid
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (1, 2)] == ["/dev/null"] * 2
    assert watched_by(pid) >= {os.getpid()}
    assert pid_alive(pid)


def test_it_comes_with_the_first_child_and_is_reaped(start: Start) -> None:
    before = len(os.listdir("/dev/fd"))
    assert _sentinel.sentinel_pid() is None
    assert _sentinel.stand_down() is None
    one, other = start(), start()
    started = _sentinel.guard(ProcessId.of(one.pid))
    pid = _sentinel.sentinel_pid()
    assert pid is not None
    assert started == ProcessId.of(pid)
    assert _sentinel.guard(ProcessId.of(other.pid)) is None
    until(lambda: watched_by(pid) >= {one.pid, other.pid})
    assert _sentinel.stand_down() == pid
    assert not Path(f"/proc/{pid}").exists()
    assert _sentinel.stand_down() is None
    assert one.poll() is other.poll() is None
    assert len(os.listdir("/dev/fd")) == before + 2  # the pipes of `start`


def test_stopped_one_neither_blocks_the_actor_nor_its_end(start: Start) -> None:
    process = start()
    pid = guarded(process)
    os.kill(pid, signal.SIGSTOP)
    for number in range(10_000):
        assert _sentinel.guard(ProcessId(host_id(), NO_SUCH_PID + number, 1.0)) is None
    os.kill(pid, signal.SIGCONT)
    late = start()

    def told() -> bool:
        _sentinel.guard(ProcessId.of(late.pid))
        return late.pid in watched_by(pid)

    until(told)
    os.kill(pid, signal.SIGSTOP)
    assert _sentinel.stand_down() == pid


def test_killed_one_is_replaced_and_told_everything(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    one, over, other = start(), start(), start()
    pid = guarded(one)
    _sentinel.guard(ProcessId.of(over.pid))
    _sentinel.forget(over.pid)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not pid_alive(pid))
    with caplog.at_level(logging.WARNING, "tractor"):
        new = _sentinel.guard(ProcessId.of(other.pid))
    assert new is not None
    assert new.pid != pid
    until(lambda: watched_by(new.pid) >= {one.pid, other.pid})
    assert over.pid not in watched_by(new.pid)
    assert f"sentinel {pid} ended with status -9" in caplog.text


def test_one_that_does_not_work_is_not_tried_again(
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit(1)")
    monkeypatch.setattr(_sentinel, "PROGRAM", broken)
    monkeypatch.setattr(_sentinel._does_not_work, "value", False)
    pid = start().pid
    started = _sentinel.guard(ProcessId.of(pid))
    assert started is not None
    until(lambda: not pid_alive(started.pid))
    with caplog.at_level(logging.WARNING, "tractor"):
        for _ in range(3):
            assert _sentinel.guard(ProcessId.of(pid)) is None
    assert caplog.text.count("left to their lifelines") == 1
    assert _sentinel.sentinel_pid() is None


def test_none_where_there_can_be_none(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pid = start().pid
    assert _sentinel.guard(ProcessId.of(os.getpid())) is None
    with monkeypatch.context() as patch:
        patch.setattr(sys, "frozen", True, raising=False)
        assert _sentinel.guard(ProcessId(host_id(), pid, None)) is None
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/no/such/python")
        assert _sentinel.guard(ProcessId(host_id(), pid, None)) is None
    assert "no sentinel could be started" in caplog.text
    assert _sentinel.sentinel_pid() is None


def test_forked_child_has_no_part_in_it(start: Start) -> None:
    process = start()
    pid = guarded(process)
    inode = os.readlink(f"/proc/{pid}/fd/0")
    forked = os.fork()
    if not forked:
        links = []
        for fd in os.listdir("/proc/self/fd"):
            try:
                links.append(os.readlink(f"/proc/self/fd/{fd}"))
            except OSError:
                continue
        fine = inode not in links and _sentinel.sentinel_pid() is None
        os._exit(0 if fine else 1)
    assert os.waitpid(forked, 0)[1] == 0
    assert _sentinel.sentinel_pid() == pid
    assert pid_alive(pid)
    assert process.poll() is None


def test_files_are_told_once(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bytes] = []
    put = _sentinel._Running.put

    def noted(self: _sentinel._Running, lines: Iterable[bytes]) -> bool:
        new = list(lines)
        told.extend(new)
        return put(self, new)

    monkeypatch.setattr(_sentinel._Running, "put", noted)
    path, missing = tmp_path / "a b", tmp_path / "missing"
    make_socket(path)
    make_socket(tmp_path / "new\nline")
    assert _sentinel.guard_files([path]) is None
    guarded(start())
    _sentinel.guard_files([path, missing, tmp_path / "new\nline"])
    assert told.count(file_record(path)) == 1
    assert len([line for line in told if line.startswith(b"file")]) == 1


# -- who is above --


def test_lineage_of_a_root_is_itself() -> None:
    assert _ancestry.ancestry() == []
    assert _ancestry.lineage() == [ProcessId.of(os.getpid())]


def test_lineage_below_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ancestry, "_above", [])
    parent = os.getppid()
    top = [ProcessId(host_id(), NO_SUCH_PID + n, 1.0) for n in range(100)]
    above = [*top, ProcessId.of(parent)]
    _ancestry.set_ancestry(above)
    assert _ancestry.ancestry() == above
    nearest = _ancestry.lineage()
    assert len(nearest) == _ancestry.MAX_KEPT
    assert nearest[-2:] == [above[-1], ProcessId.of(os.getpid())]


def test_parent_that_cannot_be_seen_means_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ancestry, "_above", [])
    _ancestry.set_ancestry([ProcessId.of(os.getppid()), ProcessId(host_id(), NO_SUCH_PID, 1.0)])
    assert _ancestry.ancestry() == []


def test_own_process_is_not_above_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ancestry, "_above", [])
    _ancestry.set_ancestry([ProcessId.of(os.getppid()), ProcessId.of(os.getpid())])
    assert _ancestry.ancestry() == [ProcessId.of(os.getppid())]


def test_forked_child_is_no_part_of_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    _ancestry.set_ancestry([ProcessId.of(os.getppid())])
    try:
        forked = os.fork()
        if not forked:
            os._exit(len(_ancestry.ancestry()))
        assert os.waitpid(forked, 0)[1] == 0
    finally:
        _ancestry.set_ancestry([])


def test_program_needs_nothing_of_the_package() -> None:
    path = _sentinel_main.__file__
    code = f"import sys; exec(open({path!r}).read(), {{'__name__': 'x'}}); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"tractor", "trio", "signal", "enum", "socket", "subprocess", "site"}
    assert select.__name__ in loaded
