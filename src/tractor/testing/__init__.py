"""Helpers for tests of programs that use tractor; the pytest plugin is `tractor.testing.pytest`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor.testing import _reap as _reap
    from tractor.testing._exports import *
else:
    __getattr__, __dir__ = lazy_exports(__name__)
