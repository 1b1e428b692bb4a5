"""Two actors find each other by name and talk without their parent.

What to learn:

- Actors have names, and a registrar (here the root, which is one if nobody else is) knows where
  they are.
- `wait_for_actor(name)` waits until an actor of that name is there and connects to it, whoever
  started it.
- So it does not matter which of the two comes up first.
"""

import trio

import tractor


async def greet(visitor: str) -> str:
    """Run in the actor that is called upon."""
    return f"Hello {visitor}, I am {tractor.current_actor().name}."


async def meet(partner: str) -> str:
    """Run in each actor: find the other one and let it greet us."""
    async with tractor.wait_for_actor(partner) as portal:
        greeting: str = await portal.run(greet, visitor=tractor.current_actor().name)
        return greeting


async def main() -> None:
    """Raise the curtain, let both play their part at the same time, close it."""
    print("Action!")
    lines: dict[str, str] = {}

    async def play(portal: tractor.Portal, partner: str) -> None:
        lines[partner] = await portal.run(meet, partner=partner)

    async with tractor.open_nursery() as an:
        vera = await an.start_actor("vera", enable_modules=[__name__])
        theo = await an.start_actor("theo", enable_modules=[__name__])
        async with trio.open_nursery() as scene:
            scene.start_soon(play, vera, "theo")
            scene.start_soon(play, theo, "vera")
        # Only now: an actor that has spoken its own line must still be there for the other's.
        await an.cancel()

    print(lines["theo"])
    print(lines["vera"])
    print("Cut! Thank you, everybody may go home.")


if __name__ == "__main__":
    trio.run(main)
