"""A tree whose actors talk over TLS, with certificates of a test authority.

What to learn:

- `tractor certs DIR` makes the certificates; it needs the extra `trio-tractor[certs]`. A tree that is not a
  test uses those of an authority of your own.
- `tls=` encrypts every TCP connection of the tree. Children get the paths, and read the files themselves.
- Both sides show a certificate, and then prove the tree's key as on plain TCP: a program without
  a certificate is turned away.
"""

import contextlib
import socket
import sys
import tempfile
from pathlib import Path

import trio

import tractor


async def road() -> str:
    """Run in a child: how it is connected to its parent."""
    parent = tractor.current_actor().parent_chan
    assert parent is not None
    return type(parent.transport).__name__


async def main() -> None:
    """Start a child over TLS, then knock as a stranger."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        addr = ("127.0.0.1", free.getsockname()[1])
        free.close()
        await trio.run_process(
            [sys.executable, "-m", "tractor", "certs", folder],
            capture_stdout=True,
            capture_stderr=True,
        )
        tls = tractor.TLSConfig(
            certfile=str(Path(folder, "actor.pem")),
            keyfile=str(Path(folder, "actor.key")),
            cafile=str(Path(folder, "ca.pem")),
        )
        async with tractor.open_nursery(registry_addrs=[addr], tls=tls) as an:
            portal = await an.start_actor("child", enable_modules=[__name__])
            print(f"the child is connected by {await portal.run(road)}")

            stranger = await trio.open_tcp_stream(*addr)
            async with stranger:
                await stranger.send_all(b"let me in, please")
                # Until the connection is closed.  All that may come is an alert of TLS, of 7 bytes.
                answer = b""
                with contextlib.suppress(trio.BrokenResourceError):
                    async for part in stranger:
                        answer += part
            print("a stranger was turned away" if len(answer) <= 7 else "a stranger got in")
            await an.cancel()


if __name__ == "__main__":
    trio.run(main)
