"""A listening actor against peers that send it anything, while a rightful peer keeps calling it.

Whatever a peer sends costs that peer's connection at most: every call of the rightful peer succeeds, the actor
serves afterwards, and nothing is left in it.  ``TRACTOR_FUZZ_EXAMPLES`` sets the number of generated inputs of
each kind (default 100).
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import ep_fuzz
import msgspec
import pytest
import trio
from ep_run import run
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import tractor
from tractor._errors import TransportClosed
from tractor._proto.connection.auth import Handshake
from tractor._proto.connection.framing import HEADER
from tractor.discovery import open_portal
from tractor.ipc import Channel
from tractor.ipc._chan import transport_from_addr
from tractor.msg.types import (
    Aid,
    CancelAck,
    Credit,
    Error,
    Return,
    SpawnSpec,
    Start,
    StartAck,
    Started,
    Stop,
    Yield,
)
from tractor.transport._settings import wire_settings
from tractor.transport._stream import MsgpackTransport

EXAMPLES = int(os.environ.get("TRACTOR_FUZZ_EXAMPLES", "100"))
LIMIT = 30.0 + EXAMPLES
PATIENCE = 10.0
"""Seconds that the actor has for an answer; far beyond what it needs."""

ME = Aid("stranger", "5717a11ce", 1)
MODULE = ep_fuzz.__name__

pytestmark = [pytest.mark.usefixtures("forked_actors"), pytest.mark.timeout(2 * LIMIT)]


# -- the stage -----------------------------------------------------------------------------------------


@dataclass
class Target:
    """The actor under fire."""

    addr: Any
    portal: tractor.Portal
    calls: int = 0

    async def connect(self) -> MsgpackTransport:
        """A connection on which nothing was said."""
        return await transport_from_addr(self.addr)

    async def pass_opening(self) -> MsgpackTransport:
        """A connection whose opening exchange is over: the actor decodes what follows."""
        transport = await self.connect()
        await transport.authenticate(self.machine())
        return transport

    def machine(self) -> Handshake:
        """The opening exchange of one who holds the key, where one is needed."""
        keyed = isinstance(self.addr[1], int)
        return Handshake("connect", wire_settings().key() if keyed else None, os.urandom(32))

    async def shake_hands(self) -> Channel:
        """A channel of a peer like any other."""
        chan = Channel(await self.connect(), "connect")
        await chan.handshake(ME)
        return chan

    async def check(self, x: int = 21) -> None:
        """A call of the rightful peer."""
        with trio.fail_after(PATIENCE):
            assert await self.portal.run(ep_fuzz.double, x=x) == 2 * x
        self.calls += 1

    async def keep_calling(self) -> None:
        """Call on and on, over a connection of its own beside the parent's."""
        async with open_portal(Channel(await self.connect(), "connect")) as portal:
            number = 0
            while True:
                with trio.fail_after(PATIENCE):
                    assert await portal.run(ep_fuzz.double, x=number) == 2 * number
                number += 1
                await self.check(number)
                await trio.sleep(0.002)


@asynccontextmanager
async def under_fire(reg_addr: Any) -> AsyncIterator[Target]:
    """An actor that a rightful peer calls for the length of the block; as light afterwards as before."""
    async with tractor.open_nursery(registry_addrs=[reg_addr], loglevel="critical") as an:
        portal = await an.start_actor("target", enable_modules=[MODULE])
        (addr,) = await portal.run(ep_fuzz.where)
        target = Target(tuple(addr), portal)
        before = await portal.run(ep_fuzz.census)
        async with trio.open_nursery() as tn:
            tn.start_soon(target.keep_calling)
            yield target
            calls = target.calls
            while target.calls < calls + 3:
                await trio.sleep(0.005)
            tn.cancel_scope.cancel()
        with trio.fail_after(PATIENCE):
            while (after := await portal.run(ep_fuzz.census)) != before:
                await trio.sleep(0.02)
        assert after == before
        await portal.cancel_actor()


async def say(transport: MsgpackTransport, data: bytes) -> None:
    """Send bytes as they are; an actor that has hung up is told no more."""
    rest = memoryview(data)
    with trio.fail_after(PATIENCE):
        try:
            while rest:
                sent = transport.io.send_nowait([rest])
                rest = rest[sent:]
                if not sent:
                    await transport.io.wait_writable()
            transport.io.send_eof()
        except OSError:
            return


async def until_hung_up(transport: MsgpackTransport) -> None:
    """Wait until the actor has closed the connection, and close it here."""
    try:
        with trio.fail_after(PATIENCE):
            while True:
                await transport.io.wait_readable()
                if transport.io.recv_nowait(65_536) == b"":
                    return
    except OSError:
        return
    finally:
        transport.abort()


# -- what is thrown at it ------------------------------------------------------------------------------


def framed(*bodies: bytes) -> bytes:
    return b"".join(HEADER.pack(len(body)) + body for body in bodies)


def encoded(*msgs: Any) -> bytes:
    return framed(*(msgspec.msgpack.encode(msg) for msg in msgs))


def start(cid: int, func: str, ns: str = MODULE, /, *, _kind: Any = "call", **kwargs: Any) -> Start:
    return Start(cid, ns, func, kwargs, ME.uid, None, _kind)


def _any(msg: object) -> Any:
    return msg


VALID: list[Any] = [
    ME,
    start(1, "echo", x=[1, {"y": None}], text="words", number=1.5),
    start(1, "echo_stream", _kind="context"),
    start(1, "count_up", _kind="asyncgen"),
    start(1, "_cancel_task", "self", cid=3),
    SpawnSpec({"a": "b"}, {"_debug_mode": False}, {"m": "f"}, [("127.0.0.1", 1)], []),
    StartAck(2, "context"),
    Started(1, _any(5)),
    Yield(1, _any([1, 2])),
    Stop(1),
    Return(2, _any("done")),
    CancelAck(2, True),
    Credit(1, 64, 640),
    Error(src_uid=ME.uid, src_type_str="E", boxed_type_str="E", relay_path=[ME.uid], cid=1),
]
"""A message of every kind, and requests of every kind."""

CIDS = st.integers(-3, 12) | st.integers(-(2**63), 2**64 - 1)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
FUNCS = [
    "double", "echo", "sleep_on", "count_up", "echo_stream", "not_async", "trio.sleep", "__name__", "",
    "_cancel_task", "_ready", "_goodbye", "_progress", "_descendants", "find_actor", "register_actor",
]  # fmt: skip
STARTS = st.builds(
    lambda cid, ns, func, kwargs, kind: Start(cid, ns, func, kwargs, ME.uid, None, kind),
    CIDS,
    st.sampled_from([MODULE, "self", "os", ""]),
    st.sampled_from(FUNCS),
    st.dictionaries(st.sampled_from(["x", "cid", "up", "gone", "name", "uid", "addr"]), PLAIN),
    st.sampled_from(["call", "asyncgen", "context"]),
)
REPLIES = st.one_of(
    *(st.builds(kind, CIDS, PLAIN) for kind in (Started, Yield, Return)),
    st.builds(StartAck, CIDS, st.sampled_from(["asyncgen", "context"])),
    st.builds(CancelAck, CIDS, st.booleans()),
    st.builds(Stop, CIDS),
    st.builds(Credit, CIDS, st.integers(-(2**63), 2**64 - 1), st.integers(-(2**63), 2**64 - 1)),
    st.builds(
        lambda cid, text: Error(src_uid=ME.uid, src_type_str=text, boxed_type_str=text, cid=cid),
        st.none() | CIDS,
        st.text(max_size=12),
    ),
)
MESSAGES = st.lists(STARTS | REPLIES, min_size=1, max_size=8).map(lambda msgs: encoded(*msgs))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Frames of valid messages with some bytes changed, left out or repeated."""
    data = bytearray(encoded(*draw(st.lists(st.sampled_from(VALID), min_size=1, max_size=4))))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        what = draw(st.sampled_from(["change", "drop", "repeat", "cut"]))
        if what == "change" and data:
            data[at] = draw(st.integers(0, 255))
        elif what == "drop":
            del data[at : at + draw(st.integers(1, 8))]
        elif what == "repeat":
            data[at:at] = data[at : at + 8]
        else:
            del data[at:]
    return bytes(data)


BYTES = st.one_of(
    st.binary(max_size=400),
    st.lists(st.binary(max_size=80), max_size=5).map(lambda bodies: framed(*bodies)),
    mutated(),
    st.builds(
        lambda size, body: HEADER.pack(size) + body,
        st.integers(0, 2**32 - 1),
        st.binary(max_size=80),
    ),
)


def generated(strategy: st.SearchStrategy[bytes], attack: Callable[[bytes], None]) -> None:
    """Run ``attack`` on generated inputs; in a thread, since Hypothesis is not an async code."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize="TRACTOR_FUZZ_EXAMPLES" not in os.environ,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=strategy)
    def body(data: bytes) -> None:
        attack(data)

    body()


@pytest.mark.parametrize("stage", ["before the opening", "after the opening", "as a peer"])
def test_generated_bytes_and_messages(reg_addr: Any, stage: str) -> None:
    """Bytes and broken messages at every stage; to a peer's channel also messages that are none too honest."""

    async def attack(target: Target, data: bytes) -> None:
        if stage == "before the opening":
            transport = await target.connect()
        elif stage == "after the opening":
            transport = await target.pass_opening()
        else:
            transport = (await target.shake_hands()).transport
        await say(transport, data)
        await until_hung_up(transport)
        await target.check()

    async def main() -> None:
        async with under_fire(reg_addr) as target:

            def from_thread(data: bytes) -> None:
                trio.from_thread.run(attack, target, data)

            await trio.to_thread.run_sync(generated, BYTES, from_thread)
            if stage == "as a peer":
                await trio.to_thread.run_sync(generated, MESSAGES, from_thread)

    run(main, limit=LIMIT)


def test_random_bytes_in_bulk(reg_addr: Any) -> None:
    """Many connections at once, each with kilobytes of noise, at every stage."""
    noise = random.Random(616)

    async def one(target: Target, stage: int, data: bytes) -> None:
        if stage == 0:
            transport = await target.connect()
        elif stage == 1:
            transport = await target.pass_opening()
        else:
            transport = (await target.shake_hands()).transport
        await say(transport, data)
        await until_hung_up(transport)

    async def main() -> None:
        async with under_fire(reg_addr) as target, trio.open_nursery() as tn:
            for i in range(2 * EXAMPLES):
                tn.start_soon(one, target, i % 3, noise.randbytes(noise.randrange(20_000)))

    run(main, limit=LIMIT)


def test_a_flood_of_half_open_connections(reg_addr: Any) -> None:
    """Connections that say nothing, or not enough, and stay."""

    async def main() -> None:
        async with under_fire(reg_addr) as target:
            held = []
            for i in range(200):
                transport = await target.connect()
                transport.io.send_nowait([target.machine().start()[: i % 40] or b"\xb0"])
                held.append(transport)
            calls = target.calls
            while target.calls < calls + 10:
                await trio.sleep(0.005)
            for transport in held:
                transport.abort()

    run(main, limit=LIMIT)


def test_announced_lengths_reserve_no_memory(reg_addr: Any) -> None:
    """A length within the limit reserves nothing until its bytes come; one beyond it ends the connection."""

    async def main() -> None:
        async with under_fire(reg_addr) as target:
            before = await target.portal.run(ep_fuzz.peak_memory)
            held = []
            for _ in range(20):
                transport = await target.pass_opening()
                transport.io.send_nowait([HEADER.pack(2**30), b"x" * 1_000])
                held.append(transport)
                too_long = await target.pass_opening()
                too_long.io.send_nowait([HEADER.pack(2**30 + 1)])
                await until_hung_up(too_long)
            for transport in held:
                transport.abort()
            await target.check()
            assert await target.portal.run(ep_fuzz.peak_memory) - before < 2**26

    run(main, limit=LIMIT)


# -- messages that decode and are hostile nevertheless -------------------------------------------------


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def error(cid: int | None) -> Error:
    return Error(src_uid=ME.uid, src_type_str="E", boxed_type_str="E", message="!", cid=cid)


PAYLOAD = _any(b"")
OPEN_CTX = start(1, "echo_stream", _kind="context")
RUNTIME_REQUESTS = ["_cancel_task", "_ready", "_goodbye", "_progress", "_descendants"]
BAD_KWARGS: list[dict[str, Any]] = [
    {},
    {"cid": []},
    {"cid": {}},
    {"cid": "1"},
    {"cid": None, "surplus": 1},
    {"accept_addrs": 5},
    {"up": [[]], "gone": ["x"]},
    {"up": [["feed.1", 1, None]], "gone": []},
    {"up": [[1, None]], "gone": []},
    {"up": None, "gone": None},
]

SERVES: dict[str, list[Any]] = {
    "replies of dialogs that never were": [
        StartAck(2, "context"), Started(2, PAYLOAD), Yield(2, PAYLOAD), Return(2, PAYLOAD),
        CancelAck(2, True), Credit(2, 1, 10), Stop(2), error(2), error(None), Return(99, PAYLOAD),
        Return(-1, PAYLOAD), Stop(2**63),
    ],
    "a credit of -5": [OPEN_CTX, Credit(1, -5, 0)],
    "a credit of -5 on a one-way stream": [start(1, "count_up", _kind="asyncgen"), Credit(1, -5, 0)],
    "an endless credit": [OPEN_CTX, *[Credit(1, 2**63 - 1, 2**63 - 1)] * 2, Yield(1, PAYLOAD)],
    "a message after the stop": [OPEN_CTX, Stop(1), Yield(1, PAYLOAD)],
    "two stops": [OPEN_CTX, Stop(1), Stop(1)],
    "more than the buffer holds": [start(1, "sleepy_stream", _kind="context"), *[Yield(1, PAYLOAD)] * 2_000],
    "more than a strict buffer holds": [
        start(1, "sleepy_stream", _kind="context"), Credit(1, -1, 0), *[Yield(1, PAYLOAD)] * 1_000,
    ],
    "strict twice": [OPEN_CTX, Credit(1, -1, 0), Credit(1, -1, 0)],
    "strict on a one-way stream": [start(1, "count_up", _kind="asyncgen"), Credit(1, -1, 0)],
    "a second acknowledgment to a context": [OPEN_CTX, StartAck(1, "context")],
    "a first value to a context": [OPEN_CTX, Started(1, PAYLOAD)],
    "a result to a context": [OPEN_CTX, Return(1, PAYLOAD)],
    "a cancel acknowledgment to a context": [OPEN_CTX, CancelAck(1, True)],
    "an error to a context": [OPEN_CTX, error(1)],
    **{
        f"a {type(msg).__name__} to a call": [start(1, "sleep_on"), msg]
        for msg in (
            StartAck(1, "context"), Started(1, PAYLOAD), Yield(1, PAYLOAD), Return(1, PAYLOAD),
            CancelAck(1, True), Credit(1, 1, 10), Stop(1), error(1),
        )
    },
    **{
        f"a {type(msg).__name__} to a one-way stream": [start(1, "count_up", _kind="asyncgen"), msg]
        for msg in (
            StartAck(1, "context"), Started(1, PAYLOAD), Yield(1, PAYLOAD), Return(1, PAYLOAD),
            CancelAck(1, True), Stop(1), error(1),
        )
    },
    "arguments that are nested": [start(1, "echo", deep=nested(90), wide=list(range(50_000)))],
    "arguments that the function does not take": [start(1, "double", y=1), start(3, "double")],
    "an argument in the context's place": [start(1, "echo_stream", _kind="context", ctx=1)],
    "a function of another kind": [
        start(1, "double", _kind="context"), start(3, "echo_stream"), start(5, "count_up"),
        start(7, "double", _kind="asyncgen"),
    ],
    "what is not a function": [
        start(1, "not_async"), start(3, "__name__"), start(5, ""), start(7, "."), start(9, "nowhere"),
        start(11, "__builtins__.eval", x="1"), start(13, "double.__code__"), start(15, "double\0"),
    ],
    "a module that is not enabled": [start(1, "system", "os"), start(3, "sleep", "trio"), start(5, "x", "")],
    "a request that the runtime does not serve": [
        start(1, name, "self")
        for name in ("", "__init__", "start_cancel", "aid.name", "lifetime_stack.close", "_cancel_all")
    ],
    **{
        f"{name} with the arguments {kwargs}": [Start(1, "self", name, kwargs, ME.uid)]
        for name in RUNTIME_REQUESTS
        for kwargs in BAD_KWARGS
    },
    "a cancel of dialogs that are not its own": [
        start(cid, "_cancel_task", "self", cid=target)
        for cid, target in zip(range(1, 999, 2), range(-100, 300), strict=False)
    ],
    "a runtime request as a context": [Start(1, "self", "_cancel_task", {"cid": 1}, ME.uid, None, "context")],
    "a registry request to one that keeps none": [
        start(1, "register_actor", "self", uid=["a", "b"], addr=["127.0.0.1", 1]),
        start(3, "find_actor", "self", name="target"),
    ],
    "long names": [start(1, "f" * 100_000), start(3, "g", "m" * 100_000), start(5, "h" * 100_000, "self")],
    "a name with a format": [start(1, "%s%n{0}\x1b[2J\n", "%d\0")],
}  # fmt: skip
"""What costs its own dialog at most: the peer goes on to call on the same connection."""

CLOSES: dict[str, list[Any]] = {
    "a foreign identity": [Start(1, MODULE, "double", {"x": 1}, ("root", "somebody else's"))],
    "a dialog id that is in use": [start(1, "sleep_on"), start(1, "double", x=1)],
    "a context's id that is in use": [OPEN_CTX, start(1, "_cancel_task", "self", cid=1)],
    "a dialog id of the other side": [start(2, "double", x=1)],
    "a dialog id of nobody": [start(0, "double", x=1)],
    "a second identity": [ME],
    "somebody else's identity": [Aid("root", "other", 1)],
    "a configuration": [SpawnSpec({}, {"_is_root": True}, {"os": ""}, [], [])],
}
"""What ends the connection, and only that."""


async def ask(chan: Channel, msgs: list[Any]) -> bool:
    """Send messages, then a call; whether the call is answered, else the connection was closed."""
    try:
        for msg in msgs:
            await chan.transport.send(msg)
        await chan.transport.send(start(100_001, "double", x=8))
        with trio.fail_after(PATIENCE):
            async for msg in chan:
                if isinstance(msg, Return) and msg.cid == 100_001:
                    assert msgspec.msgpack.decode(msg.pld) == 16
                    return True
    except TransportClosed:
        pass
    return False


def test_hostile_messages(reg_addr: Any) -> None:
    """Every case of the two tables; what the others have running goes on."""
    wrong: list[str] = []

    async def main() -> None:
        async with under_fire(reg_addr) as target, trio.open_nursery() as tn:
            running = trio.CancelScope()

            async def work() -> None:
                with running:
                    await target.portal.run(ep_fuzz.sleep_on)
                    wrong.append("a stranger ended the rightful peer's call")

            tn.start_soon(work)
            async with (
                target.portal.open_context(ep_fuzz.echo_stream) as (ctx, _),
                ctx.open_stream() as stream,
            ):
                for table, serves in ((SERVES, True), (CLOSES, False)):
                    for name, msgs in table.items():
                        async with await target.shake_hands() as chan:
                            if await ask(chan, msgs) is not serves:
                                wrong.append(f"{name}: {'closed' if serves else 'served on'}")
                        await stream.send(name)
                        assert await stream.receive() == name
            running.cancel()

    run(main, limit=LIMIT)
    assert wrong == []


def test_a_peer_reaches_no_function_of_a_module_that_its_target_imports(reg_addr: Any) -> None:
    """`module:imported.function` is not a function of `module`: an enabled module enables no other."""

    async def main() -> None:
        async with under_fire(reg_addr) as target:
            for func, kwargs in (
                ("trio.sleep", {"seconds": 0}),
                ("trio.run_process", {"command": "true"}),
            ):
                async with await target.shake_hands() as chan:
                    await chan.send(Start(1, MODULE, func, kwargs, ME.uid))
                    with trio.fail_after(PATIENCE):
                        reply = await chan.recv()
                    assert isinstance(reply, Error), func

    run(main, limit=LIMIT)
