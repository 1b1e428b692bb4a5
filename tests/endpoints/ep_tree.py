"""One tree of two actors for all tests of a module: a test costs a few messages, and no process."""

from __future__ import annotations

import contextlib
import functools
import itertools
import queue
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import ep_peer
import pytest
import trio
import trio.testing

import tractor

LIMIT = 25.0
"""Seconds after which a test that hangs is failed by its own clock."""

Test = Callable[[], Awaitable[None]]


class Tree:
    """A root and one actor, in a thread; tests run in the root, one after the other.

    Attributes:
        an: the nursery that started the actor.
        portal: to the actor.
    """

    an: tractor.ActorNursery
    portal: tractor.Portal

    def __init__(self, reg_addr: Any, *modules: str, **root_kwargs: Any) -> None:
        self._root_kwargs = {"registry_addrs": [reg_addr], **root_kwargs}
        self._modules = ["ep_peer", *modules]
        self._tests: queue.SimpleQueue[Test | None] = queue.SimpleQueue()
        self._ends: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=trio.run, args=[self._main])
        self._keys = itertools.count()

    def key(self) -> str:
        """A name for one endpoint's run."""
        return f"key{next(self._keys)}"

    def run(self, test: Test) -> None:
        """Run a test in the root's trio; its exception is raised here."""
        assert self._thread.is_alive(), "the tree is gone, because of an earlier test"
        self._tests.put(test)
        self._raise_end()

    def _raise_end(self) -> None:
        end = self._ends.get(timeout=2 * LIMIT)
        if end is not None:
            raise end

    @contextlib.contextmanager
    def opened(self) -> Iterator[Tree]:
        """The tree for the length of a block."""
        self._thread.start()
        try:
            self._raise_end()
            yield self
        finally:
            self._tests.put(None)
            self._thread.join(2 * LIMIT)
            assert not self._thread.is_alive()

    async def _main(self) -> None:
        try:
            async with tractor.open_nursery(**self._root_kwargs) as self.an:
                self.portal = await self.an.start_actor("peer", enable_modules=self._modules)
                self._ends.put(None)
                while (test := await self._next_test()) is not None:
                    self._ends.put(await self._end_of(test))
                await self.portal.cancel_actor()
        except BaseException as exc:
            # Whoever runs a test, or starts the tree, is waiting for it.
            self._ends.put(exc)

    async def _next_test(self) -> Test | None:
        # Named as the idle threads that trio keeps, which are not leak of the test that finds them waiting.
        return await trio.to_thread.run_sync(self._tests.get, thread_name="Trio thread of a tree")

    async def _end_of(self, test: Test) -> BaseException | None:
        try:
            with trio.fail_after(LIMIT):
                await test()
                # No other dialog was harmed, and nothing is left of the test's own.
                assert await self.portal.run(ep_peer.ping) == "pong"
                while self.portal.chan.statistics().dialogs:
                    await trio.testing.wait_all_tasks_blocked(0.001)
        except BaseException as exc:
            return exc
        return None


def in_tree(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test that runs in the root of its argument ``tree``."""

    @functools.wraps(test)
    def runs(tree: Tree, **kwargs: Any) -> None:
        tree.run(lambda: test(tree, **kwargs))

    return runs


@pytest.fixture(name="tree", scope="module", params=["tcp", "uds"])
def module_tree(request: pytest.FixtureRequest, private_dir: Path) -> Iterator[Tree]:
    """The fixture `tree` of a module that has this as an attribute: with `ep_payloads` enabled, for each transport."""
    if request.param == "tcp":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = probe.getsockname()
    elif not hasattr(socket, "AF_UNIX"):
        pytest.skip("no Unix sockets on this platform")
    else:
        directory = private_dir / "t"
        directory.mkdir(mode=0o700, exist_ok=True)
        address = str(directory), f"tree-{secrets.token_hex(4)}.sock"
    with Tree(address, "ep_payloads").opened() as tree:
        yield tree
