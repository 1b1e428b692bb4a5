"""TCP: a peer that computes, or is stopped, is not a lost one; a host that has vanished is."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import sys
from typing import Any

import ep_bulk
import pytest
import trio
from ep_peer import run

import tractor
from tractor.testing import get_rando_addr
from tractor.transport import _silence
from tractor.transport._tcp import tcp_from_socket

pytestmark = [
    pytest.mark.usefixtures("forked_actors"),
    pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO as Linux has it"),
]

LARGE = bytes(8_000_000)
"""More than the buffers of a connection take."""


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_silence, "SILENCE", 1.2)
    monkeypatch.setattr(_silence, "CHECK_EVERY", 0.3)


def drop_what_comes(sock: socket.socket) -> None:
    """Have the kernel throw away every segment for this socket, as if its host were gone: no acknowledgement either."""
    program = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))
    filter_ = struct.pack("HxxxxxxP", 1, ctypes.addressof(program))
    sock.setsockopt(socket.SOL_SOCKET, 26, filter_)


async def _connected() -> tuple[Any, Any]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    return tcp_from_socket(near, max_frame_size=2**30), far


async def _fill(transport: Any) -> None:
    while transport.io.send_nowait([LARGE]):
        pass


async def _is_kept_for(seconds: float, transport: Any) -> None:
    with trio.move_on_after(seconds) as scope:
        await transport.watch()
    assert scope.cancelled_caught
    assert transport.connected()
    transport.abort()


@pytest.mark.usefixtures("_hasty")
def test_a_peer_that_reads_nothing_is_not_silent() -> None:
    async def main() -> None:
        transport, far = await _connected()
        await _fill(transport)
        await _is_kept_for(3, transport)
        far.close()

    run(main)


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("filled_before", [False, True])
def test_a_host_that_vanishes_is_lost(filled_before: bool) -> None:
    async def main() -> None:
        transport, far = await _connected()
        if filled_before:
            await _fill(transport)
        drop_what_comes(far)
        if not filled_before:
            assert transport.io.send_nowait([b"x"])
        await transport.watch()
        with pytest.raises(tractor.TransportClosed, match="has vanished"):
            await transport.recv_batch()
        far.close()

    run(main)


@pytest.mark.usefixtures("_hasty")
def test_an_idle_connection_is_not_silent() -> None:
    async def main() -> None:
        transport, far = await _connected()
        await _is_kept_for(1.5, transport)
        far.close()

    run(main)


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("how", ["computes", "stopped"])
def test_an_actor_with_a_full_connection_that_reads_nothing_is_not_lost(
    how: str, tmp_path: Any
) -> None:
    async def main() -> None:
        async with tractor.open_nursery(
            enable_transports=["tcp"], registry_addrs=[get_rando_addr("tcp")]
        ) as an:
            portal = await an.start_actor("busy", enable_modules=["ep_bulk", "ep_peer"])
            assert portal.chan.aid is not None
            pid = portal.chan.aid.pid
            assert pid is not None
            go = str(tmp_path / "go")
            async with portal.open_context(
                ep_bulk.counts_bytes, until=go, computes=how == "computes"
            ) as (ctx, _):
                async with ctx.open_stream() as stream, trio.open_nursery() as tn:
                    if how == "stopped":
                        os.kill(pid, signal.SIGSTOP)
                    tn.start_soon(stream.send, LARGE)
                    tn.start_soon(stream.send, LARGE)
                    await trio.sleep(3)
                    assert portal.chan.connected()
                    (tmp_path / "go").touch()
                    if how == "stopped":
                        os.kill(pid, signal.SIGCONT)
                assert await ctx.wait_for_result() == 2 * len(LARGE)
            await portal.cancel_actor()

    run(main, limit=20)
