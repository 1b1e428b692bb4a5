"""What the tests of supervisors share; not imported by children."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import ep_services
import trio

import tractor
from tractor._proto.services.restarts import Backoff
from tractor.services._events import Events, ServiceEvent
from tractor.services._service import Service
from tractor.services._supervisor import Supervisor
from tractor.testing import get_rando_addr

QUICK = Backoff(initial=0.01, factor=1.0, maximum=0.01, jitter=0.0)
LONG = Backoff(initial=60.0, factor=1.0, maximum=60.0, jitter=0.0)


@asynccontextmanager
async def supervised(
    strategy: str = "one_for_one", **options: Any
) -> AsyncIterator[tuple[Supervisor, Events]]:
    """A supervisor without delays that never gives up, unless told, and its events."""
    settings: dict[str, Any] = {"backoff": None, "max_restarts": None, **options}
    for tpt in settings.get("enable_transports", ()):
        # Other tests run beside this one.
        settings.setdefault("registry_addrs", [get_rando_addr(tpt)])
    async with tractor.open_supervisor(strategy, **settings) as sup:
        with sup.events() as events:
            yield sup, events


def words(event: ServiceEvent) -> str:
    return f"{event.kind} {event.service}"


async def told(events: Events, last: str) -> list[str]:
    """The events up to this one, in words."""
    return [words(event) for event in await heard(events, last)]


async def heard(events: Events, last: str) -> list[ServiceEvent]:
    """The events up to this one."""
    found: list[ServiceEvent] = []
    async for event in events:
        found.append(event)
        if words(event) == last:
            return found
    raise AssertionError(f"no {last!r}, but {[words(event) for event in found]}")


async def start_all(sup: Supervisor, events: Events, *names: str, **options: Any) -> list[Service]:
    """Tasks that wait for orders, all ready."""
    services = [await sup.start_service(name, ep_services.obey, **options) for name in names]
    await told(events, f"ready {names[-1]}")
    return services


def kill(service: Service) -> None:
    os.kill(service.pid, signal.SIGKILL)


async def order(service: Service, what: str) -> None:
    """Have the ready incarnation do something; it may be gone before it can answer."""
    portal = await service.portal()
    with suppress(tractor.TransportClosed, tractor.ContextCancelled):
        await portal.run(ep_services.order, what=what)


def count(path: Path) -> int:
    """How many lines an endpoint has written."""
    return path.read_text().count("\n") if path.exists() else 0


async def until_counted(path: Path, number: int) -> None:
    with trio.fail_after(20):
        while count(path) < number:
            await trio.sleep(0.01)
