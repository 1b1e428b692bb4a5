"""A handful of equal daemons in one call."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

import trio

from tractor._root import open_nursery
from tractor.runtime._portal import Portal
from tractor.runtime._state import current_actor
from tractor.trionics._groups import collapse_eg
from tractor.trionics._ki import ki_protected_manager


def usable_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@ki_protected_manager
async def open_actor_cluster(
    modules: Sequence[str],
    count: int | None = None,
    names: Sequence[str] | None = None,
    hard_kill: bool = False,
    **root_kwargs: Any,
) -> AsyncIterator[dict[str, Portal]]:
    """Start ``count`` daemons at once; they are cancelled at the end of the block.

    Args:
        modules: names of the modules that they enable.
        count: how many; default: the CPUs that this process may use.
        names: their names, after ``'<own name>.'``; default ``worker_0`` and so on.
        hard_kill: start at the signals when the block ends.
        root_kwargs: for :func:`open_nursery`.

    Yields:
        The portals by full name.

    Raises:
        ValueError: ``names`` are not ``count`` many, or are not unique, or ``count`` is below 1.
        ActorFailure and others: as :meth:`ActorNursery.start_actor`.
    """
    number = (len(names) if names is not None else usable_cpus()) if count is None else count
    if number < 1:
        raise ValueError(f"count={number}: a cluster needs at least one actor")
    own = list(names) if names is not None else [f"worker_{i}" for i in range(number)]
    if len(own) != number or len(set(own)) != number:
        raise ValueError(f"{len(own)} names were given for {number} actors, or some twice: {own}")
    portals: dict[str, Portal] = {}
    async with open_nursery(**root_kwargs) as an:
        prefix = current_actor().name
        async with collapse_eg(add_notes=False), trio.open_nursery() as tn:

            async def start(name: str) -> None:
                portals[name] = await an.start_actor(name, enable_modules=modules)

            for name in own:
                tn.start_soon(start, f"{prefix}.{name}")
        yield {f"{prefix}.{name}": portals[f"{prefix}.{name}"] for name in own}
        await an.cancel(hard_kill=hard_kill)
