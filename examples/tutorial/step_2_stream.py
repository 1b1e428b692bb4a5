from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import trio

import tractor

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


async def watch(reader: tractor.Portal, log: Path) -> None:
    """Print an alert when a page fails again, until the shop closes."""
    failed: Counter[str] = Counter()
    async with reader.open_context(follow, log) as (ctx, _), ctx.open_stream() as requests:
        async for request in requests:
            if request.time >= CLOSES:
                print("closed; failed today:", dict(failed))
                await ctx.cancel()
                break
            if request.status >= 500:
                failed[request.path] += 1
                if failed[request.path] > 1:
                    print(request.time, "ALERT:", request.path, "has failed again")


async def main() -> None:
    async with tractor.open_nursery() as an:
        reader = await an.start_actor("reader", enable_modules=[__name__])
        await watch(reader, LOGS / "wednesday.log")
        await reader.cancel_actor()


if __name__ == "__main__":
    trio.run(main)
