"""Finding stray actors among real processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import reap_strays as strays

from tractor.reaping._table import process_table, read_process
from tractor.testing import find_descendants, find_orphans, find_zombies

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

DEAD = 2_000_000_000
"""A pid that no Linux gives to a process."""


def test_a_stopped_actor_without_parent_is_an_orphan() -> None:
    with strays.booting_actor() as (process, _):
        assert process.pid not in find_orphans()
        process.orphan()
        found = {int(pid): pid for pid in find_orphans()}
        assert process.pid in found
        assert found[process.pid].name == "stray"
        assert found[process.pid].ppid == strays.parent_of(process.pid)
    assert process.pid not in find_orphans()


@pytest.mark.parametrize("title", ["_subactor[x@{pid}]", "_subactor[a long name, with (@) @{pid}]"])
def test_a_titled_actor_without_parent_is_an_orphan(title: str, tmp_path: Path) -> None:
    pytest.importorskip("setproctitle")
    ready = tmp_path / "ready"
    with strays.started(strays.titled(title, ready), says=ready) as process:
        assert process.pid not in find_orphans()
        assert process.pid in find_orphans_after(process)


def find_orphans_after(process: strays.Started) -> list[int]:
    process.orphan()
    return [int(pid) for pid in find_orphans()]


def test_an_actor_without_title_is_known_by_its_short_name(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = (
        "import ctypes, time\n"
        "ctypes.CDLL(None).prctl(15, b'_subactor[quite@long]', 0, 0, 0)\n"
        f"open({str(ready)!r}, 'w').close()\ntime.sleep(600)"
    )
    with strays.started([sys.executable, "-c", code], says=ready) as process:
        assert process.pid in find_orphans_after(process)


def test_a_sentinel_is_an_orphan_once_its_actor_is_gone(tmp_path: Path) -> None:
    program = tmp_path / "tractor" / "process" / "sentinel" / "_sentinel_main.py"
    program.parent.mkdir(parents=True)
    program.write_text("import time; time.sleep(600)")
    argv = [sys.executable, "-I", "-S", str(program), "77"]
    with strays.started(argv) as process:
        assert process.pid not in find_orphans()
        assert process.pid not in find_descendants(process.launcher, only_actors=True)
        assert process.pid in find_orphans_after(process)


def lookalikes(tmp_path: Path) -> Iterator[tuple[list[str], str]]:
    """Argument lists, each with the program to run if that is not the first argument."""
    sleep = "import time; time.sleep(600)"
    package = tmp_path / "other"
    package.mkdir()
    (package / "__init__.py").touch()
    for file in (package / "_child.py", tmp_path / "tractor._child.py"):
        file.write_text(sleep)
    script = str(tmp_path / "tractor._child.py")
    yield [sys.executable, "-c", sleep, "-m", "tractor._child"], ""
    yield [sys.executable, script, "-m", "tractor._child"], ""
    yield [sys.executable, str(package / "_child.py"), "--uid", "('a', 'b')"], ""
    yield ["tail", "-f", script], ""
    yield ["python -m tractor._child", "600"], "/bin/sleep"
    yield ["sh", "-c", 'exec -a "_subactor[x@$$]" sleep 600'], "/bin/bash"
    if has_setproctitle():
        yield strays.titled("_subactor[x@1]", tmp_path / "one"), ""
        yield strays.titled("_subactor", tmp_path / "two"), ""
        yield strays.titled("_subactor[x@{pid}] editor", tmp_path / "three"), ""


def has_setproctitle() -> bool:
    try:
        import setproctitle  # noqa: F401
    except ImportError:
        return False
    return True


def test_orphans_that_only_look_like_actors_are_none(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(strays.started(argv, program))
            for argv, program in lookalikes(tmp_path)
        ]
        for process in processes:
            process.orphan()
        for name in ("one", "two", "three"):
            if has_setproctitle():
                strays.until((tmp_path / name).exists, "a title")
        alike = {process.pid for process in processes}
        assert len(alike) > 5
        assert all(strays.runs(pid) for pid in alike)
        assert not alike & set(find_orphans())


@pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can start another user's"
)
def test_another_users_orphan_is_none_of_ours(tmp_path: Path) -> None:
    pytest.importorskip("setproctitle")
    ready = tmp_path / "ready"
    more = f"file = open({str(ready)!r}, 'w'); os.setuid(65534)"
    argv = strays.titled("_subactor[x@{pid}]", ready, more)
    argv[-1] = argv[-1].replace(f"open({str(ready)!r}, 'w').close()\n", "file.close()\n")
    with strays.started(argv, says=ready) as process:
        process.orphan()
        strays.until(lambda: read_process(process.pid).uid == 65534, "another user")  # type: ignore[union-attr]
        assert read_process(process.pid).comm.startswith("_subactor[")  # type: ignore[union-attr]
        assert process.pid not in find_orphans()
        assert process.pid not in find_descendants(strays.parent_of(process.pid))


def test_an_adopter_that_may_be_the_parent_is_judged_by_the_lifeline() -> None:
    # This process is Python, as a parent would be; only the boot pipe tells that it is not.
    strays.set_adopter(True)
    try:
        with strays.booting_actor() as (process, lifeline):
            process.orphan()
            assert strays.parent_of(process.pid) == os.getpid()
            assert process.pid not in find_orphans()
            os.write(lifeline, b"\0\0")
            os.close(lifeline)
            # Somebody may yet read what is in the pipe.
            assert process.pid not in find_orphans()
            with open(f"/proc/{process.pid}/fd/{boot_fd(process.pid)}", "rb") as pipe:
                assert pipe.read() == b"\0\0"
            assert process.pid in find_orphans()
            process.end()
    finally:
        strays.set_adopter(False)


def boot_fd(pid: int) -> int:
    words = read_process(pid).argv  # type: ignore[union-attr]
    return int(words[words.index("--boot_fd") + 1])


def test_the_actors_below_a_stopped_actor_are_no_orphans(tmp_path: Path) -> None:
    pytest.importorskip("setproctitle")
    ready = tmp_path / "ready"
    # An actor that has started another one, whose lifeline it has lost.
    more = (
        "import subprocess, sys\n"
        "r, w = os.pipe()\n"
        f"argv = {strays.ACTOR!r} + ['--parent_addr', '(\"127.0.0.1\", 1)', '--boot_fd', str(r)]\n"
        "child = subprocess.Popen(argv, pass_fds=[r]); os.close(r)\n"
        "os.kill(child.pid, 19); os.close(w)"
    )
    with strays.started(strays.titled("_subactor[top@{pid}]", ready, more), says=ready) as process:
        process.orphan()
        (below,) = find_descendants(process.pid)
        try:
            orphans = find_orphans()
            assert process.pid in orphans
            assert below not in orphans
        finally:
            os.kill(below, 9)


def test_descendants() -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as top:
        assert top.stdout is not None
        below = int(top.stdout.readline())
        try:
            assert find_descendants(top.pid) == [below]
            found = list(map(int, find_descendants(os.getpid())))
            assert found.index(top.pid) < found.index(below)
            assert find_descendants(top.pid, only_actors=True) == []
            (child,) = find_descendants(top.pid)
            assert child.start_time == read_process(below).start_time  # type: ignore[union-attr]
        finally:
            top.kill()
            os.kill(below, 9)


def test_descendants_that_are_actors() -> None:
    with strays.booting_actor() as (process, _):
        assert process.pid in find_descendants(os.getpid(), only_actors=True)
        assert process.launcher not in find_descendants(os.getpid(), only_actors=True)
        assert process.launcher in find_descendants(os.getpid())


def test_this_process_and_those_above_it_are_never_found() -> None:
    above = []
    pid = os.getpid()
    while pid > 1:
        above.append(pid)
        pid = strays.parent_of(pid)
    found = find_descendants(1)
    assert not set(above) & set(found)


def test_descendants_of_nobody() -> None:
    with pytest.raises(ProcessLookupError, match=str(DEAD)):
        find_descendants(DEAD)
    for pid in (0, -1):
        with pytest.raises(ValueError, match="positive"):
            find_descendants(pid)
        with pytest.raises(ValueError, match="positive"):
            find_zombies(pid)


def test_zombies_are_told_and_not_taken_for_living() -> None:
    code = "import ctypes; ctypes.CDLL(None).prctl(15, b'_subactor[z@1]', 0, 0, 0)"
    with subprocess.Popen([sys.executable, "-c", code]) as actor, subprocess.Popen("true") as other:
        for process in (actor, other):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        zombies = find_zombies()
        assert actor.pid in zombies
        assert other.pid not in zombies
        assert {actor.pid, other.pid} <= set(find_zombies(os.getpid()))
        assert not {actor.pid, other.pid} & set(find_descendants(os.getpid()))
        assert actor.pid not in find_orphans()
    assert actor.pid not in find_zombies()


def test_the_table_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psutil")
    mine = read_process(os.getpid())
    assert mine is not None
    monkeypatch.setattr("tractor.reaping._table.ON_LINUX", False)
    same = process_table()[os.getpid()]
    assert (same.ppid, same.uid) == (mine.ppid, mine.uid)
    # psutil takes a title for words; a short title ends with blanks where the old words stood.
    assert " ".join(same.argv).split() == " ".join(mine.argv).split()
    assert same.is_own
    assert not same.is_zombie
    assert read_process(DEAD) is None
    with strays.booting_actor() as (process, _):
        assert process.pid in find_descendants(os.getpid(), only_actors=True)
        process.orphan()
        assert process.pid in find_orphans()


def test_neither_proc_nor_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tractor.reaping._table.ON_LINUX", False)
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(RuntimeError, match=r"psutil: pip install 'trio-tractor\[testing\]'"):
        find_orphans()
