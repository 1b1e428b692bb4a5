"""A handful of equal daemons in one call."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import trio

from tractor._root import open_nursery
from tractor.hosts._place import HostLike
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
    hosts: Sequence[HostLike] | str | os.PathLike[str] | None = None,
    per_host: int | None = None,
    **root_kwargs: Any,
) -> AsyncIterator[dict[str, Portal]]:
    """Start ``count`` daemons at once; they are cancelled at the end of the block.

    Args:
        modules: names of the modules that they enable.
        count: how many; default: the CPUs that this process may use.
        names: their names, after ``'<own name>.'``; default ``worker_0`` and so on.
        hard_kill: start at the signals when the block ends.
        hosts: a list: on these, instead of this one, see :mod:`tractor.hosts`; a path: the hosts file, for
            :func:`open_nursery`.
        per_host: how many on each of ``hosts``; default: as many as it has cores.
        root_kwargs: for :func:`open_nursery`.

    Yields:
        The portals by full name.

    Raises:
        ValueError: ``names`` are not ``count`` many, or are not unique, or ``count`` is below 1; ``count`` beside a
            list of ``hosts``, or ``per_host`` without one.
        HostUnavailable: one of ``hosts`` can't be used.
        ActorFailure and others: as :meth:`ActorNursery.start_actor`.
    """
    spread, table = split_hosts(hosts, per_host, count, "count")
    if table is not None:
        root_kwargs["hosts"] = table
    portals: dict[str, Portal] = {}
    async with open_nursery(**root_kwargs) as an, AsyncExitStack() as stack:
        places: list[HostLike | None]
        if spread is not None:
            from tractor.hosts._handle import open_spread

            places = [*await stack.enter_async_context(open_spread(spread, per_host))]
        else:
            places = [None] * (
                (len(names) if names is not None else usable_cpus()) if count is None else count
            )
        own = _names(names, len(places))
        prefix = current_actor().name
        async with collapse_eg(add_notes=False), trio.open_nursery() as tn:

            async def start(name: str, host: HostLike | None) -> None:
                portals[name] = await an.start_actor(name, enable_modules=modules, host=host)

            for name, host in zip(own, places, strict=True):
                tn.start_soon(start, f"{prefix}.{name}", host)
        yield {f"{prefix}.{name}": portals[f"{prefix}.{name}"] for name in own}
        await an.cancel(hard_kill=hard_kill)


def split_hosts(
    hosts: Sequence[HostLike] | str | os.PathLike[str] | None,
    per_host: int | None,
    count: int | None,
    what: str,
) -> tuple[Sequence[HostLike] | None, str | os.PathLike[str] | None]:
    """The hosts that actors are to be spread over, and the hosts file; ``hosts=`` is one of both.

    Raises:
        ValueError: a number of actors beside hosts, or one for each host without these.
    """
    if hosts is None or isinstance(hosts, (str, os.PathLike)):
        if per_host is not None:
            raise ValueError(f"per_host={per_host} goes with a list of `hosts`, not with {hosts!r}")
        return None, hosts
    if count is not None:
        raise ValueError(f"{what}={count} is for this host; with `hosts` say `per_host`")
    return hosts, None


def _names(names: Sequence[str] | None, number: int) -> list[str]:
    if number < 1:
        raise ValueError(f"count={number}: a cluster needs at least one actor")
    own = list(names) if names is not None else [f"worker_{i}" for i in range(number)]
    if len(own) != number or len(set(own)) != number:
        raise ValueError(f"{len(own)} names were given for {number} actors, or some twice: {own}")
    return own
