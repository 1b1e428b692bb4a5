"""Engine ``'dask'``: the workers of an existing Dask cluster; the target is ``scheduler:port``, or that and a worker.

The agent is a task that runs a program, so it holds a thread of its worker as long as the link is open, and counts for
Dask's scheduling like any other.  Of Dask's configuration that of this host counts, its TLS among it.  Nothing is
needed on the workers but Dask itself, and a Python with tractor for the actors.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import uuid
from typing import Any, NamedTuple

from tractor.hosts._engine import Offer, address_towards
from tractor.hosts._place import Place

_TARGET = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^@:/\s]+):(?P<port>\d{1,5})(?:/(?P<worker>\S+))?"
)
_OPTIONS = frozenset({"resources", "priority"})
_CONNECT_TIMEOUT = 20.0
_WITHDRAWAL_TIME = 1.0
_LAST_WORDS = 4096


class _Job(NamedTuple):
    client: Any
    future: Any


class DaskEngine:
    """Submits to a Dask scheduler; see :class:`~tractor.hosts._engine.CallbackEngine`."""

    key = "dask"
    can_tunnel = False

    def check(self, place: Place) -> None:
        """Raises ValueError: no ``scheduler:port[/worker]``, or options that Dask would not take."""
        if _TARGET.fullmatch(place.target) is None:
            raise ValueError(
                f"host {place.name!r}: {place.target!r} is no target of dask: it reads 'scheduler:port', or "
                "'scheduler:port/worker' with a worker's name or address"
            )
        if unknown := sorted(set(place.options) - _OPTIONS):
            raise ValueError(
                f"host {place.name!r}: {unknown[0]!r} is no option of dask; there are {sorted(_OPTIONS)}"
            )

    def address_here(self, place: Place) -> str:
        """The address on the way to the scheduler: its workers are thought to be beside it."""
        return address_towards(_parts(place)["host"].strip("[]"))

    def keepalive(self, deadline: float) -> None:
        """A scheduler that is silent for as long as the lease lasts is not given up."""
        dask = importlib.import_module("dask")
        name = "distributed.comm.timeouts.tcp"
        importlib.import_module("distributed")
        set_to = dask.utils.parse_timedelta(dask.config.get(name), default="s")
        dask.config.set({name: f"{max(set_to, 3 * deadline)}s"})

    def submit(self, place: Place, offer: Offer) -> _Job:
        """Connect, and submit the task."""
        distributed = importlib.import_module("distributed")
        parts = _parts(place)
        client = distributed.Client(
            f"{_protocol()}://{parts['host']}:{parts['port']}",
            timeout=min(place.start_timeout, _CONNECT_TIMEOUT),
            set_as_default=False,
            name="tractor",
        )
        try:
            # Of the standard library: by its name alone any worker knows it.
            future = client.submit(
                subprocess.run,
                list(offer.argv),
                input=offer.stdin,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                key=f"tractor-agent-{uuid.uuid4()}",
                pure=False,
                retries=0,
                workers=_workers(client, parts["worker"]),
                **place.options,
            )
        except BaseException:
            client.close(timeout=_WITHDRAWAL_TIME)
            raise
        future.add_done_callback(lambda done: offer.ended(_last_words(done)))
        return _Job(client, future)

    def withdraw(self, job: _Job) -> None:
        """A scheduler forgets what no client wants any more."""
        try:
            job.client.cancel([job.future], force=True)
        finally:
            job.client.close(timeout=_WITHDRAWAL_TIME)


def _parts(place: Place) -> dict[str, str]:
    found = _TARGET.fullmatch(place.target)
    assert found is not None
    return found.groupdict()


def _protocol() -> str:
    config = importlib.import_module("dask").config
    return "tls" if config.get("distributed.comm.tls.ca-file", None) else "tcp"


def _workers(client: Any, wanted: str | None) -> list[Any] | None:
    """The worker of that name or address; one that there is not yet is waited for, under this name."""
    if not wanted:
        return None
    known = client.scheduler_info(n_workers=-1)["workers"]
    for address, worker in known.items():
        # A name may be a number.
        if wanted in (address, address.partition("://")[2], str(worker["name"])):
            return [address]
    return [wanted]


def _last_words(future: Any) -> str:
    """How a task has ended."""
    if future.status == "finished":
        done = future.result()
        said = done.stderr[-_LAST_WORDS:].decode(errors="replace")
        return f"{said}\nthe task on the worker ended with status {done.returncode}".strip()
    if future.status == "error":
        error = future.exception()
        return f"the task failed: {type(error).__name__}: {error}"
    return f"the task was {future.status}"


ENGINE = DaskEngine()
