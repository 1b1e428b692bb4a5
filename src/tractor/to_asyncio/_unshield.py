"""The last resort against shielded work that hangs."""

from __future__ import annotations

from typing import Any

import trio


def break_shields(main_scope: trio.CancelScope) -> None:
    """Cancel ``main_scope`` and take away every shield of the calling trio run; to be called in trio."""
    main_scope.cancel()
    root: Any = trio.lowlevel.current_root_task()
    # trio shows the scopes of nurseries only, and not those that a task has open.
    todo = [getattr(root, "_cancel_status", None)]
    while todo:
        status = todo.pop()
        if status is not None:
            status._scope.shield = False
            todo.extend(status._children)
