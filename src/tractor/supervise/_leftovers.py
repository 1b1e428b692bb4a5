"""What processes leave behind that could not tidy up: socket files, shared memory, processes of their own.

Nothing is removed that may be another's.  A file is the one that was seen when its owner said where it listens (same
inode, same time of change), or has a name that only its owner gives; and nothing answers at it any more.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import trio

from tractor import log as _log
from tractor._proto.deadlines import CLOSING_TIME, DELIVERY_TIMEOUT, DESCENDANTS_TIMEOUT
from tractor.address._types import HAS_UDS, UDSAddress, UnwrappedAddress
from tractor.ipc._chan import Channel
from tractor.ipc._debug_sock import user_sock_paths
from tractor.process._dirs import has_shm_records
from tractor.process._file_mark import FileMark, file_mark
from tractor.process._stat import ProcessId, is_below, kill_process
from tractor.process._wait_pids import pid_alive, wait_pids_gone
from tractor.process.sentinel._sentinel import stand_down
from tractor.runtime._actor import Actor
from tractor.transport._addresses import wrap_address
from tractor.transport._uds_leftovers import SOCKET_NAME, answers, own_file_mark, remove_if_dead

log = _log.get_logger()

QUIET = 0.1
"""Seconds without a message after which all that has come from a lost host was read."""


def socket_files(addrs: Iterable[UnwrappedAddress]) -> list[Path]:
    """The socket files among addresses."""
    wrapped = [wrap_address(addr) for addr in addrs]
    return [addr.sockpath for addr in wrapped if isinstance(addr, UDSAddress)]


def marks_of(
    told: Iterable[UnwrappedAddress], given: Iterable[UnwrappedAddress], pid: int | None
) -> dict[Path, FileMark]:
    """Of the socket files that a child says it listens at those that it may have made, and what tells each from others.

    Those are the files at paths that it was given, and those in a directory of ours with its pid in the name.

    Args:
        told: where it says that it listens.
        given: where it was to listen.
        pid: its process; ``None``: it has none.
    """
    wanted = socket_files(given)
    marks = {
        path: file_mark(path) if path in wanted else _own_mark(path, pid)
        for path in socket_files(told)
    }
    return {path: mark for path, mark in marks.items() if mark is not None}


def _own_mark(path: Path, own: int | None) -> FileMark | None:
    named = SOCKET_NAME.fullmatch(path.name)
    if named is None or own is None:
        return None
    pid = int(named["pid"])
    if pid != own and not is_below(ProcessId.of(pid), own):
        return None
    return own_file_mark(path)


def remove_files(
    marks: Mapping[Path, FileMark] | None,
    given: Iterable[UnwrappedAddress],
    name: str,
    pid: int,
    held: bool,
) -> None:
    """Remove the socket files that a dead child could not remove itself.

    Args:
        marks: those at which it has listened, and what tells each from one that another has put there meanwhile;
            ``None``: it has not come to say where it listens.
        given: where it was to listen.
        name, pid: the actor's.
        held: it was not a process of its own, and may hold open what it has listened at.
    """
    if not HAS_UDS:
        return
    found = dict(marks or {})
    if marks is None:
        paths = socket_files(given)
        if not given:
            spare = UDSAddress.def_bindspace
            paths = [Path(spare) / UDSAddress.get_sockname(name, pid, spare)]
        found = {path: mark for path in paths if (mark := file_mark(path)) is not None}
    if pid != os.getpid():
        for path in user_sock_paths(name, pid):
            if (own := own_file_mark(path)) is not None:
                found[path] = own
    for path, mark in found.items():
        # What answers is another actor's: a child may be given an address that is taken.
        if file_mark(path) == mark and ((held and marks is not None) or not answers(str(path))):
            with contextlib.suppress(OSError):
                os.unlink(path)


async def end_channel(actor: Actor, chan: Channel, host_lost: bool = False) -> bool:
    """Wait until all that came over a dead child's channel is delivered; ``False``: it had to be closed here.

    It stays open if the actor was not a process of its own, and was abandoned; or if its host is lost: then what has
    come is delivered once nothing is read any more.
    """
    heard = -1
    with trio.move_on_after(DELIVERY_TIMEOUT):
        while not host_lost or chan.transport.received != heard:
            heard = chan.transport.received
            with trio.move_on_after(QUIET if host_lost else math.inf):
                await actor.ipc_server.wait_for_departure(chan)
                return True
    if not host_lost:
        log.warning(
            "the channel to %s was still open %s s after its end", chan.peer, DELIVERY_TIMEOUT
        )
    chan.abort()
    with trio.move_on_after(DELIVERY_TIMEOUT):
        # Those who wait in its dialogs are told before the nursery cancels its block.
        await actor.ipc_server.wait_for_departure(chan)
    return False


async def end_descendants(descendants: Mapping[int, ProcessId], whose: str) -> None:
    """Wait for the end of what is below a dead process, which follows from the loss of a parent; else kill it.

    Args:
        descendants: processes of this host, by their pids.
        whose: that process, for the log.
    """
    started = {pid: one.start_time for pid, one in descendants.items()}
    left = await wait_pids_gone(started, DESCENDANTS_TIMEOUT)
    for pid in left:
        if pid_alive(pid, started[pid]):
            log.error("#T-800 deployed to collect zombie B0: pid %s, below %s", pid, whose)
            kill_process(descendants[pid])
    if left:
        await wait_pids_gone({pid: started[pid] for pid in left}, DESCENDANTS_TIMEOUT)
    remove_segments(descendants)
    await _remove_sockets(descendants)


def remove_segments(pids: Iterable[int]) -> None:
    """Remove the shared memory that dead processes could not, by the record; who has it mapped keeps it."""
    for pid in pids:
        # A sub-interpreter's is this very process.
        if pid != os.getpid() and has_shm_records(pid):
            from tractor.shm._segment import remove_segments_of

            remove_segments_of(pid)


async def _remove_sockets(pids: Iterable[int]) -> None:
    """Remove the socket files of dead processes, if their names are those that actors choose by themselves.

    Their sentinels do so, but may have been killed, too.
    """
    if not HAS_UDS:
        return
    # A sub-interpreter's pid is that of this very process.
    dead = [pid for pid in pids if pid != os.getpid()]
    space = Path(UDSAddress.def_bindspace)
    # Those for users are in directories of their own.
    names = [name for pid in dead for name in (f"*@{pid}.sock", f"*/*@{pid}.sock")]
    paths = [path for name in names for path in space.glob(name)]
    marks = {path: mark for path in paths if (mark := own_file_mark(path)) is not None}
    with trio.move_on_after(CLOSING_TIME, shield=True):
        while marks := {p: mark for p, mark in marks.items() if not remove_if_dead(p, mark)}:
            # A process of several threads counts as dead a moment before the last of them has let go of its sockets.
            # One that goes on to answer is another pid namespace's, in which the number is another process's.
            await trio.sleep(0.01)


def end_sentinel(actor: Actor) -> None:
    """End the actor's sentinel if it has no subactor left; called when a nursery is left."""
    if not actor.children and (pid := stand_down()) is not None:
        actor.report_descendants(gone=[pid])
