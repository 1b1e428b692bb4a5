"""What goes over the control socket: one JSON object a line each way, and the limits for both."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

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

LOOP_LIMIT = 3.0
"""Seconds in which the actor's loop must have answered."""


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


class Who(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers.

    Attributes:
        name, uuid, pid: the actor.
        start_time: of its process, in clock ticks since the boot, as the kernel tells it; ``None``: unknown.
        host: the host's name.
        host_id: its id, within which ``pid`` and ``start_time`` mean something; ``None``: unknown.
        parent: uuid of its parent; ``None``: it is a root.
        root: uuid of its tree's root; ``None``: unknown.
        versions: of Python and this package.
        addrs: where peers reach it.
        ops: what it may be asked.
    """

    name: str
    uuid: str
    pid: int
    start_time: float | None
    host: str
    parent: str | None
    root: str | None
    versions: dict[str, str]
    addrs: list[Any]
    ops: list[str]
    host_id: str | None = None


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


def answer(value: Any) -> bytes:
    """The line of an answer."""
    line = msgspec.json.encode({"v": VERSION, "ok": value}) + b"\n"
    if len(line) > MAX_ANSWER:
        return refusal(Refusal(Code.FAILED, f"the answer has more than {MAX_ANSWER} bytes"))
    return line


def refusal(exc: Refusal) -> bytes:
    """The line of an error."""
    error = {"code": str(exc.code), "text": exc.text}
    return msgspec.json.encode({"v": VERSION, "error": error}) + b"\n"


def read_answer(line: bytes) -> Any:
    """What was answered.

    Raises:
        Refusal: an error was.
        ValueError: that is no answer.
    """
    found = msgspec.json.decode(line)
    if isinstance(found, dict) and found.get("v") == VERSION:
        if "ok" in found:
            return found["ok"]
        error = found.get("error")
        if isinstance(error, dict):
            try:
                code = Code(str(error.get("code")))
            except ValueError:
                code = Code.FAILED
            raise Refusal(code, str(error.get("text")))
    raise ValueError(f"no answer of version {VERSION}: {line[:100]!r}")
