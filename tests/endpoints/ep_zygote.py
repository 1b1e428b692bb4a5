"""What the tests of the zygote run in their actors."""

from __future__ import annotations

import locale
import os
import resource
import signal
import sys
import time
from typing import Any

import trio

import tractor


async def pids() -> tuple[int, int]:
    """That of this process and of the one that has forked it."""
    return os.getpid(), os.getppid()


async def chain(depth: int) -> list[tuple[int, int]]:
    """The pids of a chain of actors, this one first."""
    if depth == 0:
        return [await pids()]
    async with tractor.open_nursery() as an:
        portal = await an.start_actor(f"d{depth}", enable_modules=[__name__])
        below = await portal.run(chain, depth=depth - 1)
        await portal.cancel_actor()
    return [await pids(), *below]


async def surroundings() -> dict[str, Any]:
    """What a process has from its parent."""
    with open("/proc/self/status") as file:
        mask = next(line for line in file if line.startswith("Umask:"))
    return {
        "cwd": os.getcwd(),
        "environment": dict(os.environb),
        "variables of C": os.environ.get("TZ") and time.tzname,
        "umask": mask,
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "affinity": sorted(os.sched_getaffinity(0)),
        "limits": {
            name: resource.getrlimit(getattr(resource, name))
            for name in dir(resource)
            if name.startswith("RLIMIT_")
        },
        "ignored": sorted(
            n for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN
        ),
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "group": os.getpgrp(),
        "session": os.getsid(0),
        "path": [entry for entry in sys.path if entry],
        "streams": [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)],
        "encoding": (sys.stdout.encoding, locale.getpreferredencoding(False)),
        "flags": tuple(sys.flags),
        "executable": sys.executable,
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


async def leave(status: int) -> None:
    os._exit(status)


async def wait(pid: int) -> None:
    """Forever."""
    assert pid == os.getpid()
    await trio.sleep_forever()


async def after_changes(where: str) -> dict[str, dict[str, Any]]:
    """What subactors of each kind get of an actor that has changed all that it can."""
    os.chdir(where)
    os.environ["ADDED"] = "ä"
    os.environb[b"NOT_TEXT"] = b"\xff"
    os.environ.pop("HOME", None)
    os.environ["TZ"] = "Asia/Kathmandu"
    os.umask(0o027)
    os.nice(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, 400))
    sys.path.append(where)
    found = {}
    for method in ("trio", "zygote"):
        tractor.spawn.try_set_start_method(method)
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("one", enable_modules=[__name__])
            found[method] = await portal.run(surroundings)
            found[method]["forked"] = (await portal.run(pids))[1] != os.getpid()
            await portal.cancel_actor()
    return found


async def loaded(names: list[str]) -> dict[str, int | None]:
    """In which process each module was imported; ``None``: it is not loaded here."""
    return {name: getattr(sys.modules.get(name), "PID", None) for name in names}
