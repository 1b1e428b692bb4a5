"""Programs as users write them, about what is around a runtime; run by test_process.py as ``python FILE NAME ARGS``."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from multiprocessing import shared_memory
from pathlib import Path

import trio

import tractor
from tractor.spawn._contract import selected_start_method
from tractor.testing import get_rando_addr

FORK = multiprocessing.get_context("fork")


# -- what user code forks --


def busy(_: int = 0) -> None:
    while True:
        time.sleep(0.2)


def ends_when_asked(number: int) -> int | None:
    """How a forked process ends that is told to by a signal."""
    process = FORK.Process(target=busy, daemon=True)
    process.start()
    time.sleep(0.1)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(10)
    code = process.exitcode
    process.kill()
    process.join()
    return code


def look() -> None:
    """In a forked process: nothing is left of the runtime."""
    faults = []
    for number, name in ((signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "SIGHUP")):
        if signal.getsignal(number) is not signal.SIG_DFL:
            faults.append(name)
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        faults.append("SIGINT")
    if signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        faults.append("mask")
    if signal.set_wakeup_fd(-1) != -1:
        faults.append("wakeup")
    if tractor.current_actor(err_on_no_runtime=False) is not None:
        faults.append("actor")
    if tractor.is_root_process() or tractor.get_runtime_vars()["_registry_addrs"]:
        faults.append("vars")
    if sys.breakpointhook is not sys.__breakpointhook__:
        faults.append("breakpoint")
    if selected_start_method() != "trio":
        faults.append("start method")
    sockets = [fd for fd in os.listdir("/proc/self/fd") if is_unix_listener_or_peer(fd)]
    if sockets:
        faults.append(f"sockets {sockets}")
    print("faults:", faults, file=sys.stderr) if faults else None
    os._exit(len(faults))


def is_unix_listener_or_peer(fd: str) -> bool:
    try:
        inode = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return False
    if not inode.startswith("socket:"):
        return False
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[6] == inode[8:-1] and len(fields) > 7:
            return fields[7].endswith(".sock")
    return False


def status_of(run: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        run()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def pool_left() -> float:
    """Seconds that it takes to leave a pool that is busy."""
    with FORK.Pool(2) as pool:
        pool.map_async(busy, range(4))
        time.sleep(0.2)
        begun = time.monotonic()
    return time.monotonic() - begun


def all_forks() -> list[object]:
    return [status_of(look), ends_when_asked(signal.SIGTERM), pool_left() < 5]


async def forks_here(thread: bool) -> list[object]:
    return await trio.to_thread.run_sync(all_forks) if thread else all_forks()


async def forks_and_returns(how: str) -> int:
    """User code that comes back to the runtime in the forked process."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        if how == "exit":
            sys.exit(7)
        if how == "raise":
            raise ValueError("in the copy")
        return -1
    status = await trio.to_thread.run_sync(os.waitpid, pid, 0)
    assert os.getpid() == parent
    return os.waitstatus_to_exitcode(status[1])


async def fork_helper() -> int:
    """One that outlives the actor."""
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    return pid


async def forks(method: str, infected: str = "") -> None:
    async with tractor.open_nursery(start_method=method) as an:
        actor = await an.start_actor(
            "worker", enable_modules=[__name__], infect_asyncio=bool(infected)
        )
        helper = await actor.run(fork_helper)
        print("root", all_forks(), await forks_here(True))
        print("actor", await actor.run(forks_here, thread=False))
        print("thread", await actor.run(forks_here, thread=True))
        copies = [
            await actor.run(forks_and_returns, how=how) for how in ("exit", "raise", "return")
        ]
        print("copies", copies)
        own = await fork_helper()
        begun = time.monotonic()
        await actor.cancel_actor()
    print("left", time.monotonic() - begun < 8)
    os.kill(helper, 0)
    # The registrar's address is free, although a helper lives that was forked beside it.
    async with tractor.open_nursery(start_method=method, ensure_registry=True):
        pass
    for pid in (helper, own):
        os.kill(pid, signal.SIGKILL)
    print("again")


async def block(how: str) -> None:
    """A block that is left in a forked process, too."""
    pid = 0
    async with tractor.open_nursery() as an:
        actor = await an.start_actor("worker", enable_modules=[__name__])
        pid = os.fork()
        if pid == 0:
            if how == "exit":
                sys.exit(7)
            if how == "raise":
                raise ValueError("in the copy")
            return
        _, status = await trio.to_thread.run_sync(os.waitpid, pid, 0)
        print("copy", os.waitstatus_to_exitcode(status))
        print("still", await actor.run(add, a=1, b=2))
        await an.cancel()


# -- two runs --


async def add(a: int, b: int) -> int:
    return a + b


async def hold_root(ready: threading.Event, over: threading.Event) -> None:
    async with tractor.open_nursery() as an:
        actor = await an.start_actor("first", enable_modules=[__name__])
        ready.set()
        while not over.is_set():
            assert await actor.run(add, a=1, b=2) == 3
            await trio.sleep(0.01)
        assert tractor.current_actor().is_root
        assert await trio.to_thread.run_sync(lambda: tractor.current_actor().name) == "root"
        await an.cancel()
        print("first ended")


def run_first(ready: threading.Event, over: threading.Event) -> None:
    trio.run(hold_root, ready, over)


async def second() -> None:
    assert tractor.current_actor(err_on_no_runtime=False) is None
    assert await trio.to_thread.run_sync(
        lambda: tractor.current_actor(err_on_no_runtime=False) is None
    )
    assert not tractor.is_root_process()
    assert not tractor.debug_mode()
    assert tractor.get_runtime_vars()["_registry_addrs"] == []
    for ask in (tractor.current_actor, lambda: tractor.find_actor("first").__aenter__()):
        try:
            found = ask()
            if isinstance(found, Awaitable):
                await found
        except tractor.NoRuntime:
            print("no runtime")
    for boot in (tractor.open_root_actor, tractor.open_nursery):
        try:
            async with boot(loglevel="debug"):
                pass
        except tractor.RuntimeFailure as exc:
            print("refused:", exc)


def run_threads() -> None:
    ready, over = threading.Event(), threading.Event()
    first = threading.Thread(target=run_first, args=(ready, over), name="the first one")
    first.start()
    ready.wait()
    trio.run(second)
    over.set()
    first.join()
    # A run that has ended leaves the process to the next one.
    trio.run(root_alone)


async def root_alone() -> None:
    async with tractor.open_root_actor() as actor:
        print("then", actor.name)


# -- the standard library's shared memory --


async def write(segment_name: str, at: int) -> None:
    segment = shared_memory.SharedMemory(name=segment_name)
    assert segment.buf is not None
    segment.buf[at] = at + 1
    segment.close()


async def create() -> str:
    segment = shared_memory.SharedMemory(create=True, size=64)
    assert segment.buf is not None
    segment.buf[0] = 7
    segment.close()
    return segment.name


async def shm(method: str, when: str = "before") -> None:
    before = shared_memory.SharedMemory(create=True, size=64) if when == "before" else None
    async with tractor.open_nursery(start_method=method) as an:
        first = await an.start_actor("first", enable_modules=[__name__])
        if when == "leak":
            leaked = await first.run(create)
            print("leaked", leaked)
        segment = before or shared_memory.SharedMemory(create=True, size=64)
        await first.run(write, segment_name=segment.name, at=0)
        await first.cancel_actor()
        for at in (1, 2):
            portal = await an.run_in_actor(write, segment_name=segment.name, at=at)
            await portal.wait_for_result()
    assert segment.buf is not None
    print(bytes(segment.buf[:4]))
    segment.close()
    segment.unlink()


# -- streams, signals --


async def talk(own_process: bool) -> None:
    print("progress 1 of 9", flush=True)
    if own_process:
        os.write(1, b"more\n")
    subprocess.run(["echo", "by another program"], check=False)


async def streams(method: str, path: str, number: str) -> None:
    data = int(number)
    async with tractor.open_nursery(start_method=method) as an:
        actor = await an.start_actor("worker", enable_modules=[__name__])
        await actor.run(talk, own_process=method != "subint")
        await actor.cancel_actor()
    with open(f"{path}.log", "w") as log:
        os.lseek(data, 0, 0)
        log.write(f"{data} {os.read(data, 100)!r}")


async def work(until: str) -> str:
    while not os.path.exists(until):
        await trio.sleep(0.02)
    return "worked"


async def work_below(until: str) -> str:
    async with tractor.open_nursery() as an:
        leaf = await an.start_actor("leaf", enable_modules=[__name__])
        print("ready", flush=True)
        result = await leaf.run(work, until=until)
        await an.cancel()
        return result


async def drain(method: str, over: str) -> None:
    """A root with a receiver of its own: what it got, the others leave to it; the work ends after that."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with tractor.open_nursery(start_method=method) as an:
            actor = await an.start_actor("worker", enable_modules=[__name__])
            async with trio.open_nursery() as tn:

                async def call() -> None:
                    print("result", await actor.run(work_below, until=over), flush=True)

                tn.start_soon(call)
                async for number in signals:
                    print("root got", signal.Signals(number).name, flush=True)
                    break
                # So long others could end of the signal.
                await trio.sleep(0.2)
                Path(over).touch()
            await an.cancel()


async def forever(method: str) -> None:
    async with tractor.open_nursery(start_method=method) as an:
        actor = await an.start_actor("worker", enable_modules=[__name__])
        assert actor.chan.aid is not None
        print("ready", actor.chan.aid.pid, flush=True)
        await actor.run(trio_forever)


async def trio_forever() -> None:
    await trio.sleep_forever()


async def alone(method: str, number: str) -> None:
    """A signal to one subactor only."""
    async with tractor.open_nursery(start_method=method) as an:
        actor = await an.start_actor("worker", enable_modules=[__name__])
        assert actor.chan.aid is not None
        assert actor.chan.aid.pid is not None
        os.kill(actor.chan.aid.pid, int(number))
        try:
            await actor.run(trio_forever)
        except tractor.ContextCancelled as exc:
            print("cancelled by itself", exc.canceller == actor.chan.aid.uid)


@tractor.context
async def middle_of_a_tree(ctx: tractor.Context) -> None:
    """Killed on demand, with a subactor below it, of which those above know by then."""
    async with tractor.open_nursery() as an:
        await an.start_actor("leaf")
        await ctx.started()
        async with ctx.open_stream() as stream:
            await stream.receive()
            os.kill(os.getpid(), signal.SIGKILL)


async def orphans(method: str) -> None:
    try:
        async with tractor.open_nursery(start_method=method) as an:
            middle = await an.start_actor("middle", enable_modules=[__name__])
            async with (
                middle.open_context(middle_of_a_tree) as (ctx, _),
                ctx.open_stream() as stream,
            ):
                await stream.send("go")
                await ctx.wait_for_result()
    except Exception:
        print("it was killed")
    zombies = [
        pid
        for pid in filter(str.isdigit, os.listdir("/proc"))
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    ]
    print("zombies", zombies)


async def term(method: str) -> None:
    async with tractor.open_nursery(start_method=method) as an:
        await an.start_actor("worker")
        print("buffered")
        os.kill(os.getpid(), signal.SIGTERM)
        await trio.sleep_forever()
    print("never")


async def poor(method: str) -> None:
    for proto in ("uds", "tcp"):
        async with tractor.open_nursery(
            start_method=method,
            enable_transports=[proto],
            registry_addrs=[get_rando_addr(proto)],
            authkey=b"0" * 32,
        ) as an:
            portal = await an.start_actor("worker", enable_modules=[__name__])
            print(await portal.run(add, a=1, b=2), "from", proto)
            await portal.cancel_actor()


# -- logs and errors --

if "OWN_HANDLER" in os.environ:
    logging.basicConfig(format="MINE %(levelname)s %(message)s", level="DEBUG", force=True)


async def say() -> None:
    tractor.log.get_logger().info("from the actor")


async def logs(method: str, level: str) -> None:
    async with tractor.open_nursery(start_method=method, loglevel=level) as an:
        actor = await an.start_actor("worker", enable_modules=[__name__])
        tractor.log.get_logger().info("from the root")
        await actor.run(say)
        await actor.cancel_actor()


async def interrupted() -> None:
    raise KeyboardInterrupt


async def raises(method: str) -> None:
    try:
        async with tractor.open_nursery(start_method=method) as an:
            actor = await an.start_actor("worker", enable_modules=[__name__])
            try:
                await actor.run(interrupted)
            except tractor.RemoteActorError as exc:
                print(exc.boxed_type)
    except tractor.ActorFailure:
        print("its actor ended with it")


async def service(name: str, directory: str, file: str = "") -> None:
    """One that waits to be killed; without a file name at an address of its own choice."""
    registry = [(directory, "registrar.sock")]
    bind = [(directory, file)] if file else None
    async with tractor.open_root_actor(name=name, registry_addrs=registry, tpt_bind_addrs=bind):
        print("ready", flush=True)
        await trio.sleep_forever()


def main(name: str, *args: str) -> None:
    if name == "threads":
        run_threads()
    elif name == "streams":
        # Gets the number of the closed stream.
        data = os.open(args[1], os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.write(data, b"RECORD\n")
        trio.run(streams, args[0], args[1], str(data))
    else:
        trio.run(globals()[name], *args)


if __name__ == "__main__":
    main(*sys.argv[1:])
