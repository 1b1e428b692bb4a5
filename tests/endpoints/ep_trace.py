"""Actors that are none: a control socket alone, in this process, for who records."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from tractor.control._recording import Recordings
from tractor.control._serving import Serving
from tractor.control._socket import ControlSocket
from tractor.process._stat import process_start_time
from tractor.process.host._host_id import host_id
from tractor.runtime.seen._events import CallEnded, CallStarted, Event
from tractor.runtime.seen._instrument import Instrument
from tractor.runtime.seen._samples import DialogSample, Sample, Who

OPS = ["hello", "sample", "record"]


class Fake:
    """What answers as an actor does.

    Args:
        name: its name.
        parent: of whose uuid it is said to be a subactor.
        ops: what it says it may be asked.
    """

    def __init__(self, name: str, parent: Fake | None = None, ops: list[str] = OPS) -> None:
        self.name = name
        self.uuid = (name.encode().hex() * 32)[:32]
        self.parent = None if parent is None else parent.uuid
        self.instruments: list[Any] = []
        self.ops = ops
        self.calls = 0
        # Of its clock, which it says to be another's.
        self.ahead = 0
        recordings = Recordings(self.instruments.append, self.instruments.remove)
        in_thread = {"hello": self._hello, "sample": self._sample}
        feeds = {"record": recordings.begin}
        self.control = ControlSocket(
            name, os.getpid(), lambda one: Serving(one, in_thread, feeds=feeds)
        )

    def now(self) -> int:
        return time.monotonic_ns() + self.ahead

    def _hello(self, _request: Mapping[str, Any]) -> Who:
        pid = os.getpid()
        return Who(
            name=self.name,
            uuid=self.uuid,
            pid=pid,
            start_time=process_start_time(pid),
            host="h",
            host_id=host_id(),
            parent=self.parent,
            root=None,
            versions={"tractor": "0"},
            addrs=[],
            ops=self.ops,
            clock=self.now(),
        )

    def _sample(self, _request: Mapping[str, Any]) -> Sample:
        stream = DialogSample(
            kind="context",
            side="caller",
            function="m:c",
            peer="x@1",
            sent=self.calls,
            received=0,
            dialog=(self.uuid, 1),
            buffered=3,
            credit=5,
        )
        return Sample(
            name=self.name,
            uuid=self.uuid,
            pid=os.getpid(),
            host="h",
            parent=self.parent,
            time=time.time(),
            state="run",
            cpu_seconds=time.process_time(),
            rss=2**20,
            lag=0.001,
            streams=1,
            dialogs=(stream,),
        )

    def tell(self, event: Event) -> None:
        for one in self.instruments:
            method = getattr(one, event.event)
            assert isinstance(one, Instrument)
            method(event)

    def call(self) -> None:
        """A call that takes no time."""
        self.calls += 1
        dialog = self.uuid, self.calls
        self.tell(CallStarted(self.now(), self.uuid, dialog, "caller", "x", "X", "m:f", 1, "uds"))
        self.tell(CallEnded(self.now(), self.uuid, dialog, "caller", "m:f", "ok", None, 0))
