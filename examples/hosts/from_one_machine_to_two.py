"""Count words on two hosts; one of them is lost on the way, and its part is counted by the other.

What to learn:

- A host is a keyword: `host=` takes a URL such as `"ssh://bob@gpu1"`, a name of the hosts table, or an open handle.
- `ship="main"` sends this script along, so that its functions can be run there.
- Who works on a host that is lost gets `WorkerDied` with `HostLost` as its cause; nothing is run twice by itself.

As you have no second machine at hand while you read this, both "hosts" are this one: `command://` runs any command
whose stdin and stdout are the link, here `env`. With a real one it reads `["docker", "exec", "-i", "{name}"]`, or the
URL is `ssh://bob@gpu1` and there are no `options`.
"""

import os
import signal
import sys

import trio

from tractor.hosts import Place
from tractor.trionics import WorkerDied, open_worker_pool

TEXTS = [f"page {number} has so many words " * number for number in range(1, 41)]


async def count(text: str) -> int:
    """Run on one of the hosts."""
    await trio.sleep(0.05)
    return len(text.split())


async def parent_pid() -> int:
    """Of an actor on another host: the agent, which has started it and ends with its link."""
    return os.getppid()


def host(name: str) -> Place:
    return Place(
        name=name,
        engine="command",
        target=name,
        options={"command": ["env"]},
        python=sys.executable,
        ship=("main",),
        deadline=2.0,
    )


async def main() -> None:
    hosts = [host("north"), host("south")]
    total = 0
    again: list[str] = []
    async with open_worker_pool(hosts=hosts, per_host=2) as pool:

        async def work(text: str) -> None:
            nonlocal total
            try:
                words = await pool.run(count, text)
            except WorkerDied as exc:
                print(f"lost: {type(exc.__cause__).__name__}")
                again.append(text)
            else:
                total += words

        async with trio.open_nursery() as tn:
            for text in TEXTS:
                tn.start_soon(work, text)
            agent = await pool.run(parent_pid)
            # Somebody pulls the plug of a host.
            os.kill(agent, signal.SIGKILL)
        print(f"{len(again)} to be counted again")
        for text in again:
            total += await pool.run(count, text)
    print(f"{total} words of {sum(len(text.split()) for text in TEXTS)}")


if __name__ == "__main__":
    trio.run(main)
