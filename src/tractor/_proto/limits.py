"""What a peer cannot pass: one record of numbers, the same for a whole tree."""

from __future__ import annotations

from typing import Any

import msgspec

from tractor._proto.connection.framing import DEFAULT_MAX_FRAME_SIZE


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What peers can make an actor hold or do at most; given to ``open_root_actor(limits=...)``, handed down the tree.

    Reaching one is logged once a channel and counted in ``actor.statistics().limits_reached``.

    Attributes:
        max_frame_size: bytes of one message on the wire.  A larger one is a ``MessagingError`` at its sender; its
            receiver closes the channel.
        frame_progress: seconds without a byte of a frame that has begun, from a peer that is neither this actor's
            parent nor its child.  The channel is closed.  Not in debug mode.
        max_unsent: bytes of replies and final messages of a channel that its peer does not take.  Requests that come
            then are kept, and begun when half is sent, and results that are ready wait, cancellable; at four times the
            number, of what can't wait, the channel is closed.
        max_served: dialogs of one channel that are served at a time.  A caller's calls beyond it wait on its own side;
            contexts, streams, and callers that do not wait get ``ActorBusy``.
        max_served_total: the same for all channels of an actor.
        turn_messages: messages of one channel that are handled before others have their turn.
        turn_seconds: the same in time.
        max_refused: requests of one channel that are refused or reset within a second.  Then the channel is closed.
        max_registrations: addresses that a peer can have registered at a registrar.  More are refused.
        max_waiters: look-ups of one channel that wait at a registrar for a name at a time.  More are refused.
        max_name: bytes of an actor's name, which must be printable.  Others are refused at the handshake.
        max_containers: lists and dicts in one decoded payload of more than 1 MiB.  Beyond it a ``MsgTypeError`` ends
            that dialog, at the sender as at the receiver.
        max_half_open: connections without an identity, and at most a quarter of the descriptors.  Then the oldest of
            the most crowded source goes.
    """

    max_frame_size: int = DEFAULT_MAX_FRAME_SIZE
    frame_progress: float = 30.0
    max_unsent: int = 64 * 2**20
    max_served: int = 4096
    max_served_total: int = 65_536
    turn_messages: int = 256
    turn_seconds: float = 0.005
    max_refused: int = 1000
    max_registrations: int = 64
    max_waiters: int = 1024
    max_name: int = 255
    max_containers: int = 1_000_000
    max_half_open: int = 1024

    def __post_init__(self) -> None:
        """Raises ValueError: a number that makes no sense."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"limits: {name}={value!r} must be greater than 0")
        if not 1024 <= self.max_frame_size < 2**32:
            raise ValueError(
                f"max_frame_size={self.max_frame_size} bytes is not between 1024 and {2**32 - 1}"
            )

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return msgspec.structs.asdict(self)


class RateLimit:
    """Counts events, and says when there are more than ``most`` within a second."""

    __slots__ = ("_began", "_count", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self._began = float("-inf")
        self._count = 0

    def count(self, now: float) -> bool:
        """Count one at the time ``now``, in seconds; whether it is within the limit."""
        if now - self._began > 1:
            self._began, self._count = now, 0
        self._count += 1
        return self._count <= self.most
