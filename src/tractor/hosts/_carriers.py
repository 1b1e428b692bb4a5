"""What carries a link: the stdin and stdout of an engine's command, or a connection that the agent has made.

Theory of operation of the second.  Each start has a listener of its own, with a token that is good for one
connection: it is closed once the agent has called, or the start was given up.  So a job that starts late, whatever its
engine has done with it, finds nobody, and ends.  Who connects without the token learns nothing and is hung up on; it
does not keep the agent out, as each connection has a task of its own, and of more than :data:`_MAX_CALLS` the oldest is
hung up on.

Why the races are safe.

- *A start that is given up while its job is being submitted*, in a thread that can't be cancelled: that thread sees it
  when it is done, and withdraws the job itself.
- *The end of a job and the call of its agent*: the call counts, if it came; the end alone is a refusal.
"""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import trio

from tractor.hosts._bundle import Dial, boot_command, boot_input
from tractor.hosts._engine import CallbackEngine, Offer, Port, StdioEngine, Target, is_callback
from tractor.hosts._place import Place
from tractor.hosts._streams import CHUNK, LinkError
from tractor.hosts.agent._seal import LINK, NONCE, PROOF, Seal
from tractor.transport.tls._config import TLSConfig, TLSContexts
from tractor.trionics._groups import collapse_eg

_CLOSING_TIME = 0.3
_TERM_TIME = 1.0
_CALL_TIMEOUT = 10.0
"""Seconds in which who has connected must have proven that it is the agent."""
_MAX_CALLS = 16
_WITHDRAWAL_TIME = 1.5


class Ends(NamedTuple):
    """The two directions of a link, and what is to be sent first."""

    out: trio.abc.SendStream
    into: trio.abc.ReceiveStream
    first: bytes


class Carrier(Protocol):
    """How a link comes to be, and what its engine says."""

    async def connect(self) -> Ends:
        """The link, once its other end is, or will be, the agent.

        Raises:
            OSError, ValueError, ImportError, LinkError: there will be none; says why.
        """

    async def read_words(self, note: Callable[[str], None]) -> None:
        """Tell each line that the engine says, until it says no more."""

    def port_in(self, line: str) -> tuple[Target, Port] | None:
        """What a line of the engine tells of a port there that leads back, and to what; ``None``: of something else."""

    async def close(self, may_wait: bool) -> None:
        """End it.  Shielded by the caller.

        Args:
            may_wait: in a queue: nothing has been started yet.
        """


def carrier_for(
    engine: StdioEngine | CallbackEngine,
    place: Place,
    back: Sequence[Target],
    tls: TLSConfig | None,
) -> Carrier:
    """What carries a link to a place.

    Args:
        engine: the place's.
        place: where it leads.
        back: what the engine is to lead back to.
        tls: the tree's certificates.
    """
    if is_callback(engine):
        return _Call(engine, place, tls)
    return _Command(cast("StdioEngine", engine), place, back)


class _Command:
    """A command of an engine, whose stdin and stdout are the link."""

    def __init__(self, engine: StdioEngine, place: Place, back: Sequence[Target]) -> None:
        self._engine, self._place, self._back = engine, place, back
        self._process: trio.Process | None = None
        self._there = trio.Event()

    async def connect(self) -> Ends:
        command = self._engine.command(self._place, boot_command(self._place.python), self._back)
        # Whole, or not at all: whoever gives it up meanwhile has to end it.
        with trio.CancelScope(shield=True):
            process = self._process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # type: ignore[call-arg, unused-ignore]
            )
        self._there.set()
        assert process.stdin is not None
        assert process.stdout is not None
        return Ends(process.stdin, process.stdout, boot_input())

    async def read_words(self, note: Callable[[str], None]) -> None:
        await self._there.wait()
        assert self._process is not None
        assert self._process.stderr is not None
        line = bytearray()
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await self._process.stderr.receive_some(CHUNK):
                line += data
                *whole, rest = bytes(line).split(b"\n")
                line = bytearray(rest[-CHUNK:])
                for one in whole:
                    note(_text(one))
        if line:
            note(_text(bytes(line)))

    def port_in(self, line: str) -> tuple[Target, Port] | None:
        return self._engine.port_there(line)

    async def close(self, may_wait: bool) -> None:
        if self._process is not None:
            await _end_command(self._process, may_wait)


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")


async def _end_command(process: trio.Process, may_wait: bool) -> None:
    """Close the stdin of an engine's command, which ends by that; else kill it.

    Args:
        process: the command's.
        may_wait: in a queue, nothing having been started yet: then it is asked first. So it withdraws what waits;
            killed, it would leave that there, to be started later.
    """
    assert process.stdin is not None
    await process.stdin.aclose()
    steps = [(_CLOSING_TIME, signal.SIGKILL)]  # type: ignore[attr-defined, unused-ignore]
    if may_wait:
        steps = [(_CLOSING_TIME, signal.SIGTERM), (_TERM_TIME, signal.SIGKILL)]  # type: ignore[attr-defined, unused-ignore]
    for patience, number in steps:
        with trio.move_on_after(patience):
            await process.wait()
        if process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)  # type: ignore[attr-defined, unused-ignore]
    await process.wait()
    # Not before: it may have something to say meanwhile, and would die of a closed pipe in the middle of its own end.
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            await stream.aclose()


class _Call:
    """A job of an engine, whose program is the agent, and calls."""

    def __init__(self, engine: CallbackEngine, place: Place, tls: TLSConfig | None) -> None:
        self._engine, self._place, self._tls = engine, place, tls
        self._token = os.urandom(32)
        self._stream: SealedStream | None = None
        self._job = _Job(engine)
        self._words: list[str] = []
        self._ended = trio.Event()
        self._loop = trio.lowlevel.current_trio_token()

    async def connect(self) -> Ends:
        tls = None if self._tls is None else _server_context(self._tls)
        here = await trio.to_thread.run_sync(self._engine.address_here, self._place)
        listeners = await trio.open_tcp_listeners(0, host=here)
        try:
            dial = _dial(here, listeners[0], self._token, self._tls)
            offer = Offer(boot_command(self._place.python), boot_input(dial), self._note_end)
            await trio.to_thread.run_sync(
                self._job.submit, self._place, offer, abandon_on_cancel=True
            )
            async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
                tn.start_soon(self._answer_calls, listeners[0], tls, tn.cancel_scope)
                await self._ended.wait()
                tn.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                for listener in listeners:
                    await listener.aclose()
        if self._stream is None:
            raise LinkError("its job has ended without a call of the agent")
        return Ends(self._stream, self._stream, b"")

    async def _answer_calls(
        self, listener: trio.SocketListener, tls: ssl.SSLContext | None, over: trio.CancelScope
    ) -> None:
        answered: deque[trio.CancelScope] = deque()
        async with trio.open_nursery() as calls:
            while True:
                stream = await listener.accept()
                if len(answered) >= _MAX_CALLS:
                    answered.popleft().cancel()
                answered.append(trio.CancelScope(deadline=trio.current_time() + _CALL_TIMEOUT))
                calls.start_soon(self._answer, stream, tls, answered[-1], over)

    async def _answer(
        self,
        stream: trio.SocketStream,
        tls: ssl.SSLContext | None,
        limit: trio.CancelScope,
        over: trio.CancelScope,
    ) -> None:
        try:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError), limit:
                sealed = await _proven(stream, self._token, tls)
                # One call, whoever else has the token.
                self._stream = self._stream or sealed
        finally:
            if self._stream is None or self._stream.below is not stream:
                await trio.aclose_forcefully(stream)
        if self._stream is not None:
            over.cancel()

    def _note_end(self, words: str) -> None:
        with suppress(trio.RunFinishedError):
            self._loop.run_sync_soon(self._on_end, words)

    def _on_end(self, words: str) -> None:
        if not self._ended.is_set():
            self._words = words.splitlines()
            self._ended.set()

    async def read_words(self, note: Callable[[str], None]) -> None:
        await self._ended.wait()
        for line in self._words:
            note(line)

    def port_in(self, line: str) -> tuple[Target, Port] | None:
        return None

    async def close(self, may_wait: bool) -> None:
        if self._stream is not None:
            await trio.aclose_forcefully(self._stream)
        with trio.move_on_after(_WITHDRAWAL_TIME):
            await trio.to_thread.run_sync(self._job.withdraw, abandon_on_cancel=True)


class _Job:
    """A job, from threads: it is withdrawn once, also where its submission takes longer than anybody waits."""

    def __init__(self, engine: CallbackEngine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._given_up = False
        self._jobs: list[Any] = []

    def submit(self, place: Place, offer: Offer) -> None:
        with self._lock:
            if self._given_up:
                return
        try:
            self._engine.keepalive(place.deadline)
            job = self._engine.submit(place, offer)
        except (OSError, ValueError, ImportError):
            raise
        except Exception as exc:
            raise LinkError(f"the engine failed: {type(exc).__name__}: {exc}") from exc
        with self._lock:
            self._jobs.append(job)
            given_up = self._given_up
        if given_up:
            self.withdraw()

    def withdraw(self) -> None:
        with self._lock:
            self._given_up = True
            jobs, self._jobs = self._jobs, []
        for job in jobs:
            # Its scheduler may be gone; then nothing of it is left that could start.
            with suppress(Exception):
                self._engine.withdraw(job)


def _dial(here: str, listener: trio.SocketListener, token: bytes, tls: TLSConfig | None) -> Dial:
    port = listener.socket.getsockname()[1]
    ca = None if tls is None or tls.cafile is None else Path(tls.cafile).read_text()
    return Dial(here, port, token.hex(), ca, tls is not None)


def _server_context(tls: TLSConfig) -> ssl.SSLContext:
    context = TLSContexts(tls).accept
    # The token is what the agent has to show.
    context.verify_mode = ssl.CERT_NONE
    return context


async def _proven(
    stream: trio.SocketStream, token: bytes, tls: ssl.SSLContext | None
) -> SealedStream | None:
    """What is sealed for who has the token; ``None``: it has not.

    Raises:
        trio.BrokenResourceError, trio.ClosedResourceError: the connection broke; or the handshake of TLS failed.
    """
    outer: trio.abc.Stream = stream
    if tls is not None:
        outer = trio.SSLStream(stream, tls, server_side=True)
    nonce = os.urandom(NONCE)
    got = await _exactly(outer, NONCE)
    if got is None:
        return None
    seal = Seal(token, LINK, got + nonce)
    await outer.send_all(nonce)
    proof = await _exactly(outer, PROOF)
    if proof is None or not seal.is_proven(proof):
        return None
    await outer.send_all(seal.proof)
    return SealedStream(outer, seal, stream)


async def _exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        some = await stream.receive_some(size - len(data))
        if not some:
            return None
        data += some
    return bytes(data)


class SealedStream(trio.abc.Stream):
    """A stream whose bytes travel sealed; see :mod:`tractor.hosts.agent._seal`.

    Args:
        stream: what they travel by.
        seal: of this side.
        below: the connection, which may be that stream, or have TLS between.
    """

    def __init__(self, stream: trio.abc.Stream, seal: Seal, below: trio.SocketStream) -> None:
        self._stream, self._seal = stream, seal
        self.below = below

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; see trio."""
        await self._stream.send_all(self._seal.seal(bytes(data)))

    async def wait_send_all_might_not_block(self) -> None:
        """See trio."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what is whole, however much; empty: the end.

        Raises:
            trio.BrokenResourceError: the connection broke; or somebody has changed what came over it.
        """
        while True:
            data = await self._stream.receive_some(max_bytes)
            if not data:
                return b""
            try:
                text = self._seal.open(bytes(data))
            except ValueError as exc:
                raise trio.BrokenResourceError(f"it can't be believed: {exc}") from exc
            if text:
                return text

    async def aclose(self) -> None:
        """Close; see trio."""
        await self._stream.aclose()
