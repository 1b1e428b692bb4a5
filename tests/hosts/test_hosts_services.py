"""Services on other hosts: the first that takes it, and the next one when a host is lost."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import ep_elsewhere
import pytest
from ep_run import run

import tractor
from tractor.hosts import Place
from tractor.hosts._links import links_of

sys.path.insert(0, str(Path(__file__).parent))

from hosts_tools import LIMIT, plain

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="agents need /proc here")


def place(name: str, **options: Any) -> Place:
    given = plain(deadline=2.0, start_timeout=20.0) | options
    return Place(name=name, engine="command", target=name, **given)


async def on(service: tractor.Service) -> str:
    """The host that it runs on."""
    (host,) = [h for h in links_of(tractor.current_actor())._hosts.values() if h.processes]
    assert await service.run(ep_elsewhere.pid) in [p.pid for p in host.processes.values()]
    return host.place.name


def test_it_goes_round_and_round() -> None:
    async def main() -> None:
        hosts = [place("no", options={"command": ["false"]}), place("a"), place("b")]
        async with tractor.open_supervisor(backoff=None) as sup:
            events = sup.events()
            service = await sup.start_service(
                "far", enable_modules=["ep_elsewhere"], actor={"host": hosts}
            )
            seen = [await on(service)]
            for _ in range(2):
                await lose_host()
                async for event in events:
                    if event.kind == "ready" and event.incarnation > len(seen):
                        break
                seen.append(await on(service))
            # The host that takes none has cost no restart.
            assert seen == ["a", "b", "a"]
            assert service.restarts == 2
            await sup.cancel()

    run(main, limit=LIMIT)


def test_a_crash_stays_where_it_is() -> None:
    async def main() -> None:
        async with tractor.open_supervisor(backoff=None) as sup:
            service = await sup.start_service(
                "far", enable_modules=["ep_elsewhere"], actor={"host": [place("a"), place("b")]}
            )
            events = sup.events()
            os.kill(await service.run(ep_elsewhere.pid), signal.SIGKILL)
            async for event in events:
                if event.kind == "ready":
                    break
            assert await on(service) == "a"
            await sup.cancel()

    run(main, limit=LIMIT)


async def lose_host() -> None:
    for host in links_of(tractor.current_actor())._hosts.values():
        if host.processes:
            os.kill(host.facts["pid"], signal.SIGKILL)


def test_no_host_at_all() -> None:
    async def main() -> None:
        async with tractor.open_supervisor() as sup:
            with pytest.raises(ValueError, match=r"\{'host': \[\]\} names no host"):
                await sup.start_service("far", actor={"host": []})
            with pytest.raises(ValueError, match="no host is named 'nowhere'"):
                await sup.start_service("far", actor={"host": "nowhere"})
            await sup.cancel()

    run(main, limit=LIMIT)
