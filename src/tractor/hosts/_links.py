"""An actor's links to other hosts: its side of the link process, and the processes that it has started there.

Theory of operation.  The first start on another host starts the link process (:mod:`tractor.hosts._link_main`), which
an actor keeps to its end.  One task reads what it says.  A `Host` is one link; its agent over there is a process
parent, and each :class:`~tractor.hosts._process.RemoteProcess` is one that it has started.

A process there has *ended* when its agent says so; when the agent says that nothing runs there any more; or when the
lease says that nothing can.  In the last case its exit status is not known, and `lost` tells of it.

Why the races are safe.  All of this runs in the actor's loop; what waits for an answer is told by the reader.

- *A start that is given up while the agent carries it out* is killed by number: the order follows the other on the same
  stream.
- *A link that breaks* refuses every order that is not answered, and the processes on it are waited for until they are
  known to have ended.
- *The link process is killed*: its engines' commands lose their stdin, the agents see that or their lease ends.  All
  links then count as lost after the longest time that this can take.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, NoReturn

import msgspec
import trio

from tractor import log as _log
from tractor._errors import HostUnavailable
from tractor._proto.deadlines import LOSS_TIMEOUT
from tractor._util._version import __version__
from tractor.hosts._engine import get_engine
from tractor.hosts._frames import encode, to_bytes
from tractor.hosts._place import Place
from tractor.hosts._process import Lost, RemoteProcess
from tractor.hosts._ship import shipments
from tractor.hosts._streams import Incoming, LinkError, Outbox
from tractor.msg.types import Uid
from tractor.process._at_fork import close_in_child
from tractor.process._state import ProcessVar
from tractor.process._stdio import dup_above_stdio, has_stream, write_and_close
from tractor.runtime._actor import Actor
from tractor.spawn._command import program_command
from tractor.spawn._exec import PopenChild
from tractor.spawn._signal_help import held_off

log = _log.get_logger()

_PART = 256 * 1024
"""Bytes of shipped code in one frame: between two of them a ping is answered."""
_MAX_UNPRINTED = 1024 * 1024


class _Question:
    """What the agent was asked, until it answers or the link is lost."""

    def __init__(self, answers: tuple[str, ...]) -> None:
        self.answers = answers
        self.answer: dict[str, Any] | None = None
        self.over = trio.Event()


class Host:
    """A link to another host, and what runs there for this actor.

    Attributes:
        place: where it leads.
        facts: what the agent has said of itself and its host, once the link is open.
        processes: those that it has started, by number.
        parent_addr: where an actor there reaches this one.
        opened_at: when that was, in seconds since 1970.
        own_host: the address there of the interface towards this host, for what listens there.
        is_dropped: it is being closed, or its start withdrawn: nobody else may come to use it.
    """

    def __init__(self, links: Links, number: int, place: Place) -> None:
        self.links = links
        self.number = number
        self.place = place
        self.facts: dict[str, Any] = {}
        self.processes: dict[int, RemoteProcess] = {}
        self.parent_addr: tuple[str, int] = ("", 0)
        self.own_host = ""
        self.holders = 0
        self.is_dropped = False
        self.opened = trio.Event()
        self.ended = trio.Event()
        self.error: HostUnavailable | None = None
        self.port_there: int | None = None
        self.opened_at = 0.0
        self._next = 0
        self._asking = trio.Lock()
        # In their order, which is that of the answers; who has given one up leaves it here.
        self._questions: deque[_Question] = deque()

    @property
    def is_usable(self) -> bool:
        """Whether something can be started there."""
        return self.opened.is_set() and not self.ended.is_set() and self.error is None

    @property
    def host_id(self) -> str:
        """The id of that host; see :func:`~tractor.process.host._host_id.host_id`."""
        return str(self.facts.get("host", ""))

    def send(self, frame: dict[str, Any], raw: bytes | None = None) -> None:
        """Send a frame to the agent; what can't be sent is dropped, as the link is lost then."""
        self.links.send({**frame, "link": self.number}, raw)

    async def ask(
        self, frame: dict[str, Any], *answers: str, raw: bytes | None = None
    ) -> dict[str, Any]:
        """Send a frame, and wait for the answer, of one of these types.

        Raises:
            HostUnavailable: no answer within the place's ``start_timeout``; the link was lost meanwhile.
        """
        async with self._asking:
            question = _Question(answers)
            self._questions.append(question)
            self.send(frame, raw)
            with trio.move_on_after(self.place.start_timeout) as limit:
                await question.over.wait()
        if limit.cancelled_caught:
            raise self.unavailable(f"no answer within start_timeout={self.place.start_timeout} s")
        if question.answer is None:
            raise self.unavailable("the link was lost")
        return question.answer

    async def ship(self) -> list[str]:
        """Have the place's code there; what stands for it in the import path of an actor there.

        Raises:
            HostUnavailable: the link was lost; or the code can't be kept there.
            ModuleNotFoundError, RuntimeFailure, OSError: the code can't be sent; see :func:`shipments`.
        """
        if not self.place.ship:
            return []
        files = await trio.to_thread.run_sync(shipments, self.place)
        items = {f"{file.digest}/{file.name}": file for file in files}
        missing = (await self.ask({"t": "have", "hashes": list(items)}, "has"))["missing"]
        for file in (items[item] for item in missing):
            parts = [file.data[at : at + _PART] for at in range(0, len(file.data), _PART)] or [b""]
            order = {"t": "ship", "hash": file.digest, "name": file.name}
            for part in parts[:-1]:
                # One after the other: a ping's answer would wait behind all that was sent.
                reply = await self.ask({**order, "more": True}, "part", "shipped", raw=part)
                if reply.get("error"):
                    break
            else:
                reply = await self.ask(order, "shipped", raw=parts[-1])
            if reply.get("error"):
                raise self.unavailable(f"{file.name!r} can't be kept there: {reply['error']}")
        return [file.entry for file in files]

    async def spawn(self, uid: Uid, frame: dict[str, Any]) -> RemoteProcess:
        """Start a process there.

        Raises:
            OSError: it could not be started there.
            HostUnavailable: not within the place's ``start_timeout``; or the link was lost.
        """
        self._next += 1
        number = self._next
        process = RemoteProcess(
            self, number, uid, shlex.join([self.place.python, *frame["argv"][1:-2]])
        )
        self.processes[number] = process
        self.send({"t": "spawn", "id": number, **frame})
        try:
            with trio.fail_after(self.place.start_timeout):
                await process.started.wait()
            if process.error is not None:
                raise process.error
        except BaseException as exc:
            if process.error is None:
                # It may be started at this very moment: the agent has the orders in their order.
                process.kill()
                with trio.move_on_after(LOSS_TIMEOUT, shield=True):
                    await process.wait()
            self.processes.pop(number, None)
            self.note_use()
            if isinstance(exc, trio.TooSlowError):
                raise self.unavailable(
                    f"no process was started within start_timeout={self.place.start_timeout} s"
                ) from None
            if isinstance(exc, ConnectionError):
                raise self.unavailable("the link was lost during the start") from None
            raise
        return process

    def note_use(self) -> None:
        """Something that has used the link is gone; without any use left it is closed."""
        if not self.processes and not self.holders and self.opened.is_set():
            self.links.drop(self)

    def unavailable(self, why: str) -> HostUnavailable:
        """An error that says why nothing can be started there."""
        return HostUnavailable(f"host {self.place.name!r}: {why}")

    # -- told by the link process ---------------------------------------------------------------------

    def handle(self, frame: dict[str, Any]) -> None:
        """Take what the link process or the agent says."""
        kind = frame["t"]
        if kind == "opened":
            self.facts = frame["hello"]
            self.opened_at = time.time()
            self.port_there = frame["port_there"]
            self.opened.set()
        elif kind == "refused":
            self.error = self.unavailable(frame["error"])
            self._end(None)
        elif kind == "closed":
            self._end(None)
        elif kind == "lost":
            self._end(Lost(frame["error"], frame["silent"]))
        elif kind in ("words", "warn"):
            log.warning("host %r: %s", self.place.name, frame["text"])
        elif kind == "broken":
            log.warning(
                "the link to host %r broke: %s; what runs there ends within %s s",
                self.place.name,
                frame["error"],
                self.place.deadline + LOSS_TIMEOUT,
            )
            self._fail_question()
        elif "id" in frame:
            self._handle_process(kind, frame)
        elif self._questions and kind in self._questions[0].answers:
            question = self._questions.popleft()
            question.answer = frame
            question.over.set()

    def _handle_process(self, kind: str, frame: dict[str, Any]) -> None:
        process = self.processes.get(frame["id"])
        if process is None:
            return
        if kind == "up":
            process.on_up(frame["pid"], frame.get("start"))
        elif kind == "failed":
            process.on_failed(frame["error"], frame.get("errno"))
        elif kind == "err":
            if dropped := frame.get("dropped"):
                self.links.output.put(
                    f"[{process.uid[0]} at {self.place.name}] [{dropped} bytes were left out]\n"
                )
            for line in process.on_output(to_bytes(frame["data"])):
                self.links.output.put(f"[{process.uid[0]} at {self.place.name}] {line}\n")
        elif kind == "exit":
            process.on_exit(frame["status"])

    def _fail_question(self) -> None:
        while self._questions:
            self._questions.popleft().over.set()

    def _end(self, lost: Lost | None) -> None:
        self.ended.set()
        self.opened.set()
        for process in list(self.processes.values()):
            process.on_exit(None, lost)
        self._fail_question()
        self.links.forget(self)


class Output:
    """What processes elsewhere write, on its way to this process's stderr, which may block."""

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._size = 0
        self._dropped = 0
        self._there = trio.Event()

    def put(self, line: str) -> None:
        """Have a line printed; one too many is counted instead."""
        if self._size > _MAX_UNPRINTED:
            self._dropped += 1
            return
        self._waiting.append(line)
        self._size += len(line)
        self._there.set()

    async def run(self) -> None:
        """Print, until cancelled."""
        while True:
            await self._there.wait()
            self._there = trio.Event()
            lines, self._waiting, self._size = self._waiting, [], 0
            if self._dropped:
                lines.append(f"[{self._dropped} lines were left out]\n")
                self._dropped = 0
            if has_stream(2):
                data = "".join(lines).encode(errors="replace")
                await trio.to_thread.run_sync(
                    write_and_close, dup_above_stdio(2), data, abandon_on_cancel=True
                )


class Links:
    """The links of one actor.

    Args:
        actor: this process's.
    """

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.output = Output()
        self._hosts: dict[int, Host] = {}
        self._next = 0
        self._popen: subprocess.Popen[bytes] | None = None
        self._stream: trio.SocketStream | None = None
        self._outbox: Outbox | None = None
        self._lock = trio.Lock()

    # -- hosts ----------------------------------------------------------------------------------------

    async def open(self, place: Place) -> Host:
        """A link to a place that can be used: one that is open already, or a new one.

        Raises:
            HostUnavailable: it can't be opened within ``start_timeout``; says why, with the engine's own last words.
            ValueError, ImportError: the place's engine, target or options can't be used.
        """
        for host in self._hosts.values():
            if host.place == place and not host.is_dropped and not host.ended.is_set():
                break
        else:
            host = await self._begin(place)
        host.holders += 1
        try:
            await host.opened.wait()
            if not host.is_usable:
                raise host.error or host.unavailable("the link has ended")
            if not host.parent_addr[0]:
                await self._find_road(host)
        except BaseException:
            self.release(host)
            raise
        return host

    def release(self, host: Host) -> None:
        """Somebody who has opened a link does not need it any more."""
        host.holders -= 1
        if not host.opened.is_set() and not host.holders:
            self.drop(host)
        host.note_use()

    def drop(self, host: Host) -> None:
        """Close a link; from now on nobody joins it."""
        host.is_dropped = True
        self.send({"t": "drop", "link": host.number})

    def forget(self, host: Host) -> None:
        """A link has ended."""
        self._hosts.pop(host.number, None)

    async def _begin(self, place: Place) -> Host:
        engine = get_engine(place.engine)
        engine.check(place)
        self._next += 1
        host = Host(self, self._next, place)
        self._hosts[host.number] = host
        try:
            back = None
            if place.road == "tunnel" and not engine.can_tunnel:
                raise ValueError(
                    f"host {place.name!r}: {place.engine + '://'!r} has no tunnel; use road='direct'"
                )
            if engine.can_tunnel and place.road != "direct":
                back = (await self.listener("127.0.0.1"))[1]
            await self._start()
        except BaseException:
            self._hosts.pop(host.number, None)
            host.error = host.unavailable("its link was not opened")
            host.ended.set()
            host.opened.set()
            raise
        versions = {"tractor": __version__, "msgspec": msgspec.__version__}
        self.send(
            {
                "t": "open",
                "link": host.number,
                "place": msgspec.to_builtins(place),
                "back": back,
                "hello": {**versions, "name": self.actor.aid.name},
            }
        )
        return host

    async def _find_road(self, host: Host) -> None:
        """Learn where an actor there reaches this one."""
        _require_versions(host)
        if host.port_there is not None:
            host.own_host = "127.0.0.1"
            host.parent_addr = ("127.0.0.1", host.port_there)
            return
        engine = get_engine(host.place.engine)
        try:
            here = await trio.to_thread.run_sync(engine.address_here, host.place)
            addr = await self.listener(here)
        except (OSError, ValueError, RuntimeError, subprocess.SubprocessError) as exc:
            raise host.unavailable(f"this actor can't listen for it: {exc}") from exc
        reply = await host.ask({"t": "reach", "addr": list(addr)}, "reached")
        if reply.get("error"):
            raise host.unavailable(
                f"an actor there can't connect to this one at {addr[0]}:{addr[1]}: {reply['error']}; have this "
                "actor listen at an address that it can reach (`tpt_bind_addrs`), or use road='tunnel' where the "
                "engine has it"
            )
        host.own_host = reply["own"]
        host.parent_addr = addr

    async def listener(self, here: str) -> tuple[str, int]:
        """An address of TCP at which this actor listens, on an address of this host; one is added if there is none.

        Raises:
            RuntimeFailure: an address beyond loopback without an explicit key or TLS.
            OSError: it can't be bound.
        """
        async with self._lock:
            given = [(a[0], a[1]) for a in self.actor.accept_addrs if isinstance(a[1], int)]
            loopback = here.startswith("127.") or here == "::1"
            if loopback:
                found = [a for a in given if a[0] in (here, "0.0.0.0")]
            else:
                # An address that the user has chosen is the right one.
                found = [a for a in given if not a[0].startswith("127.") and a[0] != "::1"]
            if found:
                host, port = found[0]
                return (here if host in ("0.0.0.0", "::") else host), int(port)
            (endpoint,) = await self.actor.ipc_server.listen_on(accept_addrs=[(here, 0)])
            bound = endpoint.addr.unwrap()
            return bound[0], int(bound[1])

    # -- the link process -----------------------------------------------------------------------------

    def send(self, frame: dict[str, Any], raw: bytes | None = None) -> None:
        """Send a frame to the link process; nothing after its end."""
        if self._outbox is not None:
            self._outbox.put(encode(frame, raw))

    async def _start(self) -> None:
        """Start the link process, if there is none."""
        if self._popen is not None:
            return
        ours, theirs = socket.socketpair()
        try:
            argv = [str(theirs.fileno()), str(os.getpid())]
            with program_command("tractor.hosts._link_main", argv) as (command, fds), held_off():
                self._popen = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), *fds),
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        close_in_child(ours)
        ours.setblocking(False)
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        self._outbox = Outbox(self._stream)
        self.actor.io_nursery.start_soon(self._run, name="links to other hosts")

    @trio.lowlevel.enable_ki_protection
    async def _run(self) -> None:
        """What the link process says, until the actor ends."""
        assert self._popen is not None
        assert self._stream is not None
        assert self._outbox is not None
        try:
            async with trio.open_nursery() as tn:
                tn.start_soon(self._outbox.run)
                tn.start_soon(self.output.run)
                try:
                    await self._read(Incoming(self._stream))
                except LinkError as exc:
                    lost = exc
                tn.cancel_scope.cancel()
            await self._lose_all(lost)
        finally:
            with trio.CancelScope(shield=True):
                await self._stream.aclose()
                await _end_process(self._popen)
                self._popen = self._outbox = None

    async def _read(self, frames: Incoming) -> NoReturn:
        """Take what the link process says.  Raises LinkError at its end."""
        while True:
            frame, _ = await frames.next()
            host = self._hosts.get(frame["link"])
            if host is not None:
                host.handle(frame)

    async def _lose_all(self, why: LinkError) -> None:
        """The link process has ended, unasked: what runs elsewhere ends by its leases."""
        began = time.monotonic()
        hosts = list(self._hosts.values())
        log.error("the link process has ended (%s); %s links are lost", why, len(hosts))
        for host in sorted(hosts, key=lambda host: host.place.deadline):
            left = began + host.place.deadline + LOSS_TIMEOUT - time.monotonic()
            if host.facts:
                await trio.sleep(max(0.0, left))
            host.handle(
                {
                    "t": "lost",
                    "error": "the link process has ended",
                    "silent": time.monotonic() - began,
                }
            )


async def _end_process(popen: subprocess.Popen[bytes]) -> None:
    """Wait for the end of the link process, which has lost its actor, and reap it."""
    process = PopenChild(popen)
    with trio.move_on_after(LOSS_TIMEOUT + 0.5):
        await process.wait()
    if popen.poll() is None:
        popen.kill()
        popen.wait()
    process.close()


def _require_versions(host: Host) -> None:
    """Return where the tractor there can be a child of this one.

    Raises:
        HostUnavailable: it can't; says which is where.
    """
    own, there = __version__, host.facts.get("tractor")
    where = f"of {host.place.python!r} there (Python {host.facts.get('python')})"
    if there is None:
        raise host.unavailable(f"tractor is not installed with the packages {where}; install {own}")
    if _series(there) != _series(own):
        raise host.unavailable(
            f"tractor {there} is among the packages {where}, this is {own}: major and minor version must be equal"
        )


def _series(version: str) -> Iterable[str]:
    return version.split(".")[:2]


_links: ProcessVar[Links | None] = ProcessVar(lambda: None)


def links_of(actor: Actor) -> Links:
    """The links of this process's actor."""
    links = _links.value
    if links is None or links.actor is not actor:
        links = _links.value = Links(actor)
    return links
