"""What goes over the control socket: one JSON object a line each way, and the limits for both."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import msgspec

from tractor.runtime.seen._samples import Who as Who

VERSION = 1

MAX_REQUEST = 4 * 1024
MAX_ANSWER = 2**20
"""Bytes of a line."""

MAX_PEERS = 8
"""Connections at a time."""

IDLE_LIMIT = 10.0
"""Seconds for which a connection may be silent."""

STALL_LIMIT = 5.0
"""Seconds for which a peer may take nothing of an answer."""

SAMPLE_LIMIT = 0.2
"""Seconds in which the loop must have come to a look, before the thread answers."""

LOOP_LIMIT = 3.0
"""Seconds in which the actor's loop must have answered."""


LONGEST = 60.0
"""Seconds that may be asked for, where a request is passed on."""


class Code(enum.StrEnum):
    """Why there is no answer."""

    UNKNOWN_OP = "unknown-op"
    REFUSED = "refused"
    BUSY = "busy"
    TOO_SLOW = "too-slow"
    FAILED = "failed"
    BAD_REQUEST = "bad-request"


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, code: Code, text: str) -> None:
        self.code = code
        self.text = text
        super().__init__(f"{code}: {text}")


def read_request(line: bytes) -> dict[str, Any]:
    """A request.  Raises Refusal: it is none, or of another version."""
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise Refusal(Code.BAD_REQUEST, f"no JSON: {exc}") from None
    if not isinstance(found, dict) or not isinstance(found.get("op"), str):
        raise Refusal(Code.BAD_REQUEST, 'a request is an object with "v" and "op"')
    if found.get("v") != VERSION:
        raise Refusal(Code.BAD_REQUEST, f'"v" is {found.get("v")!r}; this actor knows {VERSION}')
    return found


def request_line(request: Mapping[str, Any]) -> bytes:
    """The line of a request."""
    return msgspec.json.encode({"v": VERSION, **request}) + b"\n"


def answer(value: Any) -> bytes:
    """The line of an answer."""
    line = msgspec.json.encode({"v": VERSION, "ok": value}) + b"\n"
    if len(line) > MAX_ANSWER:
        return refusal(Refusal(Code.FAILED, f"the answer has more than {MAX_ANSWER} bytes"))
    return line


def refusal(exc: Refusal) -> bytes:
    """The line of an error."""
    return msgspec.json.encode({"v": VERSION, **answer_in_words(exc)}) + b"\n"


def answer_in_words(exc: Refusal) -> dict[str, Any]:
    """An error as plain data."""
    return {"error": {"code": str(exc.code), "text": exc.text}}


def read_answer(line: bytes) -> Any:
    """What was answered; raises as :func:`answer_in`."""
    return answer_in(msgspec.json.decode(line))


def answer_in(found: Any) -> Any:
    """What was answered, of the decoded line; raises as :func:`outcome_in`."""
    if not isinstance(found, dict) or found.get("v") != VERSION:
        raise ValueError(f"no answer of version {VERSION}: {str(found)[:100]!r}")
    return outcome_in(found)


def outcome_in(found: Any) -> Any:
    """What was answered, of an object with ``ok`` or ``error``.

    Raises:
        Refusal: an error was.
        ValueError: that is no answer.
    """
    if isinstance(found, dict):
        if "ok" in found:
            return found["ok"]
        error = found.get("error")
        if isinstance(error, dict):
            try:
                code = Code(str(error.get("code")))
            except ValueError:
                code = Code.FAILED
            raise Refusal(code, str(error.get("text")))
    raise ValueError(f"no answer: {str(found)[:100]!r}")
