"""Tools for developers: the debugger for the whole tree, dumps, process titles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor.devx import cli as cli
    from tractor.devx import debug as debug
    from tractor.devx import pformat as pformat
    from tractor.devx._frames import CallerInfo as CallerInfo
    from tractor.devx._frames import api_frame as api_frame
    from tractor.devx._frames import hide_runtime_frames as hide_runtime_frames
    from tractor.devx._hang import dump_on_hang as dump_on_hang
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

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "tractor.devx.pformat": (
            "add_div",
            "pformat_boxed_tb",
            "pformat_caller_frame",
        ),
        "tractor.devx._frames": ("CallerInfo", "api_frame", "hide_runtime_frames"),
        "tractor.devx._hang": ("dump_on_hang",),
        "tractor.devx._resources": ("resource_delta_fixture", "track_resource_deltas"),
        "tractor.devx._stack_dump": (
            "dump_task_tree",
            "enable_stack_on_sig",
        ),
        "tractor.process._title": ("set_actor_proctitle",),
        "tractor.devx._tree_picture": ("tree_picture",),
        "tractor.devx.debug._crash_handler": ("maybe_open_crash_handler", "open_crash_handler"),
        "tractor.devx.debug.repl._greenback": ("maybe_init_greenback",),
        "tractor.devx.debug._pause": (
            "acquire_debug_lock",
            "maybe_pause_bp",
            "maybe_wait_for_debugger",
            "pause",
        ),
        "tractor.devx.debug._post_mortem": ("post_mortem",),
        "tractor.devx.debug.repl._opening": ("mk_pdb",),
        "tractor.devx.debug.lock._sigint": ("sigint_shield",),
        "tractor.devx.debug.repl._sync": ("pause_from_sync",),
    },
    submodules=("cli", "debug", "pformat"),
)
