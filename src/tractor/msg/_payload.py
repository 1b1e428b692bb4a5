"""Checks of payloads against their spec, and the errors that tell of a violation."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from msgspec import Raw
from msgspec.msgpack import Encoder

from tractor._errors import MsgTypeError
from tractor._util._plain import class_name, safe_repr, safe_str
from tractor.msg._codec import MsgDec, current_codec
from tractor.msg._shown import short_repr, shown
from tractor.msg.bounded._bounded import Crowded
from tractor.msg.types import PayloadMsg, Return, Start


class PayloadRules(Protocol):
    """What the payloads of a dialog must be: see ``PldRx``."""

    @property
    def pld_dec(self) -> MsgDec: ...

    @property
    def encoder(self) -> Encoder: ...


class Dialog(Protocol):
    """A dialog, as far as a check of its payloads needs it."""

    @property
    def pld_rx(self) -> PayloadRules: ...


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
        value: the payload; of a ``Raw`` one the text shows what it decodes to.
        spec_str: the spec, as ``MsgDec.spec_str`` has it.
        cid: the dialog; default: that of ``bad_msg``.
        bad_msg: the message.
        cause: the decoder's error.
    """
    name = msg_type if isinstance(msg_type, str) else msg_type.__name__
    text, kind = shown(value)
    lines = [
        f"invalid `{name}` msg payload",
        f"  {text}",
        f"has type {safe_repr(kind)}",
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


def conversion_error(
    msg_type: str, what: str, raw: Raw, text: str, cause: BaseException, *, cid: int | None = None
) -> MsgTypeError:
    """The error for an argument or a result that is not what the function's annotation says.

    Args:
        msg_type: the name of the message's class.
        what: which value of which function.
        raw: the value.
        text: the annotation.
        cause: the decoder's error.
        cid: the dialog.
    """
    begins, found = shown(raw)
    lines = [
        f"invalid `{msg_type}` msg payload: {what}",
        f"  {begins}",
        f"has type {safe_repr(found)}",
        f"does not match its annotation `{text}`",
        f"({safe_str(cause)})",
    ]
    kind = Return if msg_type == "Return" else Start
    return MsgTypeError.from_decode(
        "\n".join(lines), expected_msg_type=kind, cid=cid, src_exc=cause
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
    if isinstance(cause, Crowded):
        # To show it would take longer than to send it.
        text = f"invalid `{what}` msg payload of type {safe_repr(type(value))}: {cause}"
        return MsgTypeError.from_decode(text, bad_msg, cid=cid, src_exc=cause, boxed_type=TypeError)
    text = (
        f"invalid `{what}` msg payload\n"
        f"  {short_repr(value)}\n"
        f"has type {safe_repr(type(value))}\n"
        f"that cannot be encoded: {class_name(type(cause))}: {safe_str(cause)}\n"
        "for types that msgspec does not know give an `enc_hook` (and a `dec_hook` to the reader)"
        " together with `ext_types`, the types that the hooks handle"
    )
    return MsgTypeError.from_decode(text, bad_msg, cid=cid, src_exc=cause, boxed_type=TypeError)


_well_formed = msgspec.msgpack.Decoder(Raw)


def refuse_garbage(value: Raw, what: str, *, cid: int | None = None) -> None:
    """Check a payload that the application gives as ``Raw``, which is sent as it is.

    Raises:
        MsgTypeError: it is not one msgpack value; the peer would take the whole message for garbage.
    """
    try:
        _well_formed.decode(value)
    except Exception as exc:
        raise unencodable_error(value, what, exc, cid=cid) from exc


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
    try:
        if isinstance(ipc, MsgDec):
            encode_checked(msg, value, ipc, current_codec().enc, strict_pld_parity)
        else:
            rules = ipc.pld_rx
            encode_checked(msg, value, rules.pld_dec, rules.encoder, strict_pld_parity)
    except MsgTypeError as error:
        if raise_mte:
            raise
        return error
    return None


def encode_checked(
    msg: PayloadMsg[Any],
    value: Any,
    decoder: MsgDec,
    encoder: Encoder,
    strict_pld_parity: bool = False,
) -> bytes:
    """``value`` as msgpack, after a check that its receiver will find it to be of the payload spec.

    Args:
        msg: the message that is to carry it, for the error.
        value: the payload.
        decoder: the receiver's.
        encoder: the sender's.
        strict_pld_parity: demand also that what the receiver decodes equals ``value``.

    Raises:
        MsgTypeError: it is not of the spec, or cannot be encoded.
    """
    kind = type(msg)
    encoded = encode_payload(encoder, value, kind.__name__, cid=msg.cid, bad_msg=msg)
    try:
        decoded = decoder.decode(encoded)
    except Exception as exc:
        # Not only what msgspec raises: a hook of the user's may fail in its own way.
        raise payload_type_error(
            kind, value, decoder.spec_str, cid=msg.cid, bad_msg=msg, cause=exc
        ) from exc
    if strict_pld_parity and not _equal(decoded, value):
        parity = msgspec.ValidationError(
            f"it arrives as {short_repr(decoded)}, which is not equal to it"
        )
        raise payload_type_error(
            kind, value, decoder.spec_str, cid=msg.cid, bad_msg=msg, cause=parity
        )
    return encoded


def _equal(a: object, b: object) -> bool:
    try:
        return bool(a == b)
    except Exception:
        return False
