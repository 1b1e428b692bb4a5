"""What the runtime loads by name and when it is used, most of it the developer's tools: nothing costs a start."""

from __future__ import annotations

import importlib
from typing import Any

LATE: dict[str, str] = {
    "arm_debugger": "tractor.devx.debug._post_mortem:arm",
    "arm_actor": "tractor.devx._stack_dump:arm_actor",
    "init_greenback": "tractor.devx.debug.repl._greenback:maybe_init_greenback",
    "stop_greenback": "tractor.devx.debug.repl._greenback:stop_greenback",
    "fix_trio": "tractor.trionics.patches._table:apply_all",
    "run_infected": "tractor.to_asyncio._host:run_infected",
    "remove_segments_of": "tractor.shm._segment:remove_segments_of",
    "serve_attach": "tractor.devx.debug.attach._listener:serve_attach",
    "respawn_command": "tractor.devx.debug.repl._respawn:respawn_command",
    "attach_repl": "tractor.devx.debug.attach._repl:make_repl",
}
"""Functions by what they are for."""

LATE_REQUESTS: dict[str, str] = {
    "_debug_lock": "tractor.devx.debug.lock._debugger:serve_lock",
    "_debug_held": "tractor.devx.debug.lock._debugger:serve_held",
    "_dump_stacks": "tractor.devx._stack_dump:serve_dump",
    "_tree": "tractor.devx._tree_picture:serve_tree",
    "_signalled": "tractor.runtime._group_signals:serve_signalled",
    "_respawn": "tractor.devx.debug.repl._respawn:serve_respawn",
}
"""Requests in the namespace ``self``, each served by ``fn(actor, chan, cid, kwargs)``, which never waits."""


def load_late(what: str) -> Any:
    """The function that :data:`LATE` or :data:`LATE_REQUESTS` names.

    Raises:
        ImportError: its module can't be loaded.
    """
    path = LATE.get(what) or LATE_REQUESTS[what]
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
