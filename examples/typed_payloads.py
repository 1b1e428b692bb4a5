"""A dialog whose values have declared types.

What to learn:

- `pld_spec` says which types may travel in a dialog, in both directions.
- A wrong `started()` value is refused where it would be sent, before anything is sent: the error
  is raised in the code that is wrong. A wrong streamed value is refused where it is received.
- Structs arrive as structs, not as dicts. No pickle is involved: the bytes are checked against the
  type.
"""

import msgspec
import trio

import tractor


class Point(msgspec.Struct):
    """What travels."""

    x: int
    y: int


@tractor.context(pld_spec=Point | None)
async def double(ctx: tractor.Context) -> None:
    """Run in the child: double each point."""
    try:
        await ctx.started("not a point")
    except tractor.MsgTypeError as error:
        print(f"refused before it was sent:\n{error.message}\n", flush=True)
    await ctx.started(Point(0, 0))
    async with ctx.open_stream() as stream:
        async for point in stream:
            assert isinstance(point, Point)
            await stream.send(Point(2 * point.x, 2 * point.y))


async def main() -> None:
    """Have three points doubled."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("geometer", enable_modules=[__name__])

        async with portal.open_context(double) as (ctx, origin):
            assert origin == Point(0, 0)
            async with ctx.open_stream() as stream:
                for number in (1, 2, 3):
                    await stream.send(Point(number, number * number))
                    doubled = await stream.receive()
                    assert isinstance(doubled, Point)
                    print(doubled)

        await portal.cancel_actor()


if __name__ == "__main__":
    trio.run(main)
