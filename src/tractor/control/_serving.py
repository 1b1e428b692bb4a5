"""Serving the users of an actor's control socket.

**Who drives.**  The socket's thread alone accepts and answers.  Some requests it answers itself, so these work while
the loop is blocked; others it hands to the loop, which puts the answer into a queue and wakes the thread.  An answer
that comes too late, or for a peer that is gone, is dropped.
"""

from __future__ import annotations

import contextlib
import queue
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias

import trio

from tractor import log as _log
from tractor._errors import TransportClosed
from tractor.control._protocol import (
    IDLE_LIMIT,
    LONGEST,
    LOOP_LIMIT,
    MAX_ANSWER,
    MAX_PEERS,
    MAX_REQUEST,
    SAMPLE_LIMIT,
    STALL_LIMIT,
    Code,
    Refusal,
    answer,
    read_request,
    refusal,
)
from tractor.control._socket import Act, ControlSocket
from tractor.process._at_fork import close_in_child
from tractor.transport._uds import check_peer_uid, peer_credentials

log = _log.get_logger()

ThreadOp: TypeAlias = Callable[[Mapping[str, Any]], Any]
"""Answers a request in the control thread."""


Later: TypeAlias = Callable[[Mapping[str, Any], int | None], Awaitable[Any]]
"""Answers a request in a task of the loop, within the seconds that the request gives as its ``limit``."""

Spawn: TypeAlias = Callable[[Callable[[], Awaitable[None]]], None]
"""Starts a task in the loop; called there."""

SLACK = 0.5
"""Seconds that a task of the loop has beyond the request's limit."""


class LoopFirst(NamedTuple):
    """What the loop answers if it comes to it in time, else the control thread.

    Attributes:
        in_loop: gets the request, and the seconds that the loop took to come to it.
        in_thread: gets the request, and the seconds for which the loop has not come to anything that it was asked.
        limit: seconds for the loop.
    """

    in_loop: Callable[[Mapping[str, Any], float], Any]
    in_thread: Callable[[Mapping[str, Any], float], Any]
    limit: float = SAMPLE_LIMIT


class Feed(Protocol):
    """What goes on to be told to a peer, until its connection ends, or it says by ending its side that it is enough."""

    @property
    def due(self) -> float:
        """When the next line is due, by the monotonic clock."""

    def line(self, now: float, last: bool = False) -> bytes | None:
        """The next line, if one is due; ``last``: what there still is, due or not."""

    def close(self) -> None:
        """Nothing more is wanted.  Idempotent."""


FeedOp: TypeAlias = Callable[[Mapping[str, Any]], tuple[Any, Feed]]
"""Answers a request in the control thread, and goes on."""

LOOK_INTERVAL = 1.0
"""Seconds between two looks at the limits of connections, while there are any."""

LAST_LIMIT = 0.1
"""Seconds that an actor which ends waits for a peer to take what it has still to hear."""


class Serving:
    """Serves the users of a control socket, in its thread.

    Args:
        control: the socket, whose acts the loop answers.
        in_thread: what the thread answers, by op.
        either: what the loop answers, or the thread where the loop does not come to it.
        acts: what the loop answers, beside the acts of the socket.
        feeds: what goes on after its answer.
        later: what a task of the loop answers.
        spawn: starts such a task; ``None``: there is none of them.
    """

    def __init__(
        self,
        control: ControlSocket,
        in_thread: Mapping[str, ThreadOp],
        either: Mapping[str, LoopFirst] | None = None,
        acts: Mapping[str, Act] | None = None,
        feeds: Mapping[str, FeedOp] | None = None,
        later: Mapping[str, Later] | None = None,
        spawn: Spawn | None = None,
    ) -> None:
        self.later = dict(later or {})
        self._spawn = spawn
        self.in_thread = dict(in_thread)
        self.either = dict(either or {})
        self.feeds = dict(feeds or {})
        self._own_acts = dict(acts or {})
        self._control = control
        self._peers: dict[int, _Peer] = {}
        # Answers of the loop: to whom, to which of its requests, what.
        # Since when the loop has not come to what it was asked first; `None`: it has come to all.
        self._silent_since: float | None = None
        self._answers: queue.SimpleQueue[tuple[_Peer, int, bytes]] = queue.SimpleQueue()

    @property
    def ops(self) -> list[str]:
        """What may be asked."""
        return [*self.in_thread, *self.either, *self.later, *self.feeds, *self._acts]

    @property
    def _acts(self) -> dict[str, Act]:
        return {**self._own_acts, **self._control.acts}

    def close(self) -> None:
        """Hang up on everybody, once the thread has ended."""
        for peer in self._peers.values():
            if peer.feed is not None and not peer.gone:
                peer.finish(LAST_LIMIT)
            peer.close()
        self._peers.clear()

    def run(self) -> None:
        """Serve until the socket is ending; raises what nobody has thought of."""
        if sys.platform == "win32":
            raise NotImplementedError
        poll = select.poll()
        poll.register(self._control.listener, select.POLLIN)
        poll.register(self._control.woken, select.POLLIN)
        self._rearm(poll)
        while not self._control.is_ending:
            for fd, event in poll.poll(self._patience()):
                self._on_event(fd, event)
            self._deliver()
            self._tell_on()
            self._apply_limits(time.monotonic())
            self._rearm(poll)

    def _patience(self) -> float | None:
        """Milliseconds until something must be looked at, whatever happens."""
        if not self._peers:
            return None
        now = time.monotonic()
        due = [peer.due - now for peer in self._peers.values() if peer.due is not None]
        due += [
            peer.feed.due - now
            for peer in self._peers.values()
            if peer.feed is not None and not peer.out
        ]
        return 1000 * max(0.001, min([LOOK_INTERVAL, *due]))

    def _rearm(self, poll: Any) -> None:
        for fd, peer in list(self._peers.items()):
            if peer.gone:
                with contextlib.suppress(KeyError):
                    poll.unregister(fd)
                peer.close()
                del self._peers[fd]
            elif peer.feed is not None:
                # Its end is noted at once, also while it takes nothing.
                reads = 0 if peer.is_enough else select.POLLIN  # type: ignore[attr-defined, unused-ignore]
                poll.register(fd, reads | (select.POLLOUT if peer.out else 0))  # type: ignore[attr-defined, unused-ignore]
            else:
                # Who waits for an answer is not read: one request at a time.
                reads = not peer.out and peer.due is None
                poll.register(fd, select.POLLOUT if peer.out else select.POLLIN if reads else 0)  # type: ignore[attr-defined, unused-ignore]

    def _on_event(self, fd: int, event: int) -> None:
        if fd == self._control.woken.fileno():
            with contextlib.suppress(BlockingIOError):
                while self._control.woken.recv(4096):
                    pass
        elif fd == self._control.listener.fileno():
            self._accept()
        elif (peer := self._peers.get(fd)) is not None:
            if peer.feed is not None:
                if event & ~select.POLLOUT:  # type: ignore[attr-defined, unused-ignore]
                    peer.listen()
                if peer.out:
                    peer.write()
            elif peer.out:
                peer.write()
            elif peer.due is None:
                peer.read()
                self._serve(peer)
            else:
                # It has hung up: nothing else is waited for.
                peer.gone = True

    def _accept(self) -> None:
        try:
            sock, _ = self._control.listener.accept()
        except OSError:
            return
        try:
            sock.setblocking(False)
            check_peer_uid(sock)
            close_in_child(sock)
            peer = _Peer(sock)
            if len(self._peers) >= MAX_PEERS:
                text = f"{MAX_PEERS} are connected already"
                sock.send(refusal(Refusal(Code.BUSY, text)))
                sock.close()
                return
        except (TransportClosed, OSError) as exc:
            log.warning("refused who wanted to ask at the control socket: %s", exc)
            sock.close()
            return
        self._peers[sock.fileno()] = peer

    def _serve(self, peer: _Peer) -> None:
        """Answer what it has asked, one after the other."""
        while peer.lines and peer.due is None and not peer.gone:
            self._on_line(peer, peer.lines.popleft())

    def _on_line(self, peer: _Peer, line: bytes) -> None:
        try:
            request = read_request(line)
            op = request["op"]
            if (at_once := self.in_thread.get(op)) is not None:
                peer.say(answer(at_once(request)))
            elif (either := self.either.get(op)) is not None:
                begun = time.monotonic()
                peer.instead = lambda: either.in_thread(request, self._silence())
                self._ask_loop(
                    peer,
                    lambda r, _: either.in_loop(r, time.monotonic() - begun),
                    request,
                    either.limit,
                )
            elif (feed := self.feeds.get(op)) is not None:
                first, peer.feed = feed(request)
                peer.lines.clear()
                peer.say(answer(first))
            elif (task := self.later.get(op)) is not None and self._spawn is not None:
                self._ask_task(peer, task, request, self._spawn)
            elif (act := self._acts.get(op)) is not None:
                self._ask_loop(peer, act, request)
            else:
                known = ", ".join(sorted(self.ops))
                raise Refusal(Code.UNKNOWN_OP, f"there is no op {op!r}, but {known}")
        except Refusal as exc:
            peer.say(refusal(exc))
        except Exception as exc:
            log.exception("a request at the control socket failed")
            peer.say(refusal(Refusal(Code.FAILED, repr(exc))))

    def _ask_loop(
        self, peer: _Peer, op: Act, request: dict[str, Any], limit: float | None = None
    ) -> None:
        number = peer.asked = peer.asked + 1

        def ask() -> None:
            self._put(peer, number, _made(partial(op, request, peer.pid)))

        self._begin(peer, LOOP_LIMIT if limit is None else limit, ask)

    def _ask_task(self, peer: _Peer, op: Later, request: dict[str, Any], spawn: Spawn) -> None:
        number = peer.asked = peer.asked + 1

        async def task() -> None:
            try:
                value = await op(request, peer.pid)
            except Exception as exc:
                self._put(peer, number, _made(partial(_raise, exc)))
            else:
                self._put(peer, number, _made(lambda: value))

        def begin() -> None:
            self._silent_since = None
            try:
                spawn(task)
            except RuntimeError as exc:
                self._put(peer, number, refusal(Refusal(Code.FAILED, f"it is ending: {exc}")))

        given = request.get("limit")
        limit = min(float(given), LONGEST) if isinstance(given, int | float) else LOOP_LIMIT
        self._begin(peer, limit + SLACK, begin)

    def _silence(self) -> float:
        since = self._silent_since
        return 0.0 if since is None else time.monotonic() - since

    def _put(self, peer: _Peer, number: int, line: bytes) -> None:
        """In the loop: an answer for the thread."""
        # All that was asked before has been come to: it goes in order.
        self._silent_since = None
        self._answers.put((peer, number, line))
        self._control.wake_up()

    def _begin(self, peer: _Peer, limit: float, ask: Callable[[], None]) -> None:
        """Have the loop do something for a peer, within a limit."""
        peer.limit = limit
        now = time.monotonic()
        peer.due = now + limit
        if self._silent_since is None:
            self._silent_since = now
        try:
            self._control.token.run_sync_soon(ask)
        except trio.RunFinishedError:
            peer.due = peer.instead = None
            peer.say(refusal(Refusal(Code.FAILED, "the actor has ended")))

    def _deliver(self) -> None:
        while not self._answers.empty():
            peer, number, line = self._answers.get()
            if peer.due is not None and peer.asked == number:
                peer.due = peer.instead = None
                peer.say(line)
                self._serve(peer)

    def _tell_on(self) -> None:
        now = time.monotonic()
        for peer in self._peers.values():
            if peer.feed is not None and not peer.gone:
                peer.tell(now, peer.is_enough)

    def _apply_limits(self, now: float) -> None:
        for peer in self._peers.values():
            if peer.feed is not None:
                peer.gone = peer.gone or (bool(peer.out) and now - peer.moved >= STALL_LIMIT)
            elif peer.due is not None and now >= peer.due:
                peer.due = None
                if peer.instead is not None:
                    instead, peer.instead = peer.instead, None
                    peer.say(_made(instead))
                    self._serve(peer)
                    continue
                text = f"the actor's loop did not come to it in {peer.limit:g} s; `stacks` says what it does"
                peer.say(refusal(Refusal(Code.TOO_SLOW, text)))
                self._serve(peer)
            elif peer.due is None:
                limit = STALL_LIMIT if peer.out else IDLE_LIMIT
                peer.gone = peer.gone or now - peer.moved >= limit


def _raise(exc: Exception) -> Any:
    raise exc


def _made(make: Callable[[], Any]) -> bytes:
    try:
        return answer(make())
    except Refusal as exc:
        return refusal(exc)
    except Exception as exc:
        log.exception("a request at the control socket failed")
        return refusal(Refusal(Code.FAILED, repr(exc)))


class _Peer:
    """One connection, in the thread."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.pid = peer_credentials(sock)[0]
        self.out = bytearray()
        # It is to be closed.
        self.gone = False
        # When it has said or taken something last.
        self.moved = time.monotonic()
        # Until when the loop must have answered; `None`: it was not asked.
        self.due: float | None = None
        # What answers if the loop does not.
        self.instead: Callable[[], Any] | None = None
        # How long that is, from the request on.
        self.limit = LOOP_LIMIT
        # How many of its requests went to the loop.
        self.asked = 0
        self.lines: deque[bytes] = deque()
        # What goes on to be told to it.
        self.feed: Feed | None = None
        # It has said that it wants no more of that than there is.
        self.is_enough = False
        self._read = bytearray()

    def close(self) -> None:
        """Hang up, and tell it nothing any more."""
        self.sock.close()
        if self.feed is not None:
            self.feed.close()

    def tell(self, now: float, last: bool) -> None:
        """Have it get the lines of its feed that are due, as long as it takes them."""
        while self.feed is not None and not self.out and not self.gone:
            line = self.feed.line(now, last)
            if line is None:
                self.gone = last
                return
            self.say(line)

    def finish(self, limit: float) -> None:
        """Have it get what there still is, as far as it takes that within ``limit`` seconds."""
        end = time.monotonic() + limit
        while not self.gone and (left := end - time.monotonic()) > 0:
            self.tell(time.monotonic(), last=True)
            if self.out:
                select.select([], [self.sock], [], left)
                self.write()

    def listen(self) -> None:
        """Take note of its end; what else it says meanwhile is no request."""
        try:
            data = self.sock.recv(MAX_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            self.gone = True
            return
        self.is_enough = not data

    def say(self, line: bytes) -> None:
        """Have it get a line."""
        if len(self.out) + len(line) > MAX_ANSWER:
            self.gone = True
            return
        self.out += line
        self.moved = time.monotonic()
        self.write()

    def write(self) -> None:
        """Send what it takes now."""
        try:
            while self.out:
                del self.out[: self.sock.send(self.out)]
                self.moved = time.monotonic()
        except BlockingIOError:
            pass
        except OSError:
            self.gone = True

    def read(self) -> None:
        """Take what has come."""
        try:
            data = self.sock.recv(MAX_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.gone = True
            return
        self.moved = time.monotonic()
        self._read += data
        *lines, rest = self._read.split(b"\n")
        self._read = bytearray(rest)
        if len(rest) > MAX_REQUEST or any(len(line) > MAX_REQUEST for line in lines):
            lines = []
            self.say(
                refusal(Refusal(Code.BAD_REQUEST, f"a request has at most {MAX_REQUEST} bytes"))
            )
            self.gone = True
        self.lines.extend(map(bytes, lines))
