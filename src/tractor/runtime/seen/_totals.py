"""What the channels of an actor have carried over its life."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol


class Counts(Protocol):
    """A transport, as far as it counts."""

    sent: int
    received: int
    bytes_out: int
    bytes_in: int


class Carried(NamedTuple):
    """Messages and bytes of a number of channels.

    Attributes:
        messages_in, messages_out: whole messages.
        bytes_in, bytes_out: counted for each read and write.
    """

    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def plus(self, transports: Iterable[Counts]) -> Carried:
        """With what these have carried so far."""
        came, went, read, written = self
        for one in transports:
            came += one.received
            went += one.sent
            read += one.bytes_in
            written += one.bytes_out
        return Carried(came, went, read, written)
