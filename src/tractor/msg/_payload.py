"""Checks of payloads against their spec, and the errors that tell of a violation."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from msgspec import Raw
from msgspec.msgpack import Encoder

from .._errors import MsgTypeError, safe_str
from ._codec import MsgCodec, MsgDec, current_codec
from .types import PayloadMsg

SHOWN_CHARS = 2000
"""How much of an offending value an error's text shows."""


class _PayloadReader(Protocol):
    @property
    def pld_dec(self) -> MsgDec: ...


class Dialog(Protocol):
    """A dialog, as far as a check of its payloads needs it."""

    @property
    def pld_rx(self) -> _PayloadReader: ...


def payload_type_error(
    msg_type: type | str,
    value: Any,
    spec_str: str,
    *,
    cid: int | None = None,
    bad_msg: Any = None,
    cause: BaseException | None = None,
) -> MsgTypeError:
    """The error for a payload that is not of its spec, on the sender's side as on the receiver's.

    Args:
        msg_type: the message's class, or its name.
        value: the payload; a ``Raw`` one is decoded for the text.
        spec_str: the spec, as ``MsgDec.spec_str`` has it.
        cid: the dialog; default: that of ``bad_msg``.
        bad_msg: the message.
        cause: the decoder's error.
    """
    name = msg_type if isinstance(msg_type, str) else msg_type.__name__
    shown = _decoded(value)
    lines = [
        f"invalid `{name}` msg payload",
        f"  {_short_repr(shown)}",
        f"has type {type(shown)!r}",
        f"does not match type-spec `{name}.pld: {spec_str}`",
    ]
    if cause is not None:
        lines.append(f"({safe_str(cause)})")
    return MsgTypeError.from_decode(
        "\n".join(lines),
        bad_msg,
        expected_msg_type=None if isinstance(msg_type, str) else msg_type,
        cid=cid,
        src_exc=cause,
    )


def unencodable_error(
    value: Any,
    what: str,
    cause: BaseException,
    *,
    cid: int | None = None,
    bad_msg: Any = None,
) -> MsgTypeError:
    """The error for a value that the codec cannot encode.  It names the type and the hooks.

    Args:
        value: the payload.
        what: the message that was to carry it: its class's name.
        cause: the encoder's error.
        cid: the dialog.
        bad_msg: the message.
    """
    text = (
        f"invalid `{what}` msg payload\n"
        f"  {_short_repr(value)}\n"
        f"has type {type(value)!r}\n"
        f"that cannot be encoded: {type(cause).__name__}: {safe_str(cause)}\n"
        "for types that msgspec does not know give an `enc_hook` (and a `dec_hook` to the reader)"
        " together with `ext_types`, the types that the hooks handle"
    )
    return MsgTypeError.from_decode(text, bad_msg, cid=cid, src_exc=cause)


def encode_payload(
    encoder: Encoder, value: Any, what: str, *, cid: int | None = None, bad_msg: Any = None
) -> bytes:
    """``value`` as msgpack; ``what``, ``cid`` and ``bad_msg`` tell of the message that it is for.

    Raises:
        MsgTypeError: it cannot be encoded, or the hook failed; see :func:`unencodable_error`.
    """
    try:
        return encoder.encode(value)
    except Exception as exc:
        raise unencodable_error(value, what, exc, cid=cid, bad_msg=bad_msg) from exc


def validate_payload_msg(
    msg: PayloadMsg[Any],
    value: Any,
    ipc: Dialog | MsgDec,
    raise_mte: bool = True,
    strict_pld_parity: bool = False,
) -> MsgTypeError | None:
    """Check before sending that the receiver will find ``value`` to be of the dialog's payload
    spec.

    Args:
        msg: the message that carries it.
        value: the payload.
        ipc: the dialog, whose decoder is ``ipc.pld_rx.pld_dec``, or a decoder itself.
        raise_mte: raise the violation, instead of returning it.
        strict_pld_parity: demand also that what the receiver decodes equals ``value``.

    Returns:
        ``None`` if the payload is valid.

    Raises:
        MsgTypeError: it is not, or cannot be encoded.  Nothing was sent.
    """
    decoder = ipc if isinstance(ipc, MsgDec) else ipc.pld_rx.pld_dec
    codec: MsgCodec = getattr(ipc, "_codec", None) or current_codec()
    error = _check(msg, value, decoder, codec, strict_pld_parity)
    if error is not None and raise_mte:
        raise error
    return error


def _check(
    msg: PayloadMsg[Any], value: Any, decoder: MsgDec, codec: MsgCodec, strict_pld_parity: bool
) -> MsgTypeError | None:
    msg_type = type(msg)
    name = msg_type.__name__
    try:
        encoded = encode_payload(codec.enc, value, name, cid=msg.cid, bad_msg=msg)
        decoded = decoder.decode(encoded)
    except MsgTypeError as error:
        return error
    except msgspec.ValidationError as exc:
        return payload_type_error(
            msg_type, value, decoder.spec_str, cid=msg.cid, bad_msg=msg, cause=exc
        )
    if not strict_pld_parity or _equal(decoded, value):
        return None
    parity = ValueError(f"it arrives as {_short_repr(decoded)}, which is not equal to it")
    return payload_type_error(
        msg_type, value, decoder.spec_str, cid=msg.cid, bad_msg=msg, cause=parity
    )


def _equal(a: object, b: object) -> bool:
    try:
        return bool(a == b)
    except Exception:
        return False


def _decoded(value: Any) -> Any:
    if not isinstance(value, Raw):
        return value
    try:
        return msgspec.msgpack.decode(value)
    except msgspec.DecodeError:
        return bytes(value)


def _short_repr(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        return f"<{type(value).__qualname__} object, its repr() failed>"
    if len(text) <= SHOWN_CHARS:
        return text
    return f"{text[:SHOWN_CHARS]}... ({len(text) - SHOWN_CHARS} more characters)"
