"""Messages that are well-formed msgpack and yet can't be decoded at first.

A frame that is not a message costs its sender the channel.  Two things that honest programs send must not: arguments
that msgpack carries and Python can't hold, say a frozen dataclass as a key of a dict, which arrives as a dict (they
stay undecoded in a request, and cost that request alone); and values nested so deep that they just fitted on the
sender's stack.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from tractor._errors import MsgTypeError
from tractor.msg.types import Incoming, Start

T = TypeVar("T")

DEEPER = 1000
"""Python frames that decoding may use beyond the interpreter's limit, where the stack is what it failed for."""


def decode_again(frame: bytes | memoryview, decode: Callable[[Any], Incoming]) -> Incoming:
    """Decode a frame of a batch in which one could not be decoded.

    Args:
        frame: one message.
        decode: decodes it.

    Raises:
        Exception: whatever ``decode`` raises: it is not a message.
    """
    return decode_deep(decode, frame)


def decode_deep(decode: Callable[[Any], T], data: Any) -> T:
    """What ``decode`` makes of ``data``, also where that is nested almost too deep for this stack.

    Raises:
        Exception: whatever ``decode`` raises.
    """
    try:
        return decode(data)
    except RecursionError:
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(limit + DEEPER)
        try:
            return decode(data)
        finally:
            sys.setrecursionlimit(limit)


def undecodable_arguments(name: str, cause: Exception, cid: int | None) -> MsgTypeError:
    """What the caller of the function ``name`` is told if its arguments can't be decoded."""
    return MsgTypeError.from_decode(
        f"invalid `Start` msg payload\nthe arguments for {name} can't be decoded: {cause}\n"
        "send text, numbers, bytes, lists and dicts whose keys are text or numbers",
        expected_msg_type=Start,
        cid=cid,
        src_exc=cause,
    )
