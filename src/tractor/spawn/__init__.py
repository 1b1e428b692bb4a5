"""How subactors come to life: the spawn backends, their contract, and what one is made of.

Every name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._contract import SpawnMethodKey as SpawnMethodKey
from ._contract import try_set_start_method as try_set_start_method

if TYPE_CHECKING:
    from ._contract import ChildProcess as ChildProcess
    from ._contract import SpawnBackend as SpawnBackend
    from ._contract import SpawnRequest as SpawnRequest
    from ._contract import usable_start_methods as usable_start_methods
    from ._exec import PopenChild as PopenChild
    from ._fork import fork_from_worker_thread as fork_from_worker_thread
    from ._forked import ForkedProc as ForkedProc
    from ._forked import wait_child as wait_child
    from ._own_child import ExitSource as ExitSource
    from ._own_child import OwnChild as OwnChild
    from ._pipes import BootedChild as BootedChild
    from ._pipes import ChildPipes as ChildPipes
    from ._subint_thread import run_subint_in_worker_thread as run_subint_in_worker_thread

_HOMES: dict[str, tuple[str, ...]] = {
    "_contract": ("ChildProcess", "SpawnBackend", "SpawnRequest", "usable_start_methods"),
    "_exec": ("PopenChild",),
    "_fork": ("fork_from_worker_thread",),
    "_forked": ("ForkedProc", "wait_child"),
    "_own_child": ("ExitSource", "OwnChild"),
    "_pipes": ("BootedChild", "ChildPipes"),
    "_subint_thread": ("run_subint_in_worker_thread",),
}
_LAZY = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["SpawnMethodKey", "try_set_start_method", *_LAZY]  # every entry is a string


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
