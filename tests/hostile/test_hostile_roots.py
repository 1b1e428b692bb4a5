"""A peer that is not honest, against actors with limits or callers of their own."""

from __future__ import annotations

import functools
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ep_victim
import pytest
import trio
from ep_peer import run

import tractor
from tractor import Limits
from tractor.testing import get_rando_addr

sys.path.insert(0, str(Path(__file__).parent))

from raw_peer import (
    AID,
    CANCEL_ACK,
    ERROR,
    RETURN,
    START_ACK,
    STARTED,
    STOP,
    YIELD,
    RawPeer,
    error,
    frame,
    listen,
    start,
    text_of,
)

pytestmark = pytest.mark.usefixtures("forked_actors")

VICTIM = "ep_victim"


def test_what_a_peer_says_of_itself_is_escaped_in_logs(
    reg_addr: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Names of modules, functions and dialogs come from the peer, too."""
    evil = "evil\n2026-01-01 CRITICAL forged\x1b[31m"

    def attack(addr: Any) -> None:
        with RawPeer(addr) as peer:
            peer.open()
            peer.send(
                start(1, evil, evil), start(3, "self", evil), start(5, VICTIM, evil),
                [YIELD, 1, 0], error(0, evil), error(None, evil), start(2, evil, evil),
            )  # fmt: skip
            assert peer.is_closed()
        with RawPeer(addr) as peer:
            peer.prove()
            peer.send([AID, evil, "1", 1])
            assert peer.is_closed()

    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]) as actor:
            await trio.to_thread.run_sync(attack, tuple(actor.accept_addr))

    with caplog.at_level(1, logger="tractor"):
        run(main)
    for record in caplog.records:
        assert "\nCRITICAL" not in record.getMessage()
        assert "\n2026-01-01" not in record.getMessage(), record.getMessage()
        assert "\x1b" not in record.getMessage()


# -- half a frame ----------------------------------------------------------------------------------------

BEGUN = {
    "one byte": b"\x08",
    "a length": struct.pack("<I", 100),
    "half a body": struct.pack("<I", 100) + b"\x93" * 50,
    "one of two frames": frame([STOP, 9]) + struct.pack("<I", 100) + b"\x93",
}


@pytest.mark.parametrize("debug_mode", [False, True])
def test_a_frame_that_has_begun_must_go_on(reg_addr: Any, debug_mode: bool) -> None:
    """A stranger's; while somebody debugs everybody may be stopped."""

    def attack(addr: Any) -> dict[str, bool]:
        peers = {name: RawPeer(addr).open((name, name)) for name in (*BEGUN, "idle", "slow")}
        for name, data in BEGUN.items():
            peers[name].send_bytes(data)
        # A byte now and then is progress.
        slow = struct.pack("<I", 13) + b"\x92\x07\xcf" + bytes(7)
        for byte in slow:
            peers["slow"].send_bytes(bytes([byte]))
            trio.from_thread.run(trio.sleep, 0.05)
        wait = 0.1 if debug_mode else 5
        closed = {name: peers[name].is_closed(wait if name in BEGUN else 0.1) for name in peers}
        for peer in peers.values():
            peer.close()
        return closed

    async def main() -> None:
        async with tractor.open_root_actor(
            registry_addrs=[reg_addr],
            limits=Limits(frame_progress=0.8),
            debug_mode=debug_mode,
            loglevel="critical",
        ) as actor:
            closed = await trio.to_thread.run_sync(attack, tuple(actor.accept_addr))
        wanted = dict.fromkeys(BEGUN, not debug_mode) | {"idle": False, "slow": False}
        assert closed == wanted

    run(main)


# -- a peer that is called -------------------------------------------------------------------------------


def serve(server: Any, answers: Callable[[int], bytes]) -> None:
    """Accept one caller, and answer its first request so."""
    server.settimeout(20)
    sock, _ = server.accept()
    with server, RawPeer(sock) as peer:
        peer.open(("callee", "2" * 32))
        while (message := peer.recv())[0] != 3:
            pass
        peer.send_bytes(answers(message[1]))
        # The caller is done with it when it hangs up.
        try:
            while True:
                peer.recv()
        except ConnectionError:
            pass


def yields(cid: int, *, first: list[Any], count: int, size: int) -> bytes:
    return frame([*first[:1], cid, *first[1:]]) + frame([YIELD, cid, bytes(size)]) * count


@pytest.mark.parametrize(("count", "size"), [(1025, 0), (3000, 10), (17, 2**20), (2, 2**24)])
@pytest.mark.parametrize("proto", ["uds", "tcp"])
def test_a_one_way_stream_ends_beyond_its_credit(
    proto: str, count: int, size: int, private_dir: Path
) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(
            registry_addrs=[get_rando_addr(proto)], loglevel="critical"
        ):
            server, addr = listen(proto, str(private_dir))
            answers = functools.partial(
                yields, first=[START_ACK, "asyncgen"], count=count, size=size
            )
            async with trio.open_nursery() as tn:
                tn.start_soon(trio.to_thread.run_sync, serve, server, answers)
                chan = await tractor.ipc.Channel.from_addr(addr)
                async with tractor.discovery.open_portal(chan) as portal:
                    with pytest.raises(tractor.MessagingError, match="beyond its credit"):  # noqa: PT012
                        async with portal.open_stream_from(ep_victim.sends_on) as stream:
                            # It is beyond before the first is read, which would give new credit.
                            with trio.fail_after(20):
                                # Its identity and the START_ACK came before them.
                                while portal.chan.statistics().received < 2 + count:
                                    await trio.sleep(0.005)
                            async for _ in stream:
                                pass
                    assert portal.chan.connected()

    run(main)


@pytest.mark.parametrize("proto", ["uds", "tcp"])
def test_a_context_ends_beyond_its_credit(proto: str, private_dir: Path) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(
            registry_addrs=[get_rando_addr(proto)], loglevel="critical"
        ):
            server, addr = listen(proto, str(private_dir))

            def answers(cid: int) -> bytes:
                return frame([START_ACK, cid, "context"]) + yields(
                    cid, first=[STARTED, None], count=2000, size=0
                )

            async with trio.open_nursery() as tn:
                tn.start_soon(trio.to_thread.run_sync, serve, server, answers)
                chan = await tractor.ipc.Channel.from_addr(addr)
                async with tractor.discovery.open_portal(chan) as portal:
                    with pytest.raises(tractor.MessagingError, match="beyond its credit"):
                        async with (
                            portal.open_context(ep_victim.stays) as (ctx, _),
                            ctx.open_stream(),
                        ):
                            await trio.sleep(20)
                    assert portal.chan.connected()

    run(main)


def test_two_actors_at_the_limit_of_unsent_replies_do_not_wait_for_each_other(
    reg_addr: Any,
) -> None:
    """Both ask for much more than the limit at the same time, over one channel."""

    async def main() -> None:
        done: list[int] = []

        async def call(portal: tractor.Portal) -> None:
            done.append(len(await portal.run(ep_victim.large, size=300_000)))

        async with tractor.open_nursery(
            registry_addrs=[reg_addr],
            limits=Limits(max_unsent=1_000_000),
            enable_modules=["ep_victim"],
        ) as an:
            portal = await an.start_actor("other", enable_modules=["ep_victim"])
            async with trio.open_nursery() as tn:
                tn.start_soon(portal.run, ep_victim.asks_parent)
                for _ in range(60):
                    tn.start_soon(call, portal)
            assert done == [300_000] * 60
            await portal.cancel_actor()

    run(main)


@pytest.mark.parametrize("how", ["at once", "after a while"])
def test_many_large_results_reach_who_takes_them(reg_addr: Any, how: str) -> None:
    """More than four times the limit, ready in one turn of the loop: an honest caller is not hung up on."""

    async def main() -> None:
        sizes: list[int] = []

        async def call(portal: tractor.Portal) -> None:
            fn = ep_victim.large if how == "at once" else ep_victim.large_later
            sizes.append(len(await portal.run(fn, size=100_000)))

        async with tractor.open_nursery(
            registry_addrs=[reg_addr], limits=Limits(max_unsent=1_000_000)
        ) as an:
            portal = await an.start_actor("callee", enable_modules=["ep_victim"])
            async with trio.open_nursery() as tn:
                for _ in range(200):
                    tn.start_soon(call, portal)
            assert sizes == [100_000] * 200
            await portal.cancel_actor()

    run(main)


def test_a_reply_that_waits_for_a_deaf_peer_can_be_cancelled(reg_addr: Any) -> None:
    def attack(addr: Any) -> list[Any]:
        with RawPeer(addr) as peer:
            peer.open()
            cids = range(1, 400, 2)
            peer.send(*[start(c, VICTIM, "large_later", {"size": 100_000}) for c in cids])
            trio.from_thread.run(trio.sleep, 0.5)
            peer.send(*[start(c + 1000, "self", "_cancel_task", {"cid": c}) for c in cids])
            kinds = []
            acks = 0
            while acks < len(cids):
                message = peer.recv()
                if message[0] == CANCEL_ACK:
                    acks += 1
                else:
                    kinds.append(message[0])
            return kinds

    async def main() -> None:
        async with tractor.open_root_actor(
            registry_addrs=[reg_addr],
            limits=Limits(max_unsent=1_000_000),
            enable_modules=["ep_victim"],
        ) as actor:
            kinds = await trio.to_thread.run_sync(attack, tuple(actor.accept_addr))
            assert len(kinds) == 200
            # What the pipe takes has left before.
            assert kinds.count(RETURN) > 0
            assert kinds.count(ERROR) > 20
            assert actor.statistics().serving == 0

    run(main)


def test_who_is_hung_up_on_for_refused_requests_is_told(reg_addr: Any) -> None:
    def attack(addr: Any) -> str:
        with RawPeer(addr) as peer:
            peer.open()
            text = ""
            try:
                for cid in range(1, 1000, 2):
                    peer.send(start(cid, VICTIM, "nothing"))
                    text = text_of(peer.recv()) or text
            except ConnectionError:
                pass
            return text

    async def main() -> None:
        async with tractor.open_root_actor(
            registry_addrs=[reg_addr],
            limits=Limits(max_refused=20),
            enable_modules=["ep_victim"],
            loglevel="critical",
        ) as actor:
            text = await trio.to_thread.run_sync(attack, tuple(actor.accept_addr))
        assert "more than 20 requests refused" in text

    run(main)
