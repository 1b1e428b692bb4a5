"""The asyncio loop as host of trio: an infected root, its errors, its signals, its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import ep_asyncio
import pytest
import trio

import tractor
from tractor.address._types import UnwrappedAddress
from tractor.to_asyncio import (
    AsyncioRuntimeTranslationError,
    LinkedTaskChannel,
    _ctrl_c,
    _leftovers,
    open_channel_from,
    run_as_asyncio_guest,
    run_task,
)

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals")


async def wait_for(what: Callable[[], object]) -> None:
    with trio.fail_after(10):
        while not what():
            await trio.sleep(0.005)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


# -- values and errors --


def test_the_value_and_the_error_of_main() -> None:
    async def give() -> int:
        return 3

    async def fail() -> None:
        raise KeyError("main's")

    assert run_as_asyncio_guest(give) == 3
    with pytest.raises(KeyError, match="main's"):
        run_as_asyncio_guest(fail)


def test_importing_tractor_does_not_import_asyncio() -> None:
    code = (
        "import sys, tractor; from tractor import _child; assert 'asyncio' not in sys.modules; "
        "assert 'to_asyncio' in dir(tractor); tractor.to_asyncio; assert 'asyncio' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_root_says_that_it_is_infected(reg_addr: UnwrappedAddress) -> None:
    async def main() -> tuple[bool, bool]:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]):
            return await ep_asyncio.is_infected()

    assert run_as_asyncio_guest(main) == (True, True)
    assert trio.run(main) == (False, False)


def test_it_is_refused_inside_of_asyncio_and_of_trio() -> None:
    async def never() -> None:
        raise AssertionError

    async def in_asyncio() -> None:
        with pytest.raises(RuntimeError, match="asyncio runs in this thread already"):
            run_as_asyncio_guest(never)

    async def in_trio() -> None:
        with pytest.raises(RuntimeError, match="trio runs in this thread already"):
            run_as_asyncio_guest(never)

    asyncio.run(in_asyncio())
    trio.run(in_trio)


def test_in_a_thread_that_is_not_the_main_one() -> None:
    got: list[Any] = []

    async def main() -> Any:
        return await run_task(ep_asyncio.double, value=2)

    thread = threading.Thread(target=lambda: got.append(run_as_asyncio_guest(main)))
    thread.start()
    thread.join()
    assert got == [4]


# -- loops --


@pytest.fixture(scope="module")
def uvloop() -> Any:
    """The package, having made the descriptors that libuv keeps for the rest of the process."""
    module = pytest.importorskip("uvloop")
    module.new_event_loop().close()
    return module


def test_uvloop_as_the_host(uvloop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> tuple[bool, Any]:
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
        log: list[str] = []

        async def wait(chan: LinkedTaskChannel) -> None:
            chan.started_nowait()
            try:
                await asyncio.sleep(60)
            except BaseException as exc:
                log.append(type(exc).__name__)
                raise

        async with open_channel_from(wait):
            await trio.sleep(0.01)
        return True, log

    monkeypatch.setenv("TRACTOR_ASYNCIO_LOOP", "uvloop")
    assert run_as_asyncio_guest(main) == (True, ["TrioTaskExited"])
    monkeypatch.delenv("TRACTOR_ASYNCIO_LOOP")
    assert run_as_asyncio_guest(main, loop_factory=uvloop.new_event_loop)[0]


def test_loops_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never() -> None:
        raise AssertionError

    monkeypatch.setenv("TRACTOR_ASYNCIO_LOOP", "curio")
    with pytest.raises(ValueError, match="'curio' is none of 'asyncio' and 'uvloop'"):
        run_as_asyncio_guest(never)
    monkeypatch.setenv("TRACTOR_ASYNCIO_LOOP", "uvloop")
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with pytest.raises(ImportError, match=r"pip install 'trio-tractor\[uvloop\]'"):
        run_as_asyncio_guest(never)


def test_eager_tasks_are_no_hindrance() -> None:
    if sys.version_info < (3, 12):
        pytest.skip("no eager tasks before 3.12")

    async def main() -> Any:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        return await run_task(ep_asyncio.double, value=2)

    assert run_as_asyncio_guest(main) == 4


# -- cancellation of the host, SIGINT --


def in_a_root(
    reg_addr: UnwrappedAddress, body: Callable[[], Awaitable[Any]], log: list[str]
) -> Callable[[], Awaitable[Any]]:
    """A main function: a root with something on its lifetime stack, and `body()` in its block."""

    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]) as actor:
            actor.lifetime_stack.callback(log.append, "lifetime stack closed")
            await body()

    return main


async def linked_sleep(log: list[str]) -> None:
    async def wait(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()
        try:
            await asyncio.sleep(60)
        except BaseException as exc:
            log.append(type(exc).__name__)
            raise

    async with open_channel_from(wait):
        log.append("waits")
        await trio.sleep_forever()


@POSIX
@pytest.mark.parametrize("tpt_proto", ["tcp"], indirect=True)
def test_the_first_sigint_cancels_the_actor(reg_addr: UnwrappedAddress) -> None:
    log: list[str] = []

    async def body() -> None:
        asyncio.get_running_loop().call_later(0.03, interrupt)
        await linked_sleep(log)

    with pytest.raises(KeyboardInterrupt):
        run_as_asyncio_guest(in_a_root(reg_addr, body, log))
    assert log == ["waits", "TrioCancelled", "lifetime stack closed"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@POSIX
def test_a_sigint_without_a_runtime_cancels_main() -> None:
    log: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().call_later(0.03, interrupt)
        await linked_sleep(log)

    with pytest.raises(KeyboardInterrupt):
        run_as_asyncio_guest(main)
    assert log == ["waits", "TrioCancelled"]


@POSIX
@pytest.mark.parametrize("tpt_proto", ["tcp"], indirect=True)
def test_a_second_sigint_is_raised_in_shielded_work(reg_addr: UnwrappedAddress) -> None:
    log: list[str] = []

    async def body() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.02, interrupt)
        loop.call_later(0.06, interrupt)
        try:
            with trio.CancelScope(shield=True):
                await trio.sleep_forever()
        except BaseException as exc:
            log.append(type(exc).__name__)
            raise

    with pytest.raises(KeyboardInterrupt):
        run_as_asyncio_guest(in_a_root(reg_addr, body, log))
    assert log == ["KeyboardInterrupt", "lifetime stack closed"]


@POSIX
def test_a_second_sigint_ends_shielded_work_in_other_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ctrl_c, "BUSY_TIMEOUT", 0.05)
    log: list[str] = []

    async def hang() -> None:
        try:
            with trio.CancelScope(shield=True):
                await trio.sleep_forever()
        except BaseException as exc:
            log.append(type(exc).__name__)
            raise

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.02, interrupt)
        loop.call_later(0.06, interrupt)
        async with trio.open_nursery() as tn:
            tn.start_soon(hang)

    with pytest.raises(BaseException) as caught:  # noqa: PT011
        run_as_asyncio_guest(main)
    exc = caught.value
    assert isinstance(exc, KeyboardInterrupt) or (
        isinstance(exc, BaseExceptionGroup) and exc.subgroup(KeyboardInterrupt)
    )
    assert log == ["Cancelled"]


@POSIX
def test_a_sigint_into_a_blocked_loop_is_raised_there_the_second_time() -> None:
    async def block(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()
        timers = [threading.Timer(0.05 * n, interrupt) for n in (1, 2)]
        for timer in timers:
            timer.start()
        try:
            threading.Event().wait(30)
        finally:
            for timer in timers:
                timer.join()

    async def main() -> None:
        async with open_channel_from(block):
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        run_as_asyncio_guest(main)


@POSIX
def test_a_handler_of_the_program_is_left_alone() -> None:
    got: list[int] = []

    async def main() -> None:
        interrupt()
        await wait_for(lambda: got)

    before = signal.signal(signal.SIGINT, lambda number, frame: got.append(number))
    try:
        run_as_asyncio_guest(main)
    finally:
        signal.signal(signal.SIGINT, before)
    assert got == [signal.SIGINT]


@pytest.mark.parametrize("tpt_proto", ["tcp"], indirect=True)
def test_cancelling_the_hosts_main_task_cancels_the_actor(reg_addr: UnwrappedAddress) -> None:
    log: list[str] = []

    async def body() -> None:
        async def cancel_host() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            hosts = [task for task in others if task.get_name() == "host of trio"]
            for task in hosts:
                task.cancel()

        await run_task(cancel_host)
        await linked_sleep(log)

    run_as_asyncio_guest(in_a_root(reg_addr, body, log))
    assert log == ["waits", "TrioCancelled", "lifetime stack closed"]


# -- the loop ends first --


@pytest.mark.parametrize("tpt_proto", ["tcp"], indirect=True)
def test_a_loop_that_is_stopped_before_trio_has_finished(reg_addr: UnwrappedAddress) -> None:
    log: list[str] = []

    async def body() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.02, loop.stop)
        # Again, while trio is finishing.
        loop.call_later(0.03, loop.stop)
        await linked_sleep(log)

    with pytest.raises(AsyncioRuntimeTranslationError, match="the asyncio side stopped first"):
        run_as_asyncio_guest(in_a_root(reg_addr, body, log))
    assert log == ["waits", "TrioCancelled", "lifetime stack closed"]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_an_error_of_an_unlinked_task_that_stops_the_loop(error: type[BaseException]) -> None:
    log: list[str] = []

    async def die() -> None:
        raise error("unlinked")

    async def main() -> None:
        asyncio.get_running_loop().call_later(0.02, lambda: asyncio.ensure_future(die()))
        await linked_sleep(log)

    with pytest.raises(error, match="unlinked"):
        run_as_asyncio_guest(main)
    assert log == ["waits", "TrioCancelled"]


def test_tasks_that_nobody_has_linked_are_cancelled_at_the_end() -> None:
    log: list[str] = []

    async def sleep() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    async def main() -> None:
        task = asyncio.ensure_future(sleep())
        log.append(f"{task.done()}")
        await trio.sleep(0.01)

    run_as_asyncio_guest(main)
    assert log == ["False", "cancelled"]


def test_their_errors_that_nobody_has_looked_at_are_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept: list[Any] = []

    async def fail(what: str) -> None:
        raise ValueError(what)

    async def main() -> None:
        kept.append(asyncio.create_task(fail("kept")))
        kept.append(asyncio.create_task(fail("looked at")))
        asyncio.create_task(fail("dropped"))  # noqa: RUF006
        future = asyncio.get_running_loop().create_future()
        future.set_exception(ValueError("a future's"))
        kept.append(future)
        kept.append(asyncio.Future.__new__(asyncio.Future))
        await wait_for(lambda: all(task.done() for task in kept[:3]))
        kept[1].exception()
        with pytest.raises(ValueError, match="linked"):
            await run_task(fail, what="linked")

    run_as_asyncio_guest(main)
    told = {str(record.exc_info[1]): record.message for record in caplog.records if record.exc_info}
    assert set(told) == {"kept", "dropped", "a future's"}
    assert told["kept"].startswith("Task exception was never retrieved")
    assert told["a future's"].startswith("Future exception was never retrieved")
    caplog.clear()
    kept.clear()
    assert not caplog.records, "once"


def test_one_of_them_that_does_not_end_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_leftovers, "CANCEL_DEADLINE", 0.05)

    async def stubborn() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.ensure_future(stubborn())
        await trio.sleep(0.01)
        assert not task.done()

    run_as_asyncio_guest(main)
    assert "still runs after 0.05 s; it is given up" in caplog.text


@POSIX
def test_trio_that_swallows_every_cancel_is_abandoned_after_a_second_sigint() -> None:
    program = """
import asyncio, os, signal, trio
from tractor import to_asyncio
from tractor.to_asyncio import _ctrl_c

_ctrl_c.BUSY_TIMEOUT = _ctrl_c.ABANDON_TIMEOUT = 0.05

async def stubborn():
    for _ in range(50):
        with trio.CancelScope(shield=True):
            try:
                await trio.sleep(3600)
            except trio.Cancelled:
                pass

async def main():
    loop = asyncio.get_running_loop()
    loop.call_later(0.05, os.kill, os.getpid(), signal.SIGINT)
    loop.call_later(0.10, os.kill, os.getpid(), signal.SIGINT)
    async with trio.open_nursery() as tn:
        tn.start_soon(stubborn)

try:
    to_asyncio.run_as_asyncio_guest(main)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=45, check=False
    )
    assert done.stdout == "interrupted\n", done.stderr
    assert "is abandoned" in done.stderr
