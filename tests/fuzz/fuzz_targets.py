"""What a peer's bytes are decoded by, as functions of bytes that must hold whatever these are.

A target raises ``AssertionError``, or whatever the code under it should not have raised.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import msgspec

from tractor._proto.connection.auth import (
    MAGIC,
    NONCE_SIZE,
    PROTOCOL_VERSION,
    AuthState,
    Handshake,
    HandshakeError,
)
from tractor._proto.connection.framing import FrameBuffer, FrameTooLarge
from tractor.msg import unpack_error
from tractor.msg.bounded._undecodable import decode_again
from tractor.msg.types import ENVELOPE, INCOMING, Error, Request, as_message

__all__ = ["TARGETS"]

MAX_FRAME = 2000
"""Bytes; small, so that inputs of a few kilobytes reach beyond it."""


def pieces(data: bytes, cuts: bytes) -> Iterator[bytes]:
    """``data`` in pieces of the sizes that ``cuts`` gives, again and again."""
    sizes = [size + 1 for size in cuts] or [len(data) + 1]
    at = n = 0
    while at < len(data):
        yield data[at : at + sizes[n % len(sizes)]]
        at += sizes[n % len(sizes)]
        n += 1


def split(data: bytes) -> tuple[bytes, bytes]:
    """The sizes of pieces, at most 15, that an input begins with, and the rest."""
    count = data[0] & 15 if data else 0
    return data[1 : 1 + count], data[1 + count :]


# -- the frame cutter --


def plain_frames(data: bytes) -> tuple[list[bytes], bool]:
    """The frames of a stream, cut in the plainest way, and whether one is announced that is too large."""
    found: list[bytes] = []
    while len(data) >= 4:
        (size,) = struct.unpack_from("<I", data)
        if size > MAX_FRAME:
            return found, True
        if len(data) < 4 + size:
            break
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found, False


def frames(data: bytes) -> None:
    """However a stream is cut, the same frames come out, and never is more kept than has come."""
    cuts, stream = split(data)
    wanted, too_large = plain_frames(stream)
    buffer = FrameBuffer(MAX_FRAME)
    got: list[bytes] = []
    came = 0
    try:
        for piece in pieces(stream, cuts):
            came += len(piece)
            got += [bytes(frame) for frame in buffer.feed(piece)]
            used = sum(4 + len(frame) for frame in got)
            assert buffer.pending == came - used
            assert buffer.pending < 4 + MAX_FRAME
            assert 0 <= buffer.missing() <= 4 + MAX_FRAME
    except FrameTooLarge as exc:
        assert too_large
        assert exc.size > MAX_FRAME  # noqa: PT017
        # Those of the same piece go with it: the channel is closed.
        assert got == wanted[: len(got)]
    else:
        assert not too_large
        assert got == wanted


# -- the envelope decoder --


def envelope(data: bytes) -> None:
    """A frame is a message, or refused by an error of the decoder; a message survives a round trip."""
    try:
        msg = decode_again(data, INCOMING.decode)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    again = msgspec.msgpack.encode(msg)
    assert msgspec.msgpack.encode(INCOMING.decode(again)) == again
    if isinstance(msg, Error):
        exc = unpack_error(msg)
        assert str(exc) is not None
        assert repr(exc)
    if isinstance(msg, Request):
        try:
            plain = as_message(msg)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError):
            return
        assert type(plain) is type(ENVELOPE.decode(msgspec.msgpack.encode(plain)))


# -- the handshake --

KEY = b"the key of the fuzzed tree"
OUR_NONCE = b"o" * NONCE_SIZE


def handshake(data: bytes) -> None:
    """Who does not hold the key does not pass, however it cuts what it sends; no more than a field is kept."""
    how, rest = (data[0], data[1:]) if data else (0, b"")
    role, keyed, proves = ("connect", "accept")[how & 1], bool(how & 2), bool(how & 4)
    cuts, stream = split(rest)
    machine = Handshake(role, KEY if keyed else None, OUR_NONCE)  # type: ignore[arg-type]
    machine.start()
    if how & 8:
        stream = MAGIC + PROTOCOL_VERSION.to_bytes(2, "little") + stream
    came, done, leftover = b"", False, b""
    try:
        for piece in pieces(stream, cuts):
            if done:
                leftover += piece
                continue
            came += piece
            step = machine.receive(piece)
            done, leftover = step.done, step.rest
            assert len(step.send) in (0, 32)
            if proves and machine.state is AuthState.PROOF and not done:
                # From here on it is somebody who holds the key.
                proof = true_proof(machine, came)
                step = machine.receive(proof[len(came) - 6 - NONCE_SIZE :] + b"rest")
                assert step.done
                assert step.rest == b"rest"
                return
    except HandshakeError as exc:
        assert machine.state is AuthState.FAILED
        assert str(exc)  # noqa: PT017
        assert KEY.decode() not in str(exc)  # noqa: PT017
        return
    assert len(machine.history) <= 8
    hello = MAGIC + PROTOCOL_VERSION.to_bytes(2, "little")
    if done:
        assert came.startswith(hello)
        assert not keyed, "passed without the key"
        assert leftover == stream[len(hello) :]
    else:
        assert MAGIC.startswith(came[: len(MAGIC)])
        end = machine.receive_eof if how & 16 else machine.deadline
        try:
            end()
        except HandshakeError:
            return
        raise AssertionError("the end of an unfinished exchange is not an error")


def true_proof(machine: Handshake, came: bytes) -> bytes:
    """What a peer that holds the key would send now, after its hello and nonce."""
    theirs = came[6 : 6 + NONCE_SIZE]
    peer = Handshake("accept" if machine.role == "connect" else "connect", KEY, theirs)
    peer.start()
    hello = MAGIC + PROTOCOL_VERSION.to_bytes(2, "little")
    if peer.role == "connect":
        return peer.receive(hello + OUR_NONCE).send
    # An acceptor proves itself to one that has.
    ours = Handshake("connect", KEY, OUR_NONCE)
    ours.start()
    first = ours.receive(hello + theirs).send
    return peer.receive(hello + OUR_NONCE + first).send


TARGETS: dict[str, Callable[[bytes], None]] = {
    "frames": frames,
    "envelope": envelope,
    "handshake": handshake,
}
