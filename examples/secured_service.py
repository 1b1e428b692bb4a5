"""A service on TCP that only holders of its key can talk to.

What to learn:

- `tractor keygen PATH` makes a key file. `TRACTOR_AUTHKEY_FILE` names the one that a program takes;
  `authkey=` gives the bytes.
- Both sides prove that they hold the key, once for each connection. Calls cost the same as without.
- Who holds another key sees its connection closed, and gets to call nothing. What may be called is
  decided by `enable_modules`: that is what a key gives access to.
"""

import os
import socket
import sys
import tempfile
from pathlib import Path

import trio

import tractor

SERVICE = "vault"


async def open_up(visitor: str) -> str:
    """Run in the service."""
    return f"welcome, {visitor}"


async def visit(port: int) -> None:
    """A program of its own: it looks the service up and calls it."""
    name = Path(os.environ["TRACTOR_AUTHKEY_FILE"]).name
    try:
        async with (
            tractor.open_nursery(registry_addrs=[("127.0.0.1", port)], name=name),
            tractor.find_actor(SERVICE, raise_on_none=True) as portal,
        ):
            assert isinstance(portal, tractor.Portal)
            print(await portal.run(open_up, visitor=name), flush=True)
    except RuntimeError as error:
        print(f"{name} is out: {error}", flush=True)


async def main() -> None:
    """The service, and two visitors with a key each."""
    if len(sys.argv) > 1:
        await visit(int(sys.argv[1]))
        return

    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        friend, stranger = Path(folder, "friend"), Path(folder, "stranger")
        for path in (friend, stranger):
            command = [sys.executable, "-m", "tractor", "keygen", str(path)]
            await trio.run_process(command, capture_stdout=True, capture_stderr=True)

        async with tractor.open_nursery(
            registry_addrs=[("127.0.0.1", port)], authkey=friend.read_bytes()
        ) as an:
            service = await an.start_actor(SERVICE, enable_modules=[__name__])
            for path in (friend, stranger):
                await trio.run_process(
                    [sys.executable, __file__, str(port)],
                    env={**os.environ, "TRACTOR_AUTHKEY_FILE": str(path)},
                )
            print("the service goes on:", await service.run(open_up, visitor="root"))
            await service.cancel_actor()


if __name__ == "__main__":
    trio.run(main)
