"""A service that clients find by its name, and that is taken down in good order.

What to learn:

- A client needs nothing but the name: not the address, not the transport, not the parent.
- Looking for a name that nobody has is not an error: `find_actor()` gives `None`.
- `cancel_actor()` asks an actor to end. It unwinds its tasks, leaves the registrar's table, and is
  gone.
"""

import trio

import tractor

SERVICE = "quote_service"


async def latest_quote(symbol: str) -> str:
    """Run in the service."""
    return f"{symbol}: 42.00"


async def buy(symbol: str) -> str:
    """Run in each client."""
    async with tractor.wait_for_actor(SERVICE) as service:
        quote: str = await service.run(latest_quote, symbol=symbol)
        return quote


async def main() -> None:
    """One service, two clients, one wrong name."""
    async with tractor.open_nursery() as an:
        service = await an.start_actor(SERVICE, enable_modules=[__name__])
        for number, symbol in enumerate(("ACME", "TRIO")):
            client = await an.run_in_actor(buy, name=f"client_{number}", symbol=symbol)
            print(f"client_{number} was served {await client.wait_for_result()}")

        async with tractor.find_actor("no_such_service") as portal:
            assert portal is None
            print("no_such_service: nobody has that name")

        print(f"shutting down {SERVICE}")
        await service.cancel_actor()

    print("everything is shut down")


if __name__ == "__main__":
    trio.run(main)
