"""One conformance suite over every transport: what a Channel may rely on, whatever the road."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import ep_certs
import msgspec
import pytest
import trio
import trio.testing
from ep_run import run

from tractor._errors import MessagingError, TransportClosed
from tractor._proto.connection.framing import DEFAULT_MAX_FRAME_SIZE, HEADER
from tractor.address._types import HAS_UDS, TCPAddress, UDSAddress
from tractor.msg.types import Credit, Error, Return, SpawnSpec, Start, Stop, Yield
from tractor.transport._memory import MemoryIO, memory_pair
from tractor.transport._sockio import SocketIO
from tractor.transport._stream import HIGH_WATER, NO_COPY_ABOVE, MsgpackTransport, MsgTransport
from tractor.transport._tcp import MsgpackTCPStream, bind_tcp, connect_tcp, tcp_from_socket
from tractor.transport.tls._config import TLSContexts
from tractor.transport.tls._io import TLSIO
from tractor.transport.tls._stream import connect_tls, tls_from_socket

if HAS_UDS:
    from tractor.transport._uds import MsgpackUDSStream, bind_uds, connect_uds, uds_from_socket
if sys.platform == "linux":
    from tractor.shm.ring._io import RingIO
    from tractor.shm.ring._transport import ShmAddress, connect_shm, shm_from_socket

Pair: TypeAlias = tuple[MsgpackTransport, MsgpackTransport]
OpenPair: TypeAlias = Callable[..., Any]

KINDS = ["tcp", "tcp+tls", "uds", "memory"] if HAS_UDS else ["tcp", "tcp+tls", "memory"]
if sys.platform == "linux":
    KINDS.append("shm")


async def _connected(kind: str, directory: Path, limit: int) -> Pair:
    if kind == "memory":
        return memory_pair(limit)
    if kind == "tcp+tls":
        return await _connected_by_tls(limit)
    if kind == "tcp":
        listener = await bind_tcp(TCPAddress("127.0.0.1", 0))
        with listener:
            near = await connect_tcp(TCPAddress(*listener.getsockname()[:2]), max_frame_size=limit)
            return near, tcp_from_socket(await _accepted(listener), max_frame_size=limit)
    if kind == "shm":
        return await _connected_by_rings(directory, limit)
    addr = UDSAddress(str(directory), "pair.sock")
    with bind_uds(addr) as listener:
        near_uds = await connect_uds(addr, max_frame_size=limit)
        far = uds_from_socket(await _accepted(listener), addr, max_frame_size=limit)
    os.unlink(addr.sockpath)
    return near_uds, far


async def _connected_by_rings(directory: Path, limit: int) -> Pair:
    addr = ShmAddress(str(directory), "pair.shm.sock")
    with bind_uds(addr) as listener:
        near = await connect_shm(addr, max_frame_size=limit)
        far = shm_from_socket(await _accepted(listener), addr, max_frame_size=limit)
        await far.secure()
    os.unlink(addr.sockpath)
    return near, far


async def _connected_by_tls(limit: int) -> Pair:
    contexts = TLSContexts(ep_certs.config())
    with await bind_tcp(TCPAddress("127.0.0.1", 0)) as listener:
        addr = TCPAddress(*listener.getsockname()[:2])
        near = await connect_tls(addr, contexts.connect, max_frame_size=limit)
        far = tls_from_socket(await _accepted(listener), contexts.accept, max_frame_size=limit)
    async with trio.open_nursery() as tn:
        tn.start_soon(near.secure)
        tn.start_soon(far.secure)
    return near, far


async def _accepted(listener: socket.socket) -> socket.socket:
    await trio.lowlevel.wait_readable(listener)
    return listener.accept()[0]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    key: str = request.param
    return key


@pytest.fixture
def open_pair(kind: str, private_dir: Path) -> OpenPair:
    """An async context manager of two transports that are connected to each other."""

    @asynccontextmanager
    async def opened(max_frame_size: int = DEFAULT_MAX_FRAME_SIZE) -> AsyncIterator[Pair]:
        near, far = await _connected(kind, private_dir, max_frame_size)
        try:
            yield near, far
        finally:
            near.abort()
            far.abort()

    return opened


def yielded(msg: Any) -> Any:
    """The payload of a received message, decoded."""
    assert isinstance(msg, Yield)
    return msgspec.msgpack.decode(msg.pld)


async def fill(transport: MsgpackTransport, cid: int = 1) -> int:
    """Send until the pipe takes no more; how many whole messages were put."""
    count = 0
    msg: Any = Yield(cid, b"f" * 65_000)
    with trio.CancelScope() as scope:
        while True:
            transport.put(msg)
            count += 1
            async with trio.open_nursery() as tn:
                tn.start_soon(_cancel_when_idle, scope)
                await transport.flush()
                tn.cancel_scope.cancel()
    # The kernel may still make room, as it settles its buffers: not for this much.
    for _ in range(32):
        transport.put(msg)
    return count + 32


async def send_on(transport: MsgpackTransport) -> None:
    """Send until that fails."""
    msg: Any = Yield(1, b"x" * 10_000)
    while True:
        await transport.send(msg)
        await trio.lowlevel.checkpoint()


async def _cancel_when_idle(scope: trio.CancelScope) -> None:
    await trio.testing.wait_all_tasks_blocked(0.02)
    scope.cancel()


# -- carrying messages ---------------------------------------------------------------------------------


def test_messages_arrive_in_order_and_both_ways(open_pair: OpenPair) -> None:
    async def main() -> None:
        async with open_pair() as (a, b):
            await a.send(Start(1, "mod", "func", {"x": [1, {"y": None}]}, ("n", "u")))
            for i in range(20):
                await a.send(Yield(3, i))
            await b.send(Credit(2, 7, 70))
            start = await b.recv()
            assert isinstance(start, Start)
            assert start.kwargs == {"x": [1, {"y": None}]}
            assert start.uid == ("n", "u")
            assert [yielded(await b.recv()) for _ in range(20)] == list(range(20))
            assert await a.recv() == Credit(2, 7, 70)

    run(main)


@pytest.mark.parametrize("size", [0, 65_535, 65_536, 300_000, 5_000_000])
def test_a_message_of_any_size_arrives_whole(open_pair: OpenPair, size: int) -> None:
    payload = bytes(range(256)) * (size // 256 + 1)
    payload = payload[:size]

    async def main() -> None:
        async with open_pair() as (a, b), trio.open_nursery() as tn:
            tn.start_soon(a.send, Yield(1, payload))
            assert yielded(await b.recv()) == payload
            tn.start_soon(b.send, Yield(1, payload))
            assert yielded(await a.recv()) == payload

    run(main)


def test_a_payload_that_is_not_copied_keeps_its_place(open_pair: OpenPair) -> None:
    large = b"L" * NO_COPY_ABOVE

    async def main() -> None:
        async with open_pair() as (a, b), trio.open_nursery() as tn:
            a.put(Yield(1, "before"))
            a.put_bytes(1, large)
            a.put(Yield(1, "between"))
            a.put_bytes(1, large + large)
            a.put(Yield(1, "after"))
            assert a.unsent > 3 * NO_COPY_ABOVE
            tn.start_soon(a.flush)
            got = [yielded(await b.recv()) for _ in range(5)]
            assert got == ["before", large, "between", large + large, "after"]
            assert a.unsent == 0

    run(main)


def test_frames_of_concurrent_senders_never_mix(open_pair: OpenPair) -> None:
    senders, each = 8, 12

    async def sender(transport: MsgpackTransport, cid: int) -> None:
        for i in range(each):
            msg: Any = Yield(cid, [i, bytes([cid]) * (1 + 20_000 * (i % 3))])
            await transport.send(msg)
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with open_pair() as (a, b), trio.open_nursery() as tn:
            for cid in range(senders):
                tn.start_soon(sender, a, cid)
            seen: dict[int, int] = dict.fromkeys(range(senders), 0)
            for _ in range(senders * each):
                msg = await b.recv()
                assert isinstance(msg, Yield)
                number, data = msgspec.msgpack.decode(msg.pld)
                assert number == seen[msg.cid]
                assert set(data) == {msg.cid}
                seen[msg.cid] += 1
            assert set(seen.values()) == {each}

    run(main)


def test_a_flusher_and_inline_writers_get_along(open_pair: OpenPair) -> None:
    """Messages put before, while and after a flusher runs arrive in their order."""

    async def main() -> None:
        async with open_pair() as (a, b):
            a.put(Yield(1, 0))
            async with trio.open_nursery() as tn:
                await tn.start(a.run_flusher)
                for i in range(1, 50):
                    a.put(Yield(1, i))
                    if i % 7 == 0:
                        await trio.lowlevel.checkpoint()
                await a.flush()
                assert a.unsent == 0
                tn.cancel_scope.cancel()
            await a.send(Yield(1, 50))
            assert [yielded(await b.recv()) for _ in range(51)] == list(range(51))

    run(main)


def test_a_flusher_that_starts_while_a_sender_writes(open_pair: OpenPair) -> None:
    async def main() -> None:
        async with open_pair() as (a, b), trio.open_nursery() as tn:
            count = await fill(a)
            tn.start_soon(a.flush)
            await trio.testing.wait_all_tasks_blocked()
            tn.start_soon(a.run_flusher)
            await trio.testing.wait_all_tasks_blocked()
            a.put(Yield(1, "last"))
            for _ in range(count):
                assert len(yielded(await b.recv())) == 65_000
            assert yielded(await b.recv()) == "last"
            tn.cancel_scope.cancel()

    run(main)


def test_many_small_messages_leave_together(open_pair: OpenPair) -> None:
    """A burst of one turn reaches the pipe in few writes: one at once, and one a millisecond at most."""

    async def main() -> None:
        async with open_pair() as (a, b), trio.open_nursery() as tn:
            writes: list[int] = []
            a.io = Recording(a.io, writes)
            await tn.start(a.run_flusher)
            await trio.testing.wait_all_tasks_blocked()
            for i in range(2_000):
                a.put(Yield(1, i))
            got = 0
            while got < 2_000:
                got += len(await b.recv_batch())
            assert 2 <= len(writes) < 200
            tn.cancel_scope.cancel()

    run(main)


class Recording:
    """Notes the size of every write on its way to a pipe."""

    def __init__(self, io: Any, writes: list[int]) -> None:
        self._io = io
        self._writes = writes

    def send_nowait(self, buffers: list[Any]) -> int:
        taken: int = self._io.send_nowait(buffers)
        self._writes.append(taken)
        return taken

    def __getattr__(self, name: str) -> Any:
        return getattr(self._io, name)


class Hesitating(Recording):
    """Takes one byte of the first write, and the next ones whole."""

    def send_nowait(self, buffers: list[Any]) -> int:
        return super().send_nowait(buffers if self._writes else [buffers[0][:1]])


def test_a_sender_whose_rest_another_one_writes_goes_on(open_pair: OpenPair) -> None:
    """It happens before the flusher, which was woken for that rest, has had its turn."""

    async def main() -> None:
        async with open_pair() as (a, b), trio.open_nursery() as tn:
            a.io = Hesitating(a.io, [])
            await tn.start(a.run_flusher)
            await trio.testing.wait_all_tasks_blocked()
            # Both have their turn in one pass of trio's loop: the first one's rest wakes the flusher for the next pass.
            with trio.fail_after(20):
                async with trio.open_nursery() as senders:
                    for each in range(2):
                        senders.start_soon(a.send, Yield(1, each))
            assert sorted([yielded(await b.recv()) for _ in range(2)]) == [0, 1]
            tn.cancel_scope.cancel()

    run(main)


def test_statistics_count_messages_and_waiting_bytes(open_pair: OpenPair) -> None:
    async def main() -> None:
        async with open_pair() as (a, b):
            for _ in range(3):
                a.put(Stop(1))
            waiting = a.unsent
            assert waiting == 3 * (4 + len(msgspec.msgpack.encode(Stop(1))))
            assert (a.sent, a.received) == (3, 0)
            await a.flush()
            assert a.unsent == 0
            for _ in range(3):
                await b.recv()
            assert (b.sent, b.received) == (0, 3)

    run(main)


# -- reading -------------------------------------------------------------------------------------------


def test_drain_takes_what_has_arrived_and_was_not_taken(open_pair: OpenPair) -> None:
    async def main() -> None:
        async with open_pair() as (a, b):
            for i in range(4):
                a.put(Yield(1, i))
            await a.flush()
            assert yielded(await b.recv()) == 0
            assert [yielded(m) for m in b.drain()] == [1, 2, 3]
            assert b.drain() == []

    run(main)


def test_iteration_ends_with_the_peers_close(open_pair: OpenPair) -> None:
    async def main() -> None:
        async with open_pair() as (a, b):
            for i in range(3):
                await a.send(Yield(1, i))
            await a.aclose()
            async for msg in b:
                assert yielded(msg) == 0
                break
            assert [yielded(m) async for m in b] == [1, 2]
            assert [m async for m in b] == []

    run(main)


def test_iteration_after_the_own_close_is_an_error(open_pair: OpenPair) -> None:
    async def main() -> None:
        async with open_pair() as (a, _):
            await a.aclose()
            with pytest.raises(TransportClosed, match="on this side") as info:
                async for _msg in a:
                    pass
            assert isinstance(info.value.src_exc, trio.ClosedResourceError)

    run(main)


def test_a_cancelled_reader_loses_nothing(open_pair: OpenPair) -> None:
    async def main() -> None:
        async with open_pair() as (a, b):
            with trio.CancelScope() as scope:
                scope.cancel()
                await b.recv()
            assert scope.cancelled_caught
            a.put(Yield(1, 1))
            a.put(Yield(1, 2))
            await a.flush()
            assert yielded(await b.recv()) == 1
            with trio.CancelScope() as scope:
                scope.cancel()
                await b.recv()
            assert scope.cancelled_caught
            assert yielded(await b.recv()) == 2

    run(main)


# -- back pressure and cancellation --------------------------------------------------------------------


def test_a_sender_waits_above_the_high_water_mark(open_pair: OpenPair) -> None:
    async def main() -> None:
        async with open_pair() as (a, b), trio.open_nursery() as tn:
            await tn.start(a.run_flusher)
            sent = 0

            async def produce() -> None:
                nonlocal sent
                for _ in range(20):
                    await a.send(Yield(1, b"x" * 10_000))
                    sent += 1

            for _ in range(100):
                tn.start_soon(produce)
            await trio.testing.wait_all_tasks_blocked(0.02)
            held = sent
            assert held < 2_000
            assert HIGH_WATER < a.unsent < HIGH_WATER + 20_000
            for _ in range(2_000):
                await b.recv()
            await trio.testing.wait_all_tasks_blocked()
            assert sent == 2_000
            tn.cancel_scope.cancel()

    run(main)


async def put_and_wait(transport: MsgpackTransport, msg: Any) -> None:
    transport.put_now(msg)
    await transport.wait_written()


@pytest.mark.parametrize("flusher", [False, True])
def test_a_cancelled_sender_leaves_no_partial_frame(open_pair: OpenPair, flusher: bool) -> None:
    async def main() -> None:
        async with open_pair() as (a, b), trio.open_nursery() as tn:
            count = await fill(a)
            if flusher:
                await tn.start(a.run_flusher)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as inner:
                    inner.start_soon(put_and_wait, a, Yield(1, b"c" * 400_000))
                    await trio.testing.wait_all_tasks_blocked(0.02)
                    scope.cancel()
            tn.start_soon(a.send, Yield(1, "next"))
            sizes = [len(yielded(await b.recv())) for _ in range(count + 1)]
            assert sizes == [65_000] * count + [400_000]
            assert yielded(await b.recv()) == "next"
            tn.cancel_scope.cancel()

    run(main)


def test_a_sender_that_is_cancelled_already_sends_nothing(open_pair: OpenPair) -> None:
    async def main() -> None:
        async with open_pair() as (a, _):
            with trio.CancelScope() as scope:
                scope.cancel()
                await a.send(Stop(1))
            assert scope.cancelled_caught
            assert (a.sent, a.unsent) == (0, 0)

    run(main)


# -- limits and bad input ------------------------------------------------------------------------------


def test_an_oversized_message_is_refused_before_anything_is_written(open_pair: OpenPair) -> None:
    async def main() -> None:
        async with open_pair(max_frame_size=100_000) as (a, b):
            with pytest.raises(MessagingError, match=r"'Yield' message of \d+ bytes .* 100000"):
                await a.send(Yield(1, "x" * 100_000))
            with pytest.raises(MessagingError, match="limit of 100000 bytes"):
                a.put_bytes(1, b"x" * 100_000)
            assert (a.unsent, a.sent) == (0, 0)
            await a.send(Yield(1, "x" * 90_000))
            assert len(yielded(await b.recv())) == 90_000

    run(main)


def test_a_frame_of_exactly_the_limit_passes(open_pair: OpenPair) -> None:
    frame = len(msgspec.msgpack.encode(Yield(1, b"x" * 70_000)))

    async def main() -> None:
        async with open_pair(max_frame_size=frame) as (a, b), trio.open_nursery() as tn:
            tn.start_soon(a.send, Yield(1, b"x" * 70_000))
            assert len(yielded(await b.recv())) == 70_000
            with pytest.raises(MessagingError):
                a.put(Yield(1, b"x" * 70_001))

    run(main)


def test_an_oversized_length_from_the_peer_closes_the_connection(open_pair: OpenPair) -> None:
    async def main() -> None:
        async with open_pair(max_frame_size=1_000) as (a, b):
            a.io.send_nowait([HEADER.pack(1_001)])
            with pytest.raises(TransportClosed, match="1001 bytes is over the limit of 1000"):
                await b.recv()
            assert not b.connected()
            with pytest.raises(TransportClosed):
                await a.recv()

    run(main)


@pytest.mark.parametrize(
    "value",
    [object(), 2**70, "\ud800", {1: object()}],
    ids=["object", "large int", "lone surrogate", "nested object"],
)
def test_what_cannot_be_encoded_is_a_type_error_and_nothing_is_written(
    open_pair: OpenPair, value: object
) -> None:
    async def main() -> None:
        async with open_pair() as (a, b):
            with pytest.raises(TypeError):
                await a.send(Yield(1, value))
            endless: list[Any] = []
            endless.append(endless)
            with pytest.raises(TypeError):
                await a.send(Yield(1, endless))
            assert (a.unsent, a.sent) == (0, 0)
            await a.send(Yield(1, "fine"))
            assert yielded(await b.recv()) == "fine"

    run(main)


def framed(*bodies: bytes) -> bytes:
    return b"".join(HEADER.pack(len(body)) + body for body in bodies)


BAD_FRAMES = {
    "no msgpack": b"\xc1\xc1\xc1",
    "empty": b"",
    "no array": msgspec.msgpack.encode({"cid": 1}),
    "unknown tag": msgspec.msgpack.encode([99, 1]),
    "no tag": msgspec.msgpack.encode([]),
    "too few fields": msgspec.msgpack.encode([6]),
    "wrong type": msgspec.msgpack.encode([6, "cid", None]),
    "a float for a cid": msgspec.msgpack.encode([7, 1.5]),
    "trailing bytes": msgspec.msgpack.encode([7, 1]) + b"\x00",
    "cut short": msgspec.msgpack.encode(Start(1, "m", "f", {"a": "b" * 99}, ("n", "u")))[:-20],
    "no text": b"\x97\x03\x01\xa2\xff\xfe\xa1f\x80\x92\xa1n\xa1u\xc0",
    "nested too deep": b"\x97\x03\x01\xa1m\xa1f\x81\xa1x" + b"\x91" * 100_000 + b"\x00",
    "a list of 2**32 - 1": b"\x97\x03\x01\xa1m\xa1f\x81\xa1x\xdd\xff\xff\xff\xff",
    "a map of 2**32 - 1": b"\x97\x03\x01\xa1m\xa1f\x81\xa1x\xdf\xff\xff\xff\xff",
    "an extension of 2**32 - 1": b"\x97\x03\x01\xa1m\xa1f\x81\xa1x\xc9\xff\xff\xff\xff\x05",
}


@pytest.mark.parametrize("body", BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_what_is_no_message_closes_the_connection(open_pair: OpenPair, body: bytes) -> None:
    async def main() -> None:
        async with open_pair() as (a, b):
            a.io.send_nowait([framed(body)])
            with pytest.raises(TransportClosed, match="not a message") as info:
                await b.recv()
            assert info.value.src_exc is not None
            assert not b.connected()
            with pytest.raises(TransportClosed):
                b.put(Stop(1))

    run(main)


def test_messages_of_every_kind_in_single_bytes(open_pair: OpenPair) -> None:
    """However the byte stream is cut, the same messages come out of it."""
    uid = ("n", "u")
    msgs: list[Any] = [
        SpawnSpec({}, {"a": 1}, {"m": "f"}, [], []),
        Start(1, "m", "f", {}, uid),
        Error(src_uid=uid, src_type_str="E", boxed_type_str="E", cid=1),
        Stop(1),
        Credit(1, 5, 50),
    ]
    data = framed(*(msgspec.msgpack.encode(m) for m in msgs))

    async def main() -> None:
        async with open_pair() as (a, b), trio.open_nursery() as tn:

            async def trickle() -> None:
                for i in range(len(data)):
                    assert a.io.send_nowait([data[i : i + 1]]) == 1
                    await trio.lowlevel.checkpoint()

            tn.start_soon(trickle)
            assert [await b.recv() for _ in msgs] == msgs

    run(main)


# -- the end -------------------------------------------------------------------------------------------


def test_eof_between_frames_is_a_graceful_end(open_pair: OpenPair) -> None:
    async def main() -> None:
        async with open_pair() as (a, b):
            await a.send(Stop(1))
            a.io.close()
            assert await b.recv() == Stop(1)
            for _ in range(2):
                with pytest.raises(TransportClosed, match="peer closed") as info:
                    await b.recv()
                assert info.value.src_exc is None
            assert not b.connected()

    run(main)


@pytest.mark.parametrize("cut", [1, 3, 4, 9])
def test_eof_within_a_frame_says_so(open_pair: OpenPair, cut: int) -> None:
    async def main() -> None:
        async with open_pair() as (a, b):
            a.io.send_nowait([framed(b"x" * 20)[:cut]])
            a.io.close()
            with pytest.raises(
                TransportClosed, match=rf"within a frame, after {cut} bytes"
            ) as info:
                await b.recv()
            assert isinstance(info.value.src_exc, EOFError)

    run(main)


def test_a_half_close_ends_reading_and_closes(open_pair: OpenPair) -> None:
    """A peer that says that nothing follows is answered by closing, which it can see."""

    async def main() -> None:
        async with open_pair() as (a, b):
            await a.send(Stop(1))
            a.io.send_eof()
            assert await b.recv() == Stop(1)
            with pytest.raises(TransportClosed, match="peer closed"):
                await b.recv()
            with pytest.raises(TransportClosed, match="peer closed"):
                await a.recv()

    run(main)


def break_pipe(transport: MsgpackTransport) -> None:
    """End the connection as a crash of the peer's host would."""
    io = transport.io
    if isinstance(io, TLSIO):
        io = io._io
    if isinstance(io, MemoryIO):
        io.break_both()
        return
    if sys.platform == "linux" and isinstance(io, RingIO):
        # As in a crash, only the kernel tells.
        io.sock.shutdown(socket.SHUT_RDWR)
        return
    assert isinstance(io, SocketIO)
    if io.sock.family == socket.AF_INET:
        io.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # Without the end that `io.close()` would say first.
    trio.lowlevel.notify_closing(io.sock)
    io.sock.close()


@pytest.mark.skipif(sys.platform != "linux", reason="how a UDS resets is Linux's way")
def test_a_reset_is_told_with_its_cause(open_pair: OpenPair) -> None:
    async def main() -> None:
        async with open_pair() as (a, b):
            # A Unix socket resets when it is closed with something unread.
            await b.send(Stop(1))
            await trio.testing.wait_all_tasks_blocked()
            break_pipe(a)
            with pytest.raises(TransportClosed, match="broke") as info:
                await b.recv()
            assert isinstance(info.value.src_exc, ConnectionResetError)

    run(main)


@pytest.mark.parametrize("flusher", [False, True])
def test_sending_to_a_peer_that_is_gone(open_pair: OpenPair, flusher: bool) -> None:
    async def main() -> None:
        async with open_pair() as (a, b), trio.open_nursery() as tn:
            if flusher:
                await tn.start(b.run_flusher)
            a.abort()
            with pytest.raises(TransportClosed):
                await send_on(b)
            assert not b.connected()

    run(main)


def test_what_the_peer_sent_before_it_left_survives_a_failed_send(open_pair: OpenPair) -> None:
    """A result that has arrived is not lost because this side had something to say meanwhile."""

    async def main() -> None:
        async with open_pair() as (a, b), trio.open_nursery() as tn:
            await tn.start(b.run_flusher)
            await a.send(Return(1, "the result"))
            a.io.close()
            while b.connected():
                b.put(Stop(1))
                await trio.lowlevel.checkpoint()
            msg = await b.recv()
            assert isinstance(msg, Return)
            assert msgspec.msgpack.decode(msg.pld) == "the result"
            with pytest.raises(TransportClosed):
                await b.recv()

    run(main)


def test_close_flushes(open_pair: OpenPair) -> None:
    async def main() -> None:
        async with open_pair() as (a, b):
            a.put(Yield(1, "parting words"))
            await a.aclose()
            await a.aclose()
            assert not a.connected()
            assert yielded(await b.recv()) == "parting words"

    run(main)


def test_close_does_not_wait_for_a_peer_that_does_not_read(open_pair: OpenPair) -> None:
    async def main() -> None:
        async with open_pair() as (a, _):
            await fill(a)
            before = trio.current_time()
            await a.aclose()
            assert trio.current_time() - before == pytest.approx(0.2)
            assert not a.connected()

    # The clock jumps only where nobody can do anything but wait for it.
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.05))


def test_abort_does_not_flush(open_pair: OpenPair) -> None:
    async def main() -> None:
        async with open_pair() as (a, b):
            a.put(Yield(1, "never sent"))
            a.abort()
            a.abort()
            with pytest.raises(TransportClosed):
                await b.recv()
            assert b.received == 0

    run(main)


def test_a_use_after_the_close(open_pair: OpenPair) -> None:
    async def main() -> None:
        async with open_pair() as (a, _):
            await a.aclose()
            seen = []
            for _ in range(2):
                with pytest.raises(TransportClosed, match="closed on this side") as sending:
                    await a.send(Stop(1))
                with pytest.raises(TransportClosed, match="closed on this side") as reading:
                    await a.recv()
                seen += [sending.value, reading.value]
            with pytest.raises(TransportClosed):
                a.put_bytes(1, b"x")
            assert len(set(map(id, seen))) == 4

    run(main)


def test_closing_while_a_reader_waits(open_pair: OpenPair) -> None:
    async def main() -> None:
        async with open_pair() as (a, _), trio.open_nursery() as tn:

            async def read() -> None:
                with pytest.raises(TransportClosed, match="on this side"):
                    await a.recv()

            tn.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            a.abort()

    run(main)


@pytest.mark.parametrize("flusher", [False, True])
def test_closing_while_writers_wait(open_pair: OpenPair, flusher: bool) -> None:
    async def main() -> None:
        async with open_pair() as (a, _), trio.open_nursery() as tn:
            await fill(a)
            if flusher:
                await tn.start(a.run_flusher)
            told = 0

            async def write() -> None:
                nonlocal told
                with pytest.raises(TransportClosed, match="on this side"):
                    await send_on(a)
                told += 1

            async def flush() -> None:
                nonlocal told
                with pytest.raises(TransportClosed, match="on this side"):
                    await a.flush()
                told += 1

            async with trio.open_nursery() as writers:
                writers.start_soon(write)
                writers.start_soon(write)
                writers.start_soon(flush)
                await trio.testing.wait_all_tasks_blocked(0.02)
                a.abort()
            assert told == 3

    run(main)


# -- what it is ----------------------------------------------------------------------------------------


def test_a_transport_says_what_it_is(open_pair: OpenPair, kind: str) -> None:
    async def main() -> None:
        async with open_pair() as (a, b):
            for transport in (a, b):
                assert isinstance(transport, MsgTransport)
                assert transport.codec_key == "msgpack"
                assert transport.layer_key == 4
                assert transport.connected()
                assert isinstance(transport.laddr, transport.address_type)
                assert isinstance(transport.raddr, transport.address_type)
                assert transport.maddr.startswith("/")
                proto = kind if kind in ("uds", "shm") else "tcp"
                assert transport.key() == ("msgpack", proto)

    run(main)


def test_the_kernel_tells_a_unix_peers_pid(private_dir: Path) -> None:
    if not HAS_UDS:
        pytest.skip("no Unix sockets on this platform")

    async def main() -> None:
        a, b = await _connected("uds", private_dir, 1_000)
        for transport in (a, b):
            assert transport.raddr.maybe_pid == os.getpid()  # type: ignore[attr-defined]
            transport.abort()

    run(main)


def test_connect_to_and_stream_addresses_over_tcp() -> None:
    async def main() -> None:
        listener = await bind_tcp(TCPAddress("127.0.0.1", 0))
        with listener:
            addr = TCPAddress(*listener.getsockname()[:2])
            transport = await MsgpackTCPStream.connect_to(addr)
            assert transport.raddr == addr
            with await _accepted(listener) as accepted:
                stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
                laddr, raddr = MsgpackTCPStream.get_stream_addrs(stream)
                assert (laddr, raddr) == (addr, transport.laddr)
            transport.abort()

    run(main)


def test_connect_to_over_uds_waits_while_the_listeners_queue_is_full(private_dir: Path) -> None:
    """A full queue is not a connection: on Linux a non-blocking connect begins nothing then."""
    if not HAS_UDS:
        pytest.skip("no Unix sockets on this platform")
    addr = UDSAddress(str(private_dir), "busy.sock")

    async def main() -> None:
        with bind_uds(addr) as listener:
            listener.listen(0)
            waiting = socket.socket(socket.AF_UNIX)
            waiting.connect(str(addr.sockpath))
            connected = trio.Event()

            async def connect() -> None:
                transport = await MsgpackUDSStream.connect_to(addr)
                connected.set()
                await transport.send(Stop(1))
                transport.abort()

            async with trio.open_nursery() as tn:
                tn.start_soon(connect)
                await trio.testing.wait_all_tasks_blocked()
                assert not connected.is_set()
                (await _accepted(listener)).close()
                waiting.close()
                with await _accepted(listener) as sock:
                    far = uds_from_socket(sock, addr, max_frame_size=100)
                    assert await far.recv() == Stop(1)

    try:
        run(main)
    finally:
        os.unlink(addr.sockpath)
