"""``tractor hosts``: the hosts table, and whether actors can be started there."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec
import trio

from tractor._root import open_root_actor
from tractor._util.dist._version import __version__
from tractor.cli._arguments import Parser
from tractor.cli._exit import EXIT_FAILED, fail
from tractor.hosts._handle import HostStatistics, open_host
from tractor.hosts._place import VARIABLE, Place
from tractor.hosts._table import load_hosts, place_of

PINGS = 5


class Looked(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a look at one host has given; ``error`` is empty where an actor could be started."""

    host: str
    engine: str
    error: str = ""
    round_trip: float | None = None
    statistics: HostStatistics | None = None


def main(argv: Sequence[str], prog: str) -> int:
    """List the places of the hosts table, and try each.

    Args:
        argv: names or URLs, and options.
        prog: for messages.

    Returns:
        0; 1: there is no table, or with ``--check`` a host can't be used; 2: a host that is none.
    """
    options = parser(prog).parse_args(argv)
    try:
        tables = load_hosts(options.hosts)
        places = [place_of(host, tables) for host in options.host or tables]
    except (OSError, ValueError, TypeError) as exc:
        fail(f"{prog}: {exc}")
        return 2
    if not places:
        return fail(f"{prog}: there is no hosts table: give --hosts FILE, or set {VARIABLE}")
    if not options.check:
        found = [Looked(place.name, place.engine) for place in places]
    else:
        found = trio.run(_look_at_all, places, options.timeout)
    if options.json:
        print(json.dumps([msgspec.to_builtins(one) for one in found], indent=2))
    else:
        _print(found, places, options.check)
    return EXIT_FAILED if any(one.error for one in found) else 0


def parser(prog: str) -> Parser:
    """What the command takes."""
    made = Parser(prog=prog, description="Show the hosts that actors can be started on.")
    made.add_argument(
        "host", nargs="*", help="names of the table, or URLs; default: all of the table"
    )
    made.add_argument(
        "--hosts", metavar="FILE", help=f"the hosts file; default: that of {VARIABLE}"
    )
    made.add_argument(
        "--check", action="store_true", help="try each: versions, clock, round trip, cores, memory"
    )
    made.add_argument(
        "--timeout", type=float, default=10.0, help="seconds for each (default: %(default)s)"
    )
    made.add_argument("--json", action="store_true", help="for programs")
    return made


async def _look_at_all(places: list[Place], timeout: float) -> list[Looked]:
    found: dict[str, Looked] = {}

    async def look(place: Place) -> None:
        found[place.name] = await _look_at(place, timeout)

    async with open_root_actor(name="hosts", registrar=False), trio.open_nursery() as tn:
        for place in places:
            tn.start_soon(look, place)
    return [found[place.name] for place in places]


async def _look_at(place: Place, timeout: float) -> Looked:
    limited = msgspec.structs.replace(place, start_timeout=min(place.start_timeout, timeout))
    try:
        async with open_host(limited) as host:
            trips = [await host.ping() for _ in range(PINGS)]
            return Looked(place.name, place.engine, "", min(trips), host.statistics())
    except (OSError, ValueError, RuntimeError, ImportError) as exc:
        return Looked(place.name, place.engine, str(exc) or repr(exc))


def _print(found: list[Looked], places: list[Place], checked: bool) -> None:
    width = max(len(one.host) for one in found)
    for one, place in zip(found, places, strict=True):
        line = f"{one.host:<{width}}  {place.engine}://{place.target}"
        if one.error:
            line += f"  FAILED: {one.error}"
        elif (seen := one.statistics) is not None and one.round_trip is not None:
            same = "" if seen.tractor == __version__ else f" (here {__version__})"
            free = "?" if seen.free_memory is None else f"{seen.free_memory / 2**30:.1f}"
            line += (
                f"  ok: tractor {seen.tractor}{same}, Python {seen.python}, {one.round_trip * 1000:.1f} ms, "
                f"clock {seen.clock_offset:+.1f} s, {seen.cores} cores, {free} GiB free"
            )
        print(line)
