"""Actors on other hosts: ``start_actor(..., host="ssh://bob@gpu1")``.

An engine that the user runs already (ssh, a command, Slurm, Dask, Ray) starts a process over there; the actor in it is
a child like any other.  See the guide, and :mod:`tractor.hosts._links` for how it works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor.hosts._exports import *
else:
    __getattr__, __dir__ = lazy_exports(__name__)
