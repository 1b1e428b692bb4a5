"""Which host this process is on: pids, paths of socket files, loopback addresses and clocks are its own alone.

A host is one run of one machine, seen from one pid namespace: two containers on a machine are two hosts, and so is the
same machine before and after it has booted.  Each acts on its own: no signal, no unlink and no connection for what
another one's id stands at, whoever says so.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from pathlib import Path
from typing import TypeAlias

from tractor.process._at_fork import on_fork
from tractor.process._state import ProcessVar

HostId: TypeAlias = str
"""``'<boot>.<space>'``, at most 25 characters: 16 hexadecimal digits, then the pid namespace's number, hexadecimal.

The digits are a digest, so that what identifies the machine goes to no peer.
"""

SEAM = "_TRACTOR_TEST_HOST"
"""A variable for tests of this package alone: an id that a process takes for its own."""

_own: ProcessVar[HostId | None] = ProcessVar(lambda: None)


def host_id() -> HostId:
    """The id of the host that this process is on; looked up once in a process.

    Where the system tells no run of the machine (no ``/proc`` on Linux), the machine's id and name stand for it, and
    where it tells no pid namespace, 0 does.  Nothing is lost by that: where ``/proc`` tells nothing, no start time of
    a process is known, and without one no process that somebody tells of is signalled.
    """
    own = _own.value
    if own is None:
        own = _own.value = os.environ.get(SEAM) or f"{_digest(_boot())}.{_pid_space():x}"
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


def _digest(text: str) -> str:
    return hashlib.blake2s(text.encode(), digest_size=8).hexdigest()


def _boot() -> str:
    """What tells this run of this machine from every other; never empty."""
    found = ""
    try:
        if sys.platform == "linux":
            found = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        elif sys.platform == "win32":
            found = _windows_boot()
        else:
            found = _bsd_boot()
    except (OSError, ValueError, AttributeError):
        found = ""
    return found or _machine()


def _machine() -> str:
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id", "/etc/hostid"):
        try:
            if text := Path(path).read_text().strip():
                return f"{text} {socket.gethostname()}"
        except (OSError, ValueError):
            continue
    return socket.gethostname() or "unknown"


def _bsd_boot() -> str:
    """Of macOS the id of the boot; of the BSDs the host's id and the time of the boot."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def read(name: str) -> bytes:
        size = ctypes.c_size_t(256)
        buffer = ctypes.create_string_buffer(size.value)
        if libc.sysctlbyname(name.encode(), buffer, ctypes.byref(size), None, ctypes.c_size_t(0)):
            return b""
        return buffer.raw[: size.value].rstrip(b"\0")

    session = read("kern.bootsessionuuid")
    if session:
        return session.decode("ascii", "replace")
    return f"{read('kern.hostuuid').hex()} {read('kern.boottime')[:8].hex()}".strip()


def _windows_boot() -> str:
    """The machine's id and the number of the boot, from the registry."""
    if sys.platform != "win32":
        raise NotImplementedError
    import winreg

    def read(path: str, name: str) -> object:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:
            return winreg.QueryValueEx(key, name)[0]

    memory = r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management"
    machine = read(r"SOFTWARE\Microsoft\Cryptography", "MachineGuid")
    boot = read(memory + r"\PrefetchParameters", "BootId")
    return f"{machine} {boot}"


def _pid_space() -> int:
    if sys.platform != "linux":
        return 0
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0
