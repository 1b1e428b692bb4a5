"""Asking several registrars at once.

Theory of operation.  A look-up has a *panel*: the registrars that it asks, each over the channel that there is or one
of its own, which is opened with the first question and closed with the panel.  What is asked of all is answered when
each has answered, has failed, or has been silent for its time; which ones are asked is in `_proto/registrars.py`,
and what follows from their answers in `_proto/answers.py`.

Who is silent is asked again in the background, by one task for each, until it answers or is gone: meanwhile it costs no
look-up of this actor any time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import trio

from tractor import log as _log
from tractor._errors import RuntimeFailure
from tractor._proto.registrars import ANSWER_TIME, Down
from tractor.address._types import Addr
from tractor.discovery._bounds import Bound, bound_of
from tractor.discovery._registrars import (
    Key,
    Source,
    ask,
    down_of,
    given_registrar,
    key_of,
    no_answer,
    no_registrars,
    own_registrars,
    reached,
)
from tractor.runtime._actor import Actor
from tractor.runtime._portal import LocalPortal, Portal
from tractor.transport._addresses import wrap_addresses
from tractor.trionics._groups import collapse_eg
from tractor.trionics._ki import ki_protected_manager

log = _log.get_logger()

RegistrarPortal = Portal | LocalPortal


def sources_of(actor: Actor, given: Sequence[Addr] | None) -> dict[Key, Source]:
    """The registrars to ask, each once.  Raises RuntimeFailure when the actor has none."""
    if given is None:
        sources = own_registrars(actor)
        if not sources:
            raise no_registrars(actor)
    else:
        sources = [given_registrar(actor, a) for a in wrap_addresses(given, "registry_addrs")]
    found: dict[Key, Source] = {}
    for source in sources:
        found.setdefault(key_of(source), source)
    return found


class Panel:
    """The registrars of one look-up; see :func:`open_panel`.

    Args:
        actor: this actor.
        sources: all of them.
        bound: of the look-up.
        stack: closes what was opened to them.

    Attributes:
        heard: whether the last question to all was answered by any.
        ever_heard: whether one of them was.
    """

    def __init__(
        self, actor: Actor, sources: dict[Key, Source], bound: Bound, stack: AsyncExitStack
    ) -> None:
        self.actor = actor
        self.heard = self.ever_heard = False
        self._sources = sources
        self._bound = bound
        self._stack = stack
        self._portals: dict[Key, RegistrarPortal] = {}

    def portal(self, key: Key) -> RegistrarPortal:
        """The portal to one that has answered."""
        return self._portals[key]

    async def ask_all(self, func: str, **kwargs: Any) -> dict[Key, Any]:
        """What each registrar that is not down answers; one that fails is not an error while another answers.

        Raises:
            RuntimeFailure: none has answered.
        """
        keys = down_of(self.actor).to_ask(list(self._sources))
        answers: dict[Key, Any] = {}
        failures: list[RuntimeFailure] = []
        bound = self._answer_bound(len(keys))

        async def one(key: Key) -> None:
            try:
                answers[key] = await self._ask(key, bound, func, kwargs)
            except RuntimeFailure as exc:
                log.transport("%s", exc)
                failures.append(exc)

        async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
            for key in keys:
                tn.start_soon(one, key)
        self.heard = bool(answers)
        self.ever_heard = self.ever_heard or self.heard
        if not answers:
            raise no_answer(failures)
        return {key: answers[key] for key in keys if key in answers}

    async def tell(
        self, keys: Sequence[Key], bound: Bound, func: str, **kwargs: Any
    ) -> dict[Key, Any]:
        """What those that have answered before say to something that may take them longer; none need answer."""
        answers: dict[Key, Any] = {}

        async def one(key: Key) -> None:
            try:
                answers[key] = await ask(self._portals[key], bound, func, **kwargs)
            except RuntimeFailure as exc:
                log.transport("%s", exc)

        async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
            for key in keys:
                tn.start_soon(one, key)
        return answers

    def _answer_bound(self, count: int) -> Bound:
        """A silent one of several leaves the look-up time for what the others know."""
        most = ANSWER_TIME if count == 1 else min(ANSWER_TIME, self._bound.seconds / 2)
        own = bound_of(most)
        return own if own.deadline < self._bound.deadline else self._bound

    async def _ask(self, key: Key, bound: Bound, func: str, kwargs: dict[str, Any]) -> Any:
        down = down_of(self.actor)
        try:
            if key not in self._portals:
                opened = reached(self._sources[key], self.actor, bound)
                self._portals[key] = await self._stack.enter_async_context(opened)
            answer = await ask(self._portals[key], bound, func, **kwargs)
        except RuntimeFailure:
            if trio.current_time() >= bound.deadline and down.silent(key):
                source = self._sources[key]
                self.actor.io_nursery.start_soon(
                    _until_heard, self.actor, source, down, name=f"question to {source}"
                )
            raise
        down.heard(key)
        return answer


async def _until_heard(actor: Actor, source: Source, down: Down[Key]) -> None:
    """Ask a registrar that does not answer until it does, or is gone."""
    # Closed with the actor, whose own nursery this runs in.
    patient = bound_of(None)
    try:
        async with reached(source, actor, patient) as registrar:
            await ask(registrar, patient, "find_actor", name=actor.name, every=True)
    except RuntimeFailure as exc:
        log.transport("%s", exc)
    finally:
        down.heard(key_of(source))


@ki_protected_manager
async def open_panel(
    actor: Actor, sources: dict[Key, Source], bound: Bound
) -> AsyncIterator[Panel]:
    """The registrars of a look-up, for the length of the block."""
    async with AsyncExitStack() as stack:
        yield Panel(actor, sources, bound, stack)
