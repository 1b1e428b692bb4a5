"""A daemon that pauses at each message of a stream, and one that crashes at each call.

What to learn:

- The REPL opens in the endpoint's task; its actor lives on. A daemon whose call has crashed serves
  the next one.
- A caller can handle a remote error like any other. The one that it does not handle reaches the
  root's block, and its REPL.
"""

import trio

import tractor


@tractor.context
async def pausing_stream(ctx: tractor.Context) -> None:
    """Run in one daemon: pause for each request, then answer."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        async for number in stream:
            await tractor.pause()
            await stream.send(number * number)


async def name_error() -> None:
    """Run in the other one."""
    raise NameError("there is no such name")


async def main() -> None:
    """Use both in turn."""
    async with tractor.open_nursery(debug_mode=True) as an:
        pauser = await an.start_actor("bp_forever", enable_modules=[__name__])
        crasher = await an.start_actor("name_error", enable_modules=[__name__])
        async with (
            pauser.open_context(pausing_stream) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            await stream.send(3)
            print("3 squared is", await stream.receive())
            try:
                await crasher.run(name_error)
            except tractor.RemoteActorError as error:
                print("handled:", error.boxed_type_str)
            await stream.send(4)
            print("4 squared is", await stream.receive())
            await crasher.run(name_error)


if __name__ == "__main__":
    trio.run(main)
