"""Helpers for structured concurrency on plain trio; only the worker pool needs a running tractor runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor.trionics._exports import *
else:
    __getattr__, __dir__ = lazy_exports(__name__)
