"""The second act: a server that is written for asyncio, in an actor, asked by trio."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import trio

import tractor
from tractor import to_asyncio
from tractor.demo._cluster import Run, registry_of_our_own

QUESTIONS = 200


@dataclass
class AsyncioAct:
    """What came of it."""

    pid: int = 0
    right: int = 0
    """Answers that were right."""
    seconds: float = 0.0
    served: int = 0
    """Questions that the asyncio side says it answered."""
    ended_by: str = ""
    """What the asyncio task was told of its trio side's end."""


async def serve_squares(chan: to_asyncio.LinkedTaskChannel) -> tuple[int, str]:
    """An asyncio task: squares over TCP, a line each, until the trio side ends."""
    served = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        while line := await reader.readline():
            writer.write(b"%d\n" % int(line) ** 2)
            await writer.drain()
            served += 1
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        chan.started_nowait(server.sockets[0].getsockname()[1])
        try:
            await chan.get()
        except to_asyncio.TrioTaskExited as exc:
            return served, type(exc).__name__
    return served, ""


@tractor.context
async def squares_until_left(ctx: tractor.Context) -> tuple[int, str]:
    """The endpoint, a trio task: link the server, tell its port, wait for the stream's end."""
    async with to_asyncio.open_channel_from(serve_squares) as (chan, port):
        await ctx.started(port)
        async with ctx.open_stream() as stream:
            async for _ in stream:
                pass
    served, ended_by = await chan.wait_for_result()
    return served, ended_by


async def run_asyncio_act(transport: str, run: Run) -> AsyncioAct:
    """Start the actor, ask its server, leave it; no process is left when this returns or raises.

    Args:
        transport: ``'tcp'`` or ``'uds'``, between the actors.
        run: where the actor's pid is noted.
    """
    act = AsyncioAct()
    async with tractor.open_nursery(registry_addrs=[registry_of_our_own(transport)]) as an:
        portal = await an.start_actor("server", enable_modules=[__name__], infect_asyncio=True)
        assert portal.chan.aid is not None
        act.pid = run.act_pids["server"] = portal.chan.aid.pid or 0
        async with portal.open_context(squares_until_left) as (ctx, port):
            async with ctx.open_stream():
                await _ask(port, act)
            act.served, act.ended_by = await ctx.wait_for_result()
        await portal.cancel_actor()
    return act


async def _ask(port: int, act: AsyncioAct) -> None:
    began = time.perf_counter()
    async with await trio.open_tcp_stream("127.0.0.1", port) as connection:
        for number in range(QUESTIONS):
            await connection.send_all(b"%d\n" % number)
            answer = b""
            while not answer.endswith(b"\n"):
                answer += await connection.receive_some()
            act.right += int(answer) == number**2
    act.seconds = time.perf_counter() - began


def render_asyncio_act(act: AsyncioAct) -> str:
    """The result as text."""
    return (
        f"asyncio inside: process {act.pid} ran asyncio's own TCP server, linked with a trio block;\n"
        f"{act.right} of {QUESTIONS} answers were right, {QUESTIONS / act.seconds:,.0f} a second; "
        f"when the block was left the server's task got {act.ended_by}"
    )


def asyncio_complaints(act: AsyncioAct) -> list[str]:
    """What speaks against "all was answered, and the asyncio task ended with its trio block"."""
    complaints = []
    if (act.right, act.served) != (QUESTIONS, QUESTIONS):
        complaints.append(
            f"{QUESTIONS} questions were asked of the asyncio server, {act.served} answered, {act.right} rightly"
        )
    if act.ended_by != "TrioTaskExited":
        complaints.append(
            f"the asyncio task was to get TrioTaskExited when its block was left, and got {act.ended_by!r}"
        )
    return complaints
