"""What a process that user code forks off an actor is called."""

from __future__ import annotations

from pathlib import Path

from tractor.spawn import fork_from_worker_thread, wait_child


async def of_a_fork(path: str) -> str:
    def child() -> int:
        Path(path).write_text(Path("/proc/self/comm").read_text())
        return 0

    wait_child(fork_from_worker_thread(child))
    return Path(path).read_text()


async def own() -> str:
    return Path("/proc/self/comm").read_text()
