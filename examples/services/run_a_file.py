"""`tractor run`: the services of a file, started, killed, changed while they run, and stopped in order.

What to learn:

- `tractor run shop.toml` is a foreground process. It restarts what ends; SIGTERM or ctrl-c stops all in order.
- A socket of `listen` belongs to the manager: while services are killed and restarted nobody is turned away.
- `tractor reload` (or SIGHUP) restarts what differs in the file, and nothing else. `tractor services` shows them.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import trio

SHOP = Path(__file__).parent / "shop"


def free_port() -> int:
    """A port that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


async def tractor(*argv: str) -> str:
    """Run a command of the package, as at another terminal."""
    done = await trio.run_process([sys.executable, "-m", "tractor", *argv], capture_stdout=True)
    return done.stdout.decode()


async def services(manager: int) -> dict[str, Any]:
    """What `tractor services` tells, by name."""
    told = json.loads(await tractor("services", "--json", "--manager", str(manager)))
    return {one["name"]: one for one in told["managers"][0]["services"]}


async def visit(port: int) -> str:
    """What the shop says."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(b"GET / HTTP/1.0\r\n\r\n")
        page = b""
        while more := await stream.receive_some():
            page += more
    return page.decode().splitlines()[-1]


async def main() -> None:
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        for file in ("shop.py", "shop.toml"):
            shutil.copy(SHOP / file, name)
        path = Path(name, "shop.toml")
        text = path.read_text().replace("8080", str(port)).replace("/unix/tmp", f"/unix{name}")
        path.write_text(text)
        manager = await trio.lowlevel.open_process(
            [sys.executable, "-m", "tractor", "run", "shop.toml"],
            cwd=name,
            env={**os.environ, "SHOP_NAME": "the corner shop"},
            stdout=subprocess.DEVNULL,
        )
        try:
            # The socket is there from the beginning: the first visitor waits until somebody answers.
            while not await trio.to_thread.run_sync(answers, port):
                await trio.sleep(0.05)
            print(await visit(port), flush=True)

            before = await services(manager.pid)
            os.kill(before["web"]["replicas"][0]["pid"], signal.SIGKILL)
            print("one was killed:", await visit(port), flush=True)
            while (await services(manager.pid))["web"]["state"] != "ready":
                await trio.sleep(0.1)

            path.write_text(path.read_text().replace("welcome", "welcome back"))
            print(await tractor("reload", "--manager", str(manager.pid)), end="", flush=True)
            print(await visit(port), flush=True)
            after = await services(manager.pid)
            same = before["stock"]["replicas"] == [
                {**one, "uptime": old["uptime"]}
                for one, old in zip(
                    after["stock"]["replicas"], before["stock"]["replicas"], strict=True
                )
            ]
            print("the stock has noticed nothing:", same, flush=True)
        finally:
            manager.terminate()
            print("all were stopped in order, exit status", await manager.wait(), flush=True)


def answers(port: int) -> bool:
    """Whether the manager has bound the socket."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    trio.run(main)
