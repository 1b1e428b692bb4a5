"""What the tests of the debugger have in common: a tree in debug mode, and waiting for what no event tells of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio

import tractor
from tractor.devx.debug import Lock
from tractor.testing import get_rando_addr

MODULES = ["ep_repl"]


def tree(**kwargs: Any) -> AbstractAsyncContextManager[tractor.ActorNursery]:
    """A root in debug mode with a nursery."""
    kwargs = {"debug_mode": True, "maybe_enable_greenback": False, **kwargs}
    kwargs.setdefault("registry_addrs", [get_rando_addr("uds")])
    return tractor.open_nursery(**kwargs)


async def until(condition: Callable[[], bool]) -> None:
    """Poll; a test that waits in vain is ended by its watchdog."""
    while not condition():
        await trio.sleep(0.01)


async def until_asked(count: int) -> None:
    """Wait until exactly so many hold or await the REPL, as the root sees it."""

    def met() -> bool:
        stats = Lock.statistics()
        return (stats.holder is not None) + len(stats.waiting) == count

    await until(met)


class Results(dict[str, Any]):
    """What tasks gave, by name: a value or an exception."""

    async def keep(self, name: str, fn: Any, *args: Any, **kwargs: Any) -> None:
        """Run ``fn`` and keep how it ended."""
        try:
            self[name] = await fn(*args, **kwargs)
        except Exception as exc:
            self[name] = exc
