"""Which host this process is on: pids, paths of socket files, loopback addresses and clocks are its own alone.

A host is one run of one machine, seen from one pid namespace: two containers on a machine are two hosts, and so is the
same machine before and after it has booted.  Each acts on its own: no signal, no unlink and no connection for what
another one's id stands at, whoever says so.
"""

from __future__ import annotations

from typing import TypeAlias

from tractor.process._at_fork import on_fork
from tractor.process._state import ProcessVar
from tractor.process.host._find_host_id import SEAM as SEAM
from tractor.process.host._find_host_id import find_host_id

HostId: TypeAlias = str
"""``'<boot>.<space>'``, at most 25 characters: 16 hexadecimal digits, then the pid namespace's number, hexadecimal.

The digits are a digest, so that what identifies the machine goes to no peer.
"""

_own: ProcessVar[HostId | None] = ProcessVar(lambda: None)


def host_id() -> HostId:
    """The id of the host that this process is on; looked up once in a process.

    Where the system tells no run of the machine (no ``/proc`` on Linux), the machine's id and name stand for it, and
    where it tells no pid namespace, 0 does.  Nothing is lost by that: where ``/proc`` tells nothing, no start time of
    a process is known, and without one no process that somebody tells of is signalled.
    """
    own = _own.value
    if own is None:
        own = _own.value = find_host_id()
    return own


def pid_space() -> int:
    """The number of this process's pid namespace; 0: there are none, or it is not known."""
    return int(host_id().rpartition(".")[2], 16)


def is_here(host: HostId | None) -> bool:
    """Whether an id is this host's.  ``None`` is nobody's id, and counts as this one's: who says none says nothing."""
    return host is None or host == host_id()


def is_same_boot(host: HostId) -> bool:
    """Whether it is a host of this machine's own kernel, as it runs now: this one, or another pid namespace."""
    return host.rpartition(".")[0] == host_id().rpartition(".")[0]


# By `unshare()` or `setns()` a process stays in its namespace, and only what it forks off is in another one.
on_fork(_own.renew, always=True)
