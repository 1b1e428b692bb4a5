"""What the ends of dialogs need of the actor that they are in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

from tractor.ipc._chan import Channel
from tractor.msg.types import Aid, Uid
from tractor.runtime._hooks import RuntimeHooks


class Served(Protocol):
    """A request that is served, as its actor knows it."""

    @property
    def chan(self) -> Channel:
        """The channel that it came by."""

    turn: int
    """Of the channel's reader, in which it came."""

    def take_cancel(
        self, canceller: Uid, ack_cid: int | None = None, by_actor: bool = False
    ) -> None:
        """Cancel its task; the first canceller stays."""


class Host(Protocol):
    """What a dialog needs of the actor in which its end is."""

    aid: Aid
    enabled: set[str]
    """Modules that peers may call into."""
    hooks: RuntimeHooks
    calls_total: int
    """Calls that were begun, made and served."""
    errors_total: int
    """Dialogs that ended with an error."""
    msg_buffer_size: int
    main_scope: trio.CancelScope
    end_if_copy: Callable[..., None]
    """Called where user code comes back; ends a process that it has forked off."""

    @property
    def failure(self) -> BaseException | None:
        """What the whole actor has failed with."""

    def note_serving(self, task: Served) -> None:
        """A request's task is about to begin."""

    def note_served(self, task: Served) -> None:
        """A request's task has ended."""

    def note_reset(self, task: Served, cid: int) -> None:
        """A peer's message has ended what it had asked for; ``cid``: where to tell it."""
