"""What the workers of a pool run in its tests."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import trio

import tractor
from tractor.pool._worker import serve_pool
from tractor.trionics import open_worker_pool


def add(x: int, y: int = 1) -> int:
    return x + y


async def aadd(x: int, y: int = 1) -> int:
    await trio.lowlevel.checkpoint()
    return x + y


def square(x: int) -> int:
    return x * x


async def asquare(x: int) -> int:
    return x * x


def whereabouts() -> list[int]:
    """Process and thread."""
    return [os.getpid(), threading.get_ident()]


async def awhereabouts() -> list[int]:
    return [os.getpid(), threading.get_ident()]


def own_name() -> str:
    """Sync functions know their actor, too."""
    return tractor.current_actor().name


def from_thread() -> str:
    return trio.from_thread.run(_of_loop)


async def _of_loop() -> str:
    return tractor.current_actor().name


def fail(x: Any = None) -> None:
    raise ValueError(f"no {x}")


async def afail(x: Any = None) -> None:
    raise ValueError(f"no {x}")


def fail_on_7(x: int) -> int:
    if x == 7:
        raise LookupError("seven")
    return x


async def note_the_cancel(path: str) -> None:
    """Sleep, and note that this was cancelled."""
    try:
        Path(path).write_text("sleeps")
        await trio.sleep_forever()
    finally:
        Path(path).write_text("cancelled")


async def fail_when_there(paths: list[str]) -> None:
    """Sleep as the second of `paths`, or, without one, fail when the first is there."""
    for path in paths[1:]:
        await note_the_cancel(path)
    while not Path(paths[0]).exists():
        await trio.sleep(0.01)
    raise ValueError("the one that fails")


async def sleep_at(path: str | None) -> None:
    if path is not None:
        await sleep(path)


async def knock(name: str) -> str:
    """Open a worker's endpoint from an actor that is not its parent."""
    async with tractor.wait_for_actor(name) as portal:
        try:
            async with portal.open_context(serve_pool):
                pass
        except tractor.RemoteActorError as exc:
            return exc.boxed_type_str
    return "it opened"


def exit_system(code: int) -> None:
    raise SystemExit(code)


def spin(path: str) -> None:
    """Write the own pid, then compute for ever."""
    _note_pid(path)
    while True:
        pass


def hold_the_gil(path: str) -> None:
    """Write the own pid, then run C code that nothing interrupts."""
    _note_pid(path)
    ctypes.PyDLL(None).sleep(100)


def compute(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def sleep(path: str) -> None:
    _note_pid(path)
    await trio.sleep_forever()


async def refuse_to_end(path: str) -> None:
    _note_pid(path)
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


def _note_pid(path: str) -> None:
    # Whole at once: the test reads it as soon as it is there.
    Path(path + ".tmp").write_text(str(os.getpid()))
    os.rename(path + ".tmp", path)


def die(x: Any = None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_on_7(x: int) -> int:
    if x == 7:
        die()
    return x


def fail_then_die_on_7(folder: str, x: int) -> int:
    """The first try of each fails; the second one of 7 kills the process."""
    seen = Path(folder, str(x))
    if not seen.exists():
        seen.touch()
        raise ConnectionError
    return die_on_7(x)


async def end_by_sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    await trio.sleep_forever()


def wait_for(path: str) -> str:
    """An empty path: nothing.  `+path`: write that file.  Else wait until the file is there."""
    if path.startswith("+"):
        Path(path[1:]).touch()
    elif path:
        while not Path(path).exists():
            time.sleep(0.001)
    return path


def unsendable(x: int) -> Any:
    return object() if x == 3 else x


def ignore(x: Any) -> None:
    pass


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@tractor.context
async def endpoint(ctx: tractor.Context) -> None:
    await ctx.started()


@functools.wraps(add)
def replaced(x: int) -> int:
    return x


class Adder:
    def __init__(self, y: int) -> None:
        self.y = y

    def method(self, x: int) -> int:
        return x + self.y

    @classmethod
    def of_class(cls, x: int) -> str:
        return f"{cls.__name__} {x}"

    @staticmethod
    def static(x: int) -> int:
        return -x


async def use_in_asyncio() -> list[int]:
    """An actor on an asyncio loop, whose asyncio code uses a pool as an executor."""
    async with open_worker_pool(1) as pool:
        found: list[int] = await tractor.to_asyncio.run_task(
            _run_in_executor, executor=pool.as_executor()
        )
        return found


async def _run_in_executor(executor: Any) -> list[int]:
    loop = asyncio.get_running_loop()
    return await asyncio.gather(*(loop.run_in_executor(executor, add, n, n) for n in range(3)))


class Ready:
    """What an initializer makes; it does not travel."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.thread = threading.get_ident()


def make_ready(name: str, path: str = "") -> Ready:
    if path:
        _count(path)
    return Ready(name)


async def amake_ready(name: str) -> Ready:
    return make_ready(name)


def fail_to_be_ready(path: str, times: int) -> None:
    """Be ready so often, then fail."""
    if _count(path) > times:
        raise ConnectionRefusedError("no database")


def ready_name(x: int = 0) -> list[Any]:
    state = tractor.actor_state()
    return [state.name, state.thread == threading.get_ident()]


def grow(megabytes: int) -> int:
    """Have more memory for ever; the own process."""
    _kept.append(b"x" * (megabytes << 20))
    return os.getpid()


_kept: list[bytes] = []


def note_number(n: int, path: str) -> int:
    """Append to a file, whole lines at once."""
    with open(path, "ab", buffering=0) as file:
        file.write(b"%d\n" % n)
    return os.getpid()


def _count(path: str) -> int:
    with open(path, "ab") as file:
        file.write(b".")
    return os.path.getsize(path)


def fail_until(path: str, tries: int) -> int:
    """Fail so often, then give the number of tries that it took; each leaves a byte in the file."""
    with open(path, "ab") as file:
        file.write(b".")
    done = os.path.getsize(path)
    if done < tries:
        raise ConnectionError(f"try {done}")
    return done


def die_until(path: str, tries: int) -> int:
    """As :func:`fail_until`, by death."""
    try:
        return fail_until(path, tries)
    except ConnectionError:
        die()
        raise


def die_for(x: int, wanted: int) -> int:
    if x == wanted:
        die()
    return x


def hang(how: str) -> str:
    """Return, spin, or hold the interpreter in C code; in a thread."""
    if how == "spins":
        while True:
            pass
    if how == "holds the GIL":
        ctypes.PyDLL(None).sleep(100)
    return how


async def ahang(how: str) -> str:
    if how == "waits":
        await trio.sleep_forever()
    return how


def either(x: int) -> Any:
    """A value that can't be sent, an error, or the item."""
    if x == 1:
        return object()
    if x == 2:
        raise LookupError("two")
    return x
