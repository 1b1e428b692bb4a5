"""How subactors come to life: the spawn backends, their contract, and what one is made of.

Every name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor.spawn._contract import ChildProcess as ChildProcess
    from tractor.spawn._contract import SpawnBackend as SpawnBackend
    from tractor.spawn._contract import SpawnMethodKey as SpawnMethodKey
    from tractor.spawn._contract import SpawnRequest as SpawnRequest
    from tractor.spawn._contract import try_set_start_method as try_set_start_method
    from tractor.spawn._contract import usable_start_methods as usable_start_methods
    from tractor.spawn._exec import PopenChild as PopenChild
    from tractor.spawn._own_child import ExitSource as ExitSource
    from tractor.spawn._own_child import OwnChild as OwnChild
    from tractor.spawn._pipes import BootedChild as BootedChild
    from tractor.spawn._pipes import ChildPipes as ChildPipes
    from tractor.spawn.fork._fork import fork_from_worker_thread as fork_from_worker_thread
    from tractor.spawn.fork._forked import ForkedProc as ForkedProc
    from tractor.spawn.fork._forked import wait_child as wait_child
    from tractor.spawn.subint._thread import (
        run_subint_in_worker_thread as run_subint_in_worker_thread,
    )

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "tractor.spawn._contract": (
            "SpawnMethodKey",
            "try_set_start_method",
            "ChildProcess",
            "SpawnBackend",
            "SpawnRequest",
            "usable_start_methods",
        ),
        "tractor.spawn._exec": ("PopenChild",),
        "tractor.spawn.fork._fork": ("fork_from_worker_thread",),
        "tractor.spawn.fork._forked": (
            "ForkedProc",
            "wait_child",
        ),
        "tractor.spawn._own_child": (
            "ExitSource",
            "OwnChild",
        ),
        "tractor.spawn._pipes": (
            "BootedChild",
            "ChildPipes",
        ),
        "tractor.spawn.subint._thread": ("run_subint_in_worker_thread",),
    },
)
