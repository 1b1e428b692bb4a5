"""A small streaming service: two streamers, an aggregator that removes duplicates, a client.

    root  <──  aggregator  <──  streamer_1
                           <──  streamer_2

What to learn:

- Subactors may start actors of their own. The streamers are the aggregator's children: when its
  nursery block is left they are gone, and the root need not know of them.
- A context (`@tractor.context`, `open_context()`) links one task in each of two actors, and may
  carry a stream. A sender waits for its reader.
- Several streams are merged with the means of `trio`: a task for each and a memory channel.
"""

import time
from collections.abc import AsyncIterator

import trio

import tractor

AMOUNT = 1_000


async def stream_numbers(amount: int) -> AsyncIterator[int]:
    """Run in each streamer."""
    for number in range(amount):
        yield number
    print(f"{tractor.current_actor().name} has sent {amount} numbers", flush=True)


@tractor.context
async def aggregate(ctx: tractor.Context, amount: int) -> int:
    """Run in the aggregator: pass on each number once; return how many duplicates there were."""
    await ctx.started()
    merged_in, merged_out = trio.open_memory_channel[int](100)

    async def pull(portal: tractor.Portal, merged: trio.MemorySendChannel[int]) -> None:
        async with merged, portal.open_stream_from(stream_numbers, amount=amount) as stream:
            async for number in stream:
                await merged.send(number)
        await portal.cancel_actor()

    seen: set[int] = set()
    duplicates = 0
    async with tractor.open_nursery() as an:
        portals = [await an.start_actor(f"streamer_{i}", enable_modules=[__name__]) for i in (1, 2)]
        async with trio.open_nursery() as pullers, ctx.open_stream() as stream:
            # Each puller closes a clone when it is done; with the last one the loop below ends.
            async with merged_in:
                for portal in portals:
                    pullers.start_soon(pull, portal, merged_in.clone())
            async for number in merged_out:
                if number in seen:
                    duplicates += 1
                else:
                    seen.add(number)
                    await stream.send(number)
    print("the aggregator's streamers are gone", flush=True)
    return duplicates


async def main() -> list[int]:
    """Read the aggregated stream to its end."""
    began = time.perf_counter()
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("aggregator", enable_modules=[__name__])

        stream_began = time.perf_counter()
        received = []
        async with portal.open_context(aggregate, amount=AMOUNT) as (ctx, _):
            async with ctx.open_stream() as stream:
                async for number in stream:
                    received.append(number)
            stream_seconds = time.perf_counter() - stream_began
            duplicates = await ctx.wait_for_result()

        await portal.cancel_actor()

    print(f"{len(received)} numbers received, {duplicates} duplicates removed")
    print(f"stream time {stream_seconds:.2f} s, total time {time.perf_counter() - began:.2f} s")
    assert received == list(range(AMOUNT))
    return received


if __name__ == "__main__":
    trio.run(main)
