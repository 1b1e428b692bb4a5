"""A supervisor's types and errors.

What to learn: what a service tells of itself, and what ends a supervisor.
"""

import trio

import tractor


async def nap() -> None:
    await trio.sleep(0)


async def watch(sup: tractor.Supervisor) -> list[str]:
    """What has happened, in order."""
    kinds = []
    async for event in sup.events():
        kinds.append(told(event))
        if event.kind == "ready":
            break
    return kinds


def told(event: tractor.ServiceEvent) -> str:
    return f"{event.kind} {event.service}"


def described(service: tractor.Service) -> str:
    spec: tractor.ServiceSpec = service.spec
    return f"{spec.name}: {spec.restart}"


async def guarded(service: tractor.Service) -> None:
    """What a call of a service may have to do with."""
    try:
        await service.run(nap)
        print("served")
    except tractor.ServiceEnded:
        print("it was stopped, or has ended for good")
    except tractor.ServiceNotReady:
        print("no replica was ready in time")
    except tractor.ServiceStuck:
        print("its watchdog has heard nothing")


async def main() -> None:
    try:
        async with tractor.open_supervisor() as sup, trio.open_nursery() as tn:
            tn.start_soon(sup_started, sup)
            print(await watch(sup))
            await trio.sleep(0)
    except* tractor.RestartLimitExceeded:
        print("a service has failed too often")


async def sup_started(sup: tractor.Supervisor) -> None:
    service = await sup.start_service("napper", enable_modules=[__name__])
    print(described(service))
    await guarded(service)


if __name__ == "__main__":
    trio.run(main)
