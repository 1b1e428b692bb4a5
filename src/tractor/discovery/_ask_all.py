"""Asking several registrars at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import trio

from tractor import log as _log
from tractor._errors import RuntimeFailure
from tractor.address._types import Addr
from tractor.discovery._registrars import (
    Source,
    given_registrar,
    no_answer,
    no_registrars,
    own_registrars,
)
from tractor.runtime._actor import Actor
from tractor.runtime._portal import LocalPortal, Portal
from tractor.transport._addresses import wrap_addresses
from tractor.trionics._groups import collapse_eg

log = _log.get_logger()

T = TypeVar("T")


def sources_of(actor: Actor, given: Sequence[Addr] | None) -> list[Source]:
    """The registrars to ask, each once.  Raises RuntimeFailure when the actor has none."""
    if given is None:
        sources = own_registrars(actor)
        if not sources:
            raise no_registrars(actor)
        return sources
    found: dict[Any, Source] = {}
    for addr in wrap_addresses(given, "registry_addrs"):
        source = given_registrar(actor, addr)
        found.setdefault(_key(source), source)
    return list(found.values())


def _key(source: Source) -> Any:
    if isinstance(source, Portal):
        return source.chan
    return None if isinstance(source, LocalPortal) else source


async def from_each(
    sources: Sequence[Source], visit: Callable[[Source], Awaitable[T | None]], only_first: bool
) -> list[T]:
    """What several registrars, asked all at once, have given; one that fails is not an error while another answers.

    Args:
        sources: the registrars.
        visit: asks one of them; its value, or ``None`` if it has none.
        only_first: give up the others as soon as there is a value.

    Returns:
        The values, in the order of ``sources``.

    Raises:
        RuntimeFailure: every one has failed.
    """
    if len(sources) == 1:
        only = await visit(sources[0])
        return [] if only is None else [only]
    found: dict[int, T] = {}
    failures: list[RuntimeFailure] = []

    async def one(number: int, source: Source) -> None:
        try:
            value = await visit(source)
        except RuntimeFailure as exc:
            log.transport("%s", exc)
            failures.append(exc)
            return
        if value is not None:
            found[number] = value
            if only_first:
                tn.cancel_scope.cancel()

    async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
        for number, source in enumerate(sources):
            tn.start_soon(one, number, source)
    if sources and len(failures) == len(sources):
        raise no_answer(failures)
    return [found[number] for number in sorted(found)]
