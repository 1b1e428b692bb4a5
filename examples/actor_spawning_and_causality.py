"""A one-shot actor: a process that lives for one function.

What to learn:

- `run_in_actor()` starts a process and runs one async function in it.
- The nursery's block is not left before that process is gone: what comes after the block comes
  after the child, as with any other statement.
- Its result is still there then.
"""

import trio

import tractor


async def cellar_door() -> str:
    """Run in the child."""
    assert not tractor.is_root_process()
    return "What a beautiful pair of words."


async def main() -> None:
    """Start one child and read its result when it is gone."""
    async with tractor.open_nursery() as an:
        portal = await an.run_in_actor(cellar_door, name="linguist")

    # The child's process has ended; the portal still holds what it returned.
    print(await portal.wait_for_result())


if __name__ == "__main__":
    trio.run(main)
