"""Channels: how they are opened, the opening exchange and the identities, codecs, the end."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from ep_run import run

from tractor._errors import TransportClosed
from tractor._proto.connection import auth
from tractor._proto.connection.framing import HEADER
from tractor.address._types import HAS_UDS, UDSAddress
from tractor.ipc._chan import Channel, connect_chan, transport_from_addr, transport_from_stream
from tractor.ipc._endpoint import Endpoint, bind_endpoints
from tractor.msg import mk_codec
from tractor.msg.types import Aid, Error, Return, Start, Started, Stop, Yield
from tractor.transport._memory import memory_pair
from tractor.transport._settings import WireSettings, reset_wire_settings, set_wire_settings
from tractor.transport._stream import MsgpackTransport
from tractor.transport._tcp import MsgpackTCPStream
from tractor.transport._uds import MsgpackUDSStream

KEY = b"the key of this tree"
HERE = Aid("here", "11111111-aaaa", 11)
THERE = Aid("there", "22222222-bbbb", 22)


@pytest.fixture(autouse=True)
def _key() -> Iterator[None]:
    set_wire_settings(WireSettings(authkey=KEY, key_is_explicit=True))
    yield
    reset_wire_settings()


@pytest.fixture
def bind_addr(tpt_proto: str, private_dir: Path) -> Any:
    """Where to listen, unwrapped."""
    if tpt_proto == "tcp":
        return "127.0.0.1", 0
    return str(private_dir), f"chan-{secrets.token_hex(4)}.sock"


@asynccontextmanager
async def listening(addr: Any) -> AsyncIterator[Endpoint]:
    (endpoint,) = await bind_endpoints([addr])
    try:
        yield endpoint
    finally:
        endpoint.close_listener()


async def accept(endpoint: Endpoint) -> Channel:
    sock = await endpoint.accept()
    assert sock is not None
    return Channel(endpoint.wrap(sock), "accept")


@asynccontextmanager
async def two_channels(addr: Any) -> AsyncIterator[tuple[Channel, Channel]]:
    """Two connected ends on which nothing was exchanged."""
    async with listening(addr) as endpoint:
        near = Channel(await transport_from_addr(endpoint.addr), "connect")
        far = await accept(endpoint)
    try:
        yield near, far
    finally:
        near.abort()
        far.abort()


async def read(chan: Channel) -> bytes:
    """What comes next, below all protocol; ``b""`` at the end."""
    await chan.transport.io.wait_readable()
    try:
        data = chan.transport.io.recv_nowait(1000)
    except ConnectionResetError:
        return b""
    assert data is not None
    return data


async def shake(
    near: Channel, far: Channel, *, key: bytes | None = None
) -> list[TransportClosed | Aid]:
    """The handshake of both ends at once; what each of them got."""
    got: list[TransportClosed | Aid] = [HERE, HERE]

    async def one(index: int, chan: Channel, aid: Aid, own_key: bytes | None) -> None:
        try:
            got[index] = await chan.handshake(aid, own_key)
        except TransportClosed as exc:
            got[index] = exc

    async with trio.open_nursery() as tn:
        tn.start_soon(one, 0, near, HERE, key)
        tn.start_soon(one, 1, far, THERE, None)
    return got


# -- dialog ids ----------------------------------------------------------------------------------------


def test_dialog_ids_are_odd_where_connected_and_even_where_accepted() -> None:
    a, b = memory_pair()
    near, far = Channel(a, "connect"), Channel(b, "accept")
    assert [near.new_cid() for _ in range(3)] == [1, 3, 5]
    assert [far.new_cid() for _ in range(3)] == [2, 4, 6]


def test_a_dialog_is_in_the_table_from_its_opening_until_it_is_forgotten() -> None:
    chan = Channel(memory_pair()[0], "connect")
    own, served = _any(Recorder()), _any(Recorder())
    cid = chan.open(own)
    assert chan.open(served, 2) == 2
    assert chan.dialogs == {cid: own, 2: served}
    # The peer's ids use up none of this side's.
    assert (cid, chan.new_cid()) == (1, 3)
    chan.forget(cid)
    chan.forget(cid)
    assert chan.dialogs == {2: served}


@pytest.mark.parametrize("now", [False, True])
def test_what_is_told_to_a_lost_peer_is_no_error(now: bool) -> None:
    async def main() -> None:
        a, b = memory_pair()
        near, far = Channel(a, "connect"), Channel(b, "accept")
        near.tell(Stop(1), now=now)
        await a.flush()
        assert await b.recv() == Stop(1)
        near.abort()
        near.tell(Stop(1), now=now)
        with pytest.raises(TypeError):
            far.tell(Yield(1, object()), now=now)  # type: ignore[arg-type]

    run(main)


# -- opening -------------------------------------------------------------------------------------------


def test_identities_are_exchanged(bind_addr: Any) -> None:
    async def main() -> None:
        async with two_channels(bind_addr) as (near, far):
            assert [near.aid, far.aid] == [None, None]
            assert near.peer == str(near.raddr)
            got = await shake(near, far)
            assert got == [THERE, HERE]
            assert (near.aid, far.aid) == (THERE, HERE)
            assert (near.local_uid, far.local_uid) == (HERE.uid, THERE.uid)
            assert near.peer == "there[222222]@22"

    run(main)


def test_messages_behind_the_identity_are_kept(bind_addr: Any) -> None:
    async def main() -> None:
        async with two_channels(bind_addr) as (near, far):

            async def eager() -> None:
                await near.handshake(HERE)
                for cid in (1, 3, 5):
                    near.transport.put(Stop(cid))
                await near.transport.flush()

            async with trio.open_nursery() as tn:
                tn.start_soon(eager)
                await far.handshake(THERE)
            assert [await far.recv() for _ in range(3)] == [Stop(1), Stop(3), Stop(5)]

    run(main)


def test_from_addr_proves_the_key_and_leaves_the_identity_to_the_handshake(bind_addr: Any) -> None:
    async def main() -> None:
        async with listening(bind_addr) as endpoint, trio.open_nursery() as tn:
            met: list[Aid] = []

            async def serve() -> None:
                async with await accept(endpoint) as chan:
                    met.append(await chan.handshake(THERE))
                    assert await chan.recv() == Stop(1)

            tn.start_soon(serve)
            chan = await Channel.from_addr(endpoint.addr.unwrap())
            assert chan.role == "connect"
            assert chan.aid is None
            assert await chan.handshake(HERE) == THERE
            await chan.send(Stop(1))
            await chan.aclose()
            assert chan.closed
        assert met == [HERE]

    run(main)


@pytest.mark.parametrize("close_timeout", [None, 0.5])
def test_connect_chan_closes_at_the_end_of_its_block(
    bind_addr: Any, close_timeout: float | None
) -> None:
    async def main() -> None:
        async with listening(bind_addr) as endpoint, trio.open_nursery() as tn:

            async def serve() -> None:
                async with await accept(endpoint) as chan:
                    await chan.handshake(THERE)
                    assert [msg async for msg in chan] == [Stop(1), Stop(3)]

            tn.start_soon(serve)
            async with connect_chan(endpoint.addr, close_timeout) as chan:
                await chan.handshake(HERE)
                chan.transport.put(Stop(1))
                chan.transport.put(Stop(3))
                assert chan.connected()
            assert chan.closed
            assert not chan.connected()

    run(main)


def test_from_stream_takes_an_accepted_stream(bind_addr: Any, tpt_proto: str) -> None:
    cls = MsgpackTCPStream if tpt_proto == "tcp" else MsgpackUDSStream

    async def main() -> None:
        async with listening(bind_addr) as endpoint:
            near = Channel(await transport_from_addr(endpoint.addr), "connect")
            sock = await endpoint.accept()
            assert sock is not None
            sock.setblocking(False)
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
            laddr, raddr = cls.get_stream_addrs(stream)
            async with Channel.from_stream(stream) as far, near:
                assert isinstance(far.transport, cls)
                assert (far.laddr, far.raddr) == (laddr, raddr)
                assert await shake(near, far) == [THERE, HERE]

    run(main)


def test_a_stream_that_is_no_socket_is_no_transport() -> None:
    stream: Any = trio.testing.MemoryReceiveStream()
    with pytest.raises(NotImplementedError, match="MemoryReceiveStream"):
        transport_from_stream(stream)


def test_connecting_to_nothing_is_an_os_error(bind_addr: Any) -> None:
    async def main() -> None:
        async with listening(bind_addr) as endpoint:
            addr = endpoint.addr
        with pytest.raises(OSError, match=r"refused|No such file"):
            await Channel.from_addr(addr)

    run(main)


@pytest.mark.parametrize("addr", [5, ("h",), "no multiaddr", ("127.0.0.1", "x", 3)])
def test_what_is_no_address_is_refused(addr: Any) -> None:
    async def main() -> None:
        with pytest.raises((TypeError, ValueError)):
            await Channel.from_addr(addr)

    run(main)


# -- an opening that fails -----------------------------------------------------------------------------


def test_a_wrong_key_on_tcp_ends_both_sides_and_tells_the_peer_no_reason() -> None:
    async def main() -> None:
        async with two_channels(("127.0.0.1", 0)) as (near, far):
            here, there = await shake(near, far, key=b"another tree's key")
            assert isinstance(here, TransportClosed)
            assert isinstance(there, TransportClosed)
            # The one that connects proves first: the other one sees that, and just closes.
            assert "does not hold this tree's key" in str(there)
            assert "closed the connection" in str(here)
            assert "does not hold" not in str(here)
            assert not near.connected()
            assert not far.connected()
            assert near.aid is None
            assert far.aid is None

    run(main)


def test_an_acceptor_judges_a_wrong_proof() -> None:
    async def main() -> None:
        async with two_channels(("127.0.0.1", 0)) as (near, far), trio.open_nursery() as tn:

            async def pretend() -> None:
                hello = auth.Handshake("connect", KEY, b"n" * 32).start()
                near.transport.io.send_nowait([hello, b"p" * 32])
                got = b""
                while (data := await read(near)) != b"":
                    got += data
                # Nothing that takes the key to compute.
                assert len(got) == len(hello)

            tn.start_soon(pretend)
            with pytest.raises(TransportClosed, match="does not hold this tree's key"):
                await far.handshake(THERE)

    run(main)


def test_a_reflected_proof_proves_nothing() -> None:
    """A peer without the key that sends back whatever it gets does not pass."""

    async def main() -> None:
        async with two_channels(("127.0.0.1", 0)) as (near, far), trio.open_nursery() as tn:

            async def mirror() -> None:
                got = b""
                while data := await read(near):
                    near.transport.io.send_nowait([data])
                    got += data
                    if len(got) == 38:
                        # There is no proof to send back; any other 32 bytes must do.
                        near.transport.io.send_nowait([got[6:]])

            tn.start_soon(mirror)
            with pytest.raises(TransportClosed, match="does not hold this tree's key"):
                await far.handshake(THERE)

    run(main)


def test_nothing_is_decoded_before_the_proof() -> None:
    async def main() -> None:
        async with two_channels(("127.0.0.1", 0)) as (near, far):
            body = msgspec.msgpack.encode(HERE)
            near.transport.io.send_nowait([HEADER.pack(len(body)), body])
            with pytest.raises(TransportClosed, match="does not speak this protocol"):
                await far.handshake(THERE)
            assert far.transport.received == 0

    run(main)


def test_versions_that_differ_are_both_named_on_both_sides(
    bind_addr: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with two_channels(bind_addr) as (near, far):
            newer = _machine_of_version(monkeypatch, 7)
            got: list[str] = []

            async def one(transport: MsgpackTransport, machine: auth.Handshake) -> None:
                with pytest.raises(TransportClosed) as info:
                    await transport.authenticate(machine, early=HERE)
                got.append(str(info.value))

            keyed = near.raddr.proto_key == "tcp"
            older = auth.Handshake("accept", KEY if keyed else None, b"n" * 32)
            async with trio.open_nursery() as tn:
                tn.start_soon(one, far.transport, older)
                tn.start_soon(one, near.transport, newer("connect", KEY if keyed else None))
            assert len(got) == 2
            for text in got:
                assert "version mismatch" in text
                assert "version 7" in text
                assert f"version {auth.PROTOCOL_VERSION}" in text
            assert not near.connected()
            assert not far.connected()

    run(main)


def _machine_of_version(monkeypatch: pytest.MonkeyPatch, version: int) -> Any:
    """A handshake that speaks another version of the protocol."""

    class Other(auth.Handshake):
        __slots__ = ()

        def start(self) -> bytes:
            with monkeypatch.context() as patch:
                patch.setattr(auth, "PROTOCOL_VERSION", version)
                return super().start()

        def receive(self, data: bytes) -> auth.Step:
            with monkeypatch.context() as patch:
                patch.setattr(auth, "PROTOCOL_VERSION", version)
                return super().receive(data)

    return lambda role, key: Other(role, key, b"m" * 32)


@pytest.mark.parametrize(
    "first",
    [
        Stop(1),
        Start(1, "m", "f", {}, HERE.uid),
        Error(src_uid=HERE.uid, src_type_str="E", boxed_type_str="E"),
    ],
    ids=lambda msg: type(msg).__name__,
)
def test_a_first_message_that_is_no_identity_ends_the_connection(
    bind_addr: Any, first: Any
) -> None:
    async def main() -> None:
        async with two_channels(bind_addr) as (near, far), trio.open_nursery() as tn:

            async def wrong() -> None:
                await near.transport.authenticate(_own_machine(near), early=first)
                with pytest.raises(TransportClosed):
                    # The far identity may have come; nothing does after it.
                    [await near.transport.recv() for _ in range(2)]

            tn.start_soon(wrong)
            name = type(first).__name__
            with pytest.raises(TransportClosed, match=f"began with a '{name}' message"):
                await far.handshake(THERE)
            assert not far.connected()

    run(main)


def _own_machine(chan: Channel) -> auth.Handshake:
    keyed = chan.raddr.proto_key == "tcp"
    return auth.Handshake("connect", KEY if keyed else None, os.urandom(32))


@pytest.mark.parametrize("sent", [0, 3, 6, 20, 38])
def test_a_peer_that_leaves_midway(bind_addr: Any, sent: int) -> None:
    async def main() -> None:
        async with two_channels(bind_addr) as (near, far):
            opening = _own_machine(near).start()[:sent]
            if opening:
                near.transport.io.send_nowait([opening])
            near.abort()
            with pytest.raises(TransportClosed):
                await far.handshake(THERE)
            assert not far.connected()

    run(main)


def test_garbage_instead_of_an_identity(bind_addr: Any) -> None:
    async def main() -> None:
        async with two_channels(bind_addr) as (near, far), trio.open_nursery() as tn:

            async def rubbish() -> None:
                await near.transport.authenticate(_own_machine(near))
                deep = b"\x97\x03\x01\xa1m\xa1f\x81\xa1x" + b"\x91" * 100_000 + b"\x00"
                near.transport.io.send_nowait([HEADER.pack(len(deep)), deep])
                await near.transport.io.wait_readable()

            tn.start_soon(rubbish)
            with pytest.raises(TransportClosed, match="not a message"):
                await far.handshake(THERE)

    run(main)


# -- messages ------------------------------------------------------------------------------------------


@asynccontextmanager
async def memory_channels() -> AsyncIterator[tuple[Channel, Channel]]:
    a, b = memory_pair()
    async with Channel(a, "connect") as near, Channel(b, "accept") as far:
        await shake(near, far)
        yield near, far


def test_send_recv_and_iteration() -> None:
    async def main() -> None:
        async with memory_channels() as (near, far):
            sent = [Stop(1), Stop(3), Stop(5)]
            for msg in sent:
                await near.send(msg)
            assert await far.recv() == sent[0]
            await near.aclose()
            assert [msg async for msg in far] == sent[1:]
            stats = far.statistics()
            assert (stats.received, stats.sent, stats.dialogs) == (4, 1, 0)

    run(main)


def test_a_payload_stays_raw_without_a_codec() -> None:
    async def main() -> None:
        async with memory_channels() as (near, far):
            await near.send(_any(Yield(1, {"a": 1})))
            msg = await far.recv()
            assert isinstance(msg, Yield)
            assert isinstance(msg.pld, msgspec.Raw)

    run(main)


def _any(msg: object) -> Any:
    return msg


class Point:
    """A type that msgspec does not know."""

    def __init__(self, x: int, y: int) -> None:
        self.xy = (x, y)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.xy == self.xy

    __hash__ = None  # type: ignore[assignment]


def test_an_applied_codec_is_used_both_ways_and_only_within_its_block() -> None:
    codec = mk_codec(
        Point,
        enc_hook=lambda p: list(p.xy),
        ext_types=[Point],
        ext_dec=lambda kind, value: kind(*value),
    )

    async def main() -> None:
        async with memory_channels() as (near, far):
            with near.apply_codec(codec) as applied, far.apply_codec(codec):
                assert applied is codec
                await near.send(_any(Yield(1, Point(2, 3))))
                await near.send(_any(Return(1, Point(4, 5))))
                assert _any(await far.recv()).pld == Point(2, 3)
                assert _any(await far.recv()).pld == Point(4, 5)
            with pytest.raises(TypeError):
                await near.send(_any(Yield(1, Point(2, 3))))

    run(main)


def test_a_message_that_violates_the_applied_codec_costs_no_more_than_itself() -> None:
    async def main() -> None:
        async with memory_channels() as (near, far):
            with far.apply_codec(mk_codec(int)):
                await near.send(_any(Started(1, "text")))
                await near.send(_any(Started(1, 7)))
                with pytest.raises(msgspec.ValidationError):
                    await far.recv()
                assert _any(await far.recv()).pld == 7
            await near.send(Stop(1))
            assert await far.recv() == Stop(1)

    run(main)


# -- the end -------------------------------------------------------------------------------------------


def test_send_eof_is_seen_as_a_graceful_end(bind_addr: Any) -> None:
    async def main() -> None:
        async with two_channels(bind_addr) as (near, far):
            await shake(near, far)
            near.transport.put(Stop(1))
            await near.send_eof()
            assert [msg async for msg in far] == [Stop(1)]
            await far.aclose()
            assert [msg async for msg in near] == []

    run(main)


class Recorder:
    """A dialog that notes its end."""

    def __init__(self) -> None:
        self.lost: list[TransportClosed] = []

    def on_lost(self, exc: TransportClosed) -> None:
        self.lost.append(exc)


def test_every_dialog_is_told_of_the_loss_once() -> None:
    a, _ = memory_pair()
    chan = Channel(a, "connect")
    dialogs = [Recorder() for _ in range(3)]
    for dialog in dialogs:
        chan.open(_any(dialog))
    exc = TransportClosed("gone")
    chan.lose_dialogs(exc)
    chan.lose_dialogs(exc)
    assert [d.lost for d in dialogs] == [[exc]] * 3
    assert chan.dialogs == {}


# -- what it is ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "from_addr", "from_stream", "send", "recv", "__aiter__", "aclose", "connected", "closed",
        "cancel_called", "aid", "transport", "laddr", "raddr", "maddr", "apply_codec",
        "__aenter__", "__aexit__",
    ],
)  # fmt: skip
def test_a_channel_has_every_public_member(name: str) -> None:
    a, _ = memory_pair()
    assert hasattr(Channel(a, "connect"), name)


def test_the_outdated_names_warn() -> None:
    async def main() -> None:
        async with memory_channels() as (near, _):
            with pytest.warns(DeprecationWarning, match="aid.uid"):
                assert near.uid == THERE.uid
            with pytest.warns(DeprecationWarning, match="transport"):
                assert near.msgstream is near.transport

    run(main)


def test_its_text_names_peer_transport_and_state(private_dir: Path) -> None:
    addr = UDSAddress(str(private_dir), "text.sock")

    async def main() -> None:
        async with two_channels(addr) as (near, far):
            await shake(near, far)
            assert repr(near) == "<Channel to there[222222]@22 over uds: open, 0 dialogs>"
            far.abort()
            with pytest.raises(TransportClosed):
                await near.recv()
            assert "lost" in repr(near)
            await near.aclose()
            assert "closed" in repr(near)
            assert near.maddr.startswith("/unix")

    if not hasattr(socket, "AF_UNIX"):
        pytest.skip("no Unix sockets on this platform")
    run(main)


def test_no_message_before_the_proof_of_the_key() -> None:
    async def main() -> None:
        async with listening(("127.0.0.1", 0)) as endpoint:
            stranger = await transport_from_addr(endpoint.addr)
            sock = await endpoint.accept()
            assert sock is not None
            sock.setblocking(False)
            async with Channel.from_stream(
                trio.SocketStream(trio.socket.from_stdlib_socket(sock))
            ) as chan:
                await stranger.send(Stop(1))
                with pytest.raises(RuntimeError, match=r"has not proven the key.*handshake"):
                    await chan.recv()
                with pytest.raises(RuntimeError, match="has not proven the key"):
                    async for _ in chan:
                        pass
                with pytest.raises(RuntimeError, match="has not proven the key"):
                    await chan.send(Stop(1))
                assert chan.transport.received == 0
            stranger.abort()

    run(main)


@pytest.mark.skipif(not HAS_UDS, reason="no Unix sockets here")
def test_a_unix_socket_without_a_file_is_no_transport() -> None:
    async def main() -> None:
        near, far = trio.socket.socketpair()
        with far, pytest.raises(NotImplementedError, match="without a file"):
            transport_from_stream(trio.SocketStream(near))
        assert near.fileno() == -1

    run(main)
