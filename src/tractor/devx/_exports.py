"""The public names of `tractor.devx`; see `lazy_exports`."""

from tractor.devx import cli as cli
from tractor.devx import debug as debug
from tractor.devx import events as events
from tractor.devx import otel as otel
from tractor.devx import pformat as pformat
from tractor.devx._frames import CallerInfo as CallerInfo
from tractor.devx._frames import api_frame as api_frame
from tractor.devx._frames import hide_runtime_frames as hide_runtime_frames
from tractor.devx._hang import dump_on_hang as dump_on_hang
from tractor.devx._instruments import add_instrument as add_instrument
from tractor.devx._instruments import remove_instrument as remove_instrument
from tractor.devx._resources import resource_delta_fixture as resource_delta_fixture
from tractor.devx._resources import track_resource_deltas as track_resource_deltas
from tractor.devx._stack_dump import dump_task_tree as dump_task_tree
from tractor.devx._stack_dump import enable_stack_on_sig as enable_stack_on_sig
from tractor.devx._tree_picture import tree_picture as tree_picture
from tractor.devx.debug._crash_handler import (
    maybe_open_crash_handler as maybe_open_crash_handler,
)
from tractor.devx.debug._crash_handler import open_crash_handler as open_crash_handler
from tractor.devx.debug._pause import acquire_debug_lock as acquire_debug_lock
from tractor.devx.debug._pause import maybe_pause_bp as maybe_pause_bp
from tractor.devx.debug._pause import maybe_wait_for_debugger as maybe_wait_for_debugger
from tractor.devx.debug._pause import pause as pause
from tractor.devx.debug._post_mortem import post_mortem as post_mortem
from tractor.devx.debug.lock._sigint import sigint_shield as sigint_shield
from tractor.devx.debug.repl._greenback import maybe_init_greenback as maybe_init_greenback
from tractor.devx.debug.repl._opening import mk_pdb as mk_pdb
from tractor.devx.debug.repl._sync import pause_from_sync as pause_from_sync
from tractor.devx.pformat import add_div as add_div
from tractor.devx.pformat import pformat_boxed_tb as pformat_boxed_tb
from tractor.devx.pformat import pformat_caller_frame as pformat_caller_frame
from tractor.process._title import set_actor_proctitle as set_actor_proctitle
from tractor.runtime.seen._instrument import Instrument as Instrument
