"""One link to another host, as its actor has it: what the agent over there is told, and what it says.

Why the races are safe.  All of this runs in the actor's loop; what waits for an answer is told by the reader.

- *A start that is given up while the agent carries it out* is killed by number: the order follows the other on the same
  stream.
- *A link that breaks* refuses every order that is not answered, and the processes on it are waited for until they are
  known to have ended.
- *An answer that nobody waits for any more* takes its question off the queue, so that it is none to the next one.
"""

from __future__ import annotations

import shlex
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

import trio

from tractor import log as _log
from tractor._errors import HostUnavailable
from tractor._proto.deadlines import LOSS_TIMEOUT, TEARDOWN_TIME
from tractor._util.dist._name import pip_install
from tractor._util.dist._version import __version__
from tractor.hosts._frames import to_bytes
from tractor.hosts._place import Place
from tractor.hosts._process import Lost, RemoteProcess
from tractor.hosts._ship import shipments
from tractor.msg.types import Uid
from tractor.process._stdio import dup_above_stdio, has_stream, write_and_close
from tractor.spawn._contract import OutputOfChildren

log = _log.get_logger()

_PART = 256 * 1024
"""Bytes of shipped code in one frame: between two of them a ping is answered."""
_MAX_UNPRINTED = 1024 * 1024


class Keeper(Protocol):
    """What keeps an actor's links.

    Attributes:
        output: where what is written elsewhere goes.
    """

    output: Output

    def send(self, frame: dict[str, Any], raw: bytes | None = None) -> None:
        """Send a frame to the link process."""

    def drop(self, host: Host) -> None:
        """Close a link."""

    def forget(self, host: Host) -> None:
        """A link has ended."""


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
        over_tunnel: at which addresses there the tunnel leads to which of this side, this actor's own first.
        is_dropped: it is being closed, or its start withdrawn: nobody else may come to use it.
    """

    def __init__(self, links: Keeper, number: int, place: Place) -> None:
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
        self.over_tunnel: dict[tuple[str, int], tuple[str, int]] = {}
        self.opened_at = 0.0
        self._last_sign: float | None = None
        self._next = 0
        self._asking = trio.Lock()
        # In their order, which is that of the answers; who has given one up leaves it here.
        self._questions: deque[_Question] = deque()
        # Those to what runs there, by number: these may be answered in any order.
        self._looks: dict[int, _Question] = {}
        self._next_look = 0

    @property
    def is_usable(self) -> bool:
        """Whether something can be started there."""
        return self.opened.is_set() and not self.ended.is_set() and self.error is None

    @property
    def host_id(self) -> str:
        """The id of that host; see :func:`~tractor.process.host._host_id.host_id`."""
        return str(self.facts.get("host", ""))

    @property
    def silent(self) -> float | None:
        """Seconds since the agent's last sign of life, where it is out of reach; ``None``: it is not."""
        return None if self._last_sign is None else time.monotonic() - self._last_sign

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

    async def look(
        self, process: RemoteProcess, request: dict[str, Any], limit: float
    ) -> dict[str, Any]:
        """Have the agent ask the control socket of a process there: that answers also while its loop is blocked.

        Args:
            process: it.
            request: what is asked.
            limit: seconds for the answer.

        Returns:
            The object that it has answered.

        Raises:
            HostUnavailable: it could not be asked, or has not answered; says why.
        """
        number = self._next_look = self._next_look + 1
        question = self._looks[number] = _Question(("looked",))
        runtime_dir = self.place.env.get("XDG_RUNTIME_DIR")
        dirs = [f"{runtime_dir}/tractor"] if runtime_dir else []
        frame = {"t": "look", "n": number, "request": request, "limit": limit, "dirs": dirs}
        try:
            self.send({**frame, "id": process.number})
            with trio.move_on_after(limit):
                await question.over.wait()
        finally:
            del self._looks[number]
        told = question.answer or {"error": f"its agent did not answer within {limit:.2f} s"}
        if told["error"]:
            raise self.unavailable(f"{process.uid[0]!r} can't be looked at: {told['error']}")
        answer: dict[str, Any] = told["answer"]
        return answer

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

    async def spawn(
        self, uid: Uid, frame: dict[str, Any], output: OutputOfChildren | None = None
    ) -> RemoteProcess:
        """Start a process there.

        Args:
            uid: the subactor's.
            frame: what the agent is told.
            output: takes what it prints; ``None``: that goes to this process's stderr.

        Raises:
            OSError: it could not be started there.
            HostUnavailable: not within the place's ``start_timeout``; or the link was lost.
        """
        self._next += 1
        number = self._next
        process = RemoteProcess(
            self, number, uid, shlex.join([self.place.python, *frame["argv"][1:-2]]), output
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
            self.over_tunnel = {
                (host, port): ("127.0.0.1", there) for (host, port), there in frame["ports_there"]
            }
            self.opened.set()
        elif kind == "refused":
            self.error = self.unavailable(frame["error"])
            self._end(None)
        elif kind == "closed":
            self._end(None)
        elif kind == "lost":
            self._end(Lost(frame["error"], frame["silent"]))
        elif kind == "silent":
            self._last_sign = time.monotonic() - frame["silent"]
        elif kind == "heard":
            self._last_sign = None
        elif kind in ("words", "warn"):
            log.warning("host %r: %s", self.place.name, frame["text"])
        elif kind == "broken":
            log.warning(
                "the link to host %r broke: %s; what runs there ends within %s s",
                self.place.name,
                frame["error"],
                self.place.deadline + TEARDOWN_TIME,
            )
            self._last_sign = time.monotonic() - frame["silent"]
            self._fail_question()
        elif kind == "looked":
            if (look := self._looks.get(frame["n"])) is not None:
                look.answer = frame
                look.over.set()
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
                self._print(process, f"[{dropped} bytes were left out]")
            data = to_bytes(frame["data"])
            lines = process.on_output(data)
            if process.output is not None:
                process.output.take(process.uid[0], data)
            else:
                for line in lines:
                    self._print(process, line)
        elif kind == "exit":
            process.on_exit(frame["status"])

    def _print(self, process: RemoteProcess, line: str) -> None:
        if process.output is not None:
            process.output.take(process.uid[0], f"{line}\n".encode())
        else:
            self.links.output.put(f"[{process.uid[0]} at {self.place.name}] {line}\n")

    def _fail_question(self) -> None:
        while self._questions:
            self._questions.popleft().over.set()
        for look in self._looks.values():
            look.over.set()

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


def require_versions(host: Host) -> None:
    """Return where the tractor there can be a child of this one.

    Raises:
        HostUnavailable: it can't; says which is where.
    """
    own, there = __version__, host.facts.get("tractor")
    where = f"of {host.place.python!r} there (Python {host.facts.get('python')})"
    if there is None:
        raise host.unavailable(
            f"tractor is not installed with the packages {where}; run `{pip_install()}=={own}`"
        )
    if _series(there) != _series(own):
        raise host.unavailable(
            f"tractor {there} is among the packages {where}, this is {own}: major and minor version must be equal"
        )


def _series(version: str) -> Iterable[str]:
    return version.split(".")[:2]
