"""Endpoints, and a way to run a command while actors run."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import trio

import tractor
from tractor.cli._main import main as cli
from tractor.observe._finding import Answered, Found
from tractor.observe._processes import Facts
from tractor.runtime.seen._samples import ChildSample, Sample, Who
from tractor.testing import get_rando_addr


async def add(x: int) -> int:
    return x + 1


async def fail() -> None:
    raise ValueError("no")


async def crash_soon() -> None:
    await trio.sleep(1.0)
    raise ValueError("boom")


async def wait_here() -> None:
    await trio.sleep_forever()


async def block(path: str) -> None:
    """Let the loop stand still until somebody opens the pipe."""
    open(path, "rb").close()


async def _wait_there(portal: tractor.Portal) -> None:
    """Some other one may end it."""
    with contextlib.suppress(tractor.ContextCancelled, tractor.RemoteActorError):
        await portal.run(wait_here)


@tractor.context
async def keep_below(ctx: tractor.Context, start_method: str | None = None) -> None:
    """Have a subactor of its own."""
    more: dict[str, Any] = {} if start_method is None else {"start_method": start_method}
    async with tractor.open_nursery(**more) as an:
        portal = await an.start_actor("below", enable_modules=[__name__])
        async with trio.open_nursery() as tn:
            tn.start_soon(_wait_there, portal)
            await ctx.started(os.getpid())
            await trio.sleep_forever()


@tractor.context
async def block_below(ctx: tractor.Context, path: str) -> None:
    """Have a subactor whose loop stands still until somebody opens the pipe."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("below", enable_modules=[__name__])
        await ctx.started()
        await portal.run(block, path=path)
        await an.cancel()


Main = Callable[[tractor.ActorNursery, tractor.Portal], Awaitable[None]]


def run(main: Main, **root: Any) -> None:
    """Run ``main`` in a root with one actor."""

    async def limited() -> None:
        with trio.fail_after(60):
            async with tractor.open_nursery(registry_addrs=[get_rando_addr("tcp")], **root) as an:
                portal = await an.start_actor("worker", enable_modules=[__name__])
                await main(an, portal)
                await an.cancel()

    trio.run(limited)


async def command(*argv: str) -> tuple[int, str, str]:
    """Run a command of ``tractor``: its exit status, and what it has printed on stdout and stderr."""

    def in_thread() -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = cli([*argv])
            except SystemExit as exc:
                code = int(exc.code or 0)
        return code, out.getvalue(), err.getvalue()

    return await trio.to_thread.run_sync(in_thread)


async def listed(*argv: str) -> list[dict[str, Any]]:
    """The actors of this test's tree, as ``tractor ps --json`` has them."""
    code, out, _ = await command("ps", "--json", "--limit", "20", *argv)
    assert code == 0
    actors = msgspec.json.decode(out)["actors"]
    own = {os.getpid()}
    # Parents come first. Others may run on this machine.
    uuids: set[str] = set()
    found = []
    for one in actors:
        if one["pid"] in own or one["parent"] in uuids:
            uuids.add(one["uuid"])
            found.append(one)
    return found


# -- records --


def sample(name: str, uuid: str, pid: int | None, parent: str | None = None, **more: Any) -> Sample:
    given = {"host": "h1", "time": 0.0, "state": "run", **more}
    return Sample(name=name, uuid=uuid, pid=pid, parent=parent, **given)


def child(name: str, uuid: str, pid: int | None, **more: Any) -> ChildSample:
    given = {"host": "", "state": "running", **more}
    return ChildSample(name=name, uuid=uuid, pid=pid, **given)


def answered(one: Sample, **more: Any) -> Answered:
    assert one.pid is not None
    who = Who(
        name=one.name,
        uuid=one.uuid,
        pid=one.pid,
        start_time=1.0,
        host="h1",
        parent=one.parent,
        root=None,
        versions={},
        addrs=[["127.0.0.1", 1000 + one.pid]],
        ops=[],
    )
    return Answered(Path(f"{one.name}@{one.pid}.sock"), who, one, [], **more)


def facts(state: str = "run", ppid: int = 1) -> Facts:
    return Facts(state=state, ppid=ppid, start_time=1.0, age=100.0, cpu_seconds=25.0, rss=1024)


def found(*parts: Any, **more: Any) -> Found:
    return Found(time=5.0, host="h1", answered=list(parts), **more)
