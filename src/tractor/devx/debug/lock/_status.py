"""What the debugger says, to users and between actors."""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass

import msgspec

from tractor.msg.types import Uid

_pause_msg = "Opening a pdb REPL in paused actor"
_crash_msg = "Opening a pdb REPL in crashed actor"
_repl_fail_msg = "Failed to REPl via `_pause()`"
_ctlc_ignore_header = "Ignoring SIGINT while debug REPL in use"
BLOCKED = "Debug lock blocked for subactor"


class LockStatus(msgspec.Struct, frozen=True, tag=True):
    """Whether the terminal is held for a request: what ``Started`` and ``Return`` of its dialog carry."""

    subactor_uid: Uid
    cid: int
    locked: bool


class LockRelease(msgspec.Struct, frozen=True, tag=True):
    """The requester is done with the terminal, or has given up waiting for it."""

    subactor_uid: Uid
    cid: int


_decoder: msgspec.msgpack.Decoder[LockStatus | LockRelease] = msgspec.msgpack.Decoder(
    LockStatus | LockRelease
)


def decode_status(raw: bytes | msgspec.Raw) -> LockStatus | LockRelease:
    """The payload of a message of the lock's dialog.  Raises msgspec.DecodeError."""
    return _decoder.decode(raw)


class TerminalOp(enum.StrEnum):
    """What an actor that has the REPL asks of the root's terminal, where that is on another host."""

    WRITE = "write"
    """Show a text."""
    ASK = "ask"
    """Show a text, the end of which is a prompt, and read a line."""
    CTRL_C = "ctrl-c"
    """Say when ctrl-c is pressed while no line is awaited."""


TERMINAL_TEXT = 64 * 1024
"""Characters that such a request, or its answer, carries at most."""


class TerminalReply(msgspec.Struct, frozen=True):
    """The root's answer to a request for its terminal.

    Attributes:
        line: what was typed, with its end; empty at the end of the input, or where nothing was asked.
        on_terminal: stdin is a terminal, at which somebody may be.
        colors: the terminal shows them, and they are wanted.
    """

    line: str
    on_terminal: bool
    colors: bool


@dataclass(frozen=True)
class Holder:
    """A task or thread that wants the REPL.

    Attributes:
        ident: the ``trio`` task, thread or ``asyncio`` task itself.
        text: its ``repr``, to be shown: ``<Task 'name' ...>``, ``<Thread(name, ...)>``.
    """

    ident: Hashable
    text: str


class LockStatistics(msgspec.Struct, frozen=True):
    """Who has the REPL and who waits for it, as far as this actor knows: the root knows all, others what is below.

    Attributes:
        holder: uid of the actor that has it; ``None``: none that is known here.
        holder_task: its task or thread.
        waiting: uids of those that wait, the next one first.
        waiting_tasks: their tasks or threads.
        local: the tasks of this actor that wait for each other, before they ask the tree.
        state: where this actor's own REPL stands: ``'none'``, ``'requesting'``, ``'held'`` or ``'released'``.
    """

    holder: Uid | None
    holder_task: str | None
    waiting: tuple[Uid, ...]
    waiting_tasks: tuple[str, ...]
    local: tuple[str, ...]
    state: str
