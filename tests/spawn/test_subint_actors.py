"""Actors in sub-interpreters: all that the other backends' actors do, and what is different."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import ep_subint as ep
import pytest
import trio

import tractor
from tractor.spawn.subint import _exit

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="sub-interpreters need Python 3.14"
)


@pytest.fixture(autouse=True)
def leaves_no_interpreter() -> Iterator[None]:
    before = interpreters()
    yield
    assert interpreters() == before
    assert not _exit._held


@pytest.fixture
def stop_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EP_SUBINT_STOP", str(tmp_path / "stop"))
    return tmp_path / "stop"


def interpreters() -> set[int]:
    import _interpreters

    return {number for number, _ in _interpreters.list_all()}


Main = Callable[[tractor.ActorNursery], Awaitable[None]]


def run(main: Main, addr: Any, **kwargs: Any) -> None:
    async def root() -> None:
        with trio.fail_after(50):
            async with tractor.open_nursery(
                start_method="subint", registry_addrs=[addr], loglevel="warning", **kwargs
            ) as an:
                await main(an)

    trio.run(root)


async def wait_for(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():
            await trio.sleep(0.01)


async def start(an: tractor.ActorNursery, name: str = "sub", **kwargs: Any) -> tractor.Portal:
    return await an.start_actor(name, enable_modules=["ep_subint"], **kwargs)


def test_an_actor_of_its_own_in_this_process(reg_addr: Any) -> None:
    async def main(an: tractor.ActorNursery) -> None:
        portal = await start(an, loglevel="cancel")
        there = await portal.run(ep.where)
        assert there["pid"] == os.getpid()
        assert there["interpreter"] != 0
        assert there["thread"] != threading.get_native_id()
        assert not there["in_main_thread"]
        assert there["loglevel"] == "cancel"
        assert not there["vars"]["_is_root"]
        (child,) = an.children.values()
        assert child.pid == child.aid.pid == os.getpid()
        assert tractor.current_actor().is_registrar
        async with tractor.find_actor("sub") as found:
            assert found is not None
        await portal.cancel_actor()

    run(main, reg_addr)


def test_socket_files_of_one_name_and_one_pid() -> None:
    async def main(an: tractor.ActorNursery) -> None:
        portals: list[tractor.Portal] = []
        async with trio.open_nursery() as tn:
            for _ in range(4):

                async def one() -> None:
                    portals.append(await start(an, "same"))

                tn.start_soon(one)
        files = [(await portal.run(ep.where))["addrs"][0][1] for portal in portals]
        assert len(set(files)) == 4
        assert f"same@{os.getpid()}.sock" in files
        digits = {f"same-{p.chan.aid.uuid[:6]}@{os.getpid()}.sock" for p in portals if p.chan.aid}
        assert set(files) - digits == {f"same@{os.getpid()}.sock"}
        await an.cancel()

    async def root() -> None:
        with trio.fail_after(50):
            async with tractor.open_nursery(start_method="subint", enable_transports=["uds"]) as an:
                await main(an)

    trio.run(root)


def test_errors_calls_generators_contexts(reg_addr: Any) -> None:
    async def main(an: tractor.ActorNursery) -> None:
        portal = await start(an)
        with pytest.raises(tractor.RemoteActorError) as info:
            await portal.run(ep.crash)
        assert info.value.boxed_type is ValueError
        async with portal.open_stream_from(ep.count, upto=200) as stream:
            assert [number async for number in stream] == list(range(200))
        async with portal.open_context(ep.echo) as (ctx, first):
            assert first == "ready"
            async with ctx.open_stream() as both:
                for number in range(200):
                    await both.send(number)
                    assert await both.receive() == number
        assert await ctx.wait_for_result() == "done"
        async with portal.open_context(ep.wait_for_cancel) as (waiting, _):
            await waiting.cancel()
        assert waiting.cancel_acked
        assert await portal.run(ep.in_a_thread) != threading.get_native_id()
        await portal.cancel_actor()

    run(main, reg_addr)


def test_a_one_shot_and_its_error(reg_addr: Any) -> None:
    async def main(an: tractor.ActorNursery) -> None:
        portal = await an.run_in_actor(ep.where)
        assert (await portal.wait_for_result())["pid"] == os.getpid()
        await an.run_in_actor(ep.crash)

    with pytest.raises(tractor.RemoteActorError, match="from another interpreter"):
        run(main, reg_addr)


def test_cancelled_while_it_boots(reg_addr: Any) -> None:
    async def main(an: tractor.ActorNursery) -> None:
        async with trio.open_nursery() as tn:
            for number in range(3):
                tn.start_soon(start, an, f"a{number}")
            await trio.sleep(0.05)
            tn.cancel_scope.cancel()

    run(main, reg_addr)


def test_a_module_that_cannot_be_imported(reg_addr: Any, tmp_path: Path) -> None:
    (tmp_path / "bad_in_subint.py").write_text("raise ImportError('not here')")
    sys.path.insert(0, str(tmp_path))

    async def main(an: tractor.ActorNursery) -> None:
        with pytest.raises(tractor.RemoteActorError, match="not here"):
            await an.start_actor("bad", enable_modules=["bad_in_subint"])

    try:
        run(main, reg_addr)
    finally:
        sys.path.remove(str(tmp_path))


@pytest.mark.parametrize(
    ("bootstrap", "text"),
    [("import no_such_module_", "no_such_module_"), ("x =", "SyntaxError")],
)
def test_a_bootstrap_that_fails_is_told_at_once(
    reg_addr: Any, bootstrap: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tractor.spawn.subint._backend import BACKEND

    monkeypatch.setattr(BACKEND, "_bootstrap", bootstrap)

    async def main(an: tractor.ActorNursery) -> None:
        with pytest.raises(tractor.ActorFailure) as info:
            await start(an)
        assert info.value.returncode == 1
        assert text in info.value.stderr_tail
        assert "Traceback" in info.value.stderr_tail or "SyntaxError" in info.value.stderr_tail

    run(main, reg_addr)


def test_no_debugger(reg_addr: Any) -> None:
    async def main(an: tractor.ActorNursery) -> None:
        with pytest.raises(RuntimeError, match="not supported on 'subint'; supported: "):
            await start(an, debug_mode=True)
        with pytest.raises(TypeError, match="no `proc_kwargs`"):
            await start(an, proc_kwargs={"cwd": "/"})

    run(main, reg_addr)
    with pytest.raises(RuntimeError, match="not supported on 'subint'; supported: "):
        run(main, reg_addr, debug_mode=True)


def test_exit_handlers_of_the_interpreter_run(reg_addr: Any, tmp_path: Path) -> None:
    async def main(an: tractor.ActorNursery) -> None:
        portal = await start(an)
        await portal.run(ep.leave_an_atexit, path=str(tmp_path / "out"))
        await portal.cancel_actor()

    run(main, reg_addr)
    assert (tmp_path / "out").read_text() == "ran"


@pytest.mark.parametrize("method", ["subint", "trio"])
def test_nested(reg_addr: Any, method: str) -> None:
    async def main(an: tractor.ActorNursery) -> None:
        portal = await start(an)
        found = await portal.run(ep.nest, depth=2, method=method)
        same_process = [one["pid"] == os.getpid() for one in found]
        assert same_process == ([True] * 3 if method == "subint" else [True, False, False])
        if method == "subint":
            assert len({one["interpreter"] for one in found}) == 3
        await portal.cancel_actor()

    run(main, reg_addr)


def test_nested_and_cancelled_from_above(reg_addr: Any) -> None:
    async def main(an: tractor.ActorNursery) -> None:
        portal = await start(an)
        async with trio.open_nursery() as tn:

            async def branch_out() -> None:
                with pytest.raises(tractor.ContextCancelled):
                    await portal.run(ep.fork_out)

            tn.start_soon(branch_out)
            async with tractor.wait_for_actor("leaf"):
                pass
            await an.cancel()

    run(main, reg_addr)


def test_forking_below_is_a_clear_error(reg_addr: Any) -> None:
    async def main(an: tractor.ActorNursery) -> None:
        portal = await start(an)
        with pytest.raises(tractor.RemoteActorError, match="this is a sub-interpreter") as info:
            await portal.run(ep.select, method="main_thread_forkserver")
        assert info.value.boxed_type is RuntimeError
        await portal.cancel_actor()

    run(main, reg_addr)


@pytest.mark.parametrize("endpoint", [ep.sleep_in_c, ep.spin])
@pytest.mark.parametrize("hard", [False, True])
def test_a_stuck_one(
    reg_addr: Any, endpoint: Any, hard: bool, stop_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is given up, its sibling ends as always, and its parent goes on."""
    before = interpreters()
    number: set[int] = set()

    async def main(an: tractor.ActorNursery) -> None:
        stuck = await start(an, "stuck")
        number.add((await stuck.run(ep.where))["interpreter"])
        await start(an, "sibling")
        async with trio.open_nursery() as tn:

            async def have_it_stuck() -> None:
                with pytest.raises(tractor.TransportClosed):
                    async with stuck.open_context(endpoint) as (_, _):
                        await trio.sleep_forever()

            tn.start_soon(have_it_stuck)
            await wait_for(stop_file.with_name("stop.on").exists)
            await an.cancel(hard_kill=hard)
        assert not an.children
        assert interpreters() - before == number

    try:
        run(main, reg_addr)
    finally:
        stop_file.touch()
    trio.run(wait_for, lambda: interpreters() == before and not _exit._held)
    (said,) = (r.getMessage() for r in caplog.records if "abandoned" in r.getMessage())
    assert "'stuck' does not end" in said
    assert "which still runs" in said


def test_threads_left_in_an_interpreter(
    reg_addr: Any, stop_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = interpreters()

    async def main(an: tractor.ActorNursery) -> None:
        portal = await start(an)
        await portal.run(ep.leave_a_thread)
        await portal.cancel_actor()

    run(main, reg_addr)
    (said,) = (r.getMessage() for r in caplog.records if "abandoned" in r.getMessage())
    assert "threads still run" in said
    assert "left behind" in said
    assert len(interpreters() - before) == 1
    stop_file.touch()
    # Once the thread has ended the interpreter goes, too.
    trio.run(wait_for, lambda: interpreters() == before and not _exit._held)


def test_a_nested_stuck_one_keeps_all_above_it(
    reg_addr: Any, stop_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = interpreters()

    async def main(an: tractor.ActorNursery) -> None:
        middle = await start(an, "middle")
        async with trio.open_nursery() as tn:

            async def hold() -> None:
                with pytest.raises((tractor.ContextCancelled, tractor.TransportClosed)):
                    await middle.run(ep.keep_a_stuck_one)

            tn.start_soon(hold)
            await wait_for(stop_file.with_name("stop.on").exists)
            await an.cancel()

    run(main, reg_addr)
    assert len(interpreters() - before) == 2
    assert "threads still run" in caplog.text
    stop_file.touch()
    trio.run(wait_for, lambda: interpreters() == before and not _exit._held)


def test_eight_at_once(reg_addr: Any) -> None:
    async def main(an: tractor.ActorNursery) -> None:
        numbers: list[int] = []

        async def one(name: str) -> None:
            portal = await start(an, name)
            numbers.append((await portal.run(ep.where))["interpreter"])

        async with trio.open_nursery() as tn:
            for number in range(8):
                tn.start_soon(one, f"a{number}")
        assert len(set(numbers)) == 8
        await an.cancel()

    run(main, reg_addr)


@pytest.mark.timeout(180)
def test_a_hundred_in_a_row_leave_nothing(take_stock: Callable[[], Any]) -> None:
    async def main(an: tractor.ActorNursery) -> None:
        async def one() -> None:
            portal = await start(an)
            await portal.run(ep.in_a_thread)
            await portal.cancel_actor()
            await wait_for(lambda: not an.children)

        for _ in range(3):
            await one()
        before, interpreters_before = take_stock(), interpreters()
        for _ in range(100):
            await one()
        assert interpreters() == interpreters_before
        assert not take_stock().more_than(before)

    async def with_a_registry() -> None:
        with trio.fail_after(170):
            async with tractor.open_nursery(start_method="subint") as an:
                await main(an)

    trio.run(with_a_registry)


# -- the process's end --

PROGRAM = """
import atexit, os, signal, sys, threading, time
import trio, tractor
atexit.register(print, "exit handler")

async def sleep():
    while True: time.sleep(0.005)

async def spin():
    while True: pass

async def nothing():
    await trio.sleep(0)

async def main(what):
    async with tractor.open_nursery(start_method="subint", loglevel="warning") as an:
        portal = await an.start_actor("stuck", enable_modules=[__name__])
        async with trio.open_nursery() as tn:
            tn.start_soon(portal.run, {"sleep": sleep, "spin": spin, "none": nothing}[what])
            await trio.sleep(0.2)
            tn.cancel_scope.cancel()
        await an.cancel(hard_kill=True)

if __name__ == "__main__":
    what, end = sys.argv[1:]
    trio.run(main, what)
    threading.Thread(target=lambda: (time.sleep(0.1), print("a thread of ours"))).start()
    sys.stdout.write("buffered\\n")
    if end == "exit": sys.exit(7)
    if end == "text": sys.exit("last words")
    if end == "raise": raise ValueError("boo")
    if end == "ctrl-c": raise KeyboardInterrupt
    if end == "caught":
        try: sys.exit(9)
        except SystemExit: pass
    if end == "os._exit": sys.stdout.flush(); os._exit(5)
"""


@pytest.mark.parametrize("what", ["sleep", "spin"])
@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        ("normal", 0, ""),
        ("exit", 7, ""),
        ("text", 1, "last words"),
        ("raise", 1, "ValueError: boo"),
        ("ctrl-c", -signal.SIGINT, "KeyboardInterrupt"),
        ("caught", 0, ""),
    ],
)
def test_the_end_of_a_program_that_abandoned_one(
    tmp_path: Path, what: str, end: str, status: int, said: str
) -> None:
    done = run_program(tmp_path, what, end)
    assert done.returncode == status, done.stderr
    assert done.stdout.split("\n") == ["buffered", "a thread of ours", "exit handler", ""]
    assert said in done.stderr
    assert "does not end; abandoned: sub-interpreter" in done.stderr
    assert "Fatal" not in done.stderr
    assert "remaining subinterpreters" not in done.stderr


@pytest.mark.parametrize(("end", "status"), [("normal", 0), ("exit", 7), ("os._exit", 5)])
def test_the_end_of_a_program_that_abandoned_none(tmp_path: Path, end: str, status: int) -> None:
    done = run_program(tmp_path, "none", end)
    assert done.returncode == status
    assert "buffered\n" in done.stdout
    assert not done.stderr


def run_program(tmp_path: Path, *args: str) -> subprocess.CompletedProcess[str]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    return subprocess.run(
        [sys.executable, str(program), *args], capture_output=True, text=True, timeout=50
    )
