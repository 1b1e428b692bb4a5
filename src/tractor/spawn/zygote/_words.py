"""The messages between actors and their zygote."""

from __future__ import annotations

import os
import sys

import msgspec

if sys.platform != "linux":
    raise ImportError("there is a zygote on Linux only")

MAX_FDS = 64
"""Descriptors that come with one order."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the zygote says of an order.

    Attributes:
        pid, start_time: of the process that was forked; a pidfd of it comes along.
        status: that process's exit status, when it has ended.
        refused: why it can't be forked; it can be exec'd.
        errno: why no process could be forked.
    """

    pid: int | None = None
    start_time: float = 0.0
    status: int | None = None
    refused: str | None = None
    errno: int | None = None


encode_answer = msgspec.msgpack.Encoder().encode
decode_answer = msgspec.msgpack.Decoder(Answer).decode
MAX_ANSWER = 4096


def file_with(data: bytes) -> int:
    """A descriptor of a file without a name that holds this.  Raises OSError."""
    fd = os.memfd_create("order")
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_file(fd: int) -> bytes:
    """What :func:`file_with` was given, from the beginning, whoever has read it.  Raises OSError."""
    return os.pread(fd, os.fstat(fd).st_size, 0)
