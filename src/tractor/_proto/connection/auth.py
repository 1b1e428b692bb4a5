"""Who may talk here: the opening exchange of a connection, before any message is decoded.

Version 1 of the exchange, integers little-endian:

============  =====  ==========================================================================
field         bytes  content
============  =====  ==========================================================================
hello         6      ``MAGIC`` (4), protocol version (2); sent at once, by both, in every mode
nonce         32     random, fresh for this connection; sent behind the hello by a side with a key
proof         32     HMAC-SHA256, keyed with the tree's key, over hello, role byte, connector's
                     nonce, acceptor's nonce
============  =====  ==========================================================================

With a key (TCP): both send hello and nonce at once. ``connect`` proves first; ``accept`` checks
that and only then sends its own proof, with its messages right behind it. So whoever can merely
reach a listener never gets anything computed with the key, not even something to test guesses on.
``connect`` sends messages once it has checked the proof. Without a key (UDS, in-memory: the kernel
has spoken) the hello is all, and messages may follow it at once, so no time is lost.

The role is part of what is proven, so a proof that is sent back proves nothing, and so are both
nonces and the version, so one that was recorded proves nothing on another connection. The fields
that a peer sends are the same for both roles and of fixed size: `FIELDS` is the whole grammar.
"""

from __future__ import annotations

import enum
import hmac
import struct
from typing import Final, Literal, NamedTuple, NoReturn

from tractor._proto.machine import IllegalEvent

PROTOCOL_VERSION: Final = 1
MAGIC: Final = b"\xb0TRC"
NONCE_SIZE: Final = 32
MIN_KEY_SIZE: Final = 16

_HELLO: Final = struct.Struct("<4sH")
_ROLE_BYTE: Final = {"connect": b"C", "accept": b"A"}
_PROOF_SIZE: Final = 32
# A peer that speaks TLS begins with a ClientHello; to what is none it answers by an alert.
_TLS_RECORDS: Final = (0x15, 0x16)
_TLS_VERSION: Final = b"\x03"

Role = Literal["connect", "accept"]


class AuthState(enum.Enum):
    """What a side waits for."""

    NEW = "not started"
    HELLO = "awaiting hello"
    NONCE = "awaiting nonce"
    PROOF = "awaiting proof"
    DONE = "done"
    FAILED = "failed"


class AuthEvent(enum.Enum):
    """What can happen to a side."""

    START = "start"
    BYTES = "bytes"
    EOF = "end of file"
    DEADLINE = "deadline"


# (awaited field, is there a key?) -> (its size in bytes, what is awaited next)
FIELDS: Final[dict[tuple[AuthState, bool], tuple[int, AuthState]]] = {
    (AuthState.HELLO, False): (_HELLO.size, AuthState.DONE),
    (AuthState.HELLO, True): (_HELLO.size, AuthState.NONCE),
    (AuthState.NONCE, True): (NONCE_SIZE, AuthState.PROOF),
    (AuthState.PROOF, True): (_PROOF_SIZE, AuthState.DONE),
}

_WAITING: Final = (AuthState.HELLO, AuthState.NONCE, AuthState.PROOF)

# Which events a state allows, and the state after them; BYTES may go on as FIELDS says, or fail.
TRANSITIONS: Final[dict[tuple[AuthState, AuthEvent], AuthState]] = {
    (AuthState.NEW, AuthEvent.START): AuthState.HELLO,
    **{(state, AuthEvent.BYTES): state for state in _WAITING},
    **{(state, AuthEvent.EOF): AuthState.FAILED for state in _WAITING},
    **{(state, AuthEvent.DEADLINE): AuthState.FAILED for state in _WAITING},
}


class HandshakeError(Exception):
    """The peer may not talk here: close the connection, and tell the reason to the local log only.

    Attributes:
        reason: for messages.
        own_version, peer_version: protocol versions; the peer's is ``None`` where none came.
        speaks_tls: the peer speaks TLS, which this side does not.
    """

    def __init__(
        self, reason: str, peer_version: int | None = None, speaks_tls: bool = False
    ) -> None:
        super().__init__(reason)
        self.speaks_tls = speaks_tls
        self.reason = reason
        self.own_version = PROTOCOL_VERSION
        self.peer_version = peer_version


class Step(NamedTuple):
    """What to do after bytes came.

    Attributes:
        send: bytes to send now, possibly none.
        done: the peer has passed; messages may be sent behind `send` and decoded from `rest` on.
        rest: bytes that came behind the handshake and belong to the framing; empty until `done`.
    """

    send: bytes
    done: bool
    rest: bytes


class Handshake:
    """One side of the opening exchange.

    After an error of any method the state is `AuthState.FAILED` (`HandshakeError`) or unchanged
    (`IllegalEvent`). Never more than one incomplete field is kept of what an unproven peer sends.

    Args:
        role: ``"connect"`` or ``"accept"``.
        key: the tree's key, at least 16 bytes; ``None`` where the kernel vouches for the peer.
        nonce: 32 random bytes, fresh for each connection; not used without a key.

    Raises:
        ValueError: unknown role, or a key or nonce of the wrong size.
    """

    __slots__ = ("_buffer", "_key", "_nonce", "_peer_nonce", "history", "role", "state")

    def __init__(self, role: Role, key: bytes | None, nonce: bytes) -> None:
        if role not in _ROLE_BYTE:
            raise ValueError(f"handshake role must be 'connect' or 'accept', not {role!r}")
        if key is not None and len(key) < MIN_KEY_SIZE:
            raise ValueError(
                f"a key must have at least {MIN_KEY_SIZE} bytes, this one has {len(key)}"
            )
        if key is not None and len(nonce) != NONCE_SIZE:
            raise ValueError(f"a nonce must have {NONCE_SIZE} bytes, this one has {len(nonce)}")
        self.role: Role = role
        self.state = AuthState.NEW
        # Byte events that change nothing are left out: a peer that trickles does not make it grow.
        self.history: list[tuple[AuthState, AuthEvent]] = []
        self._key = key
        self._nonce = nonce
        self._peer_nonce = b""
        self._buffer = b""

    @property
    def keyed(self) -> bool:
        """Whether a key has to be proven; without one, messages may follow `start()` at once."""
        return self._key is not None

    def start(self) -> bytes:
        """Begin; returns the bytes to send at once. `IllegalEvent` the second time."""
        self._move(AuthEvent.START)
        hello = _HELLO.pack(MAGIC, PROTOCOL_VERSION)
        return hello + self._nonce if self.keyed else hello

    def receive(self, data: bytes) -> Step:
        """Take bytes from the peer, cut in any way.

        Raises:
            HandshakeError: they are not what a peer that may talk here sends.
            IllegalEvent: not started, done or failed.
        """
        self._check(AuthEvent.BYTES)
        self._buffer += data
        send = b""
        while self.state is not AuthState.DONE:
            size, following = FIELDS[self.state, self.keyed]
            field = self._buffer[:size]
            if self.state is AuthState.HELLO and not MAGIC.startswith(field[: len(MAGIC)]):
                self._fail_as_stranger(field)
            if len(field) < size:
                return Step(send, False, b"")
            self._buffer = self._buffer[size:]
            send += self._take(field)
            self.history.append((self.state, AuthEvent.BYTES))
            self.state = following
        rest, self._buffer = self._buffer, b""
        return Step(send, True, rest)

    def receive_eof(self) -> NoReturn:
        """The peer closed before the end; always raises.

        Raises:
            HandshakeError: in every waiting state. A peer that refuses this side looks like that,
                too.
            IllegalEvent: not started, done or failed.
        """
        self._check(AuthEvent.EOF)
        why = f"the peer closed the connection while this side was {self.state.value}"
        if self.state is AuthState.PROOF and self.role == "connect":
            why += "; one that holds another key does so (see authkey)"
        elif self.keyed and self.role == "connect":
            why += "; one whose TLS settings are not this side's does so (see tls)"
        self._fail(AuthEvent.EOF, why)

    def deadline(self) -> NoReturn:
        """The time for the exchange is over; always raises.

        Raises:
            HandshakeError: in every waiting state.
            IllegalEvent: not started, done or failed.
        """
        self._check(AuthEvent.DEADLINE)
        self._fail(AuthEvent.DEADLINE, f"the peer took too long: still {self.state.value}")

    def _take(self, field: bytes) -> bytes:
        """Judge one whole field; returns what to send in answer."""
        if self.state is AuthState.HELLO:
            _, version = _HELLO.unpack(field)
            if version != PROTOCOL_VERSION:
                self._fail(
                    AuthEvent.BYTES,
                    f"protocol version mismatch: the peer speaks version {version}, "
                    f"this side version {PROTOCOL_VERSION}; use the same tractor on both",
                    version,
                )
            return b""
        if self.state is AuthState.NONCE:
            self._peer_nonce = field
            return self._proof(self.role) if self.role == "connect" else b""
        peer_role: Role = "accept" if self.role == "connect" else "connect"
        if not hmac.compare_digest(field, self._proof(peer_role)):
            self._fail(AuthEvent.BYTES, "the peer does not hold this tree's key (see authkey)")
        return self._proof(self.role) if self.role == "accept" else b""

    def _proof(self, role: Role) -> bytes:
        assert self._key is not None
        nonces = (self._nonce, self._peer_nonce)
        first, second = nonces if self.role == "connect" else nonces[::-1]
        text = _HELLO.pack(MAGIC, PROTOCOL_VERSION) + _ROLE_BYTE[role] + first + second
        return hmac.digest(self._key, text, "sha256")

    def _check(self, event: AuthEvent) -> AuthState:
        try:
            return TRANSITIONS[self.state, event]
        except KeyError:
            state = f"a {self.role!r} handshake that is {self.state.value!r}"
            past = [f"{at.value}: {e.value}" for at, e in self.history]
            raise IllegalEvent(event.value, state, past) from None

    def _move(self, event: AuthEvent) -> None:
        following = self._check(event)
        self.history.append((self.state, event))
        self.state = following

    def _fail_as_stranger(self, field: bytes) -> NoReturn:
        if field[0] in _TLS_RECORDS and field[1:2] in (b"", _TLS_VERSION):
            self._fail(
                AuthEvent.BYTES,
                "it does not speak this protocol without TLS, as this side does: "
                "give tls= on both sides, or on none",
                speaks_tls=True,
            )
        self._fail(AuthEvent.BYTES, f"it does not speak this protocol: it began with {field!r}")

    def _fail(
        self, event: AuthEvent, reason: str, version: int | None = None, speaks_tls: bool = False
    ) -> NoReturn:
        self.history.append((self.state, event))
        self.state = AuthState.FAILED
        self._buffer = b""
        raise HandshakeError(reason, version, speaks_tls)
