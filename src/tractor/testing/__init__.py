"""Helpers for tests of programs that use tractor; the pytest plugin is `tractor.testing.pytest`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tractor.testing._faults import break_ipc as break_ipc
from tractor.testing._faults import expect_ctxc as expect_ctxc

if TYPE_CHECKING:
    from tractor.testing._addrs import get_rando_addr as get_rando_addr
    from tractor.testing._reap_procs import find_descendants as find_descendants
    from tractor.testing._reap_procs import find_orphans as find_orphans
    from tractor.testing._reap_procs import find_zombies as find_zombies
    from tractor.testing._reap_shm import find_orphaned_shm as find_orphaned_shm
    from tractor.testing._reap_shm import reap_shm as reap_shm
    from tractor.testing._reap_signals import reap as reap
    from tractor.testing._reap_uds import find_orphaned_uds as find_orphaned_uds
    from tractor.testing._reap_uds import reap_uds as reap_uds
    from tractor.testing._runner import tractor_test as tractor_test
    from tractor.testing._samples import examples_dir as examples_dir
    from tractor.testing._samples import generate_sample_messages as generate_sample_messages
    from tractor.testing._samples import mk_cmd as mk_cmd
    from tractor.testing._samples import repodir as repodir
    from tractor.testing._timeouts import AFKAlarmTimeout as AFKAlarmTimeout
    from tractor.testing._timeouts import afk_alarm_w_trace as afk_alarm_w_trace
    from tractor.testing._timeouts import fail_after_w_trace as fail_after_w_trace

# Where each name lives that is not needed by all who import this package.
_HOMES: dict[str, tuple[str, ...]] = {
    "_addrs": ("get_rando_addr",),
    "_reap_procs": ("find_descendants", "find_orphans", "find_zombies"),
    "_reap_shm": ("find_orphaned_shm", "reap_shm"),
    "_reap_signals": ("reap",),
    "_reap_uds": ("find_orphaned_uds", "reap_uds"),
    "_runner": ("tractor_test",),
    "_samples": ("examples_dir", "generate_sample_messages", "mk_cmd", "repodir"),
    "_timeouts": ("AFKAlarmTimeout", "afk_alarm_w_trace", "fail_after_w_trace"),
}
_LAZY = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["break_ipc", "expect_ctxc", *_LAZY]  # every entry is a string


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
