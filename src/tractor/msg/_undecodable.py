"""Messages that are well-formed msgpack and yet can't be decoded at first.

A frame that is no message costs its sender the channel.  Two things that honest programs send must not: arguments
that msgpack carries and Python can't hold, say a frozen dataclass as a key of a dict, which arrives as a dict; and
values nested so deep that they just fitted on the sender's stack.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from .._errors import MsgTypeError
from .types import MsgType, Start, Uid

DEEPER = 1000
"""Python frames that decoding may use beyond the interpreter's limit, where the stack is what it failed for."""


class _RawStart(msgspec.Struct, array_like=True, tag=3):
    """A :class:`Start` whose arguments are left undecoded."""

    cid: int
    ns: str
    func: str
    kwargs: msgspec.Raw
    uid: Uid
    pld_spec: str | None = None
    kind: Literal["call", "asyncgen", "context"] = "call"


_raw_start = msgspec.msgpack.Decoder(_RawStart)


class UndecodableArguments(dict[str, Any]):
    """Stands in a :class:`Start` for arguments that can't be decoded; always empty.

    Attributes:
        error: what the caller is to be told.
    """

    error: MsgTypeError


def decode_again(frame: bytes | memoryview, decode: Callable[[Any], MsgType]) -> MsgType:
    """Decode a frame of a batch in which one could not be decoded.

    Args:
        frame: one message.
        decode: decodes it.

    Returns:
        The message; a request whose arguments alone are bad has :class:`UndecodableArguments` in their place.

    Raises:
        Exception: whatever ``decode`` raises: it is no message.
    """
    try:
        return decode(frame)
    except RecursionError as exc:
        return _deeper(frame, decode, exc)
    except Exception as exc:
        return _without_arguments(frame, exc)


def _deeper(
    frame: bytes | memoryview, decode: Callable[[Any], MsgType], cause: RecursionError
) -> MsgType:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + DEEPER)
    try:
        return decode(frame)
    except RecursionError:
        raise cause from None
    except Exception as exc:
        return _without_arguments(frame, exc)
    finally:
        sys.setrecursionlimit(limit)


def _without_arguments(frame: bytes | memoryview, cause: Exception) -> Start:
    """The request in ``frame``; raises ``cause`` if it has none, or more than its arguments is bad."""
    try:
        start = _raw_start.decode(frame)
    except Exception:
        raise cause from None
    arguments = UndecodableArguments()
    arguments.error = MsgTypeError.from_decode(
        f"invalid `Start` msg payload\nthe arguments for {start.ns}:{start.func} can't be decoded: {cause}\n"
        "send text, numbers, bytes, lists and dicts whose keys are text or numbers",
        expected_msg_type=Start,
        cid=start.cid,
        src_exc=cause,
    )
    return Start(start.cid, start.ns, start.func, arguments, start.uid, start.pld_spec, start.kind)
