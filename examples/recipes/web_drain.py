import os
import signal
from typing import Any

import hypercorn.config
import hypercorn.trio
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import tractor


async def report(name: str) -> str:
    """Run in the service: an answer that takes its time."""
    await trio.sleep(1)
    return f"the report on {name}, by process {os.getpid()}"


def application(reports: tractor.Service) -> Starlette:
    async def page(request: Request) -> PlainTextResponse:
        name = request.path_params["name"]
        print("a report on", name, "is asked for", flush=True)
        return PlainTextResponse(await reports.run(report, name))

    return Starlette(routes=[Route("/report/{name}", page)])


async def main() -> None:
    config = hypercorn.config.Config()
    config.bind = [os.environ.get("BIND", "127.0.0.1:8000")]
    config.graceful_timeout = 20
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:

        async def asked_to_end() -> None:
            async for number in signals:
                print("asked to end by", signal.Signals(number).name, flush=True)
                break

        async with tractor.open_supervisor() as sup:
            reports = await sup.start_service("reports", enable_modules=[__name__], drain=10)
            app: Any = application(reports)
            await hypercorn.trio.serve(app, config, shutdown_trigger=asked_to_end)
            print("all requests are answered", flush=True)
    print("all services have ended", flush=True)


if __name__ == "__main__":
    trio.run(main)
