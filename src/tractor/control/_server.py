"""The control socket of an actor: a thread of its own accepts and answers.

**Who drives.**  The thread alone owns the sockets.  Some requests it answers itself, so that they work while the loop
is blocked; others it hands to the loop, which puts the answer into a queue and wakes the thread.  An answer that comes
too late, or for a peer that is gone, is dropped.

**Cost.**  While nobody asks, the thread sleeps in one `poll()` without a limit.
"""

from __future__ import annotations

import contextlib
import queue
import select
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import trio

from tractor import log as _log
from tractor._errors import TransportClosed
from tractor.control._protocol import (
    IDLE_LIMIT,
    LOOP_LIMIT,
    MAX_ANSWER,
    MAX_PEERS,
    MAX_REQUEST,
    STALL_LIMIT,
    Code,
    Refusal,
    answer,
    read_request,
    refusal,
)
from tractor.ipc._debug_sock import UserSocket, control_addr
from tractor.process._at_fork import close_in_child
from tractor.transport._uds import check_peer_uid, peer_credentials

log = _log.get_logger()

ThreadOp: TypeAlias = Callable[[], Any]
"""Answers in the control thread."""

LoopOp: TypeAlias = Callable[[Mapping[str, Any], int | None], Any]
"""Answers in the loop, at once; gets the request and the pid of who asks."""

LOOK_INTERVAL = 1.0
"""Seconds between two looks at the limits of connections, while there are any."""


class ControlServer:
    """The socket and its thread, until :meth:`close`.

    Args:
        name: the actor's.
        pid: this process.
        in_thread: what the thread answers, by op.
        in_loop: what the loop answers, by op.

    Raises:
        OSError, ValueError: there is no place for the socket.
        RuntimeError: no thread can be started.
    """

    def __init__(
        self,
        name: str,
        pid: int,
        in_thread: Mapping[str, ThreadOp],
        in_loop: Mapping[str, LoopOp],
    ) -> None:
        self._in_thread = dict(in_thread)
        self._in_loop = dict(in_loop)
        self._token = trio.lowlevel.current_trio_token()
        self._sock = UserSocket(control_addr(name, pid))
        self.path = self._sock.path
        self._listener = self._sock.listener
        self._listener.setblocking(False)
        self._wake_read, self._wake = socket.socketpair()
        for sock in (self._wake_read, self._wake):
            sock.setblocking(False)
            close_in_child(sock)
        self._peers: dict[int, _Peer] = {}
        # Answers of the loop: to whom, to which of its requests, what.
        self._answers: queue.SimpleQueue[tuple[_Peer, int, bytes]] = queue.SimpleQueue()
        self._closing = False
        # For the time of a fork there is no thread.
        self._paused = False
        try:
            self._thread = self._started()
        except RuntimeError:
            self._free()
            raise

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name="tractor control", daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """End the thread, and leave nothing behind.  Idempotent."""
        if self._closing:
            return
        self._closing = True
        self._end_thread()
        for peer in self._peers.values():
            peer.sock.close()
        self._peers.clear()
        self._free()

    def pause(self) -> None:
        """A fork is to come: end the thread, and begin another at the loop's next turn; connections stay.

        Called by whatever thread forks.
        """
        if self._closing or self._paused:
            return
        self._paused = True
        self._end_thread()
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._resume, idempotent=True)

    def _resume(self) -> None:
        if self._closing or not self._paused:
            return
        self._paused = False
        try:
            self._thread = self._started()
        except RuntimeError as exc:
            log.error("nobody can ask at %s any more: %s", self.path, exc)

    def _end_thread(self) -> None:
        self._wake_up()
        self._thread.join()

    @property
    def is_closed(self) -> bool:
        """Whether nobody is answered any more."""
        return self._closing

    @property
    def ops(self) -> list[str]:
        """What may be asked."""
        return [*self._in_thread, *self._in_loop]

    def add(self, in_loop: Mapping[str, LoopOp]) -> None:
        """Have the loop answer further requests."""
        # As a whole, since the thread looks at it.
        self._in_loop = {**self._in_loop, **in_loop}

    def _free(self) -> None:
        self._sock.unlink()
        for sock in (self._listener, self._wake, self._wake_read):
            sock.close()

    def _wake_up(self) -> None:
        # One that is full wakes as well.
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    # -- in the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        if sys.platform == "win32":
            raise NotImplementedError
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        self._rearm(poll)
        try:
            while not (self._closing or self._paused):
                for fd, event in poll.poll(LOOK_INTERVAL * 1000 if self._peers else None):
                    self._on_event(fd, event)
                self._deliver()
                self._apply_limits(time.monotonic())
                self._rearm(poll)
        except Exception:
            log.exception("the control socket %s is given up", self.path)

    def _rearm(self, poll: Any) -> None:
        for fd, peer in list(self._peers.items()):
            if peer.gone:
                with contextlib.suppress(KeyError):
                    poll.unregister(fd)
                peer.sock.close()
                del self._peers[fd]
            else:
                # Who waits for an answer is not read: one request at a time.
                reads = not peer.out and peer.due is None
                poll.register(fd, select.POLLOUT if peer.out else select.POLLIN if reads else 0)  # type: ignore[attr-defined, unused-ignore]

    def _on_event(self, fd: int, event: int) -> None:
        if fd == self._wake_read.fileno():
            with contextlib.suppress(BlockingIOError):
                while self._wake_read.recv(4096):
                    pass
        elif fd == self._listener.fileno():
            self._accept()
        elif (peer := self._peers.get(fd)) is not None:
            if peer.out:
                peer.write()
            elif peer.due is None:
                peer.read()
                self._serve(peer)
            else:
                # It has hung up: nothing else is waited for.
                peer.gone = True

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
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
            if (at_once := self._in_thread.get(op)) is not None:
                peer.say(answer(at_once()))
            elif (later := self._in_loop.get(op)) is not None:
                self._ask_loop(peer, later, request)
            else:
                known = ", ".join(sorted([*self._in_thread, *self._in_loop]))
                raise Refusal(Code.UNKNOWN_OP, f"there is no op {op!r}, but {known}")
        except Refusal as exc:
            peer.say(refusal(exc))
        except Exception as exc:
            log.exception("a request at the control socket failed")
            peer.say(refusal(Refusal(Code.FAILED, repr(exc))))

    def _ask_loop(self, peer: _Peer, op: LoopOp, request: dict[str, Any]) -> None:
        number = peer.asked = peer.asked + 1
        peer.due = time.monotonic() + LOOP_LIMIT

        def ask() -> None:
            self._answers.put((peer, number, _answered(op, request, peer.pid)))
            self._wake_up()

        try:
            self._token.run_sync_soon(ask)
        except trio.RunFinishedError:
            peer.due = None
            peer.say(refusal(Refusal(Code.FAILED, "the actor has ended")))

    def _deliver(self) -> None:
        while not self._answers.empty():
            peer, number, line = self._answers.get()
            if peer.due is not None and peer.asked == number:
                peer.due = None
                peer.say(line)
                self._serve(peer)

    def _apply_limits(self, now: float) -> None:
        for peer in self._peers.values():
            if peer.due is not None and now >= peer.due:
                peer.due = None
                text = f"the actor's loop did not come to it in {LOOP_LIMIT:g} s; `stacks` says what it does"
                peer.say(refusal(Refusal(Code.TOO_SLOW, text)))
                self._serve(peer)
            elif peer.due is None:
                limit = STALL_LIMIT if peer.out else IDLE_LIMIT
                peer.gone = peer.gone or now - peer.moved >= limit


def _answered(op: LoopOp, request: dict[str, Any], pid: int | None) -> bytes:
    try:
        return answer(op(request, pid))
    except Refusal as exc:
        return refusal(exc)
    except Exception as exc:
        log.exception("the request %r at the control socket failed", request.get("op"))
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
        # How many of its requests went to the loop.
        self.asked = 0
        self.lines: deque[bytes] = deque()
        self._read = bytearray()

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
