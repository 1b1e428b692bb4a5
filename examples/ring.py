"""Bytes between two actors through a ring in shared memory (Linux).

What to learn:

- A ring is one way and has one sender and one receiver, both ordinary trio streams. They wake each other by eventfds,
  and neither polls: a full ring makes the sender wait, an empty one the receiver.
- An actor named `'ringd'` owns the rings. All others open one by its name; the descriptors come over a Unix socket.
- The end of either side, also by SIGKILL, ends the other's wait at once.
"""

import sys
import time

import trio

import tractor
from tractor.ipc import RingBuffReceiver, RingBuffSender, fd_share

NAME = "example-ring"
SIZE = 1 << 20
CHUNKS = 200


@tractor.context
async def camera(ctx: tractor.Context) -> int:
    """Run in the child: send frames as fast as the other side takes them."""
    frame = bytes(range(256)) * 2048
    async with fd_share.open_ringbuf(NAME, SIZE) as token, RingBuffSender(token) as sender:
        await ctx.started(len(frame))
        for _ in range(CHUNKS):
            await sender.send_all(frame)
        return sender.sent


async def main() -> None:
    """The receiver."""
    if sys.platform != "linux":
        print("rings need Linux's eventfds: nothing to show here")
        return
    async with tractor.open_nursery() as an:
        await an.start_actor("ringd", enable_modules=["tractor.ipc.fd_share"])
        portal = await an.start_actor("camera", enable_modules=[__name__])
        async with (
            portal.open_context(camera) as (ctx, size),
            fd_share.open_ringbuf(NAME, SIZE) as token,
            RingBuffReceiver(token) as receiver,
        ):
            frame, frames = bytearray(size), 0
            began = time.perf_counter()
            while True:
                filled = 0
                while filled < size and (
                    n := await receiver.receive_into(memoryview(frame)[filled:])
                ):
                    filled += n
                if not filled:
                    break
                frames += 1
            took = time.perf_counter() - began
            assert frames * size == await ctx.wait_for_result()
        print(f"{frames} frames, {frames * size / took / 1e9:.1f} GB/s")
        await an.cancel()


if __name__ == "__main__":
    trio.run(main)
