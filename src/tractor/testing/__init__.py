"""Helpers for tests of programs that use tractor; the pytest plugin is `tractor.testing.pytest`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor.reaping._shm import find_orphaned_shm as find_orphaned_shm
    from tractor.reaping._shm import reap_shm as reap_shm
    from tractor.reaping._signals import reap as reap
    from tractor.reaping._strays import find_descendants as find_descendants
    from tractor.reaping._strays import find_orphans as find_orphans
    from tractor.reaping._strays import find_zombies as find_zombies
    from tractor.testing._addrs import get_rando_addr as get_rando_addr
    from tractor.testing._faults import break_ipc as break_ipc
    from tractor.testing._faults import expect_ctxc as expect_ctxc
    from tractor.testing._runaway import find_runaway_subactors as find_runaway_subactors
    from tractor.testing._runner import tractor_test as tractor_test
    from tractor.testing._samples import examples_dir as examples_dir
    from tractor.testing._samples import generate_sample_messages as generate_sample_messages
    from tractor.testing._samples import mk_cmd as mk_cmd
    from tractor.testing._samples import repodir as repodir
    from tractor.testing._timeouts import AFKAlarmTimeout as AFKAlarmTimeout
    from tractor.testing._timeouts import afk_alarm_w_trace as afk_alarm_w_trace
    from tractor.testing._timeouts import fail_after_w_trace as fail_after_w_trace
    from tractor.transport._uds_leftovers import find_orphaned_uds as find_orphaned_uds
    from tractor.transport._uds_leftovers import reap_uds as reap_uds

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "tractor.testing._runaway": ("find_runaway_subactors",),
        "tractor.testing._faults": (
            "break_ipc",
            "expect_ctxc",
        ),
        "tractor.testing._addrs": ("get_rando_addr",),
        "tractor.reaping._strays": (
            "find_descendants",
            "find_orphans",
            "find_zombies",
        ),
        "tractor.reaping._shm": (
            "find_orphaned_shm",
            "reap_shm",
        ),
        "tractor.reaping._signals": ("reap",),
        "tractor.transport._uds_leftovers": (
            "find_orphaned_uds",
            "reap_uds",
        ),
        "tractor.testing._runner": ("tractor_test",),
        "tractor.testing._samples": (
            "examples_dir",
            "generate_sample_messages",
            "mk_cmd",
            "repodir",
        ),
        "tractor.testing._timeouts": (
            "AFKAlarmTimeout",
            "afk_alarm_w_trace",
            "fail_after_w_trace",
        ),
    },
    submodules=("_reap", "addr"),
)
