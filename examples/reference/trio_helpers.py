"""Helpers for plain trio: no actor is needed.

What to learn: groups of errors, starts that are cancelled, copies of one stream, processes that are watched.
"""

import sys

import trio

from tractor import trionics
from tractor.trionics import AsyncReceiver, BroadcastReceiver, BroadcastStatistics


async def one_error_of_a_group() -> None:
    """An error that is alone in its group comes out by itself."""
    try:
        async with trionics.collapse_eg(), trio.open_nursery() as tn:
            tn.start_soon(fail)
    except ValueError as error:
        print("by itself:", error)


async def fail() -> None:
    raise ValueError("no number")


def groups() -> None:
    """Look into a group."""
    group = BaseExceptionGroup("", [BaseExceptionGroup("", [ValueError("inner")])])
    print("inside:", repr(trionics.get_collapsed_eg(group)))
    print("cancelled only:", bool(trionics.is_multi_cancelled(group)))


async def ready(task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
    task_status.started("ready")


async def starts() -> None:
    """A nursery of the caller's, or one of its own."""
    async with trionics.maybe_open_nursery() as tn:
        print(await trionics.start_or_cancel(tn, ready))


def boxes() -> None:
    """What was caught, for later."""
    box = trionics.BoxedMaybeException(raise_on_exit=False)
    box.value = ValueError("kept")
    print(box.pformat())


async def copies(source: AsyncReceiver[int]) -> None:
    """Each subscriber gets every value, as long as it keeps up."""
    receiver: BroadcastReceiver[int] = trionics.broadcast_receiver(source, 2)
    async with receiver.subscribe() as slow:
        for _ in range(4):
            await receiver.receive()
        told: BroadcastStatistics = slow.statistics()
        print("behind:", told.behind)
        try:
            await slow.receive()
        except trionics.Lagged as error:
            print("lost:", error.lost)


async def processes() -> None:
    """A command whose output and failure are told as a task's."""
    command = [sys.executable, "-c", "print('from a process')"]
    async with trio.open_nursery() as tn:
        process = await tn.start(trionics.supervise_run_process, command)
        print("ended with", await process.wait())


async def main() -> None:
    await one_error_of_a_group()
    groups()
    await starts()
    boxes()
    send, receive = trio.open_memory_channel[int](9)
    for number in range(5):
        send.send_nowait(number)
    await copies(receive)
    await processes()


if __name__ == "__main__":
    trio.run(main)
