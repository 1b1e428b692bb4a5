"""Breaking connections on purpose, expecting cancellations."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio

from tractor._errors import ContextCancelled, TransportClosed
from tractor.msg.types import Stop
from tractor.testing import break_ipc, expect_ctxc
from tractor.transport._memory import memory_pair


class Stream:
    """As much of a stream as is needed to break it."""

    def __init__(self, transport: Any) -> None:
        self.chan = SimpleNamespace(transport=transport)

    async def aclose(self) -> None:
        self.chan.transport.put(Stop(1))


@pytest.mark.parametrize("method", ["socket_close", "socket_eof"])
@pytest.mark.parametrize("pre_close", [False, True])
def test_peer_sees_the_end(method: str, pre_close: bool) -> None:
    async def main() -> None:
        here, there = memory_pair()
        await break_ipc(Stream(here), method, pre_close=pre_close)  # type: ignore[arg-type]
        if pre_close:
            assert await there.recv() == Stop(1)
        with pytest.raises(TransportClosed):
            await there.recv()
        here.abort()
        there.abort()

    trio.run(main)


def test_end_of_sending_leaves_receiving_open() -> None:
    async def main() -> None:
        here, there = memory_pair()
        await break_ipc(Stream(here), def_method="socket_eof")  # type: ignore[arg-type]
        await there.send(Stop(3))
        assert await here.recv() == Stop(3)
        here.abort()
        there.abort()

    trio.run(main)


def test_unknown_method_breaks_nothing() -> None:
    async def main() -> None:
        here, there = memory_pair()
        with pytest.raises(RuntimeError, match=r"'hammer'; choose one of socket_close, socket_eof"):
            await break_ipc(Stream(here), "hammer")  # type: ignore[arg-type]
        await there.send(Stop(3))
        assert await here.recv() == Stop(3)
        here.abort()
        there.abort()

    trio.run(main)


def test_expected_cancellation_is_swallowed_and_kept() -> None:
    async def main() -> None:
        ctxc = ContextCancelled("on request")
        async with expect_ctxc(yay=True) as box:
            raise ctxc
        assert box.value is ctxc

    trio.run(main)


@pytest.mark.parametrize(("yay", "reraise"), [(True, True), (False, False), (False, True)])
def test_cancellation_is_raised(yay: bool, reraise: bool) -> None:
    async def main() -> None:
        ctxc = ContextCancelled("on request")
        with pytest.raises(ContextCancelled) as caught:
            async with expect_ctxc(yay, reraise) as box:
                raise ctxc
        assert caught.value is box.value is ctxc

    trio.run(main)


def test_missing_cancellation_is_an_error() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="ended without one"):
            async with expect_ctxc(yay=True):
                pass

    trio.run(main)


def test_nothing_expected_nothing_happens() -> None:
    async def main() -> None:
        async with expect_ctxc(yay=False) as box:
            pass
        assert box.value is None

    trio.run(main)


@pytest.mark.parametrize("yay", [False, True])
def test_other_errors_pass(yay: bool) -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with expect_ctxc(yay):
                raise ZeroDivisionError

    trio.run(main)
