"""What is tested: an actor that keeps the stock of a shop."""

import tractor

apples = 3


class OutOfStock(Exception):
    pass


async def buy(count: int) -> int:
    """Run in the stock's actor: take some apples; returns how many are left."""
    global apples
    if count > apples:
        raise OutOfStock(f"{count} apples are not there, {apples} are")
    apples -= count
    return apples


@tractor.context
async def sell(ctx: tractor.Context) -> int:
    """Run in the stock's actor: take as many apples as are asked for, again and again; returns how many were sold."""
    sold = 0
    await ctx.started(apples)
    async with ctx.open_stream() as stream:
        async for count in stream:
            await stream.send(await buy(count))
            sold += count
    return sold
