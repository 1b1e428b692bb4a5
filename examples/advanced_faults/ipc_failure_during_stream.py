"""The connection breaks in the middle of a stream, at a chosen side, moment and manner.

What to learn:

- No task waits for ever on a peer that is gone. Where the connection breaks, both ends of every
  dialog on it learn so: as `TransportClosed`, or first as the end of the stream if that was closed
  in good order.
- An actor whose connection to its parent breaks has lost its parent. It ends itself: no zombie
  remains, whoever broke what.

`main()` takes keyword arguments that choose what happens; the script itself breaks the child's
side.
"""

from __future__ import annotations

import trio

import tractor
from tractor.testing import break_ipc


@tractor.context
async def echo(ctx: tractor.Context, break_after: int | None, method: str, pre_close: bool) -> None:
    """Run in the child: send back what comes; break the connection after so many messages."""
    await ctx.started()
    end = "nothing in particular"
    try:
        async with ctx.open_stream() as stream:
            received = 0
            async for number in stream:
                received += 1
                if received == break_after:
                    # Instead of an answer.
                    await break_ipc(stream, method, pre_close=pre_close)
                    # The stream may be closed already; the context is what must end now.
                    await trio.sleep_forever()
                await stream.send(number)
        # The peer has closed the stream: the loop was over, or `send()` had nobody to send to.
        end = "the end of the stream"
        await trio.sleep_forever()
    except tractor.TransportClosed as error:
        # From `send()`, which may be first to find out.
        end = type(error).__name__
        raise
    finally:
        # A task that waits is cancelled when the connection is lost; its context knows why.
        why = ctx.maybe_error
        print(f"child saw {end if why is None else type(why).__name__}", flush=True)


async def talk(
    portal: tractor.Portal,
    seen: list[str],
    *,
    break_parent_after: int | None,
    break_child_after: int | None,
    method: str,
    pre_close: bool,
) -> None:
    """Send numbers and read them back until that is no longer possible."""
    async with (
        portal.open_context(
            echo, break_after=break_child_after, method=method, pre_close=pre_close
        ) as (ctx, _),
        ctx.open_stream() as stream,
    ):
        number = 0
        print("the parent begins to talk", flush=True)
        try:
            while True:
                await stream.send(number)
                number += 1
                if number == break_parent_after:
                    await break_ipc(stream, method, pre_close=pre_close)
                assert await stream.receive() == number - 1
        except (trio.EndOfChannel, trio.ClosedResourceError) as error:
            # Closed in good order before the break, by the peer or here.
            seen.append(type(error).__name__)


async def main(
    *,
    break_parent_after: int | None = None,
    break_child_after: int | None = 50,
    method: str = "socket_close",
    pre_close: bool = False,
    debug_mode: bool = False,
    start_method: str | None = None,
    transport: str = "uds",
) -> list[str]:
    """Break the connection, and see that everything ends.

    Args:
        break_parent_after: messages that the parent sends before it breaks it; `None`: never.
        break_child_after: messages that the child gets before it breaks it; `None`: never. Where
            both are to break it, one of them may find it broken.
        method: `'socket_close'` or `'socket_eof'`.
        pre_close: close the stream in good order first.
        debug_mode: as for `open_nursery()`.
        start_method: spawn backend; `None`: the default.
        transport: `'tcp'` or `'uds'`.

    Returns:
        The names of the errors that the parent saw, in that order; the last is `TransportClosed`.
    """
    seen: list[str] = []
    try:
        async with tractor.open_nursery(
            debug_mode=debug_mode,
            start_method=start_method,
            enable_transports=[transport],
        ) as an:
            portal = await an.start_actor("echo", enable_modules=[__name__])
            await talk(
                portal,
                seen,
                break_parent_after=break_parent_after,
                break_child_after=break_child_after,
                method=method,
                pre_close=pre_close,
            )
    except tractor.ActorFailure as failure:
        # The child has lost its parent by that, and has ended itself: one event, which its nursery tells once.
        seen.append(type(failure.__cause__).__name__)
    print(f"parent saw {', then '.join(seen)}; the child is gone", flush=True)
    return seen


if __name__ == "__main__":
    trio.run(main)
