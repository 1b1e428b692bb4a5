"""Facts about the machine and the set-up, which belong to every figure."""

from __future__ import annotations

import gc
import importlib.util
import os
import platform
import sys
from pathlib import Path

import msgspec
import trio

import tractor

__all__ = ["byte_code", "facts", "load"]


def facts() -> dict[str, str]:
    """By name, for people and for JSON."""
    return {
        "machine": f"{_cpu_model()}, {os.cpu_count()} CPUs ({_usable_cpus()} usable)",
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": f"tractor {tractor.__version__}, trio {trio.__version__}, msgspec {msgspec.__version__}",
        "gc": f"{'on' if gc.isenabled() else 'off'}, thresholds {gc.get_threshold()}, in every process",
        "PYTHONDONTWRITEBYTECODE": os.environ.get("PYTHONDONTWRITEBYTECODE", "unset"),
        "byte code": byte_code(),
    }


def byte_code() -> str:
    """How many modules of tractor have theirs in a file; the others are compiled in every process."""
    assert tractor.__file__ is not None
    sources = sorted(Path(tractor.__file__).parent.rglob("*.py"))
    compiled = [s for s in sources if Path(importlib.util.cache_from_source(str(s))).exists()]
    return f"{len(compiled)} of {len(sources)} modules of tractor have a .pyc"


def load() -> str:
    """The load average of the last minute; what else runs here counts against both sides."""
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
