import os
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import trio

import tractor
from tractor.hosts import Place
from tractor.trionics import open_worker_pool

LOGS = Path(__file__).parent / "logs"
CLOSES = "18:00"

# The web server, where the logs are. With ssh, "ssh://bob@web1" would do. This one needs no second machine: `env` runs
# the command that starts an actor right here.
WEB = Place(
    name="web1",
    engine="command",
    target="web1",
    options={"command": ["env"]},
    python=sys.executable,
    env={"SITE": "web1"},
    ship=("main",),
)


@dataclass
class Request:
    time: str
    path: str
    status: int
    milliseconds: int


def parse(line: str) -> Request | None:
    """The request of a line; None if the line is broken."""
    try:
        time, _method, path, status, milliseconds = line.split()
        return Request(time, path, int(status), int(milliseconds))
    except ValueError:
        return None


@tractor.context(pld_spec=Request | None)
async def follow(ctx: tractor.Context, log: Path, skip: int) -> None:
    """Run in the reader: send each request of a log but the first ones, and wait for more."""
    with log.open() as file:
        for _ in range(skip):
            file.readline()
        await ctx.started()
        async with ctx.open_stream() as stream:
            while True:
                if line := file.readline():
                    await stream.send(parse(line))
                else:
                    await trio.sleep(0.1)


def failures(log: Path) -> Counter[str]:
    """Run in a worker of the pool: how often each page has failed on a day."""
    requests = map(parse, log.open())
    return Counter(request.path for request in requests if request and request.status >= 500)


async def site() -> str:
    """Run in the reader: where it is."""
    return os.environ["SITE"]


async def worst_day(logs: Iterable[Path]) -> Counter[str]:
    """How often each page has failed on its worst day."""
    worst: Counter[str] = Counter()
    async with open_worker_pool(2) as pool:
        async for failed in pool.map(failures, logs):
            worst |= failed
    return worst


@dataclass
class Day:
    """What was seen of a day; it stays in the root, and outlives the reader."""

    lines: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    closed: bool = False


async def read(reader: tractor.Service, log: Path, usual: Counter[str], day: Day) -> None:
    """Go on with the day, until the shop closes or the reader is gone."""
    async with (
        reader.open_context(follow, log, skip=day.lines) as (ctx, _),
        ctx.open_stream() as requests,
    ):
        async for request in requests:
            day.lines += 1
            if request is None:
                print("line", day.lines, "is broken")
            elif request.time >= CLOSES:
                day.closed = True
                await ctx.cancel()
                break
            elif request.status >= 500:
                day.failed[request.path] += 1
                if day.failed[request.path] > usual[request.path]:
                    print(request.time, "ALERT:", request.path, "fails too often")


async def watch(reader: tractor.Service, log: Path, usual: Counter[str]) -> None:
    """Print an alert when a page fails more often than is usual, until the shop closes."""
    day = Day()
    while not day.closed:
        try:
            await read(reader, log, usual, day)
        except tractor.TransportClosed:
            print("the reader is gone")
    print("closed; failed today:", dict(day.failed))


async def main() -> None:
    async with tractor.open_supervisor() as sup:
        usual = await worst_day([LOGS / f"{day}.log" for day in ("monday", "tuesday", "wednesday")])
        print("usual:", dict(usual))
        reader = await sup.start_service("reader", enable_modules=[__name__], actor={"host": WEB})
        print("the reader runs on", await reader.run(site))
        await watch(reader, LOGS / "thursday.log", usual)


if __name__ == "__main__":
    trio.run(main)
