"""What makes a plain connection a link: each side proves that it has the start's token, and all after that is sealed.

An agent that was started by a scheduler has no pipe to its other side; it dials, over a network that others may see.
The token, 32 random bytes that are good for one connection, came to it with its program.  Then::

    agent                     link process
    nonce (32)        -->     nonce (32)
    proof (32)        -->     checked first: who merely reaches the listener gets nothing that the token went into
                      <--     proof (32)
    records           <-->    records

A proof is an HMAC-SHA256, keyed with the token, over the role and both nonces, so none that was seen is good for
another connection or the other side.  A record is its length (4 bytes, big-endian), the text, encrypted by what
SHAKE256 makes of the direction's key and the record's number, and an HMAC-SHA256 of number and cipher text, cut to 16
bytes: what is changed, left out, repeated or put into another order is seen.
"""

from __future__ import annotations

import hashlib
import hmac

NONCE = 32
PROOF = 32
AGENT, LINK = b"agent", b"link"
"""The roles."""

_LENGTH = 4
_TAG = 16
_RECORD = 64 * 1024
"""Bytes of text in one record, at most."""


class Seal:
    """One side of a connection.

    Args:
        token: of the start.
        own: this side's role, :data:`AGENT` or :data:`LINK`.
        nonces: the agent's, then the link process's.
    """

    def __init__(self, token: bytes, own: bytes, nonces: bytes) -> None:
        other = LINK if own == AGENT else AGENT
        self._token, self._nonces, self._other = token, nonces, other
        self.proof = self._derived(b"proof of " + own)
        self._sends = _Direction(self._derived(b"sent by " + own))
        self._gets = _Direction(self._derived(b"sent by " + other))
        self._buffer = bytearray()

    def is_proven(self, proof: bytes) -> bool:
        """Whether the other side has the token."""
        return hmac.compare_digest(proof, self._derived(b"proof of " + self._other))

    def seal(self, data: bytes) -> bytes:
        """Bytes as the records that carry them; to be sent in this order."""
        parts = [data[at : at + _RECORD] for at in range(0, len(data), _RECORD)]
        return b"".join(map(self._sends.sealed, parts))

    def open(self, data: bytes) -> bytes:
        """What the records say that are whole by now.

        Raises:
            ValueError: somebody else has written, or has changed what was written; nothing more can be believed.
        """
        self._buffer += data
        found = []
        while len(self._buffer) >= _LENGTH:
            size = int.from_bytes(self._buffer[:_LENGTH], "big")
            if size > _RECORD:
                raise ValueError(f"a record of {size} bytes is none of the other side's")
            end = _LENGTH + size + _TAG
            if len(self._buffer) < end:
                break
            found.append(self._gets.opened(bytes(self._buffer[_LENGTH:end])))
            del self._buffer[:end]
        return b"".join(found)

    def _derived(self, what: bytes) -> bytes:
        return hmac.digest(self._token, what + b"\0" + self._nonces, "sha256")


class _Direction:
    def __init__(self, key: bytes) -> None:
        self._encrypts = hmac.digest(key, b"encrypt", "sha256")
        self._signs = hmac.digest(key, b"sign", "sha256")
        self._number = 0

    def sealed(self, text: bytes) -> bytes:
        number = self._next()
        cipher = self._mixed(number, text)
        return b"".join((len(text).to_bytes(_LENGTH, "big"), cipher, self._tag(number, cipher)))

    def opened(self, record: bytes) -> bytes:
        number = self._next()
        cipher, tag = record[:-_TAG], record[-_TAG:]
        if not hmac.compare_digest(tag, self._tag(number, cipher)):
            raise ValueError("a record is not as the other side has sent it")
        return self._mixed(number, cipher)

    def _next(self) -> bytes:
        self._number += 1
        return self._number.to_bytes(8, "big")

    def _mixed(self, number: bytes, text: bytes) -> bytes:
        stream = hashlib.shake_256(self._encrypts + number).digest(len(text))
        mixed = int.from_bytes(text, "big") ^ int.from_bytes(stream, "big")
        return mixed.to_bytes(len(text), "big")

    def _tag(self, number: bytes, cipher: bytes) -> bytes:
        return hmac.digest(self._signs, number + cipher, "sha256")[:_TAG]
