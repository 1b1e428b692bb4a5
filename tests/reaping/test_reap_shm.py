"""Which shared memory segments are removed, and which never."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tractor.process import _dirs
from tractor.process.host._host_id import host_id
from tractor.reaping import _segment
from tractor.reaping._segment import SegmentHeldError, procstat_holders
from tractor.shm._record import SegmentRecord, add_record, list_records, remove_record
from tractor.testing import find_orphaned_shm, reap_shm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="segments are files on Linux only")

DEAD = 2_000_000_000
SHM = Path("/dev/shm")


@pytest.fixture(autouse=True)
def runtime_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(prefix="tr-"))
    directory = base / "tractor"
    for module in ("shm._record", "process._dirs"):
        monkeypatch.setattr(f"tractor.{module}.runtime_dir_path", lambda: directory)
    before = set(os.listdir(SHM))
    yield directory
    shutil.rmtree(base)
    for name in set(os.listdir(SHM)) - before:
        if name.startswith("tr-test-"):
            (SHM / name).unlink()


def segment(owner: int | None = DEAD, key: str | None = None) -> tuple[str, SegmentRecord | None]:
    """A segment that nobody holds, and its record unless *owner* is `None`."""
    key = key or f"tr-test-{secrets.token_hex(6)}"
    fd = os.open(SHM / key, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(fd, 4096)
        return key, None if owner is None else add_record(key, fd, owner)
    finally:
        os.close(fd)


def refusal(key: str) -> OSError:
    removed, ((_, error),) = reap_shm([key])
    assert removed == []
    return error


def exists(key: str) -> bool:
    return (SHM / key).exists()


def test_a_dead_actors_segment_is_removed() -> None:
    key, _ = segment()
    assert find_orphaned_shm() == [key]
    assert exists(key)
    assert len(list_records()) == 1
    assert reap_shm([key, f"/{key}"]) == ([key], [])
    assert not exists(key)
    assert list_records() == []


def test_the_segment_of_a_program_that_was_killed() -> None:
    code = (
        "import os, sys\n"
        "from tractor.shm._record import add_record\n"
        "fd = os.open('/dev/shm/' + sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)\n"
        "add_record(sys.argv[1], fd)\n"
        "print(flush=True); sys.stdin.read()"
    )
    key = f"tr-test-{secrets.token_hex(6)}"
    base = _dirs.runtime_dir_path().parent
    with subprocess.Popen(
        [sys.executable, "-c", code, key],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "XDG_RUNTIME_DIR": str(base)},
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"\n"
        assert [record.pid for record in list_records()] == [owner.pid]
        assert find_orphaned_shm() == []
        error = refusal(key)
        assert "lives" in str(error)
        owner.kill()
    assert find_orphaned_shm() == [key]
    assert reap_shm([key]) == ([key], [])


def test_segments_of_other_programs_are_left_alone() -> None:
    ours, _ = segment()
    theirs, _ = segment(owner=None)
    code = (
        "import sys\n"
        "from multiprocessing import resource_tracker, shared_memory\n"
        "block = shared_memory.SharedMemory(sys.argv[1], create=True, size=64)\n"
        "resource_tracker.unregister(block._name, 'shared_memory')"
    )
    pythons = f"tr-test-{secrets.token_hex(6)}"
    subprocess.run([sys.executable, "-c", code, pythons], check=True)
    assert find_orphaned_shm() == [ours]
    for key in (theirs, pythons):
        assert isinstance(refusal(key), FileNotFoundError)
        assert exists(key)


def test_a_segment_of_another_program_under_a_recorded_key_is_left_alone() -> None:
    key, record = segment()
    (SHM / key).unlink()
    filler, _ = segment(owner=None)
    segment(owner=None, key=key)
    assert record is not None
    assert (SHM / key).stat().st_ino != record.inode
    assert find_orphaned_shm() == []
    assert "not the segment that was recorded" in str(refusal(key))
    assert exists(key)
    assert exists(filler)


@contextlib.contextmanager
def opened(key: str, flags: int) -> Iterator[None]:
    fd = os.open(SHM / key, flags)
    try:
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def mapped(key: str, access: int) -> Iterator[None]:
    with open(SHM / key, "r+b") as file, mmap.mmap(file.fileno(), 4096, access=access):
        yield


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
def test_a_segment_that_this_process_has_open_is_left_alone(flags: int) -> None:
    key, _ = segment()
    with opened(key, flags):
        assert find_orphaned_shm() == []
        assert f"held by process {os.getpid()}" in str(refusal(key))
    assert find_orphaned_shm() == [key]


HOLDER = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
fd = os.open('/dev/shm/' + sys.argv[1], os.O_RDWR)
if 'mapped' in sys.argv:
    assert libc.mmap(None, 4096, 1, 1, fd, ctypes.c_long(0)) != ctypes.c_void_p(-1).value
    os.close(fd)
print(flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def holder(key: str, way: str) -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-S", "-c", HOLDER, key, way], stdin=-1, stdout=-1
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield process.pid
        process.kill()


@pytest.mark.parametrize("way", ["open", "mapped"])
def test_a_segment_that_another_process_holds_is_left_alone(way: str) -> None:
    key, _ = segment()
    with holder(key, way) as pid:
        assert find_orphaned_shm() == []
        error = refusal(key)
        assert isinstance(error, SegmentHeldError)
        assert error.errno == errno.EBUSY
        assert f"held by process {pid}" in str(error)
        assert exists(key)
    assert reap_shm([key]) == ([key], [])


@pytest.mark.parametrize("way", ["open", "mapped"])
def test_so_is_one_whose_holder_can_not_be_seen(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Say another user's, or a container's.
    monkeypatch.setattr(_segment, "_linux_holders", lambda record: [])
    key, _ = segment()
    with holder(key, way):
        assert find_orphaned_shm() == []
        assert "can't be seen" in str(refusal(key))
        assert exists(key)
    assert reap_shm([key]) == ([key], [])


def test_without_leases_the_look_at_all_processes_must_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, command: int, argument: int = 0) -> int:
        raise OSError(errno.EINVAL, "no leases here")

    with monkeypatch.context() as patch:
        patch.setattr(
            fcntl, "fcntl", lambda fd, cmd, arg=0: cmd == fcntl.F_SETLEASE and refuse(fd, cmd)
        )
        key, _ = segment()
        with holder(key, "mapped"):
            assert find_orphaned_shm() == []
        assert reap_shm([key]) == ([key], [])


def test_nobody_can_open_it_between_the_check_and_its_removal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key, _ = segment()
    late: list[int] = []
    unlink = os.unlink

    def attach_and_unlink(path: Path) -> None:
        if path == SHM / key:
            with pytest.raises(BlockingIOError):
                late.append(os.open(path, os.O_RDWR | os.O_NONBLOCK))
        unlink(path)

    monkeypatch.setattr(os, "unlink", attach_and_unlink)
    assert reap_shm([key]) == ([key], [])
    assert late == []
    assert not exists(key)


def test_one_that_was_handed_over_has_two_owners() -> None:
    key, _ = segment()
    with opened(key, os.O_RDWR):
        fd = os.open(SHM / key, os.O_RDWR)
        add_record(key, fd)
        os.close(fd)
    assert find_orphaned_shm() == []
    assert f"process {os.getpid()}, lives" in str(refusal(key))
    assert exists(key)


def test_a_containers_segment_is_left_alone(runtime_dir: Path) -> None:
    key, record = segment()
    assert record is not None
    remove_record(record)
    theirs = msgspec.structs.replace(record, host=host_id().partition(".")[0] + ".1")
    (runtime_dir / "shm" / theirs.filename).write_bytes(msgspec.json.encode(theirs))
    assert find_orphaned_shm() == []
    assert f"is of another pid namespace, host {theirs.host}" in str(refusal(key))
    (SHM / key).unlink()
    # Nor is its record ours to drop.
    assert reap_shm([]) == ([], [])
    assert list_records() == [theirs]


@pytest.mark.skipif(os.getuid() != 0, reason="needs a second user")
def test_another_users_segment_is_left_alone() -> None:
    key, _ = segment()
    os.chown(SHM / key, 65534, 65534)
    assert find_orphaned_shm() == []
    assert isinstance(refusal(key), PermissionError)
    assert exists(key)


def test_a_link_is_left_alone(tmp_path: Path) -> None:
    key, _ = segment()
    (SHM / key).rename(SHM / f"{key}.moved")
    (SHM / key).symlink_to(SHM / f"{key}.moved")
    assert find_orphaned_shm() == []
    assert isinstance(refusal(key), PermissionError)
    assert exists(f"{key}.moved")


def test_records_of_what_is_gone_are_dropped(runtime_dir: Path) -> None:
    gone, record = segment()
    (SHM / gone).unlink()
    living, _ = segment(owner=os.getpid())
    (SHM / living).unlink()
    draft = runtime_dir / "shm" / f".{host_id()}.{DEAD}.abc"
    draft.write_text("half")
    assert record is not None
    elsewhere = msgspec.structs.replace(record, device=record.device + 1)
    (runtime_dir / "shm" / elsewhere.filename).write_bytes(msgspec.json.encode(elsewhere))
    assert find_orphaned_shm() == []
    assert len(list_records()) == 3
    assert isinstance(refusal(gone), FileNotFoundError)
    assert {(r.key, r.device) for r in list_records()} == {
        (living, record.device),
        (gone, elsewhere.device),
    }
    assert not draft.exists()


def test_keys_that_lead_elsewhere(runtime_dir: Path) -> None:
    key, _ = segment()
    with pytest.raises(ValueError, match="can't name a segment"):
        reap_shm([key, "../etc/passwd"])
    assert exists(key)


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_nobody_can_tell(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(NotImplementedError, match=platform):
        find_orphaned_shm()
    with pytest.raises(NotImplementedError, match=platform):
        reap_shm([])


def test_freebsds_table() -> None:
    table = (
        "  PID COMM                FD T V FLAGS    REF  OFFSET PRO NAME\n"
        "  812 python3.11        text v r r-------   -       - -   /usr/local/bin/python3.11\n"
        "  812 python3.11           5 h - rw------   1       0 -   /ring\n"
        "  813 a prog               6 v r rw------   1       0 -   /ring\n"
        "  814 python3.11           7 h - rw------   1       0 -   /ring2\n"
        "  815 python3.11           8 h - rw------   1       0 -   ring\n"
    )
    assert list(procstat_holders(table, "ring")) == [812, 815]
