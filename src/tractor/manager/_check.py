"""`tractor run --check`: whether what a file names can be imported and called, tried in processes of their own."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import msgspec
import trio

from tractor.manager._called import arguments_of, find_call
from tractor.manager._starting import process_options
from tractor.services.file._elsewhere import runs_here
from tractor.services.file._problems import Problem
from tractor.services.file._service_file import ServiceFile
from tractor.services.file._tables import ServiceTable
from tractor.spawn._command import program_command

LIMIT = 60.0
"""Seconds for the imports of one service."""


def try_calls(file: ServiceFile) -> list[Problem]:
    """Import what each service names, in a process with its environment, directory and user; nothing is run.

    What runs on other hosts is imported there, and not tried here.

    Returns:
        What fails.
    """
    return trio.run(_try_all, runs_here(file.services))


async def _try_all(services: Mapping[str, ServiceTable]) -> list[Problem]:
    found: dict[str, list[Problem]] = {name: [] for name in services}
    slots = trio.CapacityLimiter(os.cpu_count() or 1)

    async def look(name: str) -> None:
        async with slots:
            found[name] = await _try_one(name, services[name])

    async with trio.open_nursery() as tn:
        for name in services:
            tn.start_soon(look, name)
    return [problem for problems in found.values() for problem in problems]


async def _try_one(name: str, table: ServiceTable) -> list[Problem]:
    if sys.platform == "win32":
        raise NotImplementedError
    asked = msgspec.json.encode({"call": table.call, "args": table.args, "modules": table.modules})
    options = process_options(table, {}, None)
    for key in ("stdin", "limits"):
        options.pop(key, None)
    with program_command("tractor.manager._check", []) as (command, fds):
        with trio.move_on_after(LIMIT):
            ended = await trio.run_process(
                command,
                stdin=asked,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                pass_fds=fds,
                **options,
            )
            try:
                return msgspec.convert(
                    [
                        {"line": None, "table": f"services.{name}", "value": "", **one}
                        for one in msgspec.json.decode(ended.stdout.splitlines()[-1])
                    ],
                    list[Problem],
                )
            except (msgspec.DecodeError, IndexError):
                tail = ended.stderr.decode(errors="replace").strip().splitlines()[-1:]
                text = f"the imports have ended the process with status {ended.returncode}: {tail}"
                return [_problem(name, text)]
    return [_problem(name, f"the imports were not over after {LIMIT:g} s")]


def _problem(name: str, text: str) -> Problem:
    return Problem(line=None, table=f"services.{name}", key="", value="", text=text)


def main(argv: list[str]) -> None:
    """In that process: answer on stdout what can't be imported or called."""
    asked = msgspec.json.decode(sys.stdin.buffer.read())
    # What the modules print is not the answer.
    out = os.dup(1)
    os.dup2(2, 1)
    found = list(_faults(asked))
    os.write(out, b"\n" + msgspec.json.encode(found) + b"\n")
    # Threads that the modules have started are no reason to wait.
    os._exit(0)


def _faults(asked: dict[str, Any]) -> list[dict[str, str]]:
    faults = []
    for module in asked["modules"]:
        try:
            importlib.import_module(module)
        except BaseException as exc:
            faults.append({"key": "modules", "text": f"{module}: {_words(exc)}"})
    call = asked["call"]
    if call is None:
        return faults
    try:
        endpoint = find_call(call)
    except BaseException as exc:
        return [*faults, {"key": "call", "text": f"{call}: {_words(exc)}"}]
    try:
        arguments_of(endpoint, asked["args"])
    except Exception as exc:
        faults.append({"key": "args", "text": str(exc)})
    return faults


def _words(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}"
