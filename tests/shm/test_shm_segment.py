"""Segments: made, recorded, attached, and removed with their maker, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import ep_shm
import pytest
import trio
from ep_run import run

import tractor
from tractor.ipc import SharedInt
from tractor.shm._record import add_record, list_records
from tractor.shm._segment import Segment, random_key, remove_segments_of, system_name

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /dev/shm"),
    pytest.mark.usefixtures("no_segment_is_left"),
]

KEY = f"{ep_shm.PREFIX}-segment"
SHM = Path("/dev/shm")


def test_what_one_writes_the_other_reads() -> None:
    mine = Segment.create(KEY, 100)
    assert bytes(mine.buf) == bytes(100)
    theirs = Segment.attach(KEY)
    mine.buf[:5] = b"hello"
    assert bytes(theirs.buf[:5]) == b"hello"
    theirs.buf[0:1] = b"H"
    reader = Segment.attach(KEY, readonly=True)
    assert bytes(reader.buf[:5]) == b"Hello"
    with pytest.raises(TypeError, match="read-only"):
        reader.buf[:1] = b"x"
    assert (mine.is_own, theirs.is_own) == (True, False)
    assert (mine.size, theirs.size, mine.name) == (100, 100, KEY)
    for segment in (theirs, reader, mine):
        segment.close()
        segment.close()
        with pytest.raises(ValueError, match="closed on this side"):
            _ = segment.buf
    assert (SHM / KEY).exists()
    mine.unlink()
    mine.unlink()
    assert not (SHM / KEY).exists()


def test_it_is_recorded_and_private() -> None:
    segment = Segment.create(KEY, 5000)
    (record,) = list_records(os.getpid())
    assert (record.key, record.pid) == (KEY, os.getpid())
    assert (SHM / KEY).stat().st_ino == record.inode
    assert (SHM / KEY).stat().st_mode & 0o777 == 0o600
    # Its memory is there: a write never finds out that there is none.
    assert (SHM / KEY).stat().st_blocks * 512 >= 5000
    assert list_records(1) == []
    segment.close()
    segment.unlink()
    assert list_records() == []


def test_what_is_filled_in_is_there_with_the_name() -> None:
    def fill(memory: memoryview) -> None:
        assert not (SHM / KEY).exists()
        memory[:3] = b"abc"

    segment = Segment.create(KEY, 10, fill)
    assert bytes(segment.buf) == b"abc" + bytes(7)
    segment.close()
    segment.unlink()


def test_a_maker_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(_: memoryview) -> None:
        raise KeyError("no")

    with pytest.raises(KeyError):
        Segment.create(KEY, 10, fill)
    with pytest.raises(OSError, match=r"No space|allocate|too large"):
        Segment.create(KEY, 2**60)
    segment = Segment.create(KEY, 10)
    with pytest.raises(FileExistsError, match="attach to it, or choose another key"):
        Segment.create(KEY, 10)
    assert len(list_records()) == 1
    segment.close()
    segment.unlink()


@pytest.mark.parametrize("key", ["", "a/b", "..", "n\0l", "x" * 256])
def test_keys_that_can_name_nothing(key: str) -> None:
    with pytest.raises(ValueError, match="can't name a segment"):
        Segment.create(key, 1)
    with pytest.raises(ValueError, match="can't name a segment"):
        Segment.attach(key)


def test_sizes_that_are_none() -> None:
    for size in (0, -1):
        with pytest.raises(ValueError, match=f"at least 1 byte, not {size}"):
            Segment.create(KEY, size)


def test_what_is_no_segment_is_not_attached() -> None:
    with pytest.raises(FileNotFoundError):
        Segment.attach(KEY)
    os.mkfifo(SHM / KEY)
    try:
        with pytest.raises(FileNotFoundError, match="not shared memory"):
            Segment.attach(KEY)
    finally:
        (SHM / KEY).unlink()
    (SHM / KEY).touch(mode=0o600)
    try:
        with pytest.raises(ValueError, match="is empty"):
            Segment.attach(KEY)
    finally:
        (SHM / KEY).unlink()
    (SHM / KEY).symlink_to("/etc/passwd")
    try:
        with pytest.raises(OSError, match="symbolic links"):
            Segment.attach(KEY)
    finally:
        (SHM / KEY).unlink()


def test_a_later_segment_of_that_name_is_left_alone() -> None:
    mine = Segment.create(KEY, 10)
    (SHM / KEY).unlink()
    (SHM / KEY).write_bytes(b"somebody else's")
    try:
        mine.close()
        mine.unlink()
        assert (SHM / KEY).read_bytes() == b"somebody else's"
    finally:
        (SHM / KEY).unlink()


def test_memory_that_is_looked_at_outlives_the_close() -> None:
    segment = Segment.create(KEY, 10)
    view = segment.buf[2:4]
    view[:] = b"ab"
    segment.close()
    segment.unlink()
    assert bytes(view) == b"ab"
    view.release()


def test_who_attached_may_remove_it_if_asked_to() -> None:
    mine = Segment.create(KEY, 10)
    theirs = Segment.attach(KEY)
    theirs.close()
    assert (SHM / KEY).exists()
    theirs.unlink()
    assert not (SHM / KEY).exists()
    assert list_records() == []
    mine.close()
    mine.unlink()


def test_names_on_macos_are_digests_that_fit() -> None:
    names = {system_name(key, "darwin") for key in ("a", "b", "x" * 200)}
    assert len(names) == 3
    assert {len("/" + name) for name in names} == {31}
    assert system_name("a", "darwin") == system_name("/a", "darwin")
    assert system_name("/some-key", "linux") == "some-key"


def test_random_keys_differ() -> None:
    assert random_key("x_") != random_key("x_")
    assert random_key("x_").startswith(f"x_{os.getpid()}_")


def test_an_integer_is_shared() -> None:
    mine = SharedInt.create(KEY, -5)
    theirs = SharedInt.attach(KEY)
    assert theirs.value == -5
    mine.value = 2**62
    assert theirs.value == 2**62
    with pytest.raises(TypeError):
        theirs.value = 1
    theirs.close()
    mine.destroy()
    mine.destroy()
    assert not (SHM / KEY).exists()
    with pytest.raises(ValueError, match="released"):
        _ = mine.value


# -- the maker's end --


def test_they_end_with_the_actor() -> None:
    async def main() -> None:
        outside = Segment.create(KEY + "-outside", 10)
        async with tractor.open_nursery() as an:
            Segment.create(KEY + "-root", 10)
            portal = await an.start_actor("owner", enable_modules=["ep_shm"])
            async with portal.open_context(ep_shm.own_segments, key=KEY) as (ctx, _):
                assert {name for name in os.listdir(SHM) if name.startswith(KEY)} == {
                    KEY + end for end in ("-outside", "-root", "_list", "_plain", "_ring")
                }
                await ctx.cancel()
            await an.cancel()
        assert [name for name in os.listdir(SHM) if name.startswith(KEY)] == [KEY + "-outside"]
        outside.unlink()
        outside.close()

    run(main)


def test_without_a_runtime_they_end_with_the_process() -> None:
    program = f"""
        from multiprocessing import resource_tracker
        from tractor.ipc import open_shm_list
        kept = open_shm_list({KEY!r}, size=10)
        open('/dev/shm/' + kept.key).close()
        assert resource_tracker._resource_tracker._pid is None
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert not (SHM / KEY).exists()


def test_a_fork_of_the_maker_removes_nothing() -> None:
    program = f"""
        import os, sys
        from tractor.shm._segment import Segment
        kept = Segment.create({KEY!r}, 10)
        if os.fork() == 0:
            sys.exit()
        os.wait()
        assert os.path.exists('/dev/shm/{KEY}')
    """
    code = textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert not (SHM / KEY).exists()


def test_of_a_killed_actor_its_nursery_removes_them() -> None:
    async def main() -> None:
        with pytest.raises(tractor.ActorFailure, match="SIGKILL"):
            await _kill_owner()
        assert [name for name in os.listdir(SHM) if name.startswith(KEY)] == []

    run(main)


async def _kill_owner() -> None:
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("owner", enable_modules=["ep_shm"])
        with pytest.raises(tractor.TransportClosed):
            await _open_and_kill(portal)


async def _open_and_kill(portal: tractor.Portal) -> None:
    async with portal.open_context(ep_shm.own_segments, key=KEY) as (_, pid):
        # Who has it mapped keeps it.
        kept = Segment.attach(KEY + "_plain")
        os.kill(pid, signal.SIGKILL)
        try:
            await trio.sleep_forever()
        finally:
            kept.buf[:1] = b"x"
            kept.close()


def test_only_what_the_dead_have_left_is_removed() -> None:
    mine = Segment.create(KEY, 10)
    assert remove_segments_of(os.getpid()) == []
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        # Recorded while it lived: its start time is known.
        with open(SHM / (KEY + "-dead"), "xb") as file:
            file.write(b"x")
            add_record(KEY + "-dead", file.fileno(), dead.pid)
        with open(SHM / (KEY + "-replaced"), "xb") as file:
            add_record(KEY + "-replaced", file.fileno(), dead.pid)
        (SHM / (KEY + "-replaced")).unlink()
        (SHM / (KEY + "-replaced")).write_bytes(b"another one")
    try:
        assert remove_segments_of(dead.pid) == [KEY + "-dead"]
        assert not (SHM / (KEY + "-dead")).exists()
        assert (SHM / (KEY + "-replaced")).exists()
        assert [record.key for record in list_records()] == [KEY]
    finally:
        (SHM / (KEY + "-replaced")).unlink()
    mine.close()
    mine.unlink()


# -- all at once --


def test_a_short_storm() -> None:
    script = Path(__file__).with_name("shm_storm.py")
    done = subprocess.run(
        [sys.executable, str(script), "--runs", "4", "--seed", "7"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
