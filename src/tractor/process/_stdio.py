"""The numbers 0, 1 and 2 where a program was started without standard streams.

Whatever is opened then gets these numbers, be it the user's data file or a socket of the runtime's; and whoever is
handed standard streams down would write into it.  And writing to what may block.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Collection, Iterator

if sys.platform != "win32":
    import fcntl

NAMES = ("stdin", "stdout", "stderr")
"""Of the standard streams, by number."""


def has_stream(fd: int) -> bool:
    """Whether 0, 1 or 2 is a standard stream of this process, and not something else that has got the number."""
    stream = getattr(sys, f"__{NAMES[fd]}__")
    if stream is None or getattr(stream, "closed", False):
        return False
    try:
        # What a program opens for itself is not inherited.
        return os.get_inheritable(fd)
    except OSError:
        return False


def to_hand_down(given: Collection[str] = ()) -> dict[str, int]:
    """Arguments for :class:`subprocess.Popen` that stand in for the standard streams that this process has not got.

    Args:
        given: names of those that somebody has chosen already.
    """
    missing = [name for fd, name in enumerate(NAMES) if name not in given and not has_stream(fd)]
    return dict.fromkeys(missing, subprocess.DEVNULL)


def replace_missing() -> None:
    """In a process that was forked off: have the null device where its parent had no standard stream."""
    for fd in range(3):
        if not has_stream(fd):
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
            os.set_inheritable(fd, True)


def take_numbers() -> list[int]:
    """Open the null device at each of 0, 1 and 2 that is free, for this process alone; which these are."""
    taken = []
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        taken.append(fd)
    os.close(fd)
    return taken


@contextlib.contextmanager
def numbers_taken() -> Iterator[None]:
    """As :func:`take_numbers`, for the length of the block; those that the program uses by then stay."""
    taken = take_numbers()
    try:
        yield
    finally:
        for fd in taken:
            with contextlib.suppress(OSError):
                if not os.get_inheritable(fd) and os.path.samestat(
                    os.fstat(fd), os.stat(os.devnull)
                ):
                    os.close(fd)


def dup_above_stdio(fd: int) -> int:
    """A close-on-exec duplicate whose number is none of 0, 1, 2."""
    if sys.platform == "win32":
        raise NotImplementedError
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)  # type: ignore[name-defined, unused-ignore]


def move_above_stdio(fd: int) -> int:
    """The descriptor, or where its number is 0, 1 or 2 a duplicate in its place."""
    # In a process whose standard streams are closed a pipe may take their numbers, which mean
    # something else in the child.
    if fd > 2:
        return fd
    moved = dup_above_stdio(fd)
    os.close(fd)
    return moved


def write_and_close(fd: int, data: bytes) -> OSError | None:
    """Write it all, and close the descriptor, a duplicate; blocks, so it is for a thread.

    Returns:
        Why nobody reads it any more; ``None``: all is written.
    """
    try:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                # Somebody else has made it non-blocking, as ssh does.
                _wait_writable(fd)
    except OSError as exc:
        return exc
    finally:
        os.close(fd)
    return None


def _wait_writable(fd: int) -> None:
    poll = select.poll()  # type: ignore[attr-defined, unused-ignore]
    poll.register(fd, select.POLLOUT)  # type: ignore[attr-defined, unused-ignore]
    poll.poll()
