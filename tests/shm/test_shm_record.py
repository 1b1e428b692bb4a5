"""The record of shared memory segments."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tractor.process.host._host_id import host_id
from tractor.shm._record import (
    SegmentRecord,
    add_record,
    checked_key,
    list_records,
    owner_alive,
    remove_drafts,
    remove_record,
)

posix = pytest.mark.skipif(os.name != "posix", reason="users and links")
DEAD = 2_000_000_000


@pytest.fixture(autouse=True)
def runtime_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(prefix="tr-"))
    directory = base / "tractor"
    for module in ("shm._record", "process._dirs"):
        monkeypatch.setattr(f"tractor.{module}.runtime_dir_path", lambda: directory)
    yield directory
    shutil.rmtree(base)


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "segment", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_added_listed_removed(fd: int, runtime_dir: Path) -> None:
    assert list_records() == []
    assert not runtime_dir.exists()
    record = add_record("/ring", fd)
    info = os.fstat(fd)
    assert record.key == "ring"
    assert record.pid == os.getpid()
    assert (record.device, record.inode) == (info.st_dev, info.st_ino)
    assert list_records() == [record]
    assert [path.name for path in (runtime_dir / "shm").iterdir()] == [record.filename]
    assert remove_record(record)
    assert not remove_record(record)
    assert list_records() == []


def test_several_in_order_and_one_again(fd: int) -> None:
    records = [add_record(key, fd) for key in ("b", "a", "c")]
    assert add_record("a", fd) == records[1]
    assert [record.key for record in list_records()] == ["a", "b", "c"]
    handed_over = add_record("a", fd, DEAD)
    assert handed_over.pid == DEAD
    assert len(list_records()) == 4


def test_two_segments_of_one_key_have_two_records(fd: int, tmp_path: Path) -> None:
    first = add_record("key", fd)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    try:
        second = add_record("key", other)
    finally:
        os.close(other)
    # The first one's owner, late, does not take away the second's.
    assert remove_record(first)
    assert list_records() == [second]


@pytest.mark.parametrize("key", ["a", "/a", "ä" * 127, "a" * 255, "...", "a b\n", "Key"])
def test_keys(key: str, fd: int) -> None:
    record = add_record(key, fd)
    assert record.key == key.removeprefix("/")
    assert list_records() == [record]


@pytest.mark.parametrize(
    "key", ["", "/", ".", "..", "/..", "a/b", "//a", "a\0", "a" * 256, "ä" * 128, "\udc80"]
)
def test_what_names_no_segment(key: str, fd: int, runtime_dir: Path) -> None:
    for attempt in (lambda: checked_key(key), lambda: add_record(key, fd)):
        with pytest.raises(ValueError, match="shared memory key"):
            attempt()
    assert not runtime_dir.exists()


def test_wrong_owner_and_descriptor(fd: int) -> None:
    with pytest.raises(ValueError, match="positive, not 0"):
        add_record("a", fd, 0)
    closed = os.dup(fd)
    os.close(closed)
    with pytest.raises(OSError, match="Bad file"):
        add_record("a", closed)
    assert list_records() == []


def write(runtime_dir: Path, name: str, content: bytes) -> Path:
    folder = runtime_dir / "shm"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    runtime_dir.chmod(0o700)
    path = folder / name
    path.write_bytes(content)
    return path


GOOD = SegmentRecord(key="a", pid=5, device=1, inode=2)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"key": "a"}',
        b'{"key": 1, "pid": 5}',
        b'{"key": "a", "pid": "5"}',
        msgspec.json.encode(GOOD)[:-3],
        msgspec.json.encode(GOOD) + b"x",
        msgspec.json.encode(GOOD) + b" " * 5000,
    ],
)
def test_garbage_is_passed_over(content: bytes, runtime_dir: Path) -> None:
    path = write(runtime_dir, GOOD.filename, content)
    assert list_records() == []
    assert path.exists()


@pytest.mark.parametrize(
    "record",
    [
        SegmentRecord(key="../a", pid=5),
        SegmentRecord(key="/a", pid=5),
        SegmentRecord(key="", pid=5),
        SegmentRecord(key="a", pid=0),
        SegmentRecord(key="a", pid=-5),
        SegmentRecord(key="a", pid=2**31),
    ],
)
def test_impossible_records_are_passed_over(record: SegmentRecord, runtime_dir: Path) -> None:
    write(runtime_dir, record.filename, msgspec.json.encode(record))
    assert list_records() == []


def test_a_record_under_another_name_is_passed_over(runtime_dir: Path) -> None:
    write(runtime_dir, "copy", msgspec.json.encode(GOOD))
    assert list_records() == []
    write(runtime_dir, GOOD.filename, msgspec.json.encode(GOOD))
    assert list_records() == [GOOD]


@posix
def test_links_fifos_and_folders_are_passed_over(runtime_dir: Path) -> None:
    real = write(runtime_dir, "real", msgspec.json.encode(GOOD))
    folder = real.parent
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    (folder / GOOD.filename).symlink_to(real)
    assert list_records() == []


@posix
def test_a_directory_that_others_may_enter_is_not_believed(fd: int, runtime_dir: Path) -> None:
    add_record("a", fd)
    (runtime_dir / "shm").chmod(0o755)
    for attempt in (list_records, remove_drafts, lambda: add_record("b", fd)):
        with pytest.raises(PermissionError, match="0755"):
            attempt()


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs a second user")
def test_another_users_record_is_passed_over(fd: int, runtime_dir: Path) -> None:
    record = add_record("a", fd)
    os.chown(runtime_dir / "shm" / record.filename, 65534, 65534)
    assert list_records() == []


def test_a_write_that_fails_leaves_nothing(
    fd: int, runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            add_record("a", fd)
    assert list((runtime_dir / "shm").iterdir()) == []


def test_drafts_of_the_dead_go_others_stay(runtime_dir: Path) -> None:
    remove_drafts()
    dead = write(runtime_dir, f".{host_id()}.{DEAD}.abc", b"half")
    stay = [
        write(runtime_dir, f".{os.getpid()}.abc", b"half"),
        write(runtime_dir, f".{host_id()}.{os.getpid()}.abc", b"half"),
        write(runtime_dir, f".{host_id().partition('.')[0]}.1.{DEAD}.abc", b"half"),
        write(runtime_dir, ".hidden", b""),
        write(runtime_dir, f"{DEAD}.abc", b""),
        write(runtime_dir, f".{10**30}.abc", b""),
    ]
    assert list_records() == []
    remove_drafts()
    assert not dead.exists()
    assert all(path.exists() for path in stay)


def test_readers_see_whole_records_only(fd: int) -> None:
    over = threading.Event()
    seen = set()

    def keep_reading() -> None:
        while not over.is_set():
            seen.update(list_records())

    thread = threading.Thread(target=keep_reading)
    thread.start()
    wrote = set()
    for _ in range(200):
        record = add_record("key", fd)
        wrote.add(record)
        remove_record(record)
    over.set()
    thread.join()
    assert seen <= wrote


def test_the_owner_lives_while_its_process_does(fd: int) -> None:
    assert owner_alive(add_record("a", fd)) is True
    assert owner_alive(add_record("a", fd, DEAD)) is False
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as cat:
        record = add_record("a", fd, cat.pid)
        assert owner_alive(record) is True
        cat.kill()
        cat.wait()
        assert owner_alive(record) is False


@pytest.mark.skipif(sys.platform != "linux", reason="start times")
def test_a_later_process_with_the_owners_pid_is_not_the_owner(fd: int) -> None:
    record = add_record("a", fd)
    assert record.start_time is not None
    assert not owner_alive(msgspec.structs.replace(record, start_time=record.start_time - 1))


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces")
def test_other_runs_and_containers(fd: int) -> None:
    record = add_record("a", fd)
    assert record.host == host_id()
    # Nobody outlives the machine's restart; of a container's pids nothing is known out here.
    boot = host_id().partition(".")[0]
    assert owner_alive(msgspec.structs.replace(record, host="feed.1")) is False
    assert owner_alive(msgspec.structs.replace(record, host=f"{boot}.1")) is None
