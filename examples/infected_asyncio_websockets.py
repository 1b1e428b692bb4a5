"""A WebSocket server and its client, both from an asyncio library, supervised by trio.

What to learn:

- A library that is written for asyncio runs unchanged in an infected actor: here `websockets`
  (`pip install websockets`), with a server in one actor and a client in another.
- Each side is one asyncio task, linked with a trio block. Its errors and its end are the block's.
- What trio cancels ends in asyncio: the connections and the listening socket are closed by the
  library's own `async with` blocks, because the task in them gets an exception.
"""

import trio

import tractor
from tractor import to_asyncio

WORDS = ["structured", "concurrency", "across", "event", "loops"]


async def run_server(chan: to_asyncio.LinkedTaskChannel) -> None:
    """An asyncio task: answer each message in capitals until told to end."""
    from websockets.asyncio.server import ServerConnection, serve

    async def answer(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(str(message).upper())
            await chan.send(message)

    async with serve(answer, "127.0.0.1", 0) as server:
        chan.started_nowait(server.sockets[0].getsockname()[1])
        await server.wait_closed()


async def run_client(chan: to_asyncio.LinkedTaskChannel, port: int) -> str:
    """An asyncio task: say over the connection what trio says, and tell trio the answer."""
    from websockets.asyncio.client import connect

    async with connect(f"ws://127.0.0.1:{port}") as connection:
        chan.started_nowait()
        try:
            while True:
                await connection.send(await chan.get())
                await chan.send(await connection.recv())
        except to_asyncio.TrioTaskExited:
            return "the client closed its connection"


@tractor.context
async def server(ctx: tractor.Context) -> None:
    """Run in an actor: the server, until this context is cancelled; tell what it was asked."""
    async with to_asyncio.open_channel_from(run_server) as (chan, port):
        await ctx.started(port)
        async with ctx.open_stream() as stream:
            async for message in chan:
                await stream.send(message)


async def ask(port: int, words: list[str]) -> tuple[list[str], str]:
    """Run in another actor: a client for some words."""
    async with to_asyncio.open_channel_from(run_client, port=port) as (chan, _):
        answers = []
        for word in words:
            await chan.send(word)
            answers.append(await chan.receive())
    return answers, await chan.wait_for_result()


async def main() -> None:
    """Start both, look at what each side saw, cancel the server."""
    async with tractor.open_nursery() as an:
        one = await an.start_actor("server", enable_modules=[__name__], infect_asyncio=True)
        two = await an.start_actor("client", enable_modules=[__name__], infect_asyncio=True)

        async with one.open_context(server) as (ctx, port), ctx.open_stream() as stream:
            answers, end = await two.run(ask, port=port, words=WORDS)
            seen = [await stream.receive() for _ in WORDS]
            print(" ".join(answers))
            assert seen == WORDS
            print(end)
            await ctx.cancel()
        print("the server was cancelled")

        await an.cancel()


if __name__ == "__main__":
    trio.run(main)
