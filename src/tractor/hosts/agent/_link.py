"""The agent's end of the link: two descriptors that it never waits for."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections import deque
from typing import Any, Protocol

from tractor.hosts._frames import Decoder, Frame, FrameError, encode

MAGIC = b"TRACTOR-AGENT 1\n"
"""The agent's first bytes.  What comes before them is others' output, of start-up files for one."""

READ_SIZE = 256 * 1024

BUSY = 64 * 1024
"""Bytes that wait to be written: then nothing is added that can wait."""

STUCK = 1024 * 1024
"""Bytes that wait to be written: then nothing more is read, for it might have to be answered."""


class Wrapping(Protocol):
    """What is between frames and the bytes that travel."""

    def wrap(self, data: bytes) -> bytes:
        """Bytes as they travel."""

    def unwrap(self, data: bytes) -> bytes:
        """What came, as far as it is whole.  Raises ValueError, OSError: it was changed on its way."""


class LinkLost(Exception):
    """The other side has ended the link, or nothing can be made of what it sends."""


class Link:
    """Frames in, frames out.

    Args:
        read_fd, write_fd: the link's two directions, owned by it from now on; they may be one and the same.
        wrapping: of the bytes that travel; ``None``: there is none.

    Attributes:
        read_fd, write_fd: as given.
        lost: the reason why nothing can be written any more.
    """

    def __init__(self, read_fd: int, write_fd: int, wrapping: Wrapping | None = None) -> None:
        self.read_fd = read_fd
        self.write_fd = write_fd
        # Where another process may write a frame, too; of a link that is sealed, or within TLS, nobody else can.
        self.open_fd = write_fd if wrapping is None else -1
        self.lost: str | None = None
        self._blocked = {fd: os.get_blocking(fd) for fd in (read_fd, write_fd)}  # type: ignore[attr-defined, unused-ignore]
        for fd in self._blocked:
            os.set_blocking(fd, False)  # type: ignore[attr-defined, unused-ignore]
        self._decoder = Decoder()
        self._wrapping = wrapping
        self._out = bytearray(wrapping.wrap(MAGIC) if wrapping else MAGIC)

    def receive(self) -> tuple[list[Frame], list[str]]:
        """Read once what is there: the frames, and what is wrong with those that were none.

        Raises:
            LinkLost: an end of file, an error, or no telling where the next frame begins.
        """
        try:
            data = os.read(self.read_fd, READ_SIZE)
        except BlockingIOError:
            return [], []
        except OSError as exc:
            raise LinkLost(f"the link can't be read: {exc}") from exc
        if not data:
            cut = "" if self._decoder.is_between_frames else ", within a frame"
            raise LinkLost(f"the link has ended{cut}")
        if self._wrapping is not None:
            try:
                data = self._wrapping.unwrap(data)
            except (ValueError, OSError) as exc:
                raise LinkLost(f"what comes over the link can't be believed: {exc}") from exc
        frames: list[Frame] = []
        faults: list[str] = []
        while True:
            try:
                return [*frames, *self._decoder.feed(data)], faults
            except FrameError as exc:
                if not exc.framing_holds:
                    raise LinkLost(f"what comes over the link is no frames: {exc}") from exc
                frames += exc.frames
                faults.append(str(exc))
                data = b""

    def send(self, obj: dict[str, Any]) -> int:
        """Have a frame written; its size.  Raises FrameError: it can't be one."""
        frame = encode(obj)
        if self.lost is None:
            self._out += self._wrapping.wrap(frame) if self._wrapping else frame
        return len(frame)

    @property
    def waiting(self) -> int:
        """Bytes that wait to be written."""
        return len(self._out)

    def flush(self) -> None:
        """Write what can be written now."""
        try:
            while self._out and self.lost is None:
                del self._out[
                    : os.write(self.write_fd, memoryview(self._out)[:READ_SIZE].tobytes())
                ]
        except BlockingIOError:
            return
        except OSError as exc:
            self.lost = f"the link can't be written to: {exc}"
            self._out.clear()

    def close(self, patience: float) -> None:
        """Write what is left, for at most ``patience`` seconds, and give the descriptors back as they were."""
        poll = select.poll()  # type: ignore[attr-defined, unused-ignore]
        poll.register(self.write_fd, select.POLLOUT)  # type: ignore[attr-defined, unused-ignore]
        give_up = time.monotonic() + patience
        self.flush()
        while self._out and (left := give_up - time.monotonic()) > 0:
            poll.poll(left * 1000)
            self.flush()
        for fd, blocking in self._blocked.items():
            with contextlib.suppress(OSError):
                os.set_blocking(fd, blocking)  # type: ignore[attr-defined, unused-ignore]
                os.close(fd)


class Window:
    """How much may be under way before it is known to have come: an answered ping says so of all that went before it.

    Buffers on the way (a pipe's, a socket's, ssh's) may hold megabytes; on a slow road a ping behind them would come
    after the lease.
    """

    SIZE = 128 * 1024

    def __init__(self) -> None:
        self._sent = 0
        self._arrived = 0
        self._marks: deque[tuple[int, int]] = deque()

    @property
    def room(self) -> int:
        """Bytes that may be sent now."""
        return max(0, self.SIZE - (self._sent - self._arrived))

    @property
    def wants_ping(self) -> bool:
        """Whether a ping now would let more be sent soon."""
        since = self._marks[-1][1] if self._marks else self._arrived
        return self._sent - since >= self.SIZE // 4

    def sent(self, size: int) -> None:
        """So many bytes were sent."""
        self._sent += size

    def ping(self, number: int) -> None:
        """A ping was sent behind them."""
        self._marks.append((number, self._sent))

    def pong(self, number: int) -> None:
        """A ping was answered; one that was never sent, or an old one, changes nothing."""
        if any(one == number for one, _ in self._marks):
            while self._marks and self._marks[0][0] <= number:
                self._arrived = self._marks.popleft()[1]
