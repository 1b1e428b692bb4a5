"""A machine that is full: an error of ours that tells what could not be started, and nothing hangs or is left."""

from __future__ import annotations

import _thread
import errno
import functools
import os
import resource
import sys
import threading
from typing import Any

import pytest
import trio
from ep_peer import run

import tractor
from tractor import RuntimeFailure
from tractor.spawn._contract import usable_start_methods
from tractor.spawn._shortage import named_shortage
from tractor.spawn.mp import _forkserver

METHODS = [key for key in usable_start_methods() if key != "mp_spawn"]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts of Linux")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (EOFError("unexpected EOF"), "unexpected EOF"),
        (EOFError(), "EOF"),
        (RuntimeError("can't start new thread"), "can't start new thread"),
        (FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"), "temporary"),
    ],
)
def test_errors_that_tell_nothing_are_named(error: Exception, text: str) -> None:
    with (
        pytest.raises(RuntimeFailure, match=f"'me'.*'key'.*{text}.*ulimit") as caught,
        named_shortage("key", "me"),
    ):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x"), KeyboardInterrupt()])
def test_others_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, named_shortage("key", "me"):
        raise error
    assert caught.value is error
    with pytest.raises(OSError, match="many") as told, named_shortage("key", "me"):
        raise OSError(24, "Too many open files")
    assert "'me'" in told.value.__notes__[0]


class NoThreads:
    """Of the threads that are started, the one with that number, and all behind it, can't be."""

    def __init__(self, patch: pytest.MonkeyPatch, first: int) -> None:
        self.first = first
        self.started = 0
        for module, name in (
            (_thread, "start_new_thread"),
            (_thread, "start_joinable_thread"),
            (threading, "_start_new_thread"),
            (threading, "_start_joinable_thread"),
        ):
            if hasattr(module, name):
                patch.setattr(module, name, self.instead_of(getattr(module, name)))

    def instead_of(self, start: Any) -> Any:
        def fake(*args: Any, **kwargs: Any) -> Any:
            self.started += 1
            if self.started >= self.first:
                raise RuntimeError("can't start new thread")
            return start(*args, **kwargs)

        return fake


async def start_one(method: str) -> None:
    async with tractor.open_nursery(start_method=method) as an:
        portal = await an.start_actor("one")
        await portal.cancel_actor()


def leaves(exc: BaseException) -> list[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        return [leaf for one in exc.exceptions for leaf in leaves(one)]
    return [exc]


@pytest.mark.parametrize("method", METHODS)
def test_without_threads(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for first in range(1, 20):
        with monkeypatch.context() as patch:
            threads = NoThreads(patch, first)
            try:
                run(lambda: start_one(method))
            except BaseException as exc:
                for leaf in leaves(exc):
                    # A fork has our patch, too: its child dies of it, and says so.
                    assert isinstance(leaf, RuntimeFailure | tractor.ActorFailure), leaf
                    assert "can't start new thread" in str(leaf)
            if threads.started < first:
                break
    else:
        pytest.fail("it never had threads enough")


@pytest.mark.parametrize("method", METHODS)
def test_with_few_descriptors(method: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main(spare: int) -> None:
        async with tractor.open_root_actor(start_method=method):
            most = fds_in_use()
            resource.setrlimit(resource.RLIMIT_NOFILE, (most + spare, hard))
            try:
                await start_one(method)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    for spare in range(30):
        try:
            run(functools.partial(main, spare))
        except BaseException as exc:
            for leaf in leaves(exc):
                assert isinstance(leaf, OSError | RuntimeFailure | tractor.ActorFailure), leaf
                assert not isinstance(leaf, EOFError)
        else:
            break
    else:
        pytest.fail("it never had descriptors enough")


def fds_in_use() -> int:
    """The number that the next descriptor would be below, if all lower ones were taken."""
    return max(map(int, os.listdir("/proc/self/fd")))


def test_the_error_of_a_nurserys_own_task_is_raised_and_not_the_cancelled_that_it_causes() -> None:
    async def fails() -> None:
        raise ZeroDivisionError("own")

    async def main() -> None:
        async with tractor.open_nursery() as an:
            an._children.tn.start_soon(fails)
            await trio.sleep_forever()

    with pytest.raises(ZeroDivisionError, match="own"):
        run(main)


def test_a_fork_server_without_its_module_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """To load it takes descriptors; where there are none left, what was opened before is closed."""

    def none_left(_: int) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(_forkserver, "_unshared_server", none_left)
    before = fds_in_use()
    with pytest.raises(OSError, match="Too many open files"):
        _forkserver.ForkServerClient()
    assert fds_in_use() == before
