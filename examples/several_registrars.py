"""Two registrars, one of which is killed and comes back, while actors go on finding each other.

What to learn:

- A registrar is a root actor; a program that is given several `registry_addrs` registers all its actors with each.
- A look-up asks all of them at once. One that is gone is not an error while another answers; when none does, the
  error is a `RuntimeFailure`, at once, and nothing hangs.
- A registrar that comes back knows nobody at first: actors notice, and register with it again by themselves.
"""

import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio

import tractor

NAME = "quote_service"


async def latest_quote(symbol: str) -> str:
    """Run in the service."""
    return f"{symbol}: 42.00"


async def be_registrar(port: int) -> None:
    """The other programs of this example: nothing but a registrar, until it is ended."""
    async with tractor.open_root_actor(
        name=f"registrar_{port}", registry_addrs=[("127.0.0.1", port)], ensure_registry=True
    ):
        print("up", flush=True)
        await trio.sleep_forever()


@asynccontextmanager
async def registrar(port: int) -> AsyncIterator[None]:
    """A registrar in a program of its own, which is killed at the end of the block."""
    process = await trio.lowlevel.open_process(
        [sys.executable, __file__, str(port)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.receive_some()
    try:
        yield
    finally:
        process.kill()
        await process.wait()
        await process.stdout.aclose()


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def ask_at(*ports: int) -> str:
    """Find the service by its name, at certain registrars, and use it."""
    addrs = [("127.0.0.1", port) for port in ports]
    try:
        async with tractor.find_actor(NAME, registry_addrs=addrs) as service:
            if not isinstance(service, tractor.Portal):
                return "nobody of that name"
            quote: str = await service.run(latest_quote, symbol="ACME")
            return quote
    except tractor.RuntimeFailure:
        return "no registrar answers"


async def main() -> None:
    """Both, one, none, and one that came back."""
    if len(sys.argv) > 1:
        await be_registrar(int(sys.argv[1]))
        return
    one, two = free_port(), free_port()
    async with AsyncExitStack() as first, AsyncExitStack() as second:
        await first.enter_async_context(registrar(one))
        await second.enter_async_context(registrar(two))
        # A root takes the registrars that are there when it boots.
        async with tractor.open_nursery(
            registry_addrs=[("127.0.0.1", one), ("127.0.0.1", two)]
        ) as an:
            await an.start_actor(NAME, enable_modules=[__name__])
            print(f"both are there: {await ask_at(one, two)}")
            await first.aclose()
            print(f"the first is gone: {await ask_at(one, two)}")
            await second.aclose()
            print(f"both are gone: {await ask_at(one, two)}")
            async with registrar(one):
                while (answer := await ask_at(one)) == "nobody of that name":
                    await trio.sleep(0.05)
                print(f"the first is back: {answer}")
                await an.cancel()


if __name__ == "__main__":
    trio.run(main)
