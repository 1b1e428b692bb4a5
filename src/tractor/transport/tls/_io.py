"""TLS over a non-blocking byte pipe, itself such a pipe.

The cipher is an ``ssl.SSLObject`` between two memory buffers, not a ``trio.SSLStream``: a transport's sender may be
cancelled at any time without cutting a frame, which takes a pipe whose writes never wait, while a cancelled
``send_all`` leaves an ``SSLStream`` broken.
"""

from __future__ import annotations

import contextlib
import errno
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from tractor.transport._contract import ByteIO

FEED = 262_144
"""Bytes of ciphertext taken from the pipe below at a time, at most."""

FEED_AT_LEAST = 65_536
"""Bytes of ciphertext asked for however little plaintext is: only whole records, of up to 16 KiB, give any."""

FIRST_BYTES = 16
"""Bytes of the peer's beginning that are kept."""

RECORDS = (b"\x14", b"\x15", b"\x16", b"\x17")
"""How TLS records begin."""

NO_TLS_HERE = b"\x15\x03\x03\x00\x02\x02\x46"
"""A fatal alert, `protocol_version`, for a peer that does not speak TLS."""

BATCH = 65_536
"""Bytes of plaintext encrypted before the ciphertext is written: what is encrypted must leave before anything else."""

MAX_ANSWERS = 1_048_576
"""Bytes of TLS's own answers (say to key updates) that may wait while the peer does not read them."""


class TLSIO:
    """TLS over a :class:`~tractor.transport._contract.ByteIO` that this object owns from now on.

    :meth:`handshake` comes first.  Errors of TLS are ``ssl.SSLError``, which is an OSError; a pipe that ends without
    TLS saying so is a ``ConnectionResetError``: bytes may have been cut off by anybody.

    Args:
        io: the pipe that carries the ciphertext.
        context: for this side of a connection.
        server_hostname: for the connecting side: the host name or IP address that the peer's certificate must be
            valid for.  ``None``: this is the accepting side.
    """

    def __init__(
        self, io: ByteIO, context: ssl.SSLContext, server_hostname: str | None = None
    ) -> None:
        self._io = io
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_hostname is None,
            server_hostname=server_hostname,
        )
        self._open = False
        self._closed = False
        # The first bytes from the peer, for telling what it speaks instead of TLS.
        self.first = b""
        # Ciphertext that the pipe below has taken a part of.
        self._leaving = memoryview(b"")
        # Bytes of the caller's data that are encrypted, but not yet reported as taken: their ciphertext has not left.
        # The caller offers them again until they are, so they are skipped then.
        self._unreported = 0
        # Plaintext that had to be decrypted before anybody asked for it.
        self._early: deque[bytes] = deque()
        # Only when everything that came was decrypted does the pipe below say when there is more.
        self._starved = False
        # How receiving has ended: with an error to raise, or with a close_notify.
        self._error: OSError | None = None
        self._ended = False
        self._eof_due = False

    async def handshake(self) -> None:
        """Agree on keys and check the peer's certificate.  Cancelled or failed, only ``close`` makes sense afterwards.

        Raises:
            ssl.SSLError: the peer does not speak TLS, or its certificate is not good enough, or ours is not for it.
            ConnectionResetError: the peer has left.
            OSError: the connection broke.
            trio.ClosedResourceError: this side was closed meanwhile.
        """
        while True:
            try:
                self._ssl.do_handshake()
            except ssl.SSLWantReadError:
                await self._push_all()
                await self._feed()
            except ssl.SSLError:
                if self.first[:1] not in RECORDS and not self._outgoing.pending:
                    # OpenSSL leaves without a word, and the peer would be left to guess.
                    self._outgoing.write(NO_TLS_HERE)
                self._push_alert()
                raise
            else:
                break
        await self._push_all()
        self._open = True

    async def _push_all(self) -> None:
        while not self._push():
            await self._io.wait_writable()

    async def _feed(self) -> None:
        while (data := self._io.recv_nowait(FEED)) is None:
            await self._io.wait_readable()
        if not data:
            raise ConnectionResetError(
                errno.ECONNRESET, "the peer closed the connection during the TLS handshake"
            )
        if len(self.first) < FIRST_BYTES:
            self.first += data[:FIRST_BYTES]
        self._incoming.write(data)

    # -- receiving ------------------------------------------------------------------------------------

    @property
    def sock(self) -> Any:
        """The socket below, if it is one."""
        return getattr(self._io, "sock", None)

    def recv_nowait(self, max_bytes: int) -> bytes | None:
        """What is there; ``b''`` once the peer has said that nothing follows; ``None`` when it would block.

        Raises:
            ssl.SSLError: what came is not a TLS, or was tampered with.
            ConnectionResetError: the connection ended without a word.
            OSError: it broke, or this side is not open.
        """
        self._require_open()
        if self._early:
            return self._take_early(max_bytes)
        data = self._decrypt(max_bytes)
        if not data and self._starved:
            raw = self._io.recv_nowait(min(max(max_bytes, FEED_AT_LEAST), FEED))
            if raw is None:
                self._answer()
                return None
            if raw:
                self._incoming.write(raw)
                data = self._decrypt(max_bytes)
            else:
                self._starved = False
                self._error = ConnectionResetError(
                    errno.ECONNRESET, "the connection ended without TLS's close_notify"
                )
        self._answer()
        if data:
            return data
        if self._ended:
            return b""
        if self._error is not None:
            raise self._error.with_traceback(None)
        return None

    def _decrypt(self, max_bytes: int) -> bytes:
        """What can be decrypted of what has come; nothing at the end, after an error, or for lack of bytes."""
        parts: list[bytes] = []
        size = 0
        self._starved = False
        while size < max_bytes and not self._ended and self._error is None:
            try:
                part = self._ssl.read(max_bytes - size)
            except ssl.SSLWantReadError:
                self._starved = True
                break
            except ssl.SSLZeroReturnError:
                part = b""
            except OSError as exc:
                self._error = exc
                self._push_alert()
                break
            if not part:
                self._ended = True
            parts.append(part)
            size += len(part)
        return b"".join(parts)

    def _take_early(self, max_bytes: int) -> bytes:
        head = self._early.popleft()
        if len(head) > max_bytes:
            self._early.appendleft(head[max_bytes:])
        return head[:max_bytes]

    def _answer(self) -> None:
        """Let TLS's own answers leave; that the pipe is broken is the sender's affair.

        Raises:
            ConnectionAbortedError: the peer asks for more than it reads.
        """
        if not (self._outgoing.pending or self._leaving):
            return
        with contextlib.suppress(OSError):
            self._push()
        if self._outgoing.pending > MAX_ANSWERS:
            raise ConnectionAbortedError(
                errno.ECONNABORTED, "the peer asks for TLS answers that it does not read"
            )

    async def wait_readable(self) -> None:
        """Wait until ``recv_nowait`` would not block.  Raises trio.ClosedResourceError after ``close``."""
        if self._closed:
            raise trio.ClosedResourceError("the TLS connection was closed on this side")
        if self._early or not self._starved:
            await trio.lowlevel.checkpoint()
        elif self._eof_due:
            await self._wait_either()
        else:
            await self._io.wait_readable()

    async def _wait_either(self) -> None:
        """The goodbye waits for room while this side still listens, and no sender is left to write it."""
        async with trio.open_nursery() as tn:

            async def first(wait: Callable[[], Awaitable[None]]) -> None:
                # What is wrong, the next call finds out by itself.
                with contextlib.suppress(OSError, trio.ClosedResourceError):
                    await wait()
                tn.cancel_scope.cancel()

            tn.start_soon(first, self._io.wait_readable)
            tn.start_soon(first, self._io.wait_writable)
        if self._closed:
            raise trio.ClosedResourceError("the TLS connection was closed on this side")
        self._answer()

    # -- sending --------------------------------------------------------------------------------------

    def send_nowait(self, buffers: list[bytes | bytearray | memoryview]) -> int:
        """Send a prefix of the joined buffers; the bytes whose ciphertext has left, 0 when it would block.

        What was not taken must be offered again, unchanged: a part of it may be on its way.

        Raises:
            OSError: the connection broke, or this side is not open.
        """
        self._require_open()
        if not self._push():
            return 0
        taken = skip = self._unreported
        self._unreported = 0
        for buffer in buffers:
            with memoryview(buffer) as whole:
                start = min(skip, len(whole))
                skip -= start
                while start < len(whole):
                    with whole[start : start + BATCH] as part:
                        self._encrypt(part)
                        start += len(part)
                        self._unreported += len(part)
                    if self._unreported >= BATCH:
                        if not self._push():
                            return taken
                        taken += self._unreported
                        self._unreported = 0
        if not self._push():
            return taken
        taken += self._unreported
        self._unreported = 0
        return taken

    def _encrypt(self, part: memoryview) -> None:
        try:
            done = self._ssl.write(part)
        except ssl.SSLWantReadError as exc:
            # Renegotiation is switched off, and nothing else makes writing wait for the peer.
            raise ConnectionAbortedError(
                errno.ECONNABORTED, "the peer wants to negotiate again, which is refused"
            ) from exc
        assert done == len(part), "a memory buffer takes everything"

    def _push(self) -> bool:
        """Write ciphertext; whether all has left."""
        while True:
            if not self._leaving:
                if not self._outgoing.pending:
                    return not self._eof_due or self._half_close()
                self._leaving = memoryview(self._outgoing.read())
            sent = self._io.send_nowait([self._leaving])
            if not sent:
                return False
            self._leaving = self._leaving[sent:]

    def _push_alert(self) -> None:
        """Tell the peer why, as far as TLS does, if that is possible right now."""
        with contextlib.suppress(OSError):
            self._push()

    async def wait_writable(self) -> None:
        """Wait until ``send_nowait`` would not block.  Raises trio.ClosedResourceError after ``close``."""
        if self._closed:
            raise trio.ClosedResourceError("the TLS connection was closed on this side")
        await self._io.wait_writable()

    # -- the end --------------------------------------------------------------------------------------

    def send_eof(self) -> None:
        """Say that nothing follows, and close the sending half.  Raises OSError."""
        self._require_open()
        # OpenSSL would drop what it finds when it looks for the peer's own close_notify.
        while data := self._decrypt(FEED):
            self._early.append(data)
        self._say_goodbye()
        self._eof_due = True
        self._push()

    def _say_goodbye(self) -> None:
        try:
            self._ssl.unwrap()
        except ssl.SSLWantReadError:
            pass
        else:
            self._ended = True

    def _half_close(self) -> bool:
        self._eof_due = False
        self._io.send_eof()
        return True

    def close(self) -> None:
        """Close at once; the peer is told by TLS, unless data that was on its way is cut off.  Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._open and not self._unreported and not self._leaving:
            with contextlib.suppress(OSError):
                self._say_goodbye()
            self._push_alert()
        self._io.close()

    def _require_open(self) -> None:
        if self._closed:
            raise OSError(errno.EBADF, "the TLS connection was closed on this side")
        if not self._open:
            raise OSError(errno.ENOTCONN, "the TLS handshake was not carried out")
