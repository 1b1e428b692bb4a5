"""Where is the registrar, and where is an actor of a given name?

What to learn:

- Every tree has a registrar: the root that came first at the registry address. `get_registry()`
  gives a portal to it, from any actor.
- `find_actor(name)` gives a portal to an actor of that name, or `None` at once if there is none;
  `wait_for_actor(name)` waits for one.
"""

import trio

import tractor


async def look_up(service: str) -> str:
    """Run in the client: it is told a name, never an address."""
    async with tractor.get_registry() as registrar:
        print(f"the registrar's channel: {registrar.chan}", flush=True)
    async with tractor.find_actor(service) as portal:
        assert isinstance(portal, tractor.Portal)
        print(f"the portal that was found: {portal}", flush=True)
        introduction: str = await portal.run(introduce_yourself)
        return introduction


async def introduce_yourself() -> str:
    """Run in the service."""
    return f"I am {tractor.current_actor().name}, process {tractor.current_actor().pid}"


async def main() -> None:
    """A service, and a client that finds it."""
    async with tractor.open_nursery() as an:
        await an.start_actor("some_service", enable_modules=[__name__])
        client = await an.run_in_actor(look_up, name="client", service="some_service")
        print(await client.wait_for_result())
        await an.cancel()


if __name__ == "__main__":
    trio.run(main)
