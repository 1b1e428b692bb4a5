"""What every actor answers to those who ask it: who it is, how it does, what its tasks do.

The control socket asks (:mod:`tractor.control._serving`); :meth:`Answers.answer` gives the same to whoever asks by
another way, in the actor's loop.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio

from tractor._util.dist._version import __version__
from tractor.control._acting import acting_of
from tractor.control._protocol import Code, Refusal
from tractor.control._sampling import own_start, sample_of, stale_sample_of
from tractor.control._serving import LoopFirst
from tractor.control._socket import control_socket
from tractor.control._stacks import stacks_of
from tractor.control._walk import copied
from tractor.process.host._host_id import host_id
from tractor.runtime._actor import Actor
from tractor.runtime.seen._samples import Sample, Who


class Answers:
    """What answers for an actor.

    Args:
        actor: it.
        root: the root task of its run.
        loop: the ident of the run's thread.
        more: the ops that act, by name.
        passing: names of those that its control socket has beside them.

    Attributes:
        in_thread: what any thread may answer, by op.
    """

    def __init__(
        self,
        actor: Actor,
        root: trio.lowlevel.Task,
        loop: int | None,
        more: Callable[[], Mapping[str, Callable[[Mapping[str, Any], int | None], Any]]] = dict,
        passing: Sequence[str] = (),
    ) -> None:
        self._actor = actor
        self._root = root
        self._loop = loop
        self._more = more
        self._passing = passing
        self.in_thread: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "hello": self._hello,
            "stacks": self._stacks,
            "recent": self._recent,
        }
        self.either = {"sample": LoopFirst(self._sample, self._stale_sample)}

    @property
    def ops(self) -> list[str]:
        """What may be asked."""
        return [*self.in_thread, *self.either, *self._passing, *self._more()]

    def answer(
        self, request: Mapping[str, Any], pid: int | None = None, host: str | None = None
    ) -> Any:
        """The answer to a request, as plain data or a record; in the actor's loop.

        Args:
            request: its ``"op"``, and what belongs to that.
            pid: of who asks; ``None``: unknown.
            host: the id of the host on which that is a pid; ``None``: this one.

        Raises:
            Refusal: there is none.
        """
        op = str(request.get("op"))
        if (at_once := self.in_thread.get(op)) is not None:
            return at_once(request)
        if (either := self.either.get(op)) is not None:
            return either.in_loop(request, 0.0)
        if op == "cancel" and op in self._more():
            return acting_of(self._actor).cancel(request, pid, host)
        if (act := self._more().get(op)) is not None:
            return act(request, pid)
        raise Refusal(Code.UNKNOWN_OP, f"there is no op {op!r}, but {', '.join(sorted(self.ops))}")

    def _hello(self, _request: Mapping[str, Any]) -> Who:
        actor = self._actor
        chan = actor.parent_chan
        parent = chan.aid.uuid if chan is not None and chan.aid is not None else None
        pid = os.getpid()
        return Who(
            name=actor.aid.name,
            uuid=actor.aid.uuid,
            pid=pid,
            start_time=own_start(pid),
            host=socket.gethostname(),
            host_id=host_id(),
            parent=parent,
            root=actor.aid.uuid if chan is None else None,
            versions={
                "python": ".".join(map(str, sys.version_info[:3])),
                "tractor": __version__,
            },
            addrs=[list(addr) for addr in actor.accept_addrs],
            ops=self.ops,
            clock=time.monotonic_ns(),
        )

    def _stacks(self, _request: Mapping[str, Any]) -> Any:
        return stacks_of(self._root, self._loop, encoded=True)

    def _recent(self, request: Mapping[str, Any]) -> Any:
        since = request.get("since", 0)
        if not isinstance(since, int):
            raise Refusal(Code.BAD_REQUEST, f'"since" is {since!r}; it is the number of an event')
        recorder = self._actor.recorder
        events = copied(lambda: recorder.kept(since))
        return {
            "events": [
                {"number": one.number, "time": one.time, "kind": one.kind, **one.more}
                for one in events
            ],
            "count": recorder.count,
        }

    def _sample(self, request: Mapping[str, Any], lag: float) -> Sample:
        return sample_of(self._actor, bool(request.get("dialogs")), lag)

    def _stale_sample(self, _request: Mapping[str, Any], silence: float) -> Sample:
        return stale_sample_of(self._actor, self._root, self._loop, silence)


def answers_in_loop(actor: Actor, root: trio.lowlevel.Task, loop: int) -> Answers:
    """What answers for an actor that is asked by a message; its loop alone may use it.

    Args:
        actor: it.
        root: the root task of its run.
        loop: the ident of the run's thread.
    """
    control = control_socket()
    more = {**acting_of(actor).acts, **(control.acts if control is not None else {})}
    return Answers(actor, root, loop, lambda: more)
