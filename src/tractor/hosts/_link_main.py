"""The link process: it keeps the links of one actor to other hosts.

A process of its own, because an actor may hold its GIL or be stopped, and must lose nobody by that; and because what it
does for the dead it must do when the actor was killed: end what runs elsewhere, and withdraw what waits in a queue.

Theory of operation.  Two kinds of streams, both of frames (:mod:`tractor.hosts._frames`).  From the actor come orders
for a link, by its number; what this process does not handle itself goes on to the link's agent, and what the agent says
goes back with the number added.  Here stay: the start by the engine (:mod:`tractor.hosts._carriers`), the greeting, and
the answers to the agent's pings.

How a link ends (each is told once):

- `refused`: it could not be opened; nothing runs there.
- `closed`: the agent has said that nothing runs there any more, and its command has ended.
- `lost`: the lease says that nothing runs there any more.  That may come long after the command's end.  Or the agent
  was killed, and its sentinel says so.  How what ran there has ended is not known then.  (That the command has ended
  says nothing: an ssh client that was killed, or has met with a reset, ends like one whose agent was killed.)

Before that it may be told several times that it is `silent`, and that it was `heard` again.

Why the races are safe.

- *An order for a link that ends* finds no agent and is dropped: the actor is told of the end, and counts everything
  on it as ended.
- *An order that is on its way when the actor dies* starts nothing: the frames before the end of file are handled in
  their order, then every agent is told to end, and an agent that starts something and finds its link ended ends it.
- *A ping is noted before its answer can leave*, so the lease that the agent sees renewed is never longer than the one
  that is counted here.
- *The actor's death is seen* by the end of file and by its process's end: what it forked off may hold the socket open.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NoReturn

import msgspec
import trio

from tractor._proto.deadlines import LOSS_TIMEOUT
from tractor._proto.lease import Answered
from tractor.hosts._carriers import Carrier, carrier_for
from tractor.hosts._engine import Port, Target, get_engine
from tractor.hosts._frames import encode
from tractor.hosts._place import Place
from tractor.hosts._streams import Incoming, LinkError, Outbox
from tractor.process._exit_watch import ExitWatch
from tractor.transport.tls._config import TLSConfig

_WORDS = 16 * 1024
"""Bytes of an engine's own words that are kept for an error."""
_MAX_UNSENT = 64 * 1024 * 1024
"""Bytes that wait for an agent which takes none; its link is cut then."""
_CLOSING_TIME = 0.3
_PORT_TIMEOUT = 3.0
"""Seconds in which an engine that has started its program has told of the port that leads back."""
_FIRST_LINE = b"TRACTOR-AGENT 1\n"
"""Of an agent; what comes before it is of start-up files."""
_NOT_STARTED = (OSError, ValueError, ImportError)
"""What an engine raises where it can't start anything."""


class Link:
    """One link: an engine here, the agent there.

    Args:
        number: the actor's name for it.
        place: where it leads.
        back: what the actors there connect to over a tunnel; none without one.
        tls: the tree's certificates.
        hello: what the agent is greeted with.
        to_actor: sends a frame to the actor.
    """

    def __init__(
        self,
        number: int,
        place: Place,
        back: list[Target],
        tls: TLSConfig | None,
        hello: dict[str, Any],
        to_actor: Any,
    ) -> None:
        self.number = number
        self.place = place
        self._back = back
        self._tls = tls
        self._hello = hello
        self._to_actor = to_actor
        self._words = bytearray()
        self._words_over = trio.Event()
        # What of that is reached at which port of loopback there.
        self._ports_there: dict[Target, Port] = {}
        self._ports_known = trio.Event()
        self._outbox: Outbox | None = None
        self._lease: Answered | None = None
        self._is_silent = False
        # The agent has said that nothing runs there; or its sentinel, because it was killed.
        self._gone = trio.Event()
        self._was_killed = False
        # The link has ended, whatever runs there.
        self._ended = trio.Event()
        # Nobody wants it any more.
        self._dropped = trio.Event()
        self._scope = trio.CancelScope()
        self.finished = trio.Event()

    # -- orders ---------------------------------------------------------------------------------------

    def pass_on(self, frame: dict[str, Any], raw: bytes | None) -> None:
        """Send a frame to the agent."""
        if self._outbox is not None and not self._ended.is_set():
            self._outbox.put(encode(frame, raw))
            if self._outbox.size > _MAX_UNSENT:
                self._ended.set()

    def drop(self) -> None:
        """Have everything there end, or withdraw the start."""
        self._dropped.set()
        if self._lease is None:
            self._scope.cancel()
        else:
            self.pass_on({"t": "end"}, None)

    # -- its life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """From the start to the end of all there."""
        try:
            engine = get_engine(self.place.engine)
            engine.check(self.place)
            carrier = carrier_for(engine, self.place, self._back, self._tls)
        except _NOT_STARTED as exc:
            self._tell("refused", error=str(exc))
            self.finished.set()
            return
        try:
            await self._run_over(carrier)
        finally:
            with trio.CancelScope(shield=True):
                await carrier.close(may_wait=self._lease is None)
            self.finished.set()

    async def _run_over(self, carrier: Carrier) -> None:
        async with trio.open_nursery() as tn:
            tn.start_soon(self._read_words, carrier)
            frames = None
            try:
                with self._scope, trio.fail_after(self.place.start_timeout):
                    ends = await carrier.connect()
                    self._outbox = Outbox(ends.out)
                    tn.start_soon(self._outbox.run)
                    self._outbox.put(ends.first)
                    frames = Incoming(ends.into)
                    await self._open(frames)
            except trio.TooSlowError:
                self._refuse(f"no answer within start_timeout={self.place.start_timeout} s")
            except LinkError as exc:
                with trio.move_on_after(_CLOSING_TIME):
                    await self._words_over.wait()
                self._refuse(str(exc))
            except _NOT_STARTED as exc:
                self._refuse(str(exc))
            if self._lease is not None and self._dropped.is_set():
                self.pass_on({"t": "end"}, None)
            if self._lease is None or frames is None:
                if self._scope.cancelled_caught:
                    self._refuse("its start was withdrawn")
            else:
                tn.start_soon(self._read, frames)
                await self._until_the_end()
            tn.cancel_scope.cancel()

    async def _open(self, frames: Incoming) -> None:
        """Greet the agent, and wait for its greeting."""
        assert self._outbox is not None
        await frames.skip_to(_FIRST_LINE)
        if self._back:
            # Before the greeting, from which the agent's lease runs.
            with trio.move_on_after(_PORT_TIMEOUT):
                await self._ports_known.wait()
            if missing := [one for one in self._back if one not in self._ports_there]:
                raise LinkError(f"the engine opened no way back to {missing}")
        self._outbox.put(encode({"t": "hello", "deadline": self.place.deadline, **self._hello}))
        # The first that it says; pings come once it is greeted.
        frame, _ = await frames.next()
        if frame["t"] != "hello":
            raise LinkError(f"the agent began with a frame {frame['t']!r}")
        self._lease = Answered(self.place.deadline, time.monotonic())
        self._tell(
            "opened", hello=frame, ports_there=[(one, self._ports_there[one]) for one in self._back]
        )

    async def _read(self, frames: Incoming) -> None:
        """What the agent says, until the link breaks."""
        assert self._lease is not None
        assert self._outbox is not None
        try:
            while True:
                frame, raw = await frames.next()
                if frame["t"] == "ping":
                    self._lease.ping(time.monotonic())
                    if self._is_silent:
                        self._is_silent = False
                        self._tell("heard")
                    self._outbox.put(encode({"t": "pong", "n": frame.get("n")}), urgent=True)
                    continue
                if frame["t"] in ("gone", "dead"):
                    self._was_killed = frame["t"] == "dead"
                    self._gone.set()
                    return
                frame.pop("raw", None)
                self._to_actor({**frame, "link": self.number}, raw)
        except LinkError as exc:
            silent = time.monotonic() - self._lease.last_sign
            self._tell("broken", error=f"{exc}{self._last_words()}", silent=silent)
        self._ended.set()

    async def _until_the_end(self) -> None:
        """Wait until nothing runs there any more, and tell which way that is known."""
        assert self._lease is not None
        while not self._gone.is_set():
            now = time.monotonic()
            left = self._lease.must_have_ended_at() - now
            silent = now - self._lease.last_sign
            if left <= 0:
                self._tell_lost(self._last_words().removeprefix("; "))
                return
            quiet_left = self._lease.silent_from() - now
            if quiet_left <= 0 and not self._is_silent:
                self._is_silent = True
                self._tell("silent", silent=silent)
            with trio.move_on_after(min(left, max(quiet_left, self.place.deadline / 8))):
                await self._gone.wait()
        if self._was_killed:
            self._tell_lost("the agent there was killed, and all that it had started has ended")
        else:
            self._tell("closed")

    def _tell_lost(self, error: str) -> None:
        assert self._lease is not None
        self._tell("lost", silent=time.monotonic() - self._lease.last_sign, error=error)

    async def _read_words(self, carrier: Carrier) -> None:
        await carrier.read_words(lambda line: self._note_line(line, carrier.port_in(line)))
        self._words_over.set()

    def _note_line(self, line: str, found: tuple[Target, Port] | None) -> None:
        if found is not None:
            self._ports_there[found[0]] = found[1]
            if set(self._back) <= self._ports_there.keys():
                self._ports_known.set()
            return
        self._words += line.encode() + b"\n"
        del self._words[:-_WORDS]
        if self._lease is not None:
            self._tell("words", text=line)

    def _last_words(self) -> str:
        """What the engine's command has said, to be put behind another text."""
        text = self._words.decode(errors="replace").strip()
        return f"; the last words of its engine:\n{text}" if text else ""

    def _refuse(self, why: str) -> None:
        self._tell("refused", error=f"{why}{self._last_words()}")

    def _tell(self, kind: str, **fields: Any) -> None:
        self._to_actor({"t": kind, "link": self.number, **fields}, None)


class LinkProcess:
    """All links of one actor.

    Args:
        sock: leads to the actor.
        parent: the actor's process.
    """

    def __init__(self, sock: socket.socket, parent: int) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._parent = parent
        self._outbox = Outbox(self._stream)
        self._links: dict[int, Link] = {}

    async def run(self) -> None:
        """Until the actor is gone, and everything that was started for it."""
        async with trio.open_nursery() as tn:
            tn.start_soon(self._outbox.run)
            async with trio.open_nursery() as links:
                async with trio.open_nursery() as watch:
                    watch.start_soon(self._watch_parent, watch.cancel_scope)
                    with suppress(LinkError):
                        await self._take_orders(links)
                    watch.cancel_scope.cancel()
                for link in self._links.values():
                    link.drop()
                with trio.move_on_after(LOSS_TIMEOUT):
                    for link in list(self._links.values()):
                        await link.finished.wait()
                links.cancel_scope.cancel()
            tn.cancel_scope.cancel()

    async def _watch_parent(self, scope: trio.CancelScope) -> None:
        watch = ExitWatch(self._parent)
        try:
            await watch.wait()
        finally:
            watch.close()
        scope.cancel()

    async def _take_orders(self, links: trio.Nursery) -> None:
        orders = Incoming(self._stream)
        while True:
            frame, raw = await orders.next()
            self._carry_out(frame, raw, links)

    def _carry_out(self, frame: dict[str, Any], raw: bytes | None, links: trio.Nursery) -> None:
        number = frame.pop("link")
        frame.pop("raw", None)
        if frame["t"] == "open":
            place = msgspec.convert(frame["place"], Place)
            tls = msgspec.convert(frame["tls"], TLSConfig | None)
            back = msgspec.convert(frame["back"], list[Target])
            link = Link(number, place, back, tls, frame["hello"], self._to_actor)
            self._links[number] = link
            links.start_soon(self._keep, link)
        elif (known := self._links.get(number)) is not None:
            if frame["t"] == "drop":
                known.drop()
            else:
                known.pass_on(frame, raw)

    async def _keep(self, link: Link) -> None:
        try:
            await link.run()
        finally:
            self._links.pop(link.number, None)

    def _to_actor(self, frame: dict[str, Any], raw: bytes | None) -> None:
        self._outbox.put(encode(frame, raw))


def main(argv: Iterable[str]) -> NoReturn:
    """Run this process as the link process of an actor; never returns.

    Args:
        argv: the descriptor of the socket that leads to it, and its pid.
    """
    fd, parent = (int(one) for one in argv)
    # A signal to the whole group is the actor's business, whose end is the end of this process. Not ignored: what is
    # would be ignored in the engines' commands, too.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # type: ignore[attr-defined, unused-ignore]
        signal.signal(number, lambda *_: None)
    sock = socket.socket(fileno=fd)
    trio.run(LinkProcess(sock, parent).run)
    sys.stderr.flush()
    os._exit(0)
