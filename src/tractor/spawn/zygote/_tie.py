"""What ties an actor to the zygote of its tree, and what that says of who ordered which process.

The kernel says that every process that the zygote has forked is the zygote's child.  Whose child it is in the tree is
in the zygote's table: a file in memory that only the zygote writes, one slot a living process, before it tells the pid.
Each actor can read it, without a word to the zygote, and also after its end.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct

from tractor.process._at_fork import on_fork
from tractor.process._stat import note_orders, process_start_time
from tractor.process._state import ProcessVar

SLOT = struct.Struct("<qdqd")
"""The pid and start time of a process that was forked, and those of the one that ordered it; all zero: free."""


class Tie:
    """An actor's ends of what leads to a zygote.

    Attributes:
        orders: the socket that takes orders of every actor of the tree.
        table: a descriptor of its table.
    """

    __slots__ = ("orders", "table")

    def __init__(self, orders: socket.socket, table: int) -> None:
        self.orders = orders
        self.table = table

    def fds(self) -> tuple[int, int]:
        """The descriptors that a subactor inherits."""
        return self.orders.fileno(), self.table

    def close(self) -> None:
        """Close both; the zygote goes on for others."""
        self.orders.close()
        os.close(self.table)

    def orderer_of(self, pid: int, start_time: float) -> int | None:
        """Who ordered a process, as far as the zygote has forked it and that one still runs; its pid."""
        try:
            size = os.fstat(self.table).st_size
            data = os.pread(self.table, size, 0)  # type: ignore[attr-defined, unused-ignore]
        except OSError:
            return None
        for found, began, by, by_began in SLOT.iter_unpack(
            data[: len(data) // SLOT.size * SLOT.size]
        ):
            if found == pid and began == start_time:
                return int(by) if process_start_time(by) == by_began else None
        return None


preloaded: ProcessVar[tuple[str, ...]] = ProcessVar(tuple)
"""Modules that a zygote which this process starts is to load."""

_tie: ProcessVar[Tie | None] = ProcessVar(lambda: None)


def current_tie() -> Tie | None:
    """That of this process; ``None``: no zygote is known here."""
    return _tie.value


def set_tie(tie: Tie | None) -> None:
    """Note it, and look up in its table from now on who is below whom."""
    _tie.value = tie
    note_orders(None if tie is None else tie.orderer_of)


def take_tie(fds: tuple[int, int]) -> None:
    """In a child: use the descriptors that it has inherited."""
    for fd in fds:
        os.set_inheritable(fd, False)
    set_tie(Tie(socket.socket(fileno=fds[0]), fds[1]))


def _forget() -> None:
    """In what user code has forked off: it is no actor, and has no subactors."""
    tie = current_tie()
    set_tie(None)
    if tie is not None:
        with contextlib.suppress(OSError):
            tie.close()


on_fork(_forget, always=True)
