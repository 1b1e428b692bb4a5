"""Using what modules keep for the process, and looking at it from an actor."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tractor
from tractor.devx.debug.repl import _respawn
from tractor.process import _state
from tractor.process._state import ProcessVar
from tractor.shm import _segment, _token
from tractor.spawn.fork import _backend
from tractor.testing import get_rando_addr


@contextmanager
def everything_used() -> Iterator[None]:
    """A process that has shared memory, reserved ports, a wish to be replaced and has warned."""
    get_rando_addr("tcp")
    shared = tractor.ipc.open_shm_list("used-here", size=4)
    _respawn._wanted.add(("somebody", "else"))  # type: ignore[arg-type]
    _backend._warned_of.add("something")
    assert _segment._owned
    assert _token._known
    try:
        yield
    finally:
        shared.shm.close()
        shared.shm.unlink()
        _respawn._wanted.clear()
        _backend._warned_of.clear()


async def probe() -> dict[str, tuple[str, str]]:
    """Each registered variable of the modules that are loaded here: what it is, and what it was at the start."""
    containers = {
        id(renew.__self__)  # type: ignore[attr-defined]
        for renew in _state._renewals
        if not isinstance(renew.__self__, ProcessVar)  # type: ignore[attr-defined]
    }
    found = {}
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] != "tractor":
            continue
        for name, thing in list(vars(module).items()):
            if getattr(thing, "__module__", module_name) not in (module_name, _state.__name__):
                continue
            if isinstance(thing, ProcessVar):
                found[f"{module_name}.{name}"] = looks(thing.value), looks(thing._make())
            elif id(thing) in containers:
                found[f"{module_name}.{name}"] = looks(thing), "0 entries"
    return found


def looks(value: Any) -> str:
    """What two processes can be compared by."""
    if value is None or isinstance(value, bool | str):
        return repr(value)
    if hasattr(value, "__len__"):
        return f"{len(value)} entries"
    return type(value).__name__
