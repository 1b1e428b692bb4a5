"""A worker that leaks memory is restarted by plan, before anybody suffers, and no request is lost.

What to learn:

- `recycle=Recycle(rss=...)` restarts a service when its process has become too large; `age=` when it is too old.
- With `drain=` the requests that run may end first, and new ones go to another replica.
- `Service.run()` finds the replica that takes it.
"""

import trio

import tractor

MB = 1_000_000
LARGEST = 190 * MB

_hoard: list[bytearray] = []


async def work(number: int) -> int:
    """Run in a replica: it never lets go of what it has used."""
    _hoard.append(bytearray(MB))
    await trio.sleep(0.02)
    return number * number


async def main() -> None:
    done = 0
    async with tractor.open_supervisor() as sup:
        events = sup.events()
        service = await sup.start_service(
            "squares",
            enable_modules=[__name__],
            replicas=2,
            drain=5.0,
            recycle=tractor.Recycle(rss=LARGEST, jitter=0.1),
        )
        # A limit that is reached sooner is taken for a fault, with a delay that grows: see `Recycle`.
        with trio.move_on_after(60):
            while service.restarts < 1:
                assert await service.run(work, number=done) == done * done
                done += 1
                await trio.sleep(0.04)
        print("a replica was recycled")
    told = [event async for event in events]
    assert any(event.because == "restart" for event in told)
    assert not any(event.kind == "crashed" for event in told)
    print("no request was lost")


if __name__ == "__main__":
    trio.run(main)
