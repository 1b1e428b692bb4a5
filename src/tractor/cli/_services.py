"""``tractor services``, ``start``, ``stop``, ``restart``, ``reload``: ask supervisors that run.

What is called a manager here is an actor with a supervisor: `tractor run`, or any program with `open_supervisor()`.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tractor.cli._arguments import Parser
from tractor.cli._exit import EXIT_FAILED, fail
from tractor.control._client import Asked, find_actors, runtime_dirs
from tractor.control._protocol import Refusal, Who
from tractor.observe._words import span

LIMIT = 120.0
"""Seconds for which a command waits until what it asked for is done."""

LOOK_INTERVAL = 0.1

DOWN = ("stopped", "ended", "failed")


def main(argv: Sequence[str], prog: str) -> int:
    """List the services of a manager, or have it do something with one.

    Args:
        argv: the service, and options.
        prog: for messages; its last word is the command.

    Returns:
        0; 1: there is no such manager or service, several are meant, it refused, or it was not done in time.

    Raises:
        SystemExit: wrong arguments (code 2), or ``--help``.
    """
    command = prog.split()[-1]
    options = parser(prog).parse_args(argv)
    managers = find_actors(runtime_dirs(map(Path, options.runtime_dir)), "service")
    if options.manager is not None:
        managers = [(path, who) for path, who in managers if _is_meant(who, options.manager)]
    if not managers:
        named = f" {options.manager!r}" if options.manager is not None else ""
        return fail(
            f"{prog}: there is no supervisor{named} of yours on this host (`tractor run FILE.toml` is one)"
        )
    try:
        if command == "services":
            return _list(managers, options)
        return _act(command, managers, options, prog)
    except Refusal as exc:
        return fail(f"{prog}: {exc.text}")
    except (OSError, ValueError) as exc:
        return fail(f"{prog}: the manager is gone: {exc}")


def parser(prog: str) -> Parser:
    """What the command takes, which is the last word of ``prog``."""
    command = prog.split()[-1]
    what = {
        "services": "Show the services of each supervisor of yours on this host: `tractor run` and others.",
        "start": "Start a service that is down.",
        "stop": "Stop a service; it stays down until `tractor start`.",
        "restart": "Restart a service, with what the strategy takes along; replicas one after the other.",
        "reload": "Have the file read anew: what differs is restarted, what is new started, what is gone stopped.",
    }
    made = Parser(prog=prog, description=what[command])
    if command == "services":
        made.add_argument(
            "--ready",
            action="store_true",
            help="exit with 1 unless each service is ready, or has ended as it should: for probes",
        )
    if command in ("start", "stop", "restart"):
        made.add_argument("service", metavar="SERVICE")
    made.add_argument(
        "--manager",
        metavar="NAME|PID",
        help="the actor of that supervisor, where there are several",
    )
    made.add_argument("--json", action="store_true", help="print JSON")
    made.add_argument(
        "--runtime-dir", action="append", default=[], metavar="DIR", help="look there, too"
    )
    made.add_argument(
        "--limit",
        type=float,
        default=LIMIT,
        metavar="SECONDS",
        help=f"for how long to wait until it is done (default: {LIMIT:g})",
    )
    return made


def _is_meant(who: Who, text: str) -> bool:
    names = (who.name, f"{who.name}@{who.pid}", str(who.pid))
    return text in names or (len(text) >= 6 and who.uuid.startswith(text))


# -- the list -----------------------------------------------------------------------------------------


def _list(managers: list[tuple[Path, Who]], options: argparse.Namespace) -> int:
    found: list[tuple[Who, dict[str, Any]]] = []
    missing: list[dict[str, str]] = []
    for path, who in managers:
        try:
            with Asked(path, 3.5) as asked:
                found.append((who, asked.ask("service", action="list")))
        except (Refusal, OSError, ValueError) as exc:
            missing.append({"what": f"{who.name}@{who.pid}", "why": str(exc)})
    if options.json:
        listed = [
            {"name": who.name, "pid": who.pid, "uuid": who.uuid, **told} for who, told in found
        ]
        print(
            msgspec.json.encode(
                {"v": 1, "time": time.time(), "managers": listed, "missing": missing}
            ).decode()
        )
    else:
        for who, told in found:
            _print_table(who, told)
    for one in missing:
        fail(f"{one['what']} gave no list: {one['why']}")
    # Those of a file, where there are some: a supervisor within one of them is that one's own affair.
    of_files = [told for _, told in found if told["file"] or options.manager is not None]
    lacking = [
        one["name"]
        for told in of_files or [told for _, told in found]
        for one in told["services"]
        if one["state"] not in ("ready", "ended")
    ]
    if options.ready and lacking:
        return fail(f"not ready: {', '.join(lacking)}")
    return EXIT_FAILED if missing else 0


def _print_table(who: Who, told: dict[str, Any]) -> None:
    state = " (stopping)" if told["closing"] else " (reloading)" if told["reloading"] else ""
    print(f"{who.name}@{who.pid}: {told['file'] or 'in a program'}{state}")
    rows = [("NAME", "STATE", "PID", "UP", "RST", "LAST ERROR")]
    for service in told["services"]:
        single = len(service["replicas"]) == 1
        pid = service["replicas"][0]["pid"] if single else None
        rows.append(
            (
                service["name"],
                service["state"] + (", blocked" if service["blocked"] else ""),
                _text(pid) if single else "",
                span(service["uptime"]),
                str(service["restarts"]),
                service["last_error"] or "-",
            )
        )
        for one in () if single else service["replicas"]:
            rows.append(
                (f"  {one['name']}", one["state"], _text(one["pid"]), span(one["uptime"]), "", "")
            )
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[5]]).rstrip())


def _text(value: object) -> str:
    return "-" if value is None else str(value)


# -- what acts ----------------------------------------------------------------------------------------


def _act(
    command: str, managers: list[tuple[Path, Who]], options: argparse.Namespace, prog: str
) -> int:
    if command == "reload":
        managers = _those_that(managers, lambda told: told["file"] is not None)
        if not managers:
            return fail(f"{prog}: the services that run are of no file (`tractor run FILE.toml`)")
    else:
        name = options.service
        managers = _those_that(
            managers, lambda told: any(one["name"] == name for one in told["services"])
        )
        if not managers:
            return fail(f"{prog}: there is no service {name!r}; `tractor services` lists them")
    if len(managers) > 1:
        listed = "".join(f"\n  {who.name}@{who.pid}" for _, who in managers)
        return fail(f"{prog}: several supervisors are meant; name one with --manager:{listed}")
    with Asked(managers[0][0], 3.5) as asked:
        if command == "reload":
            told = asked.ask("service", action="reload")
            names, gone = [*told["new"], *told["changed"]], list(told["gone"])
        else:
            told = asked.ask("service", action=command, name=options.service)
            names, gone = list(told["taken"]), []
        done, after = _wait(asked, _until(command, told, names, gone), options.limit)
    if options.json:
        print(
            msgspec.json.encode(
                {"v": 1, "command": command, "done": done, "asked": told, "services": after}
            ).decode()
        )
    else:
        _tell(command, told, options)
    if done:
        return 0
    states = ", ".join(
        f"{s['name']} is {s['state']}"
        + (", as one that it comes after is down" if s["blocked"] else "")
        for s in after
        if s["name"] in names
    )
    return fail(f"{prog}: not done: {states or 'no service is left'}")


def _those_that(
    managers: list[tuple[Path, Who]], fits: Callable[[dict[str, Any]], bool]
) -> list[tuple[Path, Who]]:
    """Those whose list fits."""
    found = []
    for path, who in managers:
        # One that ends just now is none.
        with contextlib.suppress(OSError, ValueError, Refusal), Asked(path, 3.5) as asked:
            if fits(asked.ask("service", action="list")):
                found.append((path, who))
    return found


def _until(
    command: str, told: dict[str, Any], names: list[str], gone: list[str]
) -> Callable[[dict[str, Any]], bool | None]:
    """Whether it is done (``None``: not yet), from a list of all services."""

    def look(listed: dict[str, Any]) -> bool | None:
        states = {one["name"]: one for one in listed["services"]}
        found = [states[name] for name in names if name in states]
        if command == "stop":
            return True if all(one["state"] in DOWN for one in found) else None
        if command == "reload":
            if listed["reloading"]:
                return None
            is_done = all(one["state"] == "ready" or one["state"] == "ended" for one in found)
            failed = any(map(_has_failed, found))
            if any(name in states for name in gone):
                return None
            return True if is_done else False if failed or listed["closing"] else None
        goals = told["incarnations"]
        again = [
            sum(r["incarnation"] for r in one["replicas"]) >= goals[one["name"]] for one in found
        ]
        over = all(one["state"] in ("ready", "ended") for one in found)
        if all(again) and over:
            return True
        return False if any(map(_has_failed, found)) else None

    return look


def _has_failed(service: dict[str, Any]) -> bool:
    """Whether what it was to become does not come by itself, or not soon."""
    return service["state"] in ("failed", "backoff") or service["blocked"]


def _wait(
    asked: Asked, look: Callable[[dict[str, Any]], bool | None], limit: float
) -> tuple[bool, list[dict[str, Any]]]:
    deadline = time.monotonic() + limit
    while True:
        listed = asked.ask("service", action="list")
        done = look(listed)
        if done is not None or time.monotonic() >= deadline:
            return bool(done), listed["services"]
        time.sleep(LOOK_INTERVAL)


def _tell(command: str, told: dict[str, Any], options: argparse.Namespace) -> None:
    if command == "reload":
        parts = [f"{what}: {', '.join(names)}" for what, names in told.items() if names]
        print("; ".join(parts) or "nothing has changed")
        return
    others = [name for name in told["taken"] if name != options.service]
    print(f"{command} {options.service}" + (f", and with it {', '.join(others)}" if others else ""))
    if told["blocked"]:
        print(f"these wait for it now: {', '.join(told['blocked'])}", file=sys.stderr)
