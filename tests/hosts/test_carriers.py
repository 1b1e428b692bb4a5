"""The connection of an agent that calls: who may, once, and what others can see or do of it."""

from __future__ import annotations

import os
import random
import re
import ssl
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ep_certs
import pytest
import trio
from ep_run import run

from tractor.hosts._carriers import Ends, carrier_for
from tractor.hosts._engine import Offer
from tractor.hosts._place import Place, place_at
from tractor.hosts._streams import Incoming, LinkError
from tractor.hosts.agent._link import MAGIC
from tractor.hosts.agent._seal import AGENT, LINK, NONCE, PROOF, Seal
from tractor.transport.tls._config import TLSConfig

# -- records ------------------------------------------------------------------------------------------


def pair() -> tuple[Seal, Seal]:
    token, nonces = os.urandom(32), os.urandom(2 * NONCE)
    return Seal(token, AGENT, nonces), Seal(token, LINK, nonces)


def test_what_is_sealed_comes_whole_however_it_is_cut() -> None:
    agent, link = pair()
    rng = random.Random(1)
    for size in (0, 1, 100, 65_536, 65_537, 300_000):
        text = rng.randbytes(size)
        for frm, to in ((agent, link), (link, agent)):
            sealed = frm.seal(text)
            assert size < 100 or text[:50] not in sealed
            got = b""
            while sealed:
                cut = rng.randrange(1, 70_000)
                got += to.open(sealed[:cut])
                sealed = sealed[cut:]
            assert got == text


def test_proofs_are_of_one_role_and_one_connection() -> None:
    agent, link = pair()
    assert agent.is_proven(link.proof)
    assert link.is_proven(agent.proof)
    assert not agent.is_proven(agent.proof)
    assert not link.is_proven(pair()[0].proof)


@pytest.mark.parametrize("what", ["changed", "repeated", "left out", "of itself", "of no length"])
def test_what_was_tampered_with_is_refused(what: str) -> None:
    agent, link = pair()
    one, two = agent.seal(b"one"), agent.seal(b"two")
    data = {
        "changed": one[:5] + bytes([one[5] ^ 1]) + one[6:],
        "repeated": one + one,
        "left out": two,
        "of itself": link.seal(b"one"),
        "of no length": b"\xff" * 100,
    }[what]
    with pytest.raises(ValueError, match="record"):
        link.open(data)


# -- calls --------------------------------------------------------------------------------------------


class Scheduler:
    """An engine that keeps what it is offered."""

    key = "kept"
    can_tunnel = False

    def __init__(self) -> None:
        self.offers: list[Offer] = []
        self.withdrawn = 0

    def check(self, place: Place) -> None: ...

    def address_here(self, place: Place) -> str:
        return "127.0.0.1"

    def keepalive(self, deadline: float) -> None: ...

    def submit(self, place: Place, offer: Offer) -> int:
        self.offers.append(offer)
        return 1

    def withdraw(self, job: int) -> None:
        self.withdrawn += 1

    @property
    def call(self) -> tuple[int, bytes]:
        """The port and the token of what was offered."""
        program = zlib.decompress(self.offers[0].stdin.partition(b"\n")[2])
        found = re.search(rb"\.dial\('127\.0\.0\.1', (\d+), '(\w+)'", program)
        assert found is not None
        return int(found[1]), bytes.fromhex(found[2].decode())


@asynccontextmanager
async def waiting(
    tls: TLSConfig | None = None,
) -> AsyncIterator[tuple[Scheduler, list[Ends | Exception]]]:
    """A link that waits for its agent's call, until the block has seen to it; what became of it."""
    scheduler = Scheduler()
    carrier = carrier_for(scheduler, place_at("kept://here", python=sys.executable), (), tls)
    found: list[Ends | Exception] = []

    async def connect() -> None:
        try:
            found.append(await carrier.connect())
        except LinkError as exc:
            found.append(exc)

    async with trio.open_nursery() as tn:
        tn.start_soon(connect)
        while not scheduler.offers:
            await trio.sleep(0.01)
        yield scheduler, found
        while not found:
            await trio.sleep(0.01)
    await carrier.close(may_wait=False)
    assert scheduler.withdrawn == 1


async def greeted(port: int, token: bytes) -> tuple[trio.SocketStream, Seal, bytes]:
    """A connection, this side's seal, and what was answered to its proof."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    nonce = os.urandom(NONCE)
    await stream.send_all(nonce)
    nonces = nonce + await stream.receive_some(NONCE)
    seal = Seal(token, AGENT, nonces)
    await stream.send_all(seal.proof)
    return stream, seal, bytes(await stream.receive_some(PROOF))


def test_who_has_no_token_learns_nothing_and_keeps_nobody_out() -> None:
    async def main() -> None:
        async with waiting() as (scheduler, found):
            port, token = scheduler.call
            silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(40)]
            stranger, _, answer = await greeted(port, bytes(32))
            assert answer == b""
            agent, seal, proof = await greeted(port, token)
            assert seal.is_proven(proof)
            for stream in (stranger, *silent):
                await stream.aclose()
        (ends,) = found
        assert isinstance(ends, Ends)
        await agent.aclose()

    run(main)


def test_a_token_is_good_for_one_call() -> None:
    async def main() -> None:
        async with waiting() as (scheduler, _):
            port, token = scheduler.call
            agent, _, _ = await greeted(port, token)
        with pytest.raises(OSError, match=r"127\.0\.0\.1"):
            await greeted(port, token)
        await agent.aclose()

    run(main)


def test_a_job_that_ends_without_a_call() -> None:
    async def main() -> None:
        async with waiting() as (scheduler, found):
            await trio.to_thread.run_sync(scheduler.offers[0].ended, "it was preempted")
        assert "ended without a call" in str(found[0])

    run(main)


def start_agent(offer: Offer) -> subprocess.Popen[bytes]:
    popen = subprocess.Popen(offer.argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert popen.stdin is not None
    popen.stdin.write(offer.stdin)
    popen.stdin.close()
    popen.stdin = None
    return popen


@pytest.mark.skipif(sys.platform == "win32", reason="an agent needs POSIX")
@pytest.mark.parametrize("how", ["plain", "by TLS"])
def test_an_agent_calls(how: str) -> None:
    async def main() -> None:
        async with waiting(None if how == "plain" else ep_certs.config()) as (scheduler, found):
            popen = start_agent(scheduler.offers[0])
            while not found:
                await trio.sleep(0.01)
            (ends,) = found
            assert isinstance(ends, Ends)
            frames = Incoming(ends.into)
            await frames.skip_to(MAGIC)
            frame, _ = await frames.next()
            assert frame["t"] == "hello"
        # It has seen the link's end.
        _, said = await trio.to_thread.run_sync(popen.communicate)
        assert (popen.returncode, said) == (1, b"")

    run(main)


@pytest.mark.skipif(sys.platform == "win32", reason="an agent needs POSIX")
def test_an_agent_calls_nobody_with_a_certificate_that_is_not_the_trees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import trustme

    def forged(config: Any) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
        return context

    monkeypatch.setattr("tractor.hosts._carriers._server_context", forged)

    async def main() -> None:
        async with waiting(ep_certs.config()) as (scheduler, found):
            popen = start_agent(scheduler.offers[0])
            _, said = await trio.to_thread.run_sync(popen.communicate)
            assert popen.returncode == 1
            assert b"CERTIFICATE_VERIFY_FAILED" in said
            assert b"Traceback" not in said
            scheduler.offers[0].ended("")
        assert isinstance(found[0], LinkError)

    run(main)
