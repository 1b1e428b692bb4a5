"""Snapshots: what is in them, where they go, and that they disturb nobody."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import tractor
from tractor._util._task_tree import dump_file, read_dumps
from tractor.process._dirs import get_runtime_dir
from tractor.testing.hangs import _snapshot
from tractor.testing.hangs._snapshot import default_dir, write_snapshot

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

WAIT_FOR_EOF = "import sys; print(flush=True); sys.stdin.read()"


@pytest.fixture(autouse=True)
def _not_in_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots that are made on purpose are not news for whoever runs these tests."""
    monkeypatch.setattr(_snapshot, "_written", [])


def start(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A child that says that it is ready, and ends at the end of its input."""
    child = subprocess.Popen(
        [sys.executable, *arguments, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    return child


@linux_only
def test_every_actor_tells_its_task_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reg_addr: tuple[str, int]
) -> None:
    monkeypatch.setenv("TRACTOR_ENABLE_STACKSCOPE", "1")

    async def main() -> tuple[int, str]:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            portal = await an.start_actor("napper")
            aid = portal.chan.aid
            assert aid is not None
            pid = aid.pid
            assert pid is not None
            found = write_snapshot("tree", "a test", out_dir=tmp_path)
            # It was asked, and lives on.
            assert await portal.cancel_actor()
            return pid, (found / "trace.txt").read_text()

    pid, trace = trio.run(main)
    outline, _, stacks = trace.partition(f"\nprocess {os.getpid()}\n")
    own, _, below = stacks.partition(f"\nprocess {pid}\n")
    assert f"{os.getpid()} " in outline
    assert f"\n    {pid} " in outline
    assert "test_every_actor_tells_its_task_tree" in own
    assert "start-of-('napper', " in below
    assert "_child_main" in below
    assert "end-of-('napper', " in below
    assert not dump_file(pid).exists()


@linux_only
@pytest.mark.parametrize("program", [WAIT_FOR_EOF, f"import faulthandler, signal;{WAIT_FOR_EOF}"])
def test_no_stranger_gets_a_signal(tmp_path: Path, program: str) -> None:
    catching = "import signal; signal.signal(signal.SIGUSR1, lambda *_: print('hit', flush=True));"
    with start(catching + program) as stranger, start(program) as deaf:
        found = write_snapshot("x", "a test", out_dir=tmp_path)
        out, _ = stranger.communicate()
        deaf.communicate()
    assert b"hit" not in out
    assert deaf.returncode == 0
    trace = (found / "trace.txt").read_text()
    assert trace.count("it gave no task tree") == 2
    assert "State:\tS" in trace
    assert "wchan: " in trace


@linux_only
def test_another_process_may_be_the_top(tmp_path: Path) -> None:
    with start(WAIT_FOR_EOF) as other:
        found = write_snapshot("x", "a test", pid=other.pid, out_dir=tmp_path)
        other.communicate()
    trace = (found / "trace.txt").read_text()
    assert f"{other.pid} " in trace
    assert f"process {os.getpid()}\n" not in trace
    meta = json.loads((found / "meta.json").read_text())
    assert meta["pid"] == other.pid
    assert meta["written_by"] == os.getpid()


@pytest.mark.skipif(os.name != "posix", reason="needs Unix sockets")
def test_socket_files_are_listed_with_their_owners(tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    directory = get_runtime_dir()
    names = {
        f"own@{os.getpid()}.sock": f"process {os.getpid()} runs",
        f"lost@{int(dead.stdout)}.sock": f"process {int(dead.stdout)} is gone",
        "nameless.sock": "its name tells no process",
        "huge@99999999999999999999.sock": "its name tells no process",
    }
    try:
        for name in names:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(directory / name))
        found = write_snapshot("x", "a test", out_dir=tmp_path)
    finally:
        for name in names:
            (directory / name).unlink(missing_ok=True)
    lines = (found / "bindspace.txt").read_text().splitlines()
    assert lines[0] == str(directory)
    for name, owner in names.items():
        assert f"    {name}: {owner}" in lines


@pytest.mark.parametrize(
    ("label", "plain"),
    [
        ("a/../b c", "a_.._b_c"),
        ("../../etc", "etc"),
        ("test_x[tcp-True]", "test_x_tcp-True"),
        ("", "unnamed"),
        ("y" * 500, "y" * 100),
    ],
)
def test_labels_stay_within_one_directory(tmp_path: Path, label: str, plain: str) -> None:
    found = [write_snapshot(label, "a test", out_dir=tmp_path / "deep" / "er") for _ in range(3)]
    assert len(set(found)) == 3
    for path in found:
        assert path.parent == tmp_path / "deep" / "er"
        assert path.name.startswith(f"{plain}__")
        assert json.loads((path / "meta.json").read_text())["label"] == label
    assert _snapshot.written_snapshots()[-3:] == tuple(found)


def test_the_directory_is_that_of_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_dir() == tmp_path / "tractor" / "hung-dumps"
    assert write_snapshot("x", "a test").parent == default_dir()
    # A relative one is to be ignored, says the XDG standard.
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert default_dir().is_absolute()
    assert default_dir().name == "hung-dumps"


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs SIGUSR1")
def test_a_dump_file_of_somebody_else_s_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("start-of-x\nsecret\nend-of-x\n")
    link = tmp_path / "link"
    link.symlink_to(secret)
    assert read_dumps(secret) == secret.read_bytes()
    assert read_dumps(link) == b""
    monkeypatch.setattr(os, "getuid", lambda: secret.stat().st_uid + 1)
    assert read_dumps(secret) == b""
