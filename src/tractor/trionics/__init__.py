"""Helpers for structured concurrency on plain trio; only the worker pool needs a running tractor runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor._util._broadcast import AsyncReceiver as AsyncReceiver
    from tractor._util._broadcast import BroadcastChannel as BroadcastChannel
    from tractor._util._broadcast import BroadcastReceiver as BroadcastReceiver
    from tractor._util._broadcast import BroadcastStatistics as BroadcastStatistics
    from tractor._util._broadcast import Lagged as Lagged
    from tractor._util._broadcast import broadcast_receiver as broadcast_receiver
    from tractor._util._groups import collapse_eg as collapse_eg
    from tractor._util._groups import get_collapsed_eg as get_collapsed_eg
    from tractor._util._groups import is_multi_cancelled as is_multi_cancelled
    from tractor._util._masking import BoxedMaybeException as BoxedMaybeException
    from tractor._util._masking import maybe_raise_from_masking_exc as maybe_raise_from_masking_exc
    from tractor._util._nursery import gather_contexts as gather_contexts
    from tractor._util._nursery import maybe_open_nursery as maybe_open_nursery
    from tractor._util._nursery import start_or_cancel as start_or_cancel
    from tractor._util._run_process import supervise_run_process as supervise_run_process
    from tractor.trionics import patches as patches
    from tractor.trionics._cached import maybe_open_context as maybe_open_context
    from tractor.trionics._pool import WorkerPool as WorkerPool
    from tractor.trionics._pool import WorkerPoolStatistics as WorkerPoolStatistics
    from tractor.trionics._pool import open_worker_pool as open_worker_pool
    from tractor.trionics._pool_jobs import WorkerDied as WorkerDied
    from tractor.trionics._pool_map import PoolMap as PoolMap

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "tractor._util._broadcast": (
            "AsyncReceiver",
            "BroadcastChannel",
            "BroadcastReceiver",
            "BroadcastStatistics",
            "Lagged",
            "broadcast_receiver",
        ),
        "tractor._util._groups": ("collapse_eg", "get_collapsed_eg", "is_multi_cancelled"),
        "tractor._util._masking": ("BoxedMaybeException", "maybe_raise_from_masking_exc"),
        "tractor._util._nursery": ("gather_contexts", "maybe_open_nursery", "start_or_cancel"),
        "tractor._util._run_process": ("supervise_run_process",),
        "tractor.trionics._cached": ("maybe_open_context",),
        "tractor.trionics._pool": ("WorkerPool", "WorkerPoolStatistics", "open_worker_pool"),
        "tractor.trionics._pool_jobs": ("WorkerDied",),
        "tractor.trionics._pool_map": ("PoolMap",),
    },
    submodules=("patches",),
)
