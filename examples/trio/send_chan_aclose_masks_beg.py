"""A checkpoint in teardown hides an error; `maybe_raise_from_masking_exc()` brings it back.  Plain
`trio`.

What to learn:

- A cancelled scope delivers `Cancelled` at *every* checkpoint, also at one in a `finally` or at
  the end of an `async with`. If an error is on its way just then, `Cancelled` takes its place, the
  scope absorbs that, and the program goes on as if nothing had happened. The error only survives
  as the `__context__` of an exception that nobody sees.
- `async with send_channel:` is the classic case: its end is a checkpoint.
- `maybe_raise_from_masking_exc()` around such code raises what the `Cancelled` hides, with a note
  on it.
"""

import contextlib
from collections.abc import AsyncIterator

import trio

from tractor.trionics import maybe_raise_from_masking_exc


class TeardownError(Exception):
    """What must not get lost."""


@contextlib.asynccontextmanager
async def unchanged() -> AsyncIterator[None]:
    """The run without help."""
    yield


async def produce(channel: trio.MemorySendChannel[int], *, unmask: bool) -> None:
    """Send until cancelled, then fail on the way out."""
    async with (
        maybe_raise_from_masking_exc() if unmask else unchanged(),
        # Its end is a checkpoint, in a scope that is cancelled.
        channel,
    ):
        number = 0
        try:
            while True:
                await channel.send(number)
                number += 1
        finally:
            raise TeardownError(f"could not clean up after {number} numbers")


async def run(*, unmask: bool) -> str:
    """A producer and a consumer that soon has enough; tell what came out of it."""
    send_channel, receive_channel = trio.open_memory_channel[int](0)
    outcome = "nothing was raised, the error is lost"
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: produce(send_channel, unmask=unmask))
            async with receive_channel:
                async for number in receive_channel:
                    if number == 3:
                        nursery.cancel_scope.cancel()
                        break
    except* TeardownError as group:
        outcome = f"raised: {group.exceptions[0]}"
    return outcome


async def main() -> None:
    """The same program twice."""
    masked = await run(unmask=False)
    unmasked = await run(unmask=True)
    print(f"masked:   {masked}")
    print(f"unmasked: {unmasked}")
    assert "lost" in masked
    assert "could not clean up" in unmasked


if __name__ == "__main__":
    trio.run(main)
