"""The channel between a trio block and its asyncio task, with the members of both sides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import trio

from tractor._proto.aio_link import AioEnd, LinkPhase
from tractor.to_asyncio._link import TaskLink
from tractor.trionics._broadcast import BroadcastReceiver, broadcast_receiver
from tractor.trionics._ki import ki_protected, ki_protected_manager


def _in_trio() -> bool:
    """Whether the caller is a trio task: one of asyncio runs between trio's turns."""
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


class LinkedTaskStatistics(msgspec.Struct, frozen=True):
    """A link's counters and states.

    Attributes:
        to_asyncio: values that the asyncio task has not read.
        to_trio: values that the trio side has not read.
        size: the bound of both.
        senders_waiting: trio tasks that wait for room.
        asyncio_senders_waiting: asyncio tasks that do.
        asyncio_task: ``'starting'``, ``'running'``, or how it has ended.
        trio_task: ``'entering'``, ``'running'``, or how it has ended.
    """

    to_asyncio: int
    to_trio: int
    size: int
    senders_waiting: int
    asyncio_task: str
    trio_task: str
    asyncio_senders_waiting: int = 0


class ToTrio:
    """The bare send half, for targets that take ``to_trio``: the first value that they send enters the block."""

    def __init__(self, link: TaskLink, first_enters: bool) -> None:
        self._link = link
        self._first_enters = first_enters

    def send_nowait(self, item: Any) -> None:
        """Send to the trio side; see :meth:`LinkedTaskChannel.send_nowait`."""
        if self._first_enters and self._link.machine.phase is LinkPhase.STARTING:
            self._link.started(item)
        else:
            self._link.put_nowait(item)

    async def send(self, item: Any) -> None:
        """Send to the trio side, waiting for room; see :meth:`LinkedTaskChannel.send`."""
        if self._first_enters and self._link.machine.phase is LinkPhase.STARTING:
            self._link.started(item)
        else:
            await self._link.put(item)

    def started_nowait(self, value: Any = None) -> None:
        """Enter the block; see :meth:`LinkedTaskChannel.started_nowait`."""
        self._link.started(value)


@ki_protected
class LinkedTaskChannel(trio.abc.Channel[Any]):
    """Both ends of the channel between a trio block and its asyncio task; see the table of members in the guide.

    Made by :func:`open_channel_from` and :func:`run_task`, not by users.
    """

    def __init__(self, link: TaskLink) -> None:
        self._link = link
        self._broadcaster: BroadcastReceiver[Any] | None = None

    # -- the trio side --------------------------------------------------------------------------------

    async def send(self, value: Any) -> None:
        """Send to the other side: from trio to the asyncio task, from asyncio to trio.

        Waits while that side has as many values unread as the channel holds (256, or ``qsize``); a sender that is
        cancelled meanwhile has sent nothing.

        Raises:
            trio.BrokenResourceError: from trio: the task has ended.  From asyncio: the trio side has called
                :meth:`aclose`.
            trio.ClosedResourceError: from trio: the block was left.  From asyncio: the linked task has ended, and
                another one sends.
            TrioTaskExited, TrioCancelled: from asyncio: the trio side has ended.
        """
        if _in_trio():
            await self._send_to_asyncio(value)
        else:
            await self._link.put(value)

    async def _send_to_asyncio(self, value: Any) -> None:
        link = self._link
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            if link.left:
                raise trio.ClosedResourceError("the block of this channel was left")
            if link.has_ended():
                if link.failed:
                    link.unwind()
                    await trio.lowlevel.checkpoint()
                link.fail_use()
            if link.to_aio.qsize() < link.size:
                break
            await link.room.park()
        link.to_aio.put_nowait(value)
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def receive(self) -> Any:
        """The next value from the asyncio task.

        Raises:
            trio.EndOfChannel: the task has returned, and all values were read.
            trio.ClosedResourceError: :meth:`aclose` was called, or the block was left.
        """
        if self._broadcaster is not None:
            return await self._broadcaster.receive()
        return await self._receive_direct()

    async def _receive_direct(self) -> Any:
        try:
            value = await self._link.from_aio.receive()
        except trio.EndOfChannel as exc:
            self._link.ends_of_values.add(exc)
            raise
        self._link.note_received()
        return value

    def _receive_nowait(self) -> Any:
        try:
            value = self._link.from_aio.receive_nowait()
        except trio.EndOfChannel as exc:
            self._link.ends_of_values.add(exc)
            raise
        self._link.note_received()
        return value

    async def wait_for_result(self) -> Any:
        """What the asyncio task returns; may be called again, also after the block.

        Raises:
            AsyncioCancelled: it was cancelled.
            BaseException: its own error.
        """
        link = self._link
        if not link.ended.is_set():
            await link.ended.wait()
        elif link.machine.aio is AioEnd.RETURNED:
            await trio.lowlevel.checkpoint()
        # The error itself, and not the cancel of the block that comes of it.
        return link.result()

    @ki_protected_manager
    async def subscribe(self) -> AsyncIterator[BroadcastReceiver[Any]]:
        """A receiver of its own for another trio task: every subscriber gets every value.

        From the first call on, all reading on the trio side goes through one broadcaster, whose buffer is as large
        as the channel's.  A subscriber that falls behind gets ``Lagged``.
        """
        if self._broadcaster is None:
            self._broadcaster = broadcast_receiver(
                self,
                max(1, self._link.size),
                receive_afunc=self._receive_direct,
                receive_nowait_func=self._receive_nowait,
                send_afunc=self._send_to_asyncio,
            )
        async with self._broadcaster.subscribe() as receiver:
            yield receiver

    def cancel_asyncio_task(self, msg: str = "") -> None:
        """Ask for the cancellation of the asyncio task; returns at once.

        The block goes on, and its end adds nothing; :meth:`wait_for_result` raises :class:`AsyncioCancelled`.

        Args:
            msg: for the task's ``CancelledError``.
        """
        self._link.ask_cancel(msg)

    async def aclose(self) -> None:
        """Receive no more: what was not read is dropped, and the asyncio task can't send."""
        self._link.close_receiving()
        await trio.lowlevel.checkpoint()

    def closed(self) -> bool:
        """Whether :meth:`aclose` was called, or the block was left."""
        return self._link.deaf or self._link.left

    # -- the asyncio side -----------------------------------------------------------------------------

    def started_nowait(self, value: Any = None) -> None:
        """Have the trio side enter its block with ``value``; once.  Raises RuntimeError: the second time."""
        self._link.started(value)

    async def get(self) -> Any:
        """The next value from the trio side.

        Raises:
            TrioTaskExited, TrioCancelled: the trio side has ended, and all values were read.
        """
        return await self._link.to_aio.get()

    def send_nowait(self, item: Any) -> None:
        """Send to the trio side.

        Raises:
            trio.WouldBlock: 256 values, or ``qsize``, are unread; nothing was sent.
            trio.BrokenResourceError: the trio side has called :meth:`aclose`.
            trio.ClosedResourceError: the linked task has ended, and another one sends.
            TrioTaskExited, TrioCancelled: the trio side has ended.
        """
        self._link.put_nowait(item)

    # -- both -----------------------------------------------------------------------------------------

    def statistics(self) -> LinkedTaskStatistics:
        """A frozen record of plain values."""
        link, machine = self._link, self._link.machine
        starting = machine.phase is LinkPhase.STARTING
        return LinkedTaskStatistics(
            to_asyncio=link.to_aio.qsize(),
            to_trio=link.unread(),
            size=link.size,
            senders_waiting=len(link.room),
            asyncio_task=machine.aio.value
            if machine.aio
            else "starting"
            if starting
            else "running",
            trio_task=machine.trio.value if machine.trio else "entering" if starting else "running",
            asyncio_senders_waiting=link.senders_in_asyncio,
        )

    def pformat(self) -> str:
        """A description on one line."""
        s = self.statistics()
        return (
            f"<LinkedTaskChannel {self._link.name!r}: asyncio {s.asyncio_task}, trio {s.trio_task}, "
            f"unread {s.to_asyncio}/{s.to_trio} of {s.size}>"
        )

    __repr__ = pformat
