"""A supervisor tree of three levels: what fails often is restarted low down, what fails for good goes up.

What to learn:

- A service may open a supervisor of its own. If that gives up, the service has failed, and the level above decides.
- `max_restarts` and `within` say how much a level bears. `rest_for_one` restarts what comes after, too.
- Nobody outside notices a restart but by the channel that is lost: `portals()` gives the next one.
"""

import os
import signal

import trio

import tractor

SOON = tractor.Backoff(initial=0.05, maximum=0.2)


async def pid() -> int:
    """Run in any of them."""
    return os.getpid()


async def line(name: str) -> None:
    """The lowest level: one machine's sensors, each in a process of its own."""
    async with tractor.open_supervisor(max_restarts=2, within=30, backoff=SOON) as sup:
        for number in range(2):
            await sup.start_service(f"{name}.sensor_{number}", enable_modules=[__name__])
        await sup.wait()


async def plant() -> None:
    """The middle: a bus, and the lines that stand on it."""
    async with tractor.open_supervisor("rest_for_one", backoff=SOON) as sup:
        await sup.start_service("bus", enable_modules=[__name__])
        for name in ("red", "blue"):
            await sup.start_service(name, line, name=name)
        await sup.wait()


async def kill(name: str) -> int:
    """Kill an actor, wherever it is; gives the process that takes its place."""
    async with tractor.wait_for_actor(name) as portal:
        old = await portal.run(pid)
        print(f"{name} is killed", flush=True)
        os.kill(old, signal.SIGKILL)
    new = old
    while new == old:
        try:
            async with tractor.wait_for_actor(name) as portal:
                new = await portal.run(pid)
        except (tractor.TransportClosed, tractor.RuntimeFailure):
            await trio.sleep(0.05)
    return new


async def pid_of(name: str) -> int:
    async with tractor.wait_for_actor(name) as portal:
        return await portal.run(pid)


async def main() -> None:
    async with tractor.open_supervisor(backoff=SOON) as sup:
        await sup.start_service("plant", plant)
        other, bus, red = [await pid_of(name) for name in ("red.sensor_1", "bus", "red")]

        await kill("red.sensor_0")
        assert await pid_of("red.sensor_1") == other
        print("one sensor was restarted, its neighbour noticed nothing")

        await kill("bus")
        assert await pid_of("red") != red
        print("the bus was restarted, and the lines after it")

        bus = await pid_of("bus")
        for _ in range(3):
            await kill("blue.sensor_0")
        assert await pid_of("bus") == bus
        print("a line gave up on its sensor, and was restarted as a whole")
        print(f"the plant itself is in its incarnation {sup.services['plant'].incarnation}")


if __name__ == "__main__":
    trio.run(main)
