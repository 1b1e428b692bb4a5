"""TLS as a byte pipe: what counts as sent, what is readable, and how it ends, over pipes that tests control."""

from __future__ import annotations

import random
import ssl
from typing import Any

import ep_certs
import pytest
import trio
import trio.testing
from ep_run import run

from tractor.transport._memory import MemoryIO, _Pipe
from tractor.transport.tls._config import TLSContexts
from tractor.transport.tls._io import BATCH, MAX_ANSWERS, TLSIO

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class Valve:
    """A byte pipe that takes and gives as little at a time as a test wants."""

    def __init__(self, io: Any) -> None:
        self.io = io
        self.room: int | None = None
        """Bytes that are still taken; ``None``: any number."""
        self.portion = 10**9
        self.flips: set[int] = set()
        """Positions in what is received at which a bit is flipped, counted from now on."""
        self.opened = trio.Event()
        self.ended = False

    def recv_nowait(self, max_bytes: int) -> bytes | None:
        data: bytes | None = self.io.recv_nowait(min(max_bytes, self.portion))
        if data and self.flips:
            changed = bytearray(data)
            for at in [f for f in self.flips if f < len(changed)]:
                changed[at] ^= 1
            self.flips = {f - len(changed) for f in self.flips if f >= len(changed)}
            return bytes(changed)
        return data

    def send_nowait(self, buffers: list[Any]) -> int:
        if self.room is None:
            taken: int = self.io.send_nowait(buffers)
            return taken
        (buffer,) = buffers
        if not self.room:
            return 0
        taken = self.io.send_nowait([buffer[: min(self.room, self.portion)]])
        self.room -= taken
        return taken

    def open(self) -> None:
        self.room = None
        self.opened.set()

    async def wait_readable(self) -> None:
        await self.io.wait_readable()

    async def wait_writable(self) -> None:
        if self.room == 0:
            await self.opened.wait()
        await self.io.wait_writable()

    def send_eof(self) -> None:
        self.ended = True
        self.io.send_eof()

    def close(self) -> None:
        self.io.close()


def contexts(version: ssl.TLSVersion | None = None) -> TLSContexts:
    made = TLSContexts(ep_certs.config())
    if version is not None:
        made.connect.maximum_version = version
    return made


async def tls_pair(
    version: ssl.TLSVersion | None = None,
) -> tuple[TLSIO, Valve, TLSIO, Valve]:
    """Two ends after their handshake, each with the valve below it."""
    made = contexts(version)
    there, back = _Pipe(), _Pipe()
    near_pipe, far_pipe = Valve(MemoryIO(back, there)), Valve(MemoryIO(there, back))
    near = TLSIO(near_pipe, made.connect, "127.0.0.1")
    far = TLSIO(far_pipe, made.accept)
    async with trio.open_nursery() as tn:
        tn.start_soon(near.handshake)
        tn.start_soon(far.handshake)
    return near, near_pipe, far, far_pipe


async def received(io: TLSIO, size: int, chunk: int = 65_536) -> bytes:
    data = b""
    while len(data) < size:
        await io.wait_readable()
        while (part := io.recv_nowait(min(chunk, size - len(data)))) is not None:
            if not part:
                return data
            data += part
            if len(data) == size:
                break
    return data


async def send_all(io: TLSIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        done = io.send_nowait([view])
        view = view[done:]
        if not done:
            await io.wait_writable()


# -- carrying bytes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_the_version_that_both_speak(version: ssl.TLSVersion) -> None:
    async def main() -> None:
        near, _, far, _ = await tls_pair(version)
        assert near._ssl.version() == far._ssl.version() == version.name.replace("_", ".")
        await send_all(near, b"hello")
        assert await received(far, 5) == b"hello"

    run(main)


def test_bytes_arrive_however_the_pipe_below_cuts_them() -> None:
    data = random.Random(1).randbytes(300_000)

    async def main() -> None:
        near, _, far, far_pipe = await tls_pair()
        rng = random.Random(2)
        far_pipe.portion = 7

        async def vary() -> None:
            while True:
                far_pipe.portion = rng.choice([1, 5, 100, 16_384, 100_000])
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as tn:
            tn.start_soon(vary)
            tn.start_soon(send_all, near, data)
            assert await received(far, len(data), 10_000) == data
            tn.cancel_scope.cancel()

    run(main)


def test_several_buffers_leave_as_one_stream() -> None:
    buffers: list[Any] = [
        b"a" * 10,
        bytearray(b"b" * (2 * BATCH + 1)),
        b"",
        memoryview(b"c" * BATCH),
        b"d",
    ]
    whole = b"".join(map(bytes, buffers))

    async def main() -> None:
        near, _, far, _ = await tls_pair()
        assert near.send_nowait(buffers) == len(whole)
        # No export of the caller's buffer is left behind: it can be resized.
        buffers[1].clear()
        assert await received(far, len(whole)) == whole

    run(main)


def test_only_what_has_left_counts_as_sent() -> None:
    """The same bytes are offered again until they are taken, and arrive once."""
    data = random.Random(3).randbytes(3 * BATCH + 500)

    async def main() -> None:
        near, pipe, far, _ = await tls_pair()
        pipe.room = 10
        assert near.send_nowait([data]) == 0
        assert near.send_nowait([data]) == 0
        pipe.room = BATCH - 1000
        assert near.send_nowait([data]) == 0
        # The rest of the first batch leaves, and a part of the second.
        pipe.room = BATCH
        assert near.send_nowait([data]) == BATCH
        rest = data[BATCH:]
        pipe.room = None
        # Offered in another cut, and with more behind it.
        assert near.send_nowait([rest[:100], rest[100:], b"more"]) == len(rest) + 4
        assert await received(far, len(data) + 4) == data + b"more"

    run(main)


def test_a_pipe_that_takes_little_at_a_time() -> None:
    data = random.Random(4).randbytes(200_000)

    async def main() -> None:
        near, pipe, far, _ = await tls_pair()
        rng = random.Random(5)
        sent = 0
        got = b""
        while sent < len(data):
            pipe.room = rng.randrange(30_000)
            sent += near.send_nowait([data[sent : sent + 50_000], data[sent + 50_000 :]])
            with trio.move_on_after(0):
                got += await received(far, len(data) - len(got))
            while part := far.recv_nowait(10**6):
                got += part
        assert got == data

    run(main)


def test_what_is_decrypted_already_is_readable() -> None:
    """The pipe below is empty then, and would never wake who waits for it."""

    async def main() -> None:
        near, _, far, far_pipe = await tls_pair()
        await send_all(near, b"x" * 50_000)
        assert far.recv_nowait(10) == b"x" * 10
        assert far_pipe.io.recv_nowait(1) is None
        got = 10
        while got < 50_000:
            await far.wait_readable()
            part = far.recv_nowait(7_000)
            assert part
            got += len(part)
        assert far.recv_nowait(10) is None
        with trio.move_on_after(0.01) as scope:
            await far.wait_readable()
        assert scope.cancelled_caught

    run(main)


def test_half_a_record_is_not_readable() -> None:
    async def main() -> None:
        near, pipe, far, _ = await tls_pair()
        pipe.room = 20
        assert near.send_nowait([b"whole"]) == 0
        assert far.recv_nowait(100) is None
        async with trio.open_nursery() as tn:
            woken = trio.Event()

            async def wait() -> None:
                await far.wait_readable()
                woken.set()

            tn.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert not woken.is_set()
            pipe.room = None
            assert near.send_nowait([b"whole"]) == 5
            await woken.wait()
        assert far.recv_nowait(100) == b"whole"

    run(main)


def test_receiving_goes_on_while_a_write_waits() -> None:
    async def main() -> None:
        near, pipe, far, _ = await tls_pair()
        pipe.room = 100
        assert near.send_nowait([b"n" * 1_000]) == 0
        await send_all(far, b"f" * 100_000)
        assert await received(near, 100_000) == b"f" * 100_000
        pipe.room = None
        assert near.send_nowait([b"n" * 1_000]) == 1_000
        assert await received(far, 1_000) == b"n" * 1_000

    run(main)


def test_bytes_after_the_handshake_in_its_last_flight_are_not_lost() -> None:
    """The connecting side may send right behind its last handshake message."""

    async def main() -> None:
        made = contexts()
        there, back = _Pipe(), _Pipe()
        near = TLSIO(MemoryIO(back, there), made.connect, "127.0.0.1")
        far = TLSIO(MemoryIO(there, back), made.accept)

        async def connect() -> None:
            await near.handshake()
            assert near.send_nowait([b"at once"]) == 7

        async with trio.open_nursery() as tn:
            tn.start_soon(far.handshake)
            # Both have met at the last flight before the acceptor runs again.
            await trio.testing.wait_all_tasks_blocked()
            tn.start_soon(connect)
        assert await received(far, 7) == b"at once"

    run(main)


def test_nothing_is_sent_or_received_before_the_handshake() -> None:
    async def main() -> None:
        io = TLSIO(MemoryIO(_Pipe(), _Pipe()), contexts().accept)
        with pytest.raises(OSError, match="handshake"):
            io.send_nowait([b"x"])
        with pytest.raises(OSError, match="handshake"):
            io.recv_nowait(1)
        io.close()
        io.close()

    run(main)


# -- the end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_close_is_told(version: ssl.TLSVersion) -> None:
    async def main() -> None:
        near, _, far, _ = await tls_pair(version)
        await send_all(near, b"last")
        near.close()
        assert await received(far, 100) == b"last"
        for _ in range(2):
            await far.wait_readable()
            assert far.recv_nowait(10) == b""

    run(main)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_end_without_a_word_is_a_lost_peer(version: ssl.TLSVersion) -> None:
    async def main() -> None:
        near, pipe, far, _ = await tls_pair(version)
        await send_all(near, b"last")
        # What a killed process leaves, or somebody who cuts the line.
        pipe.close()
        assert far.recv_nowait(100) == b"last"
        for _ in range(2):
            await far.wait_readable()
            with pytest.raises(ConnectionResetError, match="close_notify"):
                far.recv_nowait(100)

    run(main)


def test_a_close_with_data_half_gone_does_not_look_like_an_end() -> None:
    async def main() -> None:
        near, pipe, far, _ = await tls_pair()
        pipe.room = 50
        assert near.send_nowait([b"x" * 1_000]) == 0
        pipe.room = None
        near.close()
        assert far.recv_nowait(10_000) is None
        await far.wait_readable()
        with pytest.raises(ConnectionResetError):
            far.recv_nowait(10_000)

    run(main)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("unread", [0, 5, 100_000])
def test_after_its_own_end_a_side_still_listens(version: ssl.TLSVersion, unread: int) -> None:
    async def main() -> None:
        near, near_pipe, far, _ = await tls_pair(version)
        await send_all(far, b"u" * unread)
        near.send_eof()
        assert near_pipe.ended
        assert await received(far, 100) == b""
        await send_all(far, b"answer")
        far.close()
        assert await received(near, unread + 100, 999) == b"u" * unread + b"answer"
        assert near.recv_nowait(10) == b""

    run(main)


def test_unread_bytes_survive_the_own_end_in_the_middle_of_a_record() -> None:
    async def main() -> None:
        near, _, far, far_pipe = await tls_pair()
        far_pipe.room = 5_000
        assert far.send_nowait([b"r" * 10_000]) == 0
        assert near.recv_nowait(100) is None
        near.send_eof()
        far_pipe.room = None
        assert far.send_nowait([b"r" * 10_000]) == 10_000
        assert await received(near, 10_000) == b"r" * 10_000

    run(main)


def test_a_goodbye_that_finds_no_room_leaves_later() -> None:
    """Nobody writes any more then: who waits for the peer's answer lets it out."""

    async def main() -> None:
        near, pipe, far, _ = await tls_pair()
        pipe.room = 0
        near.send_eof()
        assert not pipe.ended
        async with trio.open_nursery() as tn:
            ended = trio.Event()

            async def listen() -> None:
                assert await received(near, 1) == b""
                ended.set()

            tn.start_soon(listen)
            await trio.testing.wait_all_tasks_blocked()
            pipe.open()
            assert await received(far, 1) == b""
            assert pipe.ended
            far.close()
            await ended.wait()

    run(main)


@pytest.mark.parametrize("goodbye_waits", [False, True])
def test_a_close_wakes_who_waits(goodbye_waits: bool) -> None:
    async def main() -> None:
        near, pipe, _, _ = await tls_pair()
        assert near.recv_nowait(1) is None
        if goodbye_waits:
            pipe.room = 0
            near.send_eof()
        woken: list[str] = []

        async def wait(what: str) -> None:
            try:
                await getattr(near, what)()
            except trio.ClosedResourceError:
                woken.append(what)

        async with trio.open_nursery() as tn:
            tn.start_soon(wait, "wait_readable")
            await trio.testing.wait_all_tasks_blocked()
            near.close()
            pipe.open()
        for what in ("wait_readable", "wait_writable"):
            await wait(what)
        assert woken == ["wait_readable", "wait_readable", "wait_writable"]
        with pytest.raises(OSError, match="closed on this side"):
            near.recv_nowait(1)
        with pytest.raises(OSError, match="closed on this side"):
            near.send_nowait([b"x"])

    run(main)


def test_a_close_outside_of_a_run_is_fine() -> None:
    kept: list[TLSIO] = []

    async def main() -> None:
        kept.extend((await tls_pair())[::2])

    run(main)
    for io in kept:
        io._io = Quiet()  # type: ignore[assignment]
        io.close()


class Quiet:
    """A pipe whose other end is gone."""

    def send_nowait(self, buffers: list[Any]) -> int:
        raise BrokenPipeError("gone")

    def close(self) -> None: ...


# -- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [0, 3, 5, 40, 5_000])
def test_a_changed_bit_ends_the_connection(flip: int) -> None:
    async def main() -> None:
        near, _, far, far_pipe = await tls_pair()
        await send_all(near, b"first")
        assert await received(far, 5) == b"first"
        far_pipe.flips = {flip}
        await send_all(near, b"y" * 10_000)
        # A longer length of a record only makes it wait: then the end of the stream tells.
        near._io.close()
        for _ in range(2):
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                await received(far, 10_000)

    run(main)


def test_what_came_before_a_bad_record_is_delivered() -> None:
    async def main() -> None:
        near, pipe, far, _ = await tls_pair()
        await send_all(near, b"good")
        pipe.io.send_nowait([b"\x17\x03\x03\x00\x20" + b"\0" * 32])
        assert far.recv_nowait(100) == b"good"
        await far.wait_readable()
        with pytest.raises(ssl.SSLError):
            far.recv_nowait(100)

    run(main)


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n\r\n", b"\xb0TRC\x01\0", b"\0" * 100, b"\x16\x03\x01\xff\xff\0"]
)
def test_a_peer_that_speaks_no_tls_is_refused(first: bytes) -> None:
    async def main() -> None:
        there, back = _Pipe(), _Pipe()
        stranger = MemoryIO(back, there)
        io = TLSIO(MemoryIO(there, back), contexts().accept)
        stranger.send_nowait([first])
        stranger.send_eof()
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await io.handshake()
        io.close()
        answer = stranger.recv_nowait(1000)
        # Nothing, or one alert.
        assert answer is not None
        assert len(answer) in (0, 7)
        assert answer[:1] in (b"", b"\x15")

    run(main)


def test_a_peer_that_leaves_during_the_handshake() -> None:
    async def main() -> None:
        made = contexts()
        there, back = _Pipe(), _Pipe()
        stranger = MemoryIO(back, there)
        io = TLSIO(MemoryIO(there, back), made.connect, "127.0.0.1")
        async with trio.open_nursery() as tn:

            async def leave() -> None:
                await stranger.wait_readable()
                stranger.close()

            tn.start_soon(leave)
            with pytest.raises(ConnectionResetError, match="during the TLS handshake"):
                await io.handshake()

    run(main)


def test_answers_that_the_peer_does_not_read_are_bounded() -> None:
    async def main() -> None:
        near, pipe, far, _ = await tls_pair()
        pipe.room = 0
        near._outgoing.write(b"a" * (MAX_ANSWERS + 1))
        near._leaving = memoryview(b"first")
        await send_all(far, b"asks on")
        with pytest.raises(ConnectionAbortedError, match="does not read"):
            near.recv_nowait(100)

    run(main)
