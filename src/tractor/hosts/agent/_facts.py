"""What an agent tells of its host, and the clock that its lease runs by."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import time
from typing import Any

from tractor._util.dist._name import RECORD
from tractor.process._proc import ON_LINUX, read_stat
from tractor.process.host._find_host_id import find_host_id


def lease_clock() -> float:
    """Seconds by a clock that goes on while the machine is suspended: the other side waits no longer for that.

    Else a laptop that wakes up after an hour would run what its parent has long counted as ended.
    """
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        # There it counts, and `time.monotonic()` does not.
        return time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.monotonic()


def start_time(pid: int) -> float | None:
    """When a process started, in seconds after the boot; ``None``: nothing tells."""
    if ON_LINUX:
        with contextlib.suppress(OSError, ValueError, IndexError):
            return read_stat(pid).start_time
    return None


def facts() -> dict[str, Any]:
    """The fields of an agent's ``hello``."""
    return {
        "tractor": found_version(RECORD),
        "python": ".".join(map(str, sys.version_info[:3])),
        "msgspec": found_version("msgspec"),
        "host": find_host_id(),
        "pid": os.getpid(),
        "start": start_time(os.getpid()),
        "hostname": _node(),
        "cores": _cores(),
        "memory": _pages("SC_PHYS_PAGES"),
        "free_memory": _free_memory(),
        "clock": time.time(),
        "cwd": _cwd(),
    }


def found_version(package: str) -> str | None:
    """The version of an installed distribution, which is not imported; ``None``: not found.

    :mod:`importlib.metadata` takes as long to import as all else here together, so the usual place is looked at first.
    """
    for folder in sys.path:
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                if name.startswith(f"{package}-") and name.endswith((".dist-info", ".egg-info")):
                    for file in ("METADATA", "PKG-INFO"):
                        version = _version_in(os.path.join(folder, name, file))
                        if version is not None:
                            return version
    if not any(map(os.path.isfile, sys.path)):
        # No archives, where only that one looks.
        return None
    try:
        version = importlib.import_module("importlib.metadata").version(package)
    except Exception:
        # None, or one whose record is damaged.
        return None
    return version if isinstance(version, str) else None


def _version_in(path: str) -> str | None:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("Version:"):
                return line.partition(":")[2].strip()
            if not line.strip():
                break
    return None


def _node() -> str:
    if sys.platform == "win32":
        raise NotImplementedError
    return os.uname().nodename


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _pages(name: str) -> int | None:
    if sys.platform != "win32":
        with contextlib.suppress(ValueError, OSError):
            return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")
    return None


def _free_memory() -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return _pages("SC_AVPHYS_PAGES")


def _cwd() -> str | None:
    with contextlib.suppress(OSError):
        return os.getcwd()
    return None
