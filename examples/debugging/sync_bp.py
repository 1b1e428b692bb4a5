"""Pauses in plain functions: in a task, in worker threads, by the builtin, in root and child.

What to learn:

- `tractor.pause_from_sync()`, and the builtin `breakpoint()` while a runtime is open in debug mode,
  work in a function that is not async. They need the package `greenback` (`trio-tractor[sync-pause]`).
- A thread waits for the terminal as a task does, and gets it only when it is its turn. Which task or
  thread of which actor you are in is said above the prompt.
"""

import threading

import trio

import tractor


def pause_by_name(where: str) -> str:
    """A plain function that pauses."""
    tractor.pause_from_sync()
    return f"{where} goes on"


def pause_by_builtin(where: str) -> str:
    """The same with the builtin."""
    breakpoint()
    return f"{where} goes on"


async def pause_everywhere() -> None:
    """Run in the root and in the child: pause in the task, in a worker thread, in an own thread."""
    name = tractor.current_actor().name
    print(pause_by_name(f"{name}: the task"), flush=True)
    print(pause_by_builtin(f"{name}: the task by builtin"), flush=True)
    for pause in (pause_by_name, pause_by_builtin):
        print(await trio.to_thread.run_sync(pause, f"{name}: the worker thread"), flush=True)
    own = threading.Thread(
        target=lambda: print(pause_by_builtin(f"{name}: the own thread"), flush=True),
        name="own_thread",
    )
    own.start()
    await trio.to_thread.run_sync(own.join)


async def pause_in_thread() -> str:
    """Run in the child."""
    return await trio.to_thread.run_sync(pause_by_name, "child: a thread at once")


async def main() -> None:
    """First in the root, then in a child, then in threads of both at once."""
    async with tractor.open_nursery(debug_mode=True, maybe_enable_greenback=True) as an:
        await pause_everywhere()
        portal = await an.start_actor("child", enable_modules=[__name__])
        await portal.run(pause_everywhere)
        async with trio.open_nursery() as tn:
            tn.start_soon(trio.to_thread.run_sync, pause_by_name, "root: a thread at once")
            tn.start_soon(portal.run, pause_in_thread)
        await portal.cancel_actor()


if __name__ == "__main__":
    trio.run(main)
