"""The leak check and the hang report see what they are there to see."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tractor.process._dirs import get_runtime_dir

Stock = Callable[[], Any]
WAIT_FOR_EOF = "import sys; sys.stdin.read()"
ORPHAN_ONE = f"""
import subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-c", {WAIT_FOR_EOF!r}], stdout=subprocess.DEVNULL
)
print(child.pid, flush=True)
"""


def test_a_new_descriptor_is_seen(take_stock: Stock) -> None:
    before = take_stock()
    one, other = os.pipe()
    try:
        assert len(take_stock().more_than(before)) == 2
    finally:
        os.close(one)
        os.close(other)
    assert take_stock().more_than(before) == []


def test_a_descriptor_that_took_over_a_number_is_seen(take_stock: Stock) -> None:
    one, other = os.pipe()
    before = take_stock()
    os.close(one)
    one = os.open(os.devnull, os.O_RDONLY)
    try:
        (line,) = take_stock().more_than(before)
    finally:
        os.close(one)
        os.close(other)
    assert line.startswith(f"fd {one}: ")


def test_a_new_thread_is_seen(take_stock: Stock) -> None:
    before, done = take_stock(), threading.Event()
    thread = threading.Thread(target=done.wait, name="leaky")
    thread.start()
    try:
        (line,) = take_stock().more_than(before)
    finally:
        done.set()
        thread.join()
    assert "leaky" in line
    assert take_stock().more_than(before) == []


def test_idle_worker_threads_of_trio_are_no_leak(take_stock: Stock) -> None:
    before = take_stock()
    trio.run(trio.to_thread.run_sync, lambda: None)
    assert take_stock().more_than(before) == []


def test_a_child_and_a_zombie_are_seen(take_stock: Stock) -> None:
    before = take_stock()
    with subprocess.Popen([sys.executable, "-c", WAIT_FOR_EOF], stdin=subprocess.PIPE) as child:
        assert any(f"process {child.pid}" in line for line in take_stock().more_than(before))
        assert child.stdin is not None
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert f"process {child.pid}: a zombie" in take_stock().more_than(before)
    assert take_stock().more_than(before) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_orphaned_grandchild_is_seen(take_stock: Stock) -> None:
    before = take_stock()
    inherited, ours = os.pipe()
    with open(ours, "wb"), open(inherited, "rb") as stdin:
        middle = subprocess.run(
            [sys.executable, "-c", ORPHAN_ONE], stdin=stdin, stdout=subprocess.PIPE, check=True
        )
        orphan = int(middle.stdout)
        with_orphan = take_stock().more_than(before)
    assert any(f"process {orphan}: " in line for line in with_orphan)


@pytest.mark.skipif(sys.platform != "linux", reason="the runtime directory is private only there")
def test_a_socket_file_is_seen(private_dir: Path, take_stock: Stock) -> None:
    before = take_stock()
    path = get_runtime_dir("deeper") / "left.sock"
    assert path.is_relative_to(private_dir)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))
    assert take_stock().more_than(before) == [f"socket file {path}"]
    path.unlink()


def test_a_registry_address_is_free_and_short(reg_addr: tuple[Any, Any], tpt_proto: str) -> None:
    family = socket.AF_INET if tpt_proto == "tcp" else socket.AF_UNIX
    address = reg_addr if tpt_proto == "tcp" else str(Path(*reg_addr))
    with socket.socket(family) as listener:
        listener.bind(address)
    if tpt_proto == "uds":
        Path(*reg_addr).unlink()


def session(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder, with a copy of our own conftest.py if the folder has none."""
    if not (folder / "conftest.py").exists():
        own = Path(__file__).with_name("conftest.py")
        (folder / "conftest.py").write_text(own.read_text())
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        # Loading what else is installed is half of a session's start.
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_long_files_are_there() -> None:
    found = re.search(
        r"LONG_FILES = \((.*?)\)", Path(__file__).with_name("conftest.py").read_text(), re.S
    )
    assert found is not None
    names = re.findall(r'"(.*?)"', found[1])
    assert len(names) > 5
    assert [name for name in names if not (Path(__file__).parent / name).exists()] == []


def test_a_set_has_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = tests\n")
    tests = tmp_path / "tests"
    for folder in ("one", "other"):
        (tests / folder).mkdir(parents=True)
        (tests / folder / f"test_{folder}.py").write_text(
            "import pytest\n"
            "@pytest.mark.parametrize('value', ['a', 'a/b::c'])\n"
            "def test_it(value): pass\n"
            "def test_it_too(): pass\n"
            "class TestMore:\n    def test_more(self): pass\n"
        )
    conftest = Path(__file__).with_name("conftest.py")
    (tmp_path / "conftest.py").write_text(conftest.read_text().replace('"sets.toml"', '"s.toml"'))
    (tmp_path / "s.toml").write_text(
        "[some]\n'tests/one/test_one.py::test_it[a]' = ''\n"
        "'tests/one/test_one.py::test_it_too' = ''\n"
        "'tests/other/test_other.py::TestMore' = ''\n"
        "[more]\n'tests/other/test_other.py::test_it' = ''\n"
        "[gone]\n'tests/o' = ''\n'tests/one' = ''\n"
    )
    done = session(tmp_path, "-q", "--collect-only", "--set", "some,more")
    assert done.stdout.splitlines()[:5] == [
        "tests/one/test_one.py::test_it[a]",
        "tests/one/test_one.py::test_it_too",
        "tests/other/test_other.py::test_it[a]",
        "tests/other/test_other.py::test_it[a/b::c]",
        "tests/other/test_other.py::TestMore::test_more",
    ]
    assert "5/8 tests collected (3 deselected)" in done.stdout
    done = session(tmp_path, "-q", "--set", "gone")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no test's name begins with ['tests/o']" in done.stderr


def test_who_is_alone_is_alone(tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    (tmp_path / "sets.toml").touch()
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = alone\n")
    begin = "import pathlib, pytest, time\nHERE = pathlib.Path(__file__).parent\n"
    # Each says that it is there; who is alone sees nobody, and some of the others see one another.
    (tmp_path / "test_alone.py").write_text(
        f"{begin}@pytest.mark.alone\n@pytest.mark.parametrize('n', range(5))\n"
        "def test_it(n):\n"
        "    end = time.monotonic() + 0.02\n"
        "    while time.monotonic() < end: assert not [*HERE.glob('*.here')]\n"
    )
    for name in ("a", "b"):
        (tmp_path / f"test_{name}.py").write_text(
            f"{begin}@pytest.mark.parametrize('n', range(20))\n"
            f"def test_it(n):\n"
            f"    with open(HERE / '{name}.here', 'w'): time.sleep(0.05)\n"
            f"    if len([*HERE.glob('*.here')]) > 1: (HERE / 'both').touch()\n"
            f"    (HERE / '{name}.here').unlink()\n"
        )
    done = session(tmp_path, "-q", "-p", "xdist", "-n", "3", "--dist", "loadfile")
    assert "45 passed" in done.stdout, done.stdout
    assert (tmp_path / "both").exists()


def test_a_test_that_hangs_fails_with_its_task_tree(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 1\ntimeout_method = signal\n")
    (tmp_path / "test_hang.py").write_text(
        "import trio\n"
        "def test_hang():\n"
        "    async def main():\n"
        "        async with trio.open_nursery() as tn:\n"
        "            tn.start_soon(trio.sleep_forever, name='the-culprit')\n"
        "    trio.run(main)\n"
    )
    run = session(tmp_path, "-p", "pytest_timeout")
    assert run.returncode == 1, run.stdout
    # By stackscope, where that is installed, or by our own means.
    assert re.search(r"<Task 'the-culprit'|the-culprit: sleep_forever", run.stdout)
    assert "Timeout" in run.stdout


def test_a_test_that_is_stuck_for_good_ends_the_session(tmp_path: Path) -> None:
    own = Path(__file__).with_name("conftest.py").read_text()
    (tmp_path / "conftest.py").write_text(own.replace("WATCH_AGAIN = 30.0", "WATCH_AGAIN = 0.1"))
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 1.5\ntimeout_method = signal\n")
    (tmp_path / "test_stuck.py").write_text(
        "import signal, time\n"
        "def test_ends(): time.sleep(0.2)\n"
        "def test_is_stuck():\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])\n"
        "    time.sleep(1000)\n"
    )
    run = session(tmp_path, "-v", "-p", "pytest_timeout")
    assert run.returncode == 1
    assert "test_ends PASSED" in run.stdout
    assert "in test_is_stuck" in run.stderr


def test_a_leak_fails_the_test_and_is_cleaned_up(tmp_path: Path) -> None:
    conftest = Path(__file__).with_name("conftest.py")
    (tmp_path / "conftest.py").write_text(conftest.read_text().replace("GRACE = 1.0", "GRACE = 0"))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_leak.py").write_text(
        "import subprocess, sys\n"
        "def test_leak():\n"
        f"    global child; child = subprocess.Popen([sys.executable, '-c', {WAIT_FOR_EOF!r}],\n"
        "        stdin=subprocess.PIPE)\n"
        "def test_gone():\n"
        "    assert child.wait() is not None\n"
    )
    run = session(tmp_path)
    assert "left behind:" in run.stdout
    assert f"-c {WAIT_FOR_EOF}" in run.stdout
    assert "2 passed, 1 error" in run.stdout
