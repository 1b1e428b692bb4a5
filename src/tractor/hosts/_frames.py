"""Frames on the link between a host's agent and the link process that answers it.

A frame is 4 bytes, the big-endian length of a JSON object in UTF-8, then that object.  Its key ``"t"`` is the frame's
type.  Where it has a key ``"raw"``, a number, as many bytes follow right after.  The agent has the standard library
alone, and this module runs there, too: it imports nothing else.

Strings may hold what stands for bytes that are no UTF-8 (``surrogateescape``), as in arguments, variables and paths:
they travel as escapes of JSON, and come out as they were.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from typing import Any, Final, TypeAlias

MAX_OBJECT: Final = 1024 * 1024
"""Bytes of a frame's JSON object."""

MAX_RAW: Final = 256 * 1024 * 1024
"""Bytes that may follow it."""

Frame: TypeAlias = tuple[dict[str, Any], bytes | None]
"""The object, and the raw bytes after it; ``None``: it announced none."""

_HEADER = struct.Struct(">I")


class FrameError(ValueError):
    """What came, or was to be sent, is no frame.

    Attributes:
        frames: the whole frames that came before it, of the same call.
        framing_holds: it is known where the next frame begins: :meth:`Decoder.feed` goes on behind the bad one.
    """

    def __init__(
        self, text: str, frames: list[Frame] | None = None, framing_holds: bool = False
    ) -> None:
        super().__init__(text)
        self.frames = frames or []
        self.framing_holds = framing_holds


def encode(obj: dict[str, Any], raw: bytes | None = None) -> bytes:
    """A frame as bytes.

    Args:
        obj: what travels; ``"t"`` is its type.  ``"raw"`` is set here.
        raw: bytes that follow the object.

    Raises:
        FrameError: no type, a value that JSON has no form for, or too large.
    """
    if not isinstance(obj.get("t"), str):
        raise FrameError(f"a frame's type, its key 't', is a string, not {obj.get('t')!r}")
    if raw is not None:
        if len(raw) > MAX_RAW:
            raise FrameError(f"{len(raw)} raw bytes are over the limit of {MAX_RAW}")
        obj = {**obj, "raw": len(raw)}
    elif "raw" in obj:
        raise FrameError("a frame's key 'raw' is the number of the bytes after it: give these")
    try:
        # ASCII alone: lone surrogates, which UTF-8 has no form for, are escaped with the rest.
        body = json.dumps(obj, allow_nan=False, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError, RecursionError) as exc:
        raise FrameError(f"a frame of type {obj['t']!r} can't be JSON: {exc}") from exc
    if len(body) > MAX_OBJECT:
        raise FrameError(
            f"a frame of type {obj['t']!r} with {len(body)} bytes is over the limit of {MAX_OBJECT}"
        )
    return b"".join((_HEADER.pack(len(body)), body, raw or b""))


class Decoder:
    """Cuts what comes in pieces of any size into frames."""

    __slots__ = ("_broken", "_buffer", "_object")

    def __init__(self) -> None:
        self._buffer = bytearray()
        # The object whose raw bytes have not come yet.
        self._object: dict[str, Any] | None = None
        self._broken: str | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes; returns the frames that are whole now.

        Raises:
            FrameError: something is no frame.  It holds the frames before it.  Where ``framing_holds``, ``feed(b"")``
                goes on with what came behind; else this and every later call fails.
        """
        if self._broken is not None:
            raise FrameError(self._broken)
        self._buffer += data
        frames: list[Frame] = []
        start = 0
        try:
            while (found := self._next(start)) is not None:
                frame, start = found
                if frame is not None:
                    frames.append(frame)
        except _BadObject as exc:
            start = exc.end
            raise FrameError(str(exc), frames, framing_holds=True) from exc.__cause__
        except FrameError as exc:
            self._broken = str(exc)
            raise FrameError(self._broken, frames) from exc.__cause__
        finally:
            # Once for all frames: each cut would move what is behind it.
            del self._buffer[:start]
        return frames

    @property
    def is_between_frames(self) -> bool:
        """Whether an end of file here would cut no frame in two."""
        return not self._buffer and self._object is None

    def _next(self, start: int) -> tuple[Frame | None, int] | None:
        """The frame at an offset, and where it ends; without a frame: its object is known now.  ``None``: wait."""
        if self._object is not None:
            end = start + self._object["raw"]
            if len(self._buffer) < end:
                return None
            frame = self._object, bytes(memoryview(self._buffer)[start:end])
            self._object = None
            return frame, end
        body = start + _HEADER.size
        if len(self._buffer) < body:
            return None
        (size,) = _HEADER.unpack_from(self._buffer, start)
        if size > MAX_OBJECT:
            head = bytes(self._buffer[start : start + 40])
            raise FrameError(
                f"a frame of {size} bytes is over the limit of {MAX_OBJECT}; it begins with {head!r}"
            )
        end = body + size
        if len(self._buffer) < end:
            return None
        obj = _parse(bytes(self._buffer[body:end]), end)
        if "raw" not in obj:
            return (obj, None), end
        length = obj["raw"]
        if type(length) is not int or not 0 <= length <= MAX_RAW:
            raise FrameError(
                f"a frame's 'raw' is a number of bytes up to {MAX_RAW}, not {_short(length)}"
            )
        self._object = obj
        return None, end


class _BadObject(FrameError):
    def __init__(self, text: str, end: int) -> None:
        super().__init__(text)
        self.end = end


def _parse(body: bytes, end: int) -> dict[str, Any]:
    try:
        obj = json.loads(body.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError) as exc:
        raise _BadObject(f"a frame's object is no JSON: {exc}: {_short(body)}", end) from exc
    if not isinstance(obj, dict) or not isinstance(obj.get("t"), str):
        raise _BadObject(f"a frame is an object with a string 't', not {_short(obj)}", end)
    return obj


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def _short(value: object) -> str:
    text = repr(value[:80] if isinstance(value, bytes | str) else value)
    return text if len(text) <= 80 else text[:77] + "..."


def to_text(data: bytes) -> str:
    """Bytes as a value of a frame's object."""
    return base64.b64encode(data).decode("ascii")


def to_bytes(text: object) -> bytes:
    """What :func:`to_text` was given.

    Raises:
        FrameError: it is no base64 text.
    """
    if not isinstance(text, str):
        raise FrameError(f"bytes travel as a base64 string, not {_short(text)}")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise FrameError(f"no base64 text ({exc}): {_short(text)}") from exc
