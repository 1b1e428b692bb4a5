"""The debugger for the whole tree: one terminal, one REPL at a time.

Every name is loaded when it is first used: arming the debugger does not load ``pdbp``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor.devx.debug._exports import *
    from tractor.devx.debug.lock._status import _crash_msg as _crash_msg
    from tractor.devx.debug.lock._status import _ctlc_ignore_header as _ctlc_ignore_header
    from tractor.devx.debug.lock._status import _pause_msg as _pause_msg
    from tractor.devx.debug.lock._status import _repl_fail_msg as _repl_fail_msg
    from tractor.devx.debug.repl._sync import _sync_pause_from_builtin as _sync_pause_from_builtin
else:
    __getattr__, __dir__ = lazy_exports(__name__)
