"""Which socket files are removed, and which never."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tractor.discovery import UDSAddress
from tractor.testing import find_orphaned_uds, reap_uds
from tractor.transport import _uds_leftovers
from tractor.transport._uds import bind_uds

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets")

DEAD = 2_000_000_000
"""A pid that no system gives to a process."""


@pytest.fixture
def runtime_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory of this test's own."""
    base = Path(tempfile.mkdtemp(prefix="tr-", dir="/tmp"))
    directory = base / "tractor"
    directory.mkdir(mode=0o700)
    monkeypatch.setattr(_uds_leftovers, "runtime_dir_path", lambda: directory)
    yield directory
    shutil.rmtree(base)


def left_over(path: Path) -> Path:
    """A socket file on which nobody listens any more."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
    return path


def refusal(path: Path) -> OSError:
    removed, ((_, error),) = reap_uds([path])
    assert removed == []
    return error


@pytest.mark.parametrize("name", ["worker", "worker-1a2b3c", "actor.0123456789abcdef", "a@b"])
def test_a_dead_actors_file_is_removed(runtime_dir: Path, name: str) -> None:
    path = left_over(runtime_dir / f"{name}@{DEAD}.sock")
    assert find_orphaned_uds() == [path]
    assert path.exists()
    assert reap_uds([path, str(path)]) == ([path], [])
    assert list(runtime_dir.iterdir()) == []


def test_subdirectories_are_looked_into(runtime_dir: Path) -> None:
    (runtime_dir / "mine" / "own").mkdir(parents=True, mode=0o700)
    path = left_over(runtime_dir / "mine" / "own" / f"a@{DEAD}.sock")
    assert find_orphaned_uds() == [path]
    assert reap_uds([path]) == ([path], [])


def test_no_directory_no_files(runtime_dir: Path) -> None:
    assert find_orphaned_uds(runtime_dir / "none") == []
    runtime_dir.rmdir()
    assert find_orphaned_uds() == []
    assert not runtime_dir.exists()
    runtime_dir.mkdir()


def test_another_directory(runtime_dir: Path) -> None:
    elsewhere = runtime_dir.parent / "else"
    elsewhere.mkdir(mode=0o755)
    path = left_over(elsewhere / f"a@{DEAD}.sock")
    assert find_orphaned_uds() == []
    assert find_orphaned_uds(str(elsewhere)) == [path]
    assert reap_uds([path]) == ([path], [])


def test_a_living_process_keeps_its_file(runtime_dir: Path) -> None:
    path = left_over(runtime_dir / f"a@{os.getpid()}.sock")
    assert find_orphaned_uds() == []
    assert f"process {os.getpid()} lives" in str(refusal(path))
    assert path.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="start times")
def test_a_process_that_is_younger_than_the_file_did_not_make_it(runtime_dir: Path) -> None:
    path = left_over(runtime_dir / f"a@{os.getpid()}.sock")
    os.utime(path, (0, 0))
    assert find_orphaned_uds() == [path]
    assert reap_uds([path]) == ([path], [])


@pytest.mark.parametrize("name", [f"a@{DEAD}.sock", "registry@1616.sock"])
def test_a_file_that_accepts_is_never_removed(runtime_dir: Path, name: str) -> None:
    path = runtime_dir / name
    with bind_uds(UDSAddress(str(runtime_dir), name)) as listener:
        assert find_orphaned_uds() == []
        assert "something answers" in str(refusal(path))
        assert path.exists()
        # Nor one whose queue of connections is full, as a stopped actor's may be.
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two:
            for sock in (one, two):
                sock.setblocking(False)
                sock.connect_ex(str(path))
            assert find_orphaned_uds() == []
    assert find_orphaned_uds() == [path]
    assert reap_uds([path]) == ([path], [])


def test_the_registrys_number_is_no_pid(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_uds_leftovers, "_made_by_living", lambda pid, made: True)
    registry = left_over(runtime_dir / "registry@1616.sock")
    left_over(runtime_dir / "other@1616.sock")
    assert find_orphaned_uds() == [registry]


@pytest.mark.parametrize(
    "name",
    [
        "a.sock",
        f"a@{DEAD}",
        f"a@{DEAD}.sock.bak",
        f"@{DEAD}.sock",
        "a@0.sock",
        "a@-5.sock",
        "a@x.sock",
        "a@.sock",
        "a@99999999999.sock",
    ],
)
def test_foreign_names_are_left_alone(runtime_dir: Path, name: str) -> None:
    path = left_over(runtime_dir / name)
    assert find_orphaned_uds() == []
    assert isinstance(refusal(path), PermissionError)
    assert path.exists()


def test_what_is_no_socket_is_left_alone(runtime_dir: Path) -> None:
    outside = left_over(runtime_dir.parent / f"out@{DEAD}.sock")
    names = {}
    for kind in ("file", "fifo", "folder", "link", "dangling"):
        names[kind] = runtime_dir / f"{kind}@{DEAD}.sock"
    names["file"].write_text("mine")
    os.mkfifo(names["fifo"])
    names["folder"].mkdir()
    names["link"].symlink_to(outside)
    names["dangling"].symlink_to("nowhere")
    (runtime_dir / "linked").symlink_to(runtime_dir.parent)
    assert find_orphaned_uds() == []
    for path in names.values():
        assert isinstance(refusal(path), PermissionError)
        assert os.path.lexists(path)
    assert outside.exists()


def test_a_file_that_is_gone(runtime_dir: Path) -> None:
    assert isinstance(refusal(runtime_dir / f"a@{DEAD}.sock"), FileNotFoundError)
    assert isinstance(refusal(runtime_dir / "no" / f"a@{DEAD}.sock"), FileNotFoundError)


def test_directories_that_others_may_write_to_are_left_alone(runtime_dir: Path) -> None:
    path = left_over(runtime_dir / f"a@{DEAD}.sock")
    link = runtime_dir.parent / "link"
    link.symlink_to(runtime_dir)
    with pytest.raises(PermissionError, match="symlink"):
        find_orphaned_uds(link)
    assert isinstance(refusal(link / path.name), PermissionError)
    runtime_dir.chmod(0o722)
    with pytest.raises(PermissionError, match="others may write"):
        find_orphaned_uds()
    assert isinstance(refusal(path), PermissionError)
    assert path.exists()


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs a second user")
def test_other_users_files_and_directories_are_left_alone(runtime_dir: Path) -> None:
    foreign = left_over(runtime_dir / f"a@{DEAD}.sock")
    os.chown(foreign, 65534, 65534)
    folder = runtime_dir / "folder"
    folder.mkdir(mode=0o700)
    inside = left_over(folder / f"b@{DEAD}.sock")
    os.chown(folder, 65534, 65534)
    assert find_orphaned_uds() == []
    assert "belongs to uid 65534" in str(refusal(foreign))
    assert "belongs to uid 65534" in str(refusal(inside))
    os.chown(runtime_dir, 65534, 65534)
    with pytest.raises(PermissionError, match="belongs to uid 65534"):
        find_orphaned_uds()
    assert foreign.exists()
    assert inside.exists()


def test_who_is_binding_is_waited_for_but_not_for_ever(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = left_over(runtime_dir / f"a@{DEAD}.sock")
    monkeypatch.setattr(_uds_leftovers, "REAP_LOCK_TIMEOUT", 0.05)
    fd = os.open(runtime_dir, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        error = refusal(path)
        assert isinstance(error, TimeoutError)
        assert error.errno == errno.ETIMEDOUT
        assert path.exists()
        threading.Timer(0.01, fcntl.flock, (fd, fcntl.LOCK_UN)).start()
        monkeypatch.setattr(_uds_leftovers, "REAP_LOCK_TIMEOUT", 20)
        assert reap_uds([path]) == ([path], [])
    finally:
        os.close(fd)


def test_an_actor_that_binds_meanwhile_keeps_its_file(runtime_dir: Path) -> None:
    addr = UDSAddress(str(runtime_dir), f"a@{DEAD}.sock")
    over = threading.Event()
    reaped: list[Path] = []

    def keep_reaping() -> None:
        while not over.is_set():
            reaped.extend(reap_uds([addr.sockpath])[0])

    thread = threading.Thread(target=keep_reaping)
    thread.start()
    try:
        for _ in range(300):
            # Leaves the file, as a process that was killed.
            with bind_uds(addr), socket.socket(socket.AF_UNIX) as peer:
                peer.connect(str(addr.sockpath))
    finally:
        over.set()
        thread.join()
    assert reaped


def test_a_fork_that_kept_the_listener_is_in_use(runtime_dir: Path) -> None:
    path = runtime_dir / f"a@{DEAD}.sock"
    listener = bind_uds(UDSAddress(str(runtime_dir), path.name))
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[listener.fileno()]) as cat:
        listener.close()
        assert find_orphaned_uds() == []
        assert "something answers" in str(refusal(path))
        cat.kill()
    assert find_orphaned_uds() == [path]
