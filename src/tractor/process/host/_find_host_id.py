"""Finding out which host this process is on; see :mod:`tractor.process.host._host_id`.

It is sent to other hosts with the agent, and so imports the standard library alone.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys

SEAM = "_TRACTOR_TEST_HOST"
"""A variable for tests of this package alone: an id that a process takes for its own."""


def find_host_id() -> str:
    """The id of the host that this process is on, looked up anew."""
    return os.environ.get(SEAM) or f"{_digest(_boot())}.{_pid_space():x}"


def _read(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def _digest(text: str) -> str:
    return hashlib.blake2s(text.encode(), digest_size=8).hexdigest()


def _boot() -> str:
    """What tells this run of this machine from every other; never empty."""
    found = ""
    try:
        if sys.platform == "linux":
            found = _read("/proc/sys/kernel/random/boot_id")
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
            if text := _read(path):
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
