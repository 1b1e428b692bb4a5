"""A service that opens its database once, works in the background, and is updated without losing a request.

What to learn:

- `lifespan=` is an async context manager around an actor's life. All its endpoints share what it yields, by
  `tractor.actor_state()`; it is closed on every way out.
- `current_actor().background` hosts tasks that belong to the actor, and to no request.
- `drain=`: a SIGTERM lets running requests end, while new ones are refused.
"""

import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

import tractor


class Shop:
    """What the endpoints of one actor share."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self.orders_in, self.orders_out = trio.open_memory_channel[str](100)

    async def book(self) -> None:
        """A background task: one writer, however many requests there are."""
        async for item in self.orders_out:
            self.db.execute("INSERT INTO orders VALUES (?)", (item,))


@asynccontextmanager
async def shop() -> AsyncIterator[Shop]:
    """Around the actor's life."""
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE orders (item TEXT)")
    state = Shop(db)
    tractor.current_actor().background.start_soon(state.book)
    yield state
    (count,) = db.execute("SELECT count(*) FROM orders").fetchone()
    db.close()
    print(f"the shop is closed, {count} orders were booked", flush=True)


async def order(item: str) -> str:
    """An endpoint."""
    state: Shop = tractor.actor_state()
    await state.orders_in.send(item)
    return f"{item} is on its way"


async def is_open() -> bool:
    """An endpoint."""
    return True


@tractor.context
async def advise(ctx: tractor.Context) -> str:
    """An endpoint that takes its time."""
    await ctx.started(os.getpid())
    async with ctx.open_stream() as stream:
        async for question in stream:
            await stream.send(f"{question}? A good choice.")
    return "goodbye"


async def main() -> None:
    async with tractor.open_nursery() as an:
        portal = await an.start_actor(
            "shop", enable_modules=[__name__], lifespan="__main__:shop", drain=10.0
        )
        print(await portal.run(order, item="tea"))
        print(await portal.run(order, item="rice"))
        async with portal.open_context(advise) as (ctx, pid), ctx.open_stream() as stream:
            os.kill(pid, signal.SIGTERM)  # Stands for the service manager.
            try:
                while await portal.run(is_open):
                    await trio.sleep(0.01)
            except tractor.ActorBusy:
                print("no new requests are taken")
            await stream.send("tea")
            print(await stream.receive())
            await stream.aclose()
            print(await ctx.wait_for_result())
        await portal.wait_closed()


if __name__ == "__main__":
    trio.run(main)
