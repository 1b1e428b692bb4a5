from dataclasses import dataclass
from pathlib import Path

import trio

import tractor

LOGS = Path(__file__).parent / "logs"


@dataclass
class Request:
    time: str
    path: str
    status: int
    milliseconds: int


def parse(line: str) -> Request:
    time, _method, path, status, milliseconds = line.split()
    return Request(time, path, int(status), int(milliseconds))


async def failures(log: Path) -> list[Request]:
    """Run in the reader: the requests of a log that the shop could not answer."""
    return [request for request in map(parse, log.open()) if request.status >= 500]


async def main() -> None:
    async with tractor.open_nursery() as an:
        reader = await an.start_actor("reader", enable_modules=[__name__])
        for request in await reader.run(failures, LOGS / "monday.log"):
            print(request.time, request.path, "failed with", request.status)
        await reader.cancel_actor()


if __name__ == "__main__":
    trio.run(main)
