"""Attacks on a listening actor, a process of its own, while a rightful peer calls it."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import ep_attacks as ep
import pytest
import trio
from ep_run import run

import tractor

if sys.platform != "win32":
    import resource

KEY = b"the key of this tree"
OTHER_KEY = b"the key of another tree"


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


@asynccontextmanager
async def attacked_actor() -> AsyncIterator[tuple[tractor.Portal, ep.Address]]:
    """An actor that serves over TCP, and where it listens; the caller is its rightful peer."""
    async with tractor.open_nursery(
        registry_addrs=[("127.0.0.1", unused_port())], authkey=KEY
    ) as an:
        portal = await an.start_actor("attacked", enable_modules=["ep_attacks"])
        addrs: list[Any] = await portal.run(ep.listens_on)
        (host, port) = addrs[0]
        yield portal, (host, port)
        await portal.cancel_actor()


async def counts(portal: tractor.Portal, **at_least: int) -> dict[str, int]:
    """The actor's counters, once they have come that far, and what it holds then."""
    while True:
        found: dict[str, int] = await portal.run(ep.counts, held=False)
        if all(found[name] >= count for name, count in at_least.items()):
            return await portal.run(ep.counts, held=True)


class Calls:
    """A rightful peer that calls all the time, and checks every answer."""

    def __init__(self, portal: tractor.Portal) -> None:
        self.done = 0
        self._portal = portal

    async def run(self) -> None:
        while True:
            assert await self._portal.run(ep.double, x=self.done) == 2 * self.done
            self.done += 1

    async def some_more(self, number: int = 50) -> None:
        """Return when that many more calls have been answered."""
        until = self.done + number
        while self.done < until:
            await trio.sleep(0.001)


@asynccontextmanager
async def calls_going_on(portal: tractor.Portal) -> AsyncIterator[Calls]:
    calls = Calls(portal)
    async with trio.open_nursery() as tn:
        tn.start_soon(calls.run)
        await calls.some_more()
        yield calls
        await calls.some_more()
        tn.cancel_scope.cancel()


def test_every_attack_on_an_actor_is_refused_while_calls_go_on() -> None:
    async def main() -> None:
        async with attacked_actor() as (portal, addr), calls_going_on(portal) as calls:
            before = await counts(portal)
            recorded = await ep.recorded_peer(addr)

            async def replay(it: ep.Stranger, key: bytes) -> None:
                await it.send(recorded)

            attacks = {**ep.ATTACKS, "replay": replay}
            for name, attack in attacks.items():
                async with ep.stranger(addr) as it:
                    await attack(it, KEY if name in ep.TRUE_KEY else OTHER_KEY)
                    got = await it.read_to_the_end()
                assert len(got) <= ep.OPENING, name
                assert got[:6] == ep.HELLO[: len(got)], name
            after = await counts(portal, refused=before["refused"] + len(attacks))
            assert after["refused"] == before["refused"] + len(attacks)
            assert after["half_open"] == 0
            await calls.some_more()

    run(main)


HALF_OPEN = 1000
KIB_EACH = 64
"""What a half-open connection may cost the actor; about 10 are usual."""

DESCRIPTORS = 4 * HALF_OPEN + 200
"""An actor lets a quarter of what it may have be half-open."""


@pytest.fixture
def _many_descriptors() -> Iterator[None]:
    """Let this process, and the actors that it starts, open enough files; skip where they can't."""
    if sys.platform == "win32":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < DESCRIPTORS:
        pytest.skip(f"no more than {hard} descriptors are allowed here")
    if 0 <= soft < DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_many_descriptors")
def test_a_thousand_half_open_connections_and_a_rightful_peer() -> None:
    """Calls go on, another peer gets in, and all that they took is given back."""

    async def main() -> None:
        async with attacked_actor() as (portal, addr), calls_going_on(portal) as calls:
            before = await counts(portal)
            async with ep.half_open(addr, HALF_OPEN):
                during = await counts(portal, half_open=HALF_OPEN)
                assert during["peers"] == before["peers"]
                await calls.some_more(100)
                await ep.visit(addr)
                await calls.some_more()
            after = await counts(portal, refused=before["refused"] + HALF_OPEN)
            assert after["half_open"] == 0
            if sys.platform == "linux":
                assert during["kib"] - before["kib"] < HALF_OPEN * KIB_EACH
                assert during["fds"] - before["fds"] >= HALF_OPEN
                assert after["fds"] < before["fds"] + 10

    run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the descriptors of a process")
def test_a_flood_of_an_actor_that_has_few_descriptors() -> None:
    """It never has more than it may, and a rightful peer still gets in."""
    flood, spare = 400, 80

    async def main() -> None:
        async with attacked_actor() as (portal, addr), calls_going_on(portal) as calls:
            before = await counts(portal)
            await portal.run(ep.leave_few_descriptors, spare=spare)
            async with ep.half_open(addr, flood):
                during = await counts(portal, refused=before["refused"] + flood - spare)
                # Half of what was spare is kept free for the actor's own files.
                assert during["fds"] < before["fds"] + 0.7 * spare
                await calls.some_more(100)
                for _ in range(5):
                    await ep.visit(addr)
            await counts(portal, refused=before["refused"] + flood)

    run(main)


def test_a_storm_of_wrong_keys_and_a_rightful_peer() -> None:
    tasks, each = 20, 10

    async def main() -> None:
        async def guess(addr: ep.Address) -> None:
            for _ in range(each):
                async with ep.stranger(addr) as it:
                    await ep.ATTACKS["wrong key"](it, secrets.token_bytes(32))
                    assert len(await it.read_to_the_end()) == ep.OPENING

        async with attacked_actor() as (portal, addr), calls_going_on(portal) as calls:
            before = await counts(portal)
            async with trio.open_nursery() as tn:
                for _ in range(tasks):
                    tn.start_soon(guess, addr)
                await calls.some_more()
                await ep.visit(addr)
            after = await counts(portal, refused=before["refused"] + tasks * each)
            assert after["refused"] == before["refused"] + tasks * each
            assert after["half_open"] == 0

    run(main)


def test_a_tree_with_another_key_is_no_part_of_this_one() -> None:
    """A whole program with the wrong key: it can't use this tree's registrar, and is told so."""
    addr = ("127.0.0.1", unused_port())
    code = (
        "import sys, trio, tractor\n"
        "async def main():\n"
        f"    async with tractor.open_nursery(registry_addrs=[{addr!r}], authkey=b'x' * 32): pass\n"
        "trio.run(main)\n"
    )

    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[addr], authkey=KEY):
            done = await trio.run_process(
                [sys.executable, "-c", code],
                capture_stderr=True,
                check=False,
                env={**os.environ, "PYTHONPATH": ""},
            )
            assert done.returncode == 1
            assert b"holds another key" in done.stderr

    run(main)
