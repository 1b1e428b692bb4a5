"""``tractor tree``: a picture of a running tree."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import msgspec
import trio

from tractor._errors import RuntimeFailure, TransportClosed
from tractor.address._types import UnwrappedAddress
from tractor.cli._actors import add_registry_option, addresses_of, why_not_one
from tractor.cli._arguments import Parser
from tractor.cli._exit import fail
from tractor.cli.watch._common import add_host_option, print_json, quiet_pipe
from tractor.cli.watch._over_there import run_there
from tractor.devx._picture import ActorPicture, pretty_picture
from tractor.observe.afar._by_message import request_of


def main(argv: Sequence[str], prog: str) -> int:
    """Print the whole tree that an actor is in.

    Args:
        argv: the actor's pid or name, and options.
        prog: for messages.

    Returns:
        0, or 1 when there is no such actor, several are of that name, or it does not answer.

    Raises:
        SystemExit: wrong arguments (code 2), or ``--help``.
    """
    options = parser(prog).parse_args(argv)
    if options.host is not None:
        return run_there(options.host, argv, prog)
    found = addresses_of(options.actor, options.registry)
    if why := why_not_one(options.actor, found, options.registry):
        return fail(f"{prog}: {why}")
    ((who, addrs),) = found.items()
    try:
        told = trio.run(_ask, addrs[0], options.limit, not options.below)
        picture = msgspec.convert(told, ActorPicture)
    except (OSError, TransportClosed, RuntimeFailure, RuntimeError, msgspec.ValidationError) as exc:
        return fail(f"{prog}: {who} can't be asked: {exc}")
    except trio.TooSlowError:
        return fail(f"{prog}: {who} does not answer within {options.limit} s")
    with quiet_pipe():
        if options.json:
            print_json(picture)
        else:
            print(pretty_picture(picture), end="")
    return 0


async def _ask(addr: UnwrappedAddress, limit: float, up: bool) -> object:
    return await request_of(addr, "_tree", {"limit": limit * 0.9, "up": up}, limit)


def parser(prog: str) -> Parser:
    """What the command takes."""
    made = Parser(
        prog=prog,
        description="Show the tree that a running actor is in: each actor with its state, pid, addresses and tasks, "
        "what these wait for, its open calls, contexts and streams, and who has or awaits the REPL.",
    )
    made.add_argument("actor", metavar="PID|NAME", help="any actor of the tree")
    made.add_argument("--below", action="store_true", help="that actor and those below it only")
    made.add_argument(
        "--limit",
        type=_seconds,
        default=3.0,
        metavar="SECONDS",
        help="how long it may take (default: %(default)s)",
    )
    made.add_argument("--json", action="store_true", help="print JSON")
    add_registry_option(made)
    add_host_option(made)
    return made


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 60:
        raise argparse.ArgumentTypeError(f"must be a number of seconds up to 60, not {text!r}")
    return value
