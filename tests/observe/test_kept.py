"""Connections to actors that are kept from one look to the next."""

from __future__ import annotations

import socket
import sys

import pytest
import trio
from ep_observe import run

import tractor
from tractor.control._client import runtime_dirs
from tractor.observe._asking import Kept
from tractor.observe._finding import find

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Unix sockets")


def test_a_look_asks_again_on_connections_that_are_kept(forked_actors: None) -> None:
    async def main(an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        kept = Kept()

        async def look() -> dict[str, tuple[str, int]]:
            found = await trio.to_thread.run_sync(
                lambda: find(runtime_dirs(), limit=20.0, kept=kept)
            )
            # The runtime directory is this test's own.
            for one in found.answered:
                assert one.sample is not None
                assert one.sample.uuid == one.who.uuid
            own = [one.who for one in found.answered if one.who.name in ("root", "worker")]
            return {who.name: (who.uuid, who.pid) for who in own}

        try:
            first = await look()
            assert {"root", "worker"} <= set(first)
            assert len(kept) >= 2
            assert await look() == first
            # One that was hung up on is connected to anew.
            for known in list(kept._known.values()):
                known.sock.shutdown(socket.SHUT_RDWR)
            assert await look() == first
            await portal.cancel_actor()
            while "worker" in await look():
                pass
        finally:
            kept.close()
        assert len(kept) == 0

    run(main)
