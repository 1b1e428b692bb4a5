"""Large frames in shared memory: between actors of one host, unasked; bounded; gone with whoever ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np
import pytest
import trio
from ep_run import run

import tractor
from tractor._proto.connection.framing import CONTROL, FrameBuffer, FrameTooLarge
from tractor.msg import _arrays
from tractor.msg._codec import ANY_DEC, apply_codec, mk_codec, mk_dec
from tractor.msg.hooks import ndarray_hooks
from tractor.msg.types import Yield, decode_large
from tractor.transport._sending import _encode_in_parts
from tractor.transport._uds import MsgpackUDSStream
from tractor.transport.lent import _slots
from tractor.transport.lent._memory import borrow, make_memory
from tractor.transport.lent._slots import (
    FREE,
    LEND_ABOVE,
    LENT,
    MAX_BYTES,
    MAX_SLOTS,
    OFFER,
    REFUSE,
    WITHDRAW,
    BadControl,
    Borrower,
    Lender,
)

if sys.platform != "linux":
    pytest.skip("memory without a name is Linux's", allow_module_level=True)

Record = tuple[int, int, int, int]
LARGE = 3 * 2**20


class Wire:
    """Carries records between the two ends, as a connection does."""

    def __init__(self) -> None:
        self.said: list[Record] = []

    def __call__(self, *record: int) -> None:
        self.said.append(record)  # type: ignore[arg-type]

    def take(self) -> list[Record]:
        said, self.said = self.said, []
        return said


@pytest.fixture
def ends() -> Iterator[tuple[Lender, Wire, Borrower, Wire]]:
    near, far = Wire(), Wire()
    lender, borrower = Lender(near), Borrower(far)
    borrower.trust(os.getpid())
    yield lender, near, borrower, far
    lender.close()
    borrower.close()
    assert _slots._offered.value == 0


def offered(lender: Lender, near: Wire, borrower: Borrower, far: Wire, size: int) -> int:
    """Offer a slot, and have it mapped; its number."""
    lender.offer(size)
    ((kind, number, fd, room),) = near.take()
    assert kind == OFFER
    assert room >= size
    borrower.offered(number, fd, room)
    assert far.take() == [(FREE, number, 0, 0)]
    lender.freed(number)
    return number


def test_a_frame_goes_through_a_slot_into_memory_of_its_readers_own(
    ends: tuple[Lender, Wire, Borrower, Wire],
) -> None:
    lender, _near, borrower, far = ends
    number = offered(*ends, LARGE)
    slot = lender.take(LARGE)
    assert slot is not None
    assert lender.is_spent
    slot.memory[:LARGE] = b"a" * LARGE
    frame = borrower.frame(number, LARGE, 2**30)
    # Not free before the end of the chunk.
    assert far.take() == []
    assert borrower.settle()
    assert not borrower.settle()
    assert far.take() == [(FREE, number, 0, 0)]
    lender.freed(number)
    again = lender.take(LARGE)
    assert again is slot
    slot.memory[:LARGE] = b"b" * LARGE
    assert bytes(frame) == b"a" * LARGE


def test_a_slot_that_is_mapped_needs_no_descriptor(
    ends: tuple[Lender, Wire, Borrower, Wire],
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(MAX_SLOTS):
        offered(*ends, LARGE)
    assert len(os.listdir("/proc/self/fd")) == before
    ends[0].offer(LARGE)
    assert ends[1].take() == []


def test_what_is_offered_is_bounded(ends: tuple[Lender, Wire, Borrower, Wire]) -> None:
    lender, near, borrower, _far = ends
    lender.offer(MAX_BYTES + 1)
    assert near.take() == []
    small = offered(*ends, 2**20)
    # The small one makes room for what fills everything.
    lender.offer(MAX_BYTES)
    withdrawn, (kind, number, fd, room) = near.take()
    assert withdrawn == (WITHDRAW, small, 0, 0)
    assert (kind, room) == (OFFER, MAX_BYTES)
    borrower.withdrawn(small)
    borrower.offered(number, fd, room)
    with pytest.raises(BadControl, match="over the limit"):
        borrower.offered(number + 1, fd, 1)


def test_who_may_not_share_is_told_so_and_not_asked_again() -> None:
    near, far = Wire(), Wire()
    lender, borrower = Lender(near), Borrower(far)
    lender.offer(LARGE)
    ((_, number, fd, room),) = near.take()
    # It comes before it is known who the peer is.
    borrower.offered(number, fd, room)
    assert far.take() == []
    borrower.trust(None)
    assert far.take() == [(REFUSE, number, 0, 0)]
    lender.refused(number)
    lender.offer(LARGE)
    assert near.take() == []
    assert _slots._offered.value == 0


def test_an_early_offer_is_taken_once_its_peer_is_known() -> None:
    near, far = Wire(), Wire()
    lender, borrower = Lender(near), Borrower(far)
    lender.offer(LARGE)
    ((_, number, fd, room),) = near.take()
    borrower.offered(number, fd, room)
    borrower.trust(os.getpid())
    assert far.take() == [(FREE, number, 0, 0)]
    lender.close()


@pytest.mark.parametrize("what", ["a file", "a pipe", "no descriptor", "another size"])
def test_what_is_no_memory_to_share_is_refused(what: str, tmp_path: Any) -> None:
    far = Wire()
    borrower = Borrower(far)
    borrower.trust(os.getpid())
    size = 2**20
    closing = []
    if what == "a file":
        (tmp_path / "file").write_bytes(bytes(size))
        fd = os.open(tmp_path / "file", os.O_RDWR)
        closing = [fd]
    elif what == "a pipe":
        fd, other = os.pipe()
        closing = [fd, other]
    elif what == "another size":
        fd, _ = make_memory(size // 2)
        closing = [fd]
    else:
        fd = 1_000_000
    try:
        borrower.offered(0, fd, size)
        assert far.take() == [(REFUSE, 0, 0, 0)]
    finally:
        for one in closing:
            os.close(one)


def test_a_peer_can_not_announce_what_is_not_there(
    ends: tuple[Lender, Wire, Borrower, Wire],
) -> None:
    _, _, borrower, _ = ends
    number = offered(*ends, LARGE)
    room = 2 ** (LARGE - 1).bit_length()
    for other, size, limit in (
        (number + 1, 1, 2**30),
        (number, 0, 2**30),
        (number, room + 1, 2**30),
        (number, LARGE, LARGE - 1),
    ):
        with pytest.raises(BadControl, match="can't be in slot"):
            borrower.frame(other, size, limit)
    borrower.frame(number, LARGE, 2**30)
    # Once a chunk: else one record after the other would have as much copied.
    with pytest.raises(BadControl, match="can't be in slot"):
        borrower.frame(number, LARGE, 2**30)
    with pytest.raises(BadControl, match="withdrawn"):
        borrower.withdrawn(number)


def test_a_peer_can_not_free_what_is_free(ends: tuple[Lender, Wire, Borrower, Wire]) -> None:
    lender = ends[0]
    number = offered(*ends, LARGE)
    for wrong in (number, number + 1):
        with pytest.raises(BadControl, match="said to be free"):
            lender.freed(wrong)
        with pytest.raises(BadControl, match="was not offered"):
            lender.refused(wrong)


def test_shared_memory_can_not_shrink() -> None:
    fd, memory = make_memory(2**20)
    try:
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 10)
        other = borrow(os.getpid(), (fd, 2**20))
    finally:
        os.close(fd)
    memory[5] = 7
    assert other[5] == 7


def test_records_are_cut_out_of_any_chunks_and_are_no_frames_elsewhere() -> None:
    wire = b"\1\0\0\0a" + CONTROL.pack(LENT, 1, 2, 3) + b"\1\0\0\0b" + CONTROL.pack(FREE, 4, 0, 0)
    for size in range(1, len(wire) + 1):
        buffer = FrameBuffer()
        came: list[Record] = []

        def on_control(*record: int, came: list[Record] = came) -> memoryview | None:
            came.append(record)  # type: ignore[arg-type]
            return memoryview(b"lent") if record[0] == LENT else None

        buffer.on_control = on_control
        frames = [f for at in range(0, len(wire), size) for f in buffer.feed(wire[at : at + size])]
        assert list(map(bytes, frames)) == [b"a", b"lent", b"b"]
        assert came == [(LENT, 1, 2, 3), (FREE, 4, 0, 0)]
        assert buffer.pending == buffer.missing() == 0
    with pytest.raises(FrameTooLarge):
        FrameBuffer().feed(wire)


# -- between actors --


async def large_ones(sizes: list[int]) -> AsyncIterator[bytes]:
    for number, size in enumerate(sizes):
        yield bytes([number % 251]) * size


async def double(text: str) -> str:
    return text * 2


def mapped(pid: int | str = "self") -> int:
    """Pieces of memory that a process has mapped to share."""
    with open(f"/proc/{pid}/maps") as maps:
        return sum("memfd:tractor-lent" in line for line in maps)


async def mapped_here() -> int:
    return mapped()


def lends(portal: tractor.Portal) -> bool:
    transport = portal.chan.transport
    assert isinstance(transport, MsgpackUDSStream)
    return transport._lender is not None


def test_streams_and_calls_hand_large_messages_over_unasked() -> None:
    sizes = [10, LARGE, LEND_ABOVE, 3, 2 * LARGE, LEND_ABOVE - 1, 100] * 6

    async def main() -> None:
        async with tractor.open_nursery(enable_transports=["uds"]) as an:
            portal = await an.start_actor("peer", enable_modules=[__name__])
            assert lends(portal)
            async with portal.open_stream_from(large_ones, sizes=sizes) as stream:
                came = [payload async for payload in stream]
            assert came == [bytes([n % 251]) * size for n, size in enumerate(sizes)]
            transport = portal.chan.transport
            assert transport.bytes_in < sum(sizes) / 2
            for n in range(4):
                text = chr(65 + n) * LARGE
                assert await portal.run(double, text=text) == text * 2
            assert transport.bytes_out < 3 * LARGE
            assert 2 <= mapped() <= 2 * MAX_SLOTS
            await an.cancel()
        assert mapped() == 0

    run(main)


def test_other_transports_share_nothing() -> None:
    async def main() -> None:
        async with tractor.open_nursery(enable_transports=["tcp"]) as an:
            portal = await an.start_actor("peer", enable_modules=[__name__])
            for _ in range(3):
                assert await portal.run(double, text="a" * LARGE) == "a" * 2 * LARGE
            assert mapped() == await portal.run(mapped_here) == 0
            await an.cancel()

    run(main)


@tractor.context
async def send_and_die(ctx: tractor.Context, size: int) -> None:
    await ctx.started()
    async with ctx.open_stream() as stream:
        for number in range(4):
            await stream.send(bytes([number]) * size)
            await stream.receive()
        await stream.send(b"x" * size)
        await stream.send(b"last")
        os.kill(os.getpid(), signal.SIGKILL)


async def read_all(portal: tractor.Portal) -> None:
    async with (
        portal.open_context(send_and_die, size=LARGE) as (ctx, _),
        ctx.open_stream() as stream,
    ):
        for number in range(4):
            assert await stream.receive() == bytes([number]) * LARGE
            await stream.send(number)
        before = portal.chan.transport.bytes_in
        assert await stream.receive() == b"x" * LARGE
        assert await stream.receive() == b"last"
        assert portal.chan.transport.bytes_in - before < LARGE
        await stream.receive()


def test_what_a_killed_sender_has_sent_is_not_lost_and_its_memory_goes() -> None:
    async def main() -> None:
        async with tractor.open_nursery(enable_transports=["uds"]) as an:
            portal = await an.start_actor("peer", enable_modules=[__name__])
            with pytest.raises(tractor.TransportClosed):
                await read_all(portal)
            assert mapped() == 0
            await an.cancel()

    with pytest.raises(tractor.ActorFailure, match="SIGKILL"):
        run(main)
    assert mapped() == 0


@tractor.context
async def hold(ctx: tractor.Context) -> None:
    """Take what is sent when told to."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        async for what in stream:
            if what == b"go":
                break
        await trio.sleep_forever()


def test_a_receiver_that_is_stopped_holds_its_sender_and_a_cancelled_send_leaves() -> None:
    async def main() -> None:
        async with tractor.open_nursery(enable_transports=["uds"]) as an:
            portal = await an.start_actor("peer", enable_modules=[__name__])
            for _ in range(2):
                await portal.run(double, text="a" * LARGE)
            pid = portal.chan.aid.pid  # type: ignore[union-attr]
            assert pid is not None
            async with (
                portal.open_context(hold) as (ctx, _),
                ctx.open_stream() as stream,
            ):
                os.kill(pid, signal.SIGSTOP)
                try:
                    with trio.move_on_after(1) as scope:
                        while True:
                            await stream.send(b"z" * LARGE)
                    assert scope.cancelled_caught
                    assert mapped() <= 2 * MAX_SLOTS
                finally:
                    os.kill(pid, signal.SIGCONT)
                sent = stream.statistics().sent
                assert sent >= 1
                await ctx.cancel()
            assert await portal.run(double, text="b" * LARGE) == "b" * 2 * LARGE
            await an.cancel()
        assert mapped() == 0

    run(main)


@tractor.context
async def read_and_die(ctx: tractor.Context) -> None:
    """Killed while more is under way."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        for _ in range(8):
            await stream.receive()
        os.kill(os.getpid(), signal.SIGKILL)


async def send_until_it_ends(portal: tractor.Portal) -> None:
    async with portal.open_context(read_and_die) as (ctx, _), ctx.open_stream() as stream:
        while True:
            await stream.send(b"z" * LARGE)


def test_a_killed_receiver_ends_the_sending_and_leaves_no_memory() -> None:
    async def main() -> None:
        async with tractor.open_nursery(enable_transports=["uds"]) as an:
            portal = await an.start_actor("peer", enable_modules=[__name__])
            with pytest.raises(tractor.TransportClosed):
                await send_until_it_ends(portal)
            assert mapped() == 0
            await an.cancel()

    with pytest.raises(tractor.ActorFailure, match="SIGKILL"):
        run(main)
    assert mapped() == 0


@pytest.mark.parametrize(
    "record",
    [
        (LENT, 0, 10, 0),
        (FREE, 0, 0, 0),
        (REFUSE, 0, 0, 0),
        (WITHDRAW, 9, 0, 0),
        (LENT + 9, 0, 0, 0),
    ],
)
def test_a_false_record_costs_its_sender_the_connection(record: Record) -> None:
    async def main() -> None:
        async with tractor.open_nursery(enable_transports=["uds"]) as an:
            portal = await an.start_actor("peer", enable_modules=[__name__])
            other = await an.start_actor("other", enable_modules=[__name__])
            transport = portal.chan.transport
            assert isinstance(transport, MsgpackUDSStream)
            transport.tell(*record)
            transport.write_now()
            await peer_is_gone(portal)
            assert await other.run(double, text="a") == "aa"
            await an.cancel()

    # Without its parent an actor ends.
    with pytest.raises(tractor.ActorFailure, match="peer"):
        run(main)


async def peer_is_gone(portal: tractor.Portal) -> None:
    while portal.chan.connected():
        await trio.sleep(0.01)


# -- arrays --


@tractor.context(pld_spec=Any)
async def send_back(ctx: tractor.Context) -> None:
    """What comes, by the hooks of the caller's side."""
    await ctx.started()
    with apply_codec(mk_codec(np.ndarray | list, **ndarray_hooks().codec_kwargs()), ctx):
        async with ctx.open_stream() as stream:
            async for value in stream:
                await stream.send(value)


@pytest.mark.parametrize("readonly", [True, False])
def test_large_arrays_arrive_as_they_were_and_lie_as_arrays_do(readonly: bool) -> None:
    """Through shared memory and, the first ones, over the socket; of a shape that is copied or not."""
    whole = np.arange(600_000, dtype="<f8")
    given = [
        whole,
        whole.reshape(2, -1).T,
        whole[::2],
        np.arange(10),
        whole.astype("<c16"),
        np.frombuffer(bytes([*range(256)]) * 2000, "u1"),
    ]

    async def main() -> None:
        hooks = ndarray_hooks(readonly=readonly)
        async with tractor.open_nursery(enable_transports=["uds"]) as an:
            portal = await an.start_actor("peer", enable_modules=[__name__])
            async with portal.open_context(send_back) as (ctx, _):
                with apply_codec(mk_codec(np.ndarray | list, **hooks.codec_kwargs()), ctx):
                    async with ctx.open_stream() as stream:
                        for array in given * 3:
                            await stream.send(array)
                            came = await stream.receive()
                            assert came.dtype == array.dtype
                            assert came.flags.aligned
                            assert came.flags.writeable is not readonly
                            assert np.array_equal(came, array)
                        two = [whole, whole * 2]
                        await stream.send(two)
                        await stream.receive()
            await an.cancel()

    run(main)


def test_who_has_no_hooks_gets_the_list_with_bytes() -> None:
    """Also where the array came as an extension."""
    octets = bytes(range(256)) * 2000
    array = np.frombuffer(octets, "u1")

    @contextmanager
    def carrying() -> Iterator[list[memoryview]]:
        found: list[memoryview] = []
        token = _arrays.carried.set(found)
        yield found
        _arrays.carried.reset(token)

    encoder = msgspec.msgpack.Encoder(enc_hook=ndarray_hooks().enc_hook)
    with carrying() as found:
        encoder.encode([array, array])
        assert len(found) == 1
    msg: Yield[Any] = Yield(4, array)
    frame = b"".join(_encode_in_parts(msg, encoder))
    came: Any = decode_large(frame)
    raw = came.pld
    value = ANY_DEC.decode(raw)
    assert value == ["tractor.ndarray", "|u1", [len(octets)], "C", octets]
    assert type(value[-1]) is bytes
    assert np.array_equal(mk_dec(np.ndarray, **ndarray_hooks().dec_kwargs()).decode(raw), array)


def test_a_hook_that_makes_something_else_of_an_array_sends_that() -> None:
    def twice(obj: Any) -> Any:
        _arrays.to_wire(obj)
        return "none of it"

    encoder = msgspec.msgpack.Encoder(enc_hook=twice)
    msg: Yield[Any] = Yield(4, np.zeros(600_000))
    (body,) = _encode_in_parts(msg, encoder)
    came: Any = decode_large(body)
    assert came.pld == msgspec.Raw(msgspec.msgpack.encode("none of it"))
