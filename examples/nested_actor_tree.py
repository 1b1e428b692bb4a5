"""A tree of three levels: work is fanned out to the leaves, collected, and the tree taken down.

    root ── team_a ── team_a.leaf_1, team_a.leaf_2
         └─ team_b ── team_b.leaf_3, team_b.leaf_4

What to learn:

- An actor may open a nursery of its own; its children belong to it, not to the root.
- A tree comes down leaves first: no nursery block is left before the actors that it started are
  gone.
- `lifetime_stack` is an `ExitStack` of the actor itself: it is unwound when the actor ends.
"""

import trio

import tractor


async def square(number: int) -> int:
    """Run in a leaf."""
    actor = tractor.current_actor()
    actor.lifetime_stack.callback(print, f"{actor.name} ends", flush=True)
    print(f"{actor.name} squares {number}", flush=True)
    return number * number


async def lead_team(numbers: list[int]) -> list[int]:
    """Run in the middle: a leaf for each number, all at work at the same time."""
    team = tractor.current_actor().name
    squares: dict[int, int] = {}

    async def ask(portal: tractor.Portal, number: int) -> None:
        squares[number] = await portal.run(square, number=number)

    async with tractor.open_nursery() as an:
        async with trio.open_nursery() as tasks:
            for number in numbers:
                leaf = await an.start_actor(f"{team}.leaf_{number}", enable_modules=[__name__])
                tasks.start_soon(ask, leaf, number)
        await an.cancel()

    print(f"{team} ends: its leaves are gone", flush=True)
    return [squares[number] for number in numbers]


async def main() -> list[int]:
    """Two teams of two."""
    async with tractor.open_nursery() as an:
        team_a = await an.run_in_actor(lead_team, name="team_a", numbers=[1, 2])
        team_b = await an.run_in_actor(lead_team, name="team_b", numbers=[3, 4])

    print("root: the teams are gone", flush=True)
    squares = [*await team_a.wait_for_result(), *await team_b.wait_for_result()]
    print(squares)
    assert squares == [1, 4, 9, 16]
    return squares


if __name__ == "__main__":
    trio.run(main)
