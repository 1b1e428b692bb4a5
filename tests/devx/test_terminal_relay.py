"""The root's terminal for an actor on another host: who may have it, and what each end says."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
import pytest
import trio
import trio.testing
from repl_wire import Wire, raw

import tractor
from tractor._errors import DebugRequestError
from tractor.devx.debug.lock import _console
from tractor.devx.debug.lock._debugger import Debugger, debugger_of, serve_terminal
from tractor.devx.debug.lock._request import RequestRelay, ServedAsk
from tractor.devx.debug.lock._status import TERMINAL_TEXT, TerminalReply
from tractor.devx.debug.relay._repl import _In, _Out
from tractor.ipc._chan import Channel
from tractor.msg.types import Error, Return, Start
from tractor.runtime._actor import Actor
from tractor.testing import get_rando_addr

KEY = b"k" * 16


def chan(wire: Wire) -> Channel:
    return cast("Channel", wire)


# -- on the way --


def test_the_answer_to_a_request_that_was_passed_on_goes_to_who_has_asked() -> None:
    up, below = Wire(), Wire()
    relay = RequestRelay(chan(up), chan(below), 3, "_debug_held", {"x": 1})
    (start,) = up.take()
    assert isinstance(start, Start)
    assert (start.func, start.kwargs) == ("_debug_held", {"x": 1})
    relay.on_return(Return(7, raw(True)))
    (reply,) = below.take()
    assert isinstance(reply, Return)
    assert (reply.cid, reply.pld) == (3, raw(True))
    assert up.dialogs == {}


def test_so_does_a_refusal() -> None:
    up, below = Wire(), Wire()
    relay = RequestRelay(chan(up), chan(below), 3, "_debug_held", {})
    error = Error(src_uid=("x", "y"), src_type_str="E", boxed_type_str="E", message="no", cid=7)
    relay.on_error(error)
    (reply,) = below.take()
    assert isinstance(reply, Error)
    assert (reply.cid, reply.message) == (3, "no")


def test_and_so_does_the_news_that_the_way_up_is_lost() -> None:
    up, below = Wire(), Wire()
    relay = RequestRelay(chan(up), chan(below), 3, "_debug_terminal", {})
    relay.on_lost(tractor.TransportClosed("the parent is gone"))
    (reply,) = below.take()
    assert isinstance(reply, Error)
    assert (reply.cid, reply.boxed_type_str) == (3, "DebugRequestError")
    assert "the parent is gone" in reply.message


# -- in the root --


class Root:
    """A root whose terminal an actor has that asked by `asker`, and may speak by other ways with the key."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.debugger: Debugger = debugger_of(actor)
        self.asker = Wire()
        words = {"uid": ["far", "2"], "task": 9, "text": "<Task>", "key": KEY}
        self.ask = ServedAsk(actor, chan(self.asker), 3, words, self.debugger.queue.leave)
        self.debugger.queue.ask(self.ask)
        self.asker.take()

    def serve(self, wire: Wire, op: str, text: str = "", cid: int = 5, **more: Any) -> None:
        serve_terminal(self.actor, chan(wire), cid, {"op": op, "text": text, **more})


@contextlib.asynccontextmanager
async def root() -> AsyncIterator[Root]:
    async with tractor.open_root_actor(
        debug_mode=True, maybe_enable_greenback=False, registry_addrs=[get_rando_addr("tcp")]
    ) as actor:
        yield Root(actor)


async def answer(wire: Wire) -> Any:
    with trio.fail_after(20):
        while not wire.sent:
            await trio.sleep(0.001)
    (reply,) = wire.take()
    return reply


def test_nobody_else_has_the_terminal() -> None:
    async def main() -> None:
        async with root() as r:
            for key in ({}, {"key": b""}, {"key": b"l" * 16}, {"key": "k" * 16}):
                with pytest.raises(DebugRequestError, match="does not have the debugger"):
                    r.serve(Wire(), "write", **key)
            with pytest.raises(ValueError, match="characters for the terminal"):
                r.serve(r.asker, "write", "x" * (TERMINAL_TEXT + 1))
            with pytest.raises(ValueError, match="'eat'"):
                r.serve(r.asker, "eat")
            r.debugger.queue.leave(r.ask, False)
            with pytest.raises(DebugRequestError, match="does not have the debugger"):
                r.serve(r.asker, "write", key=KEY)

    trio.run(main)


def test_a_line_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        typed = trio.Event()

        async def read_line() -> str:
            await typed.wait()
            return "p 1\n"

        monkeypatch.setattr(_console, "read_line", read_line)
        async with root() as r:
            side = Wire()
            r.serve(side, "ask", "two\n(Pdb+) ", key=KEY)
            with pytest.raises(DebugRequestError, match="has not answered"):
                r.serve(side, "ask", "again", key=KEY)
            while "(Pdb+) " not in (shown := capsys.readouterr().out):
                await trio.sleep(0.001)
            assert shown == "two\n(Pdb+) "
            assert r.debugger.console is not None
            r.debugger.console.on_ctrl_c()
            again = capsys.readouterr()
            assert again.out == "(Pdb+) "
            assert "Ignoring SIGINT while debug REPL in use by <Task>" in again.err
            typed.set()
            reply = await answer(side)
            assert reply == Return(5, TerminalReply("p 1\n", False, False))
            r.debugger.queue.leave(r.ask, False)

    trio.run(main)


def test_what_waits_when_the_actor_is_lost_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(_console, "read_line", trio.sleep_forever)
        async with root() as r:
            side, other = Wire(), Wire()
            r.serve(side, "ask", "> ", key=KEY)
            r.serve(other, "ctrl-c", key=KEY)
            await trio.testing.wait_all_tasks_blocked()
            r.ask.on_lost(tractor.TransportClosed("gone"))
            assert r.debugger.console is None
            for wire in (side, other):
                assert "does not have the terminal any more" in (await answer(wire)).message

    trio.run(main)


def test_ctrl_c_without_a_prompt_is_told() -> None:
    async def main() -> None:
        async with root() as r:
            side = Wire()
            for _ in range(2):
                r.serve(side, "ctrl-c", key=KEY)
                await trio.testing.wait_all_tasks_blocked()
                assert side.sent == []
                assert r.debugger.console is not None
                r.debugger.console.on_ctrl_c()
                assert isinstance(await answer(side), Return)
            r.debugger.queue.leave(r.ask, False)

    trio.run(main)


# -- in the actor --


class FakeLink:
    on_terminal = colors = True

    def __init__(self) -> None:
        self.shown: list[str] = []

    def write(self, text: str) -> None:
        self.shown.append(text)

    def read_line(self, text: str) -> str:
        self.shown.append(text)
        return "c\n"


def test_what_is_written_goes_with_the_prompt() -> None:
    out, link = _Out(), FakeLink()
    out.link = cast("Any", link)
    source = _In(out)
    assert out.isatty()
    assert source.isatty()
    out.write("one\n")
    out.flush()
    out.write("(Pdb+) ")
    assert link.shown == []
    assert source.readline() == "c\n"
    assert link.shown == ["one\n(Pdb+) "]
    out.write("x" * (_Out.KEEPS + 1))
    assert len(link.shown) == 2
    out.link = None
    assert source.readline() == ""


def test_the_reply_travels() -> None:
    reply = TerminalReply("p 1\n", True, False)
    there = msgspec.msgpack.decode(msgspec.msgpack.encode(reply))
    assert msgspec.convert(there, TerminalReply) == reply
