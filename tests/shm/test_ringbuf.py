"""Rings as raw streams, within one process and between actors."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any

import ep_shm
import msgspec
import pytest
import trio
import trio.testing
from ep_run import run
from ep_shm import pattern
from hypothesis import given, settings
from hypothesis import strategies as st

import tractor
from tractor.ipc import RBToken, RingBuffReceiver, RingBuffSender, open_ringbuf
from tractor.shm._segment import Segment
from tractor.shm.ring._memory import HEADER_SIZE, RingMemory, Side

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="rings are Linux's"),
    pytest.mark.usefixtures("no_segment_is_left"),
]

KEY = f"{ep_shm.PREFIX}-ring"


@contextmanager
def opened(size: int = 64, start: int = 0) -> Iterator[tuple[RingBuffSender, RingBuffReceiver]]:
    with open_ringbuf(KEY, size) as token:
        sender, receiver = RingBuffSender(token, start), RingBuffReceiver(token, start)
        try:
            yield sender, receiver
        finally:
            sender.close()
            receiver.close()


async def send_for_ever(sender: RingBuffSender) -> None:
    while True:
        await sender.send_all(b"x")


# -- carrying bytes --


@settings(deadline=None, max_examples=30)
@given(
    size=st.integers(1, 300),
    start=st.integers(0, 299),
    parts=st.lists(st.integers(0, 700), max_size=12),
    limit=st.sampled_from([None, 1, 7, 1000]),
)
def test_bytes_arrive_in_order_whatever_the_sizes(
    size: int, start: int, parts: list[int], limit: int | None
) -> None:
    async def main() -> None:
        with opened(size, start % size) as (sender, receiver):
            got = b""
            async with trio.open_nursery() as tn:

                async def send() -> None:
                    await ep_shm.send_over(sender, parts)
                    await sender.aclose()

                tn.start_soon(send)
                while part := await receiver.receive_some(limit):
                    assert limit is None or len(part) <= limit
                    got += part
            assert got == pattern(0, sum(parts))
            assert sender.sent == sum(parts)

    run(main)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda b: memoryview(b).cast("H")])
def test_any_buffer_is_sent_and_received_into(make: Any) -> None:
    async def main() -> None:
        with opened(1000) as (sender, receiver):
            await sender.send_all(make(pattern(0, 600)))
            target = bytearray(900)
            assert await receiver.receive_into(target) == 600
            assert target[:600] == pattern(0, 600)
            assert await receiver.receive_into(bytearray()) == 0

    run(main)


def test_a_writer_waits_until_there_is_room() -> None:
    async def main() -> None:
        with opened(64) as (sender, receiver):
            async with trio.open_nursery() as tn:
                tn.start_soon(sender.send_all, pattern(0, 100))
                await trio.testing.wait_all_tasks_blocked()
                assert sender.sent == 64
                with pytest.raises(trio.BusyResourceError):
                    await sender.send_all(b"x")
                with pytest.raises(trio.BusyResourceError):
                    await sender.wait_send_all_might_not_block()
                got = b""
                while len(got) < 100:
                    got += await receiver.receive_some(10)
                assert got == pattern(0, 100)
            await sender.wait_send_all_might_not_block()

    run(main)


def test_the_conformance_checks_of_trio(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that trio asks of a one-way stream; that other tasks run in every call is amortised, but for this test."""
    monkeypatch.setattr("tractor.shm.ring._stream.TURN", 1)

    async def main() -> None:
        with ExitStack() as rings:
            names = (f"{KEY}-{number}" for number in count())

            async def make() -> tuple[RingBuffSender, RingBuffReceiver]:
                token = rings.enter_context(open_ringbuf(next(names), 100))
                sender, receiver = RingBuffSender(token), RingBuffReceiver(token)
                for end in (sender, receiver):
                    rings.callback(end.close)
                return sender, receiver

            async def make_full() -> tuple[RingBuffSender, RingBuffReceiver]:
                sender, receiver = await make()
                await sender.send_all(bytes(100))
                return sender, receiver

            await trio.testing.check_one_way_stream(make, make_full)

    run(main)


# -- cancellation --


@pytest.mark.parametrize("room", [0, 13, 64])
def test_a_cancelled_send_has_sent_a_prefix_and_the_next_goes_on_behind_it(room: int) -> None:
    async def main() -> None:
        with opened(64) as (sender, receiver):
            await sender.send_all(bytes(64 - room))
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as tn:
                    tn.start_soon(sender.send_all, pattern(0, 200))
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
            assert scope.cancelled_caught
            done = sender.sent - (64 - room)
            assert done == room
            async with trio.open_nursery() as tn:
                tn.start_soon(sender.send_all, pattern(done, 200 - done))
                got = b""
                while len(got) < 264 - room:
                    got += await receiver.receive_some()
            assert got == bytes(64 - room) + pattern(0, 200)

    run(main)


def test_what_is_cancelled_before_it_began_does_nothing() -> None:
    async def main() -> None:
        with opened() as (sender, receiver):
            for use in (sender.send_all, None):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await (use(b"x") if use else sender.wait_send_all_might_not_block())
                assert scope.cancelled_caught
            assert sender.sent == 0
            await sender.send_all(b"abc")
            for receive in (receiver.receive_some(), receiver.receive_into(bytearray(5))):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await receive
                assert scope.cancelled_caught
            assert await receiver.receive_some() == b"abc"

    run(main)


def test_a_cancelled_receiver_takes_nothing() -> None:
    async def main() -> None:
        with opened() as (sender, receiver):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as tn:
                    tn.start_soon(receiver.receive_some)
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
            await sender.send_all(b"here")
            assert await receiver.receive_some() == b"here"

    run(main)


def test_a_stream_that_never_waits_lets_others_run() -> None:
    async def main() -> None:
        with opened(1 << 16) as (sender, receiver):
            turns = 0

            async def take_turns() -> None:
                nonlocal turns
                while True:
                    await trio.lowlevel.checkpoint()
                    turns += 1

            async with trio.open_nursery() as tn:
                tn.start_soon(take_turns)
                for _ in range(200):
                    await sender.send_all(b"x")
                sending = turns
                for _ in range(200):
                    await receiver.receive_some(1)
                tn.cancel_scope.cancel()
            assert sending >= 3
            assert turns - sending >= 3

    run(main)


# -- the end --


def test_the_end_comes_after_all_that_was_sent() -> None:
    async def main() -> None:
        with opened() as (sender, receiver):
            await sender.send_all(b"last words")
            await sender.aclose()
            assert await receiver.receive_some(4) == b"last"
            assert await receiver.receive_some() == b" words"
            for _ in range(2):
                assert await receiver.receive_some() == b""
            assert await receiver.receive_into(bytearray(3)) == 0

    run(main)


def test_a_receiver_that_waits_is_woken_by_the_end() -> None:
    async def main() -> None:
        with opened() as (sender, receiver):
            async with trio.open_nursery() as tn:

                async def receive() -> None:
                    assert await receiver.receive_some() == b""

                tn.start_soon(receive)
                await trio.testing.wait_all_tasks_blocked()
                sender.close()

    run(main)


@pytest.mark.parametrize("waits", [False, True])
def test_a_sender_is_told_that_its_receiver_has_left(waits: bool) -> None:
    async def main() -> None:
        with opened() as (sender, receiver):
            async with trio.open_nursery() as tn:
                if not waits:
                    receiver.close()

                async def send() -> None:
                    with pytest.raises(
                        trio.BrokenResourceError, match="reader of the ring has left"
                    ):
                        await send_for_ever(sender)
                    await sender.wait_send_all_might_not_block()

                tn.start_soon(send)
                await trio.testing.wait_all_tasks_blocked()
                receiver.close()
            assert sender.sent <= 64

    run(main)


@pytest.mark.parametrize("which", ["send", "room", "receive", "into"])
def test_closing_wakes_the_own_task(which: str) -> None:
    async def main() -> None:
        with opened() as (sender, receiver):
            if which in ("send", "room"):
                await sender.send_all(bytes(64))

            calls: dict[str, Callable[[], Awaitable[Any]]] = {
                "send": lambda: sender.send_all(b"x"),
                "room": sender.wait_send_all_might_not_block,
                "receive": receiver.receive_some,
                "into": lambda: receiver.receive_into(bytearray(5)),
            }

            async def use() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await calls[which]()

            async with trio.open_nursery() as tn:
                tn.start_soon(use)
                await trio.testing.wait_all_tasks_blocked()
                sender.close() if which in ("send", "room") else receiver.close()
            await use()

    run(main)


def test_ends_outlive_the_block_that_made_the_ring() -> None:
    async def main() -> None:
        with open_ringbuf(KEY, 64) as token:
            sender, receiver = RingBuffSender(token), RingBuffReceiver(token)
        assert KEY not in os.listdir("/dev/shm")
        # Their numbers may be given to something else at once.
        with open("/dev/null", "rb"), open("/dev/null", "rb"):
            async with sender, receiver:
                await sender.send_all(b"still here")
                assert await receiver.receive_some() == b"still here"

    run(main)


# -- tokens --


def test_a_token_travels() -> None:
    with open_ringbuf(KEY) as token:
        assert token.buf_size == 10_240
        assert token.fds == (token.write_eventfd, token.wrap_eventfd)
        plain = msgspec.msgpack.decode(msgspec.msgpack.encode(token.as_msg()))
        assert RBToken.from_msg(plain) == token
        assert RBToken.from_msg(token) is token
    with pytest.raises(msgspec.ValidationError):
        RBToken.from_msg({"shm_name": 5})
    with pytest.raises(FileNotFoundError):
        RingBuffSender(token)


def test_what_is_no_token_of_this_process_is_refused() -> None:
    with open_ringbuf(KEY, 100) as token, open_ringbuf(KEY + "2", 100) as other:
        strange = msgspec.structs.replace(token, write_eventfd=other.write_eventfd)
        with pytest.raises(
            ValueError, match=r"is of another process \(it is another eventfd\).*pass_fds"
        ):
            RingBuffSender(strange)
        strange = msgspec.structs.replace(token, write_eventfd=9_999)
        with pytest.raises(ValueError, match="descriptor 9999 is not an eventfd"):
            RingBuffReceiver(strange)
        with pytest.raises(ValueError, match="has 100 bytes, the token says 99"):
            RingBuffSender(msgspec.structs.replace(token, buf_size=99))
        for start in (-1, 100):
            with pytest.raises(ValueError, match=f"position {start} is not in a ring of 100"):
                RingBuffSender(token, start)
        with pytest.raises(ValueError, match="EFD_NONBLOCK"):
            RingBuffReceiver(token, flags=os.EFD_SEMAPHORE)
        # Nothing of all this has used the ring up.
        RingBuffSender(token).close()


def test_a_ring_has_one_sender_and_one_receiver_in_its_life() -> None:
    with opened() as (sender, receiver):
        for make in (RingBuffSender, RingBuffReceiver):
            with pytest.raises(RuntimeError, match=f"already, process {os.getpid()}"):
                make(sender.token)
        receiver.close()
        with pytest.raises(RuntimeError, match="has had its reader already"):
            RingBuffReceiver(sender.token)


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"buf_size": 0}, "buf_size=0"),
        ({"buf_size": -5}, "buf_size=-5"),
        ({"shm_name": "a/b"}, "can't name a segment"),
        ({"write_efd_flags": 1}, "EFD_SEMAPHORE"),
        ({"wrap_efd_flags": 1}, "EFD_SEMAPHORE"),
    ],
)
def test_what_makes_no_ring_is_named(kwargs: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text), open_ringbuf(**{"shm_name": KEY, **kwargs}):
        pass


def test_a_name_that_is_taken_is_refused_and_left_alone() -> None:
    with open_ringbuf(KEY) as token:
        with pytest.raises(FileExistsError, match=KEY), open_ringbuf(KEY):
            pass
        RingBuffSender(token).close()


def test_memory_that_is_no_ring_is_refused() -> None:
    with open_ringbuf(KEY + "2", 100) as token:
        segment = Segment.create(KEY, HEADER_SIZE + 100)
        try:
            with pytest.raises(ValueError, match="holds no ring"):
                RingBuffSender(msgspec.structs.replace(token, shm_name=KEY))
        finally:
            segment.close()
            segment.unlink()


@pytest.mark.parametrize("count", [65, 1 << 47])
def test_a_peer_that_breaks_the_rules_is_told_apart(count: int) -> None:
    async def main() -> None:
        with opened(64) as (sender, receiver):
            os.eventfd_write(sender.token.write_eventfd, count)
            with pytest.raises(trio.BrokenResourceError, match="broke the rules"):
                await receiver.receive_some()
            await sender.send_all(bytes(64))
            os.eventfd_write(sender.token.wrap_eventfd, count)
            with pytest.raises(trio.BrokenResourceError, match="broke the rules"):
                await sender.send_all(b"x")

    run(main)


# -- between processes --


@pytest.mark.parametrize("child", ["sender", "receiver"])
def test_a_ring_between_actors_by_inherited_descriptors(child: str) -> None:
    parts = [1, 5000, 0, 70_000, 3, 12_345]

    async def main() -> None:
        with open_ringbuf(KEY) as token:
            async with tractor.open_nursery() as an:
                portal = await an.start_actor(
                    "peer", enable_modules=["ep_shm"], proc_kwargs={"pass_fds": token.fds}
                )
                kwargs: dict[str, Any] = {"token": token.as_msg()}
                if child == "sender":
                    receiver = RingBuffReceiver(token)
                    opening = portal.open_context(ep_shm.ring_sender, parts=parts, **kwargs)
                    async with receiver, opening as (ctx, _):
                        assert await ep_shm.receive_all(receiver) == sum(parts)
                        assert await ctx.wait_for_result() == sum(parts)
                else:
                    opening = portal.open_context(ep_shm.ring_receiver, read=True, **kwargs)
                    async with opening as (ctx, _):
                        async with RingBuffSender(token) as sender:
                            await ep_shm.send_over(sender, parts)
                        assert await ctx.wait_for_result() == sum(parts)
                await an.cancel()

    run(main)


@pytest.mark.parametrize("child", ["sender", "receiver"])
def test_the_death_of_the_peer_ends_a_wait_at_once(child: str) -> None:
    async def main() -> None:
        with open_ringbuf(KEY, 64) as token:
            mine = RingBuffReceiver(token) if child == "sender" else RingBuffSender(token)
            async with mine:
                with pytest.raises(tractor.ActorFailure, match="SIGKILL"):
                    await _lose_peer_of(mine)
                with pytest.raises(trio.BrokenResourceError, match="is dead"):
                    await _use(mine)

    run(main)


async def _lose_peer_of(mine: RingBuffReceiver | RingBuffSender) -> None:
    async with tractor.open_nursery() as an:
        portal = await an.start_actor(
            "peer", enable_modules=["ep_shm"], proc_kwargs={"pass_fds": mine.token.fds}
        )
        kwargs: dict[str, Any] = {"token": mine.token.as_msg()}
        if isinstance(mine, RingBuffReceiver):
            opening = portal.open_context(ep_shm.ring_sender, parts=[], **kwargs)
        else:
            opening = portal.open_context(ep_shm.ring_receiver, read=False, **kwargs)
        with pytest.raises(tractor.TransportClosed):
            await _kill_while_waiting(opening, mine)


async def _kill_while_waiting(opening: Any, mine: RingBuffReceiver | RingBuffSender) -> None:
    async with opening as (_, pid), trio.open_nursery() as tn:

        async def wait() -> None:
            # No message of the runtime's ends this wait: only the peer's death can.
            with trio.CancelScope(shield=True), pytest.raises(trio.BrokenResourceError):
                await _use(mine)

        tn.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked(0.02)
        os.kill(pid, signal.SIGKILL)


async def _use(mine: RingBuffReceiver | RingBuffSender) -> None:
    """Wait for the peer."""
    if isinstance(mine, RingBuffSender):
        await mine.send_all(bytes(100))
    else:
        await mine.receive_some()


def test_a_peer_that_died_before_it_was_looked_at_is_dead() -> None:
    """Its pid is nobody's, or somebody else's, by now."""

    async def main() -> None:
        for pid, start in ((2**22 - 1, 0), (os.getppid(), 12_345)):
            with open_ringbuf(KEY, 64) as token:
                segment = Segment.attach(KEY)
                memory = RingMemory(segment.buf)
                memory.claim(Side.WRITER)
                words = memory._words
                words[Side.WRITER + 1], words[Side.WRITER + 2] = pid, start
                async with RingBuffReceiver(token) as receiver:
                    with pytest.raises(
                        trio.BrokenResourceError, match="the writer of the ring is dead"
                    ):
                        await receiver.receive_some()
                memory.release()
                segment.close()

    run(main)
