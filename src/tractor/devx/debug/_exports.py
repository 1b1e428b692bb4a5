"""The public names of `tractor.devx.debug`; see `lazy_exports`."""

from tractor.devx.debug._crash_handler import (
    maybe_open_crash_handler as maybe_open_crash_handler,
)
from tractor.devx.debug._crash_handler import open_crash_handler as open_crash_handler
from tractor.devx.debug._pause import acquire_debug_lock as acquire_debug_lock
from tractor.devx.debug._pause import breakpoint as breakpoint
from tractor.devx.debug._pause import maybe_pause_bp as maybe_pause_bp
from tractor.devx.debug._pause import maybe_wait_for_debugger as maybe_wait_for_debugger
from tractor.devx.debug._pause import pause as pause
from tractor.devx.debug._post_mortem import post_mortem as post_mortem
from tractor.devx.debug._public import DebugStatus as DebugStatus
from tractor.devx.debug._public import Lock as Lock
from tractor.devx.debug._public import get_debug_req as get_debug_req
from tractor.devx.debug._public import get_lock as get_lock
from tractor.devx.debug.lock._sigint import sigint_shield as sigint_shield
from tractor.devx.debug.lock._status import LockRelease as LockRelease
from tractor.devx.debug.lock._status import LockStatistics as LockStatistics
from tractor.devx.debug.lock._status import LockStatus as LockStatus
from tractor.devx.debug.lock._status import _crash_msg as _crash_msg
from tractor.devx.debug.lock._status import _ctlc_ignore_header as _ctlc_ignore_header
from tractor.devx.debug.lock._status import _pause_msg as _pause_msg
from tractor.devx.debug.lock._status import _repl_fail_msg as _repl_fail_msg
from tractor.devx.debug.repl._greenback import maybe_init_greenback as maybe_init_greenback
from tractor.devx.debug.repl._opening import mk_pdb as mk_pdb
from tractor.devx.debug.repl._opening import open_at as open_at
from tractor.devx.debug.repl._opening import open_post_mortem as open_post_mortem
from tractor.devx.debug.repl._repl import PdbREPL as PdbREPL
from tractor.devx.debug.repl._repl import TractorConfig as TractorConfig
from tractor.devx.debug.repl._sync import _sync_pause_from_builtin as _sync_pause_from_builtin
from tractor.devx.debug.repl._sync import pause_from_sync as pause_from_sync
from tractor.trionics._masking import BoxedMaybeException as BoxedMaybeException
