"""Helpers for tests of programs that use tractor."""

from tractor.testing._faults import break_ipc as break_ipc
from tractor.testing._faults import expect_ctxc as expect_ctxc

__all__ = ["break_ipc", "expect_ctxc"]
