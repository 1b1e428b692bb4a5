"""Moments on the monotonic clock that one process tells another.

That clock is one for all processes of a machine's run, and begins anew with each run and on each machine.  So a moment
is told twice: as it stands on the clock, and as how long ago that is.  On the same machine the first counts, however
long the message has waited to be read; on another one the second, which is late by the message's way.
"""

from __future__ import annotations

import time
from typing import TypeAlias

from tractor.process.host._host_id import HostId, is_here, is_same_boot

ToldMoment: TypeAlias = tuple[float, float]
"""A moment on the sender's clock, and for how many seconds it was over when it was told."""


def told(moment: float) -> ToldMoment:
    """A moment of this process's monotonic clock, as it is told now."""
    return moment, time.monotonic() - moment


def heard(moment: ToldMoment, host: HostId | None) -> float:
    """The moment on this process's clock that a process of a host has told; ``None``: it does not say its host."""
    at, ago = moment
    return at if is_here(host) or is_same_boot(host or "") else time.monotonic() - ago
