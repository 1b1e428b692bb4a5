"""Asking many actors at once, each the same: one thread, one wait for all, one limit for the whole."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tractor._errors import TransportClosed
from tractor.control._protocol import MAX_ANSWER, VERSION, Code, Refusal, read_answer
from tractor.transport._uds import check_peer_uid, peer_credentials

IN_FLIGHT = 64
"""Actors that are asked at a time."""

PATIENCE = 3
"""Limits that it takes in all, as long as one after another answers: a busy machine makes nobody mute."""

RETRY = 0.02
"""Seconds until one whose queue is full is tried again."""

MOST_KEPT = 300
"""Connections that are kept from one round to the next; each is a file descriptor."""


class Reply:
    """What an actor has said.

    Attributes:
        pid: who listens, by the kernel's word; ``None``: unknown.
        answers: one for each request that was answered, as far as that went; a Refusal where it was one.
        listens: somebody accepts connections there; ``None``: that was not found out.
        problem: why not all were answered; empty: they were.
    """

    def __init__(self) -> None:
        self.pid: int | None = None
        self.answers: list[Any] = []
        self.listens: bool | None = None
        self.problem = ""


class Known(NamedTuple):
    """A connection that is kept.

    Attributes:
        sock: it; nothing is due on it.
        pid: who listens, by the kernel's word.
        hello: who that has said to be, which does not change; ``None``: that was not asked.
    """

    sock: socket.socket
    pid: int
    hello: Any


class Kept:
    """Connections to actors that were asked, for the next round: to ask an actor each second costs less that way."""

    def __init__(self) -> None:
        self._known: dict[Path, Known] = {}

    def __len__(self) -> int:
        return len(self._known)

    def pop(self, path: Path) -> Known | None:
        """That to an actor."""
        return self._known.pop(path, None)

    def keep(self, path: Path, known: Known) -> bool:
        """Take one; whether there is room for it."""
        if len(self._known) >= MOST_KEPT:
            return False
        self._known[path] = known
        return True

    def close(self) -> None:
        """Hang up on all."""
        while self._known:
            self._known.popitem()[1].sock.close()


def ask_all(
    paths: Sequence[Path],
    requests: Sequence[Mapping[str, Any]],
    limit: float,
    *,
    own: Mapping[Path, Sequence[Mapping[str, Any]]] | None = None,
    kept: Kept | None = None,
) -> dict[Path, Reply]:
    """Ask each of the actors that listen at ``paths`` all ``requests``, in their order.

    Args:
        paths: of control sockets.
        requests: each with its ``"op"``.
        limit: seconds in which the next of them must have answered; in all it takes at most three times that.
        own: what single ones are asked after that; as many requests for each, where there are some.
        kept: connections of the round before, which are used again, and those for the next one.

    Returns:
        What each has said, with the problem where it said less; never an error.
    """
    with _Round(requests, limit, own or {}, kept) as one:
        return one.run(paths)


def _lines(requests: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(msgspec.json.encode({"v": VERSION, **request}) + b"\n" for request in requests)


class _Round:
    def __init__(
        self,
        requests: Sequence[Mapping[str, Any]],
        limit: float,
        own: Mapping[Path, Sequence[Mapping[str, Any]]],
        kept: Kept | None,
    ) -> None:
        self._text = _lines(requests)
        self._begins_with_hello = bool(requests) and requests[0]["op"] == "hello"
        self._after_hello = _lines(requests[1:])
        self._count = len(requests)
        self._own = own
        self._kept = kept
        self._limit = limit
        self._last = time.monotonic() + PATIENCE * limit
        self._end = min(self._last, time.monotonic() + limit)
        self._selector = selectors.DefaultSelector()
        self._open: dict[Path, _Conversation] = {}
        self._waiting: deque[Path] = deque()
        self.replies: dict[Path, Reply] = {}

    def __enter__(self) -> _Round:
        return self

    def __exit__(self, *_exc: object) -> None:
        for one in self._open.values():
            one.sock.close()
        self._selector.close()

    def run(self, paths: Sequence[Path]) -> dict[Path, Reply]:
        self.replies = {path: Reply() for path in paths}
        waiting = self._waiting = deque(paths)
        while (waiting or self._open) and (left := self._end - time.monotonic()) > 0:
            full = self._begin(waiting)
            if not self._open:
                time.sleep(min(RETRY, left) if full else 0)
                continue
            for key, _ in self._selector.select(min(left, RETRY) if full else left):
                self._go_on(key.data)
        for path in [*waiting, *self._open]:
            reply = self.replies[path]
            reply.problem = reply.problem or f"no answer within {self._limit:g} s"
        return self.replies

    def _begin(self, waiting: deque[Path]) -> bool:
        """Connect to as many as may be asked at a time; whether one had to be put off."""
        for _ in range(len(waiting)):
            if len(self._open) >= IN_FLIGHT:
                return False
            path = waiting.popleft()
            try:
                self._open[path] = one = self._conversation(path)
            except BlockingIOError:
                waiting.append(path)
                return True
            except (OSError, TransportClosed) as exc:
                self.replies[path].problem = str(exc) or type(exc).__name__
                self.replies[path].listens = False
                continue
            self._selector.register(one.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, one)
        return False

    def _conversation(self, path: Path) -> _Conversation:
        own = self._own.get(path, ())
        more = _lines(own) if own else b""
        wanted = self._count + len(own)
        reply = self.replies[path]
        old = self._kept.pop(path) if self._kept is not None else None
        if old is not None:
            is_said = self._begins_with_hello and old.hello is not None
            text = (self._after_hello if is_said else self._text) + more
            try:
                one = _Conversation(path, reply, text, wanted, old)
            except OSError:
                # It has hung up since; perhaps another one listens there by now.
                old.sock.close()
            else:
                reply.answers = [old.hello] if is_said else []
                one.hello = old.hello
                return one
        return _Conversation(path, reply, self._text + more, wanted)

    def _go_on(self, one: _Conversation) -> None:
        try:
            if one.go_on():
                self._close(one, keep=True)
                self._end = min(self._last, time.monotonic() + self._limit)
            elif not one.text:
                self._selector.modify(one.sock, selectors.EVENT_READ, one)
        except (OSError, ValueError) as exc:
            self._close(one)
            if one.is_old and not one.has_come:
                # It was hung up just now. Who listens there by now, if anybody does, says so himself.
                self.replies[one.path] = Reply()
                self._waiting.append(one.path)
            else:
                one.reply.problem = str(exc) or type(exc).__name__

    def _close(self, one: _Conversation, keep: bool = False) -> None:
        self._selector.unregister(one.sock)
        if not (keep and self._is_kept(one)):
            one.sock.close()
        del self._open[one.path]

    def _is_kept(self, one: _Conversation) -> bool:
        if self._kept is None or one.reply.pid is None:
            return False
        if self._begins_with_hello and not isinstance(one.reply.answers[0], Refusal):
            one.hello = one.reply.answers[0]
        return self._kept.keep(one.path, Known(one.sock, one.reply.pid, one.hello))


class _Conversation:
    """Raises OSError, TransportClosed: nobody listens, or another user; BlockingIOError: its queue is full."""

    def __init__(
        self,
        path: Path,
        reply: Reply,
        text: bytes,
        wanted: int,
        old: Known | None = None,
    ) -> None:
        self.path = path
        self.reply = reply
        self.text = text
        self._wanted = wanted
        self._line = bytearray()
        self.hello: Any = None
        self.is_old = old is not None
        self.has_come = False
        if old is not None:
            self.sock = old.sock
            if self._has_hung_up():
                raise ConnectionResetError(errno.ECONNRESET, "it has hung up")
            reply.listens, reply.pid = True, old.pid
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)  # type: ignore[attr-defined, unused-ignore]
        try:
            self.sock.setblocking(False)
            self.sock.connect(str(path))
            self.reply.listens = True
            check_peer_uid(self.sock, may_be_anyone=os.geteuid() == 0)  # type: ignore[attr-defined, unused-ignore]
            self.reply.pid = peer_credentials(self.sock)[0]
        except BaseException:
            self.sock.close()
            raise

    def _has_hung_up(self) -> bool:
        """Whether a connection that was kept is over; nothing is due on it."""
        try:
            self.sock.recv(1)
        except BlockingIOError:
            return False
        # What comes unasked is no answer to what will be asked.
        return True

    def go_on(self) -> bool:
        """Send and take what can be now; whether all is answered.  Raises OSError, ValueError."""
        if self.text:
            try:
                self.text = self.text[self.sock.send(self.text) :]
            except BlockingIOError:
                pass
            except (BrokenPipeError, ConnectionResetError):
                # It has hung up, and may have said why.
                self.text = b""
        try:
            data = self.sock.recv(262_144)
        except BlockingIOError:
            return False
        if not data:
            raise OSError(errno.ECONNRESET, "it has hung up")
        self.has_come = True
        *lines, rest = (self._line + data).split(b"\n")
        self._line = rest
        if len(rest) > MAX_ANSWER:
            raise ValueError(f"an answer of more than {MAX_ANSWER} bytes")
        for line in lines:
            try:
                self.reply.answers.append(read_answer(bytes(line)))
            except Refusal as exc:
                self.reply.answers.append(exc)
                if exc.code is Code.BUSY:
                    raise OSError(errno.EBUSY, exc.text) from None
        return len(self.reply.answers) >= self._wanted
