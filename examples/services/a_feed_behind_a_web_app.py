"""A web application in front of a feed with two replicas; one is killed, and every page comes all the same.

What to learn:

- The web server runs in the root, on trio (hypercorn's worker), beside the supervisor: one cancel scope ends both.
- `service.run()` takes the next replica that is ready. A call that was under way in a process that dies is an error,
  and is not repeated by itself: here the page is harmless, so the application asks once more.

Needs `pip install starlette hypercorn`.
"""

import os
import random
import signal
import socket

import hypercorn.config
import hypercorn.trio
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import tractor


async def price(symbol: str) -> str:
    """Run in a replica of the feed."""
    return f"{symbol} {random.Random(symbol).uniform(1, 100):.2f} from {os.getpid()}"


def application(feed: tractor.Service) -> Starlette:
    async def page(request: Request) -> Response:
        symbol = request.path_params["symbol"]
        try:
            text = await feed.run(price, symbol=symbol)
        except tractor.TransportClosed:
            text = await feed.run(price, symbol=symbol)
        return PlainTextResponse(text)

    return Starlette(routes=[Route("/price/{symbol}", page)])


async def get(port: int, path: str) -> str:
    """A browser."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        await stream.send_all(request.encode())
        answer = b"".join([part async for part in stream])
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    return body.decode()


async def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        config = hypercorn.config.Config()
        config.bind = [f"fd://{os.dup(listener.fileno())}"]
        config.errorlog = None
        async with (
            tractor.open_supervisor(backoff=tractor.Backoff(initial=0.05)) as sup,
            trio.open_nursery() as tn,
        ):
            feed = await sup.start_service("feed", enable_modules=[__name__], replicas=2)
            await tn.start(hypercorn.trio.serve, application(feed), config)
            print(f"open http://127.0.0.1:{port}/price/ACME")
            served = {(await get(port, "/price/ACME")).rpartition(" ")[2] for _ in range(10)}
            print(f"{len(served)} processes answer")
            os.kill(feed.pid[0], signal.SIGKILL)
            pages = [await get(port, "/price/ACME") for _ in range(50)]
            print(f"{len(pages)} pages while one was down")
            async for event in feed.events():
                if event.kind == "ready":
                    break
            print(f"incarnations: {feed.incarnation}")
            tn.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
