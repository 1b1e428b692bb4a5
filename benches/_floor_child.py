"""The far end of the floors: a bare process with a file descriptor or two.

``python -m benches._floor_child echo FD`` sends back what comes on a stream socket, with nothing but trio.
``python -m benches._floor_child pipe COMMANDS DATA`` sends integers, or payloads of 1 MiB, over a
``multiprocessing`` connection, as told by the pairs (what, count) that come over another.
"""

from __future__ import annotations

import socket
import sys
from multiprocessing.connection import Connection

import trio

PAYLOAD = bytes(2**20)


async def echo(sock: socket.socket) -> None:
    """Until the peer closes."""
    sock.setblocking(False)
    while True:
        await trio.lowlevel.wait_readable(sock)
        data = sock.recv(65536)
        if not data:
            return
        sock.send(data)


def pipe(commands: Connection, data: Connection) -> None:
    """Until the peer closes."""
    payload = PAYLOAD
    while True:
        try:
            what, n = commands.recv()
        except EOFError:
            return
        if what == "ints":
            for i in range(n):
                data.send(i)
        elif what == "size":
            payload = bytes(n)
        elif what == "payloads":
            for _ in range(n):
                data.send_bytes(payload)
        else:
            for _ in range(n):
                data.send(commands.recv())


if __name__ == "__main__":
    fds = [int(arg) for arg in sys.argv[2:]]
    if sys.argv[1] == "echo":
        trio.run(echo, socket.socket(fileno=fds[0]))
    else:
        pipe(Connection(fds[0]), Connection(fds[1]))
