"""The services of `shop.toml`.

What to learn:

- A service is a function, or a module that others call into; it knows nothing of the manager.
- `tractor.inherited_sockets()` has the sockets of `listen`. Who is asked to go takes no more connections, and ends.
- Services find each other by name, as all actors do.
"""

import contextlib
import os

import trio

import tractor


async def migrate() -> None:
    """Done once, before the others."""
    print("the tables are there", flush=True)


async def count(thing: str) -> int:
    """Of the service `stock`: called by others."""
    return len(thing)


async def web(greeting: str) -> None:
    """Answer each connection with one line."""

    async def answer(stream: trio.SocketStream) -> None:
        # A visitor who is gone is no reason for the service to fail.
        with contextlib.suppress(trio.BrokenResourceError):
            async with stream, tractor.wait_for_actor("stock") as stock:
                await stream.receive_some()
                number = await stock.run(count, thing="apples")
                text = f"{greeting} to {os.environ['SHOP_NAME']}: {number} apples\n"
                head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(text)}\r\n\r\n"
                await stream.send_all(f"{head}{text}".encode())

    sock = tractor.inherited_sockets()["http"]
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    print("open", flush=True)
    await trio.serve_listeners(answer, [listener])


async def main() -> None:
    """Without a manager: what there is to see."""
    print("run `tractor run shop.toml` in this directory, and then `tractor services`")


if __name__ == "__main__":
    trio.run(main)
