"""Helpers for structured concurrency on plain trio; none needs a running tractor runtime."""

from __future__ import annotations

from tractor._util._broadcast import (
    BroadcastChannel,
    BroadcastReceiver,
    BroadcastStatistics,
    Lagged,
    broadcast_receiver,
)
from tractor._util._groups import collapse_eg, get_collapsed_eg, is_multi_cancelled
from tractor._util._masking import BoxedMaybeException, maybe_raise_from_masking_exc
from tractor._util._nursery import gather_contexts, maybe_open_nursery, start_or_cancel
from tractor._util._run_process import supervise_run_process
from tractor.trionics import patches
from tractor.trionics._cached import maybe_open_context

__all__ = [
    "BoxedMaybeException",
    "BroadcastChannel",
    "BroadcastReceiver",
    "BroadcastStatistics",
    "Lagged",
    "broadcast_receiver",
    "collapse_eg",
    "gather_contexts",
    "get_collapsed_eg",
    "is_multi_cancelled",
    "maybe_open_context",
    "maybe_open_nursery",
    "maybe_raise_from_masking_exc",
    "patches",
    "start_or_cancel",
    "supervise_run_process",
]
