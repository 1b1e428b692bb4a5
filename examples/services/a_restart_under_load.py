"""A service with two replicas under load: one is killed, then all are restarted, and no request is lost.

What to learn:

- A replica that dies is replaced by itself. A request that was under way in it is an error, and harmless ones are asked
  again; `service.run()` takes a replica that is ready.
- `service.restart()` is by plan: with `drain=` one replica after the other ends what it has, while the other one
  serves.

`multiprocessing_service.py` beside it does the same with the standard library.
"""

import os
import signal

import trio

import tractor


async def price(symbol: str) -> int:
    """Run in a replica; tells which one."""
    await trio.sleep(0.01)
    return os.getpid()


async def customer(service: tractor.Service, answers: list[int]) -> None:
    """Ask again and again."""
    while True:
        try:
            answers.append(await service.run(price, symbol="ACME"))
        except tractor.TransportClosed:
            answers.append(await service.run(price, symbol="ACME"))


async def several(answers: list[int], replicas: int) -> None:
    """Wait until so many have answered in all."""
    with trio.fail_after(60):
        while len(set(answers)) < replicas:
            await trio.sleep(0.01)


async def main() -> None:
    answers: list[int] = []
    async with tractor.open_supervisor() as sup, trio.open_nursery() as tn:
        service = await sup.start_service(
            "prices", enable_modules=[__name__], replicas=2, drain=5.0
        )
        for _ in range(4):
            tn.start_soon(customer, service, answers)
        await several(answers, 2)
        os.kill(service.pid[0], signal.SIGKILL)
        await several(answers, 3)
        await service.restart()
        await several(answers, 5)
        tn.cancel_scope.cancel()
    print(f"no request was lost, {len(set(answers))} processes have answered")


if __name__ == "__main__":
    trio.run(main)
