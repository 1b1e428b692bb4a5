"""Recordings at the control socket: what is told, what is lost, and what is left afterwards."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
import trio

from tractor.control import _recording, _serving
from tractor.control._protocol import MAX_ANSWER
from tractor.control._recording import MessageRecorder, Recorder, Recordings
from tractor.control._serving import Serving
from tractor.control._socket import ControlSocket
from tractor.runtime.seen._events import Crashed, MessageSent, Rung
from tractor.runtime.seen._instrument import Instrument

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets")


def rung(number: int) -> Rung:
    return Rung(number, "me", "child", "name", 2)


class Server:
    """A control socket, and the instruments that are added by it."""

    def __init__(self) -> None:
        self.instruments: list[Instrument] = []
        self.recordings = Recordings(self.instruments.append, self.instruments.remove)
        feeds = {"record": self.recordings.begin}
        self.control = ControlSocket(
            "victim", os.getpid(), lambda one: Serving(one, {"hello": lambda _: 1}, feeds=feeds)
        )


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.control.close()
    assert not server.instruments


class Client:
    """Who asks for a recording, in a thread."""

    def __init__(self, server: Server, **fields: Any) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(server.control.path))
        self.file = self.sock.makefile("rb")
        self.sock.sendall(msgspec.json.encode({"v": 1, "op": "record", **fields}) + b"\n")
        self.longest = 0

    def line(self) -> Any:
        line = self.file.readline()
        if not line:
            return None
        self.longest = max(self.longest, len(line))
        return msgspec.json.decode(line)

    def close(self) -> None:
        self.file.close()
        self.sock.close()

    def rest(self) -> list[dict[str, Any]]:
        """All lines until the connection ends."""
        lines = []
        while (line := self.line()) is not None:
            lines.append(line["ok"])
        return lines


def run(main: Callable[[Server], Any]) -> None:
    async def limited() -> None:
        with trio.fail_after(60), serving() as server:
            await main(server)

    trio.run(limited)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def times(lines: list[dict[str, Any]]) -> list[int]:
    return [event[1] for line in lines for event in line["events"]]


def test_events_come_in_batches_also_while_the_loop_is_blocked() -> None:
    async def main(server: Server) -> None:
        # The loop stands still all the while.
        client = Client(server)
        first = client.line()
        assert list(first["ok"]) == ["time"]
        (recorder,) = server.instruments
        for number in range(1000):
            recorder.rung(rung(number))
        batch = client.line()["ok"]
        assert times([batch]) == list(range(1000))
        assert batch["events"][0] == ["rung", 0, "me", "child", "name", 2]
        assert "lost" not in batch
        assert "last" not in batch
        recorder.rung(rung(1000))
        client.sock.shutdown(socket.SHUT_WR)
        lines = client.rest()
        assert times(lines) == [1000]
        assert [line.get("last", False) for line in lines][-1] is True
        until(lambda: not server.instruments)
        client.close()

    run(main)


def test_nothing_stays_when_who_asks_is_gone() -> None:
    async def main(server: Server) -> None:
        client = Client(server)
        client.line()
        assert len(server.instruments) == 1
        # As the kernel does for one that was killed.
        client.close()
        until(lambda: not server.instruments)

    run(main)


def test_two_at_a_time() -> None:
    async def main(server: Server) -> None:
        two = [Client(server), Client(server)]
        for one in two:
            assert "ok" in one.line()
        third = Client(server)
        assert third.line()["error"]["code"] == "busy"
        two[0].close()
        until(lambda: len(server.instruments) == 1)
        fourth = Client(server)
        assert "ok" in fourth.line()
        for one in (two[1], third, fourth):
            one.close()

    run(main)


@pytest.mark.parametrize("fields", [{"events": 0}, {"events": True}, {"messages": 1}])
def test_what_is_no_request(fields: dict[str, Any]) -> None:
    async def main(server: Server) -> None:
        client = Client(server, **fields)
        assert client.line()["error"]["code"] == "bad-request"
        client.close()

    run(main)


def test_who_is_slow_loses_events_and_is_told_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_recording, "KEPT", 20_000)
    monkeypatch.setattr(_serving, "STALL_LIMIT", 600.0)

    async def main(server: Server) -> None:
        client = Client(server)
        client.line()
        (recorder,) = server.instruments
        # More than fits into what waits, and what is on its way.
        for number in range(100_000):
            recorder.rung(rung(number))
        client.sock.shutdown(socket.SHUT_WR)
        lines = client.rest()
        told = times(lines)
        lost = sum(line.get("lost", 0) for line in lines)
        assert lost > 0
        assert len(told) + lost == 100_000
        assert told == sorted(told)
        client.close()

    run(main)


def test_who_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_serving, "STALL_LIMIT", 0.2)

    async def main(server: Server) -> None:
        client = Client(server)
        client.line()
        (recorder,) = server.instruments
        for number in range(100_000):
            recorder.rung(rung(number))
        until(lambda: not server.instruments)
        client.close()

    run(main)


def test_lines_are_below_a_mebibyte() -> None:
    async def main(server: Server) -> None:
        client = Client(server)
        client.line()
        (recorder,) = server.instruments
        big = Crashed(1, "me", "m:E", "x" * 1000, "\x00" * 16_384)
        for _ in range(100):
            recorder.crashed(big)
        client.sock.shutdown(socket.SHUT_WR)
        lines = client.rest()
        assert sum(len(line["events"]) for line in lines) == 100
        assert MAX_ANSWER / 2 < client.longest <= MAX_ANSWER
        assert len(lines) > 5
        client.close()

    run(main)


def test_no_more_than_were_asked_for() -> None:
    async def main(server: Server) -> None:
        client = Client(server, events=10)
        client.line()
        (recorder,) = server.instruments
        for number in range(25):
            recorder.rung(rung(number))
        client.sock.shutdown(socket.SHUT_WR)
        lines = client.rest()
        assert times(lines) == list(range(10))
        assert sum(line.get("lost", 0) for line in lines) == 15
        client.close()

    run(main)


def test_an_actor_that_ends_tells_the_rest() -> None:
    async def main(server: Server) -> None:
        client = Client(server)
        client.line()
        (recorder,) = server.instruments
        recorder.rung(rung(7))
        server.control.close()
        lines = client.rest()
        assert times(lines) == [7]
        assert lines[-1]["last"] is True
        client.close()

    run(main)


def test_an_actor_that_ends_does_not_wait_for_who_takes_nothing() -> None:
    async def main(server: Server) -> None:
        client = Client(server)
        client.line()
        (recorder,) = server.instruments
        for number in range(100_000):
            recorder.rung(rung(number))
        begun = time.monotonic()
        server.control.close()
        assert time.monotonic() - begun < 10
        client.close()

    run(main)


def test_single_messages_are_told_where_they_were_asked_for() -> None:
    usual, all_ = Recorder(10), MessageRecorder(10)
    for one in (usual, all_):
        one.message_sent(MessageSent(1, "me", ("me", 1), 5))
    assert usual.take() is None
    assert all_.take() == MessageSent(1, "me", ("me", 1), 5)
    # What is not overridden is never called.
    assert type(usual).message_sent is Instrument.message_sent
