"""What a service prints, cut into lines with its name before each; pure: time is an argument."""

from __future__ import annotations

from collections import deque

import msgspec

MAX_LINE = 16 * 1024
"""Bytes; a longer line goes on in a further one."""

UNFINISHED = 1.0
"""Seconds after which a line without an end is printed as it is."""

MAX_HELD = 2**20
"""Bytes that wait for the terminal."""


class LineBuffer:
    """The lines of one service that the terminal has not taken yet.

    Args:
        name: stands before each line.
        as_json: each line becomes an object with ``service`` and ``line`` instead.
        max_held: bytes; beyond that the oldest lines are dropped, and counted.
    """

    def __init__(self, name: str, as_json: bool = False, max_held: int = MAX_HELD) -> None:
        self._name = name
        self._as_json = as_json
        self._prefix = f"{name} | ".encode()
        self._max_held = max_held
        # Whole lines with their prefix, in blocks as they were read: each with its number of lines.
        self._blocks: deque[tuple[bytes, int]] = deque()
        self._held = 0
        self._dropped = 0
        self._rest = b""
        # When what is unfinished is printed; `None`: nothing is.
        self.deadline: float | None = None

    @property
    def held(self) -> int:
        """Bytes that are kept here."""
        return self._held + len(self._rest)

    @property
    def has_lines(self) -> bool:
        """Whether :meth:`take` has something to give."""
        return bool(self._blocks or self._dropped)

    def feed(self, data: bytes, now: float) -> None:
        """The service has printed something."""
        *lines, rest = (self._rest + data).split(b"\n")
        if len(rest) > MAX_LINE or any(len(line) > MAX_LINE for line in lines):
            lines = [piece for line in lines for piece in _pieces(line)]
            *more, rest = _pieces(rest)
            lines += more
        if lines:
            self._add(lines)
            self.deadline = None
        self._rest = rest
        if not rest:
            self.deadline = None
        elif self.deadline is None:
            self.deadline = now + UNFINISHED

    def expire(self, now: float) -> None:
        """Time has passed: what is unfinished for too long becomes a line."""
        if self.deadline is not None and now >= self.deadline:
            self.finish()

    def finish(self) -> None:
        """No more is to come for now: what is unfinished becomes a line."""
        if self._rest:
            self._add([self._rest])
        self._rest = b""
        self.deadline = None

    def take(self, size: int) -> bytes:
        """Whole lines to print next, about ``size`` bytes; empty: there are none."""
        taken = []
        if self._dropped:
            lines = "line was" if self._dropped == 1 else "lines were"
            text = f"… {self._dropped} {lines} dropped: the terminal did not take them in time"
            taken.append(self._block([text.encode()]))
            self._dropped = 0
        while size > 0 and self._blocks:
            block, _ = self._blocks.popleft()
            self._held -= len(block)
            size -= len(block)
            taken.append(block)
        return b"".join(taken)

    def _add(self, lines: list[bytes]) -> None:
        block = self._block(lines)
        self._blocks.append((block, len(lines)))
        self._held += len(block)
        while self._held > self._max_held:
            block, count = self._blocks.popleft()
            self._held -= len(block)
            self._dropped += count

    def _block(self, lines: list[bytes]) -> bytes:
        if not self._as_json:
            return self._prefix + (b"\n" + self._prefix).join(lines) + b"\n"
        texts = [line.decode(errors="replace") for line in lines]
        objects = [msgspec.json.encode({"service": self._name, "line": text}) for text in texts]
        return b"\n".join(objects) + b"\n"


def _pieces(line: bytes) -> list[bytes]:
    """A line in parts of at most `MAX_LINE` bytes, none of which ends within a character."""
    pieces = []
    start = 0
    while len(line) - start > MAX_LINE:
        end = start + MAX_LINE
        for back in range(4):
            # Bytes within a character of UTF-8 begin with 10; what is no UTF-8 is cut anywhere.
            if line[end - back] & 0xC0 != 0x80:
                end -= back
                break
        pieces.append(line[start:end])
        start = end
    return [*pieces, line[start:]]
