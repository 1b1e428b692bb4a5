from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import trio

import tractor
from tractor.trionics import open_worker_pool

LOGS = Path(__file__).parent / "logs"
CLOSES = "18:00"


@dataclass
class Request:
    time: str
    path: str
    status: int
    milliseconds: int


def parse(line: str) -> Request:
    time, _method, path, status, milliseconds = line.split()
    return Request(time, path, int(status), int(milliseconds))


@tractor.context(pld_spec=Request | None)
async def follow(ctx: tractor.Context, log: Path) -> None:
    """Run in the reader: send each request of a log, and then those that are added to it."""
    with log.open() as file:
        await ctx.started()
        async with ctx.open_stream() as stream:
            while True:
                if line := file.readline():
                    await stream.send(parse(line))
                else:
                    await trio.sleep(0.1)


def failures(log: Path) -> Counter[str]:
    """Run in a worker of the pool: how often each page has failed on a day."""
    return Counter(request.path for request in map(parse, log.open()) if request.status >= 500)


async def worst_day(logs: Iterable[Path]) -> Counter[str]:
    """How often each page has failed on its worst day."""
    worst: Counter[str] = Counter()
    async with open_worker_pool(2) as pool:
        async for failed in pool.map(failures, logs):
            worst |= failed
    return worst


async def watch(reader: tractor.Portal, log: Path, usual: Counter[str]) -> None:
    """Print an alert when a page fails more often than is usual, until the shop closes."""
    failed: Counter[str] = Counter()
    async with reader.open_context(follow, log) as (ctx, _), ctx.open_stream() as requests:
        async for request in requests:
            if request.time >= CLOSES:
                print("closed; failed today:", dict(failed))
                await ctx.cancel()
                break
            if request.status >= 500:
                failed[request.path] += 1
                if failed[request.path] > usual[request.path]:
                    print(request.time, "ALERT:", request.path, "fails too often")


async def main() -> None:
    async with tractor.open_nursery() as an:
        usual = await worst_day([LOGS / f"{day}.log" for day in ("monday", "tuesday", "wednesday")])
        print("usual:", dict(usual))
        reader = await an.start_actor("reader", enable_modules=[__name__])
        await watch(reader, LOGS / "thursday.log", usual)
        await reader.cancel_actor()


if __name__ == "__main__":
    trio.run(main)
