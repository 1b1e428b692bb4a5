"""Engine ``'ray'``: the nodes of a Ray cluster; the target is ``head:port`` of its client server, or ``auto``.

The agent is a task that runs a program, so it holds what its options say (one CPU, unless they say otherwise) as long
as the link is open.  ``auto`` is the cluster that this host is a node of.  Behind a slash may stand a node's address.
Ray wants the same Python and the same Ray on both sides; the actors may have another one.
"""

from __future__ import annotations

import importlib
import math
import os
import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from tractor.hosts._engine import Offer, address_towards
from tractor.hosts._place import Place

_TARGET = re.compile(
    r"(?:auto|(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^@:/\s]+):(?P<port>\d{1,5}))(?:/(?P<node>[^/\s]+))?"
)
_OUTSIDE = "192.0.2.1"
"""An address of no network, behind the default route."""
_LAST_WORDS = 4096
_A_BIT = 0.001
"""Of the resource that Ray gives each node, named by its address."""


class _Job(NamedTuple):
    cluster: _Cluster
    ref: Any


class _Cluster:
    """A client of one cluster, for as long as this process lives.

    All is done by one thread: which cluster Ray's functions speak to is a matter of the thread.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=address)
        self._ray: Any = None
        self._context: Any = None

    def submit(self, options: dict[str, Any], offer: Offer) -> Any:
        """Have the task run; what it is known by."""
        return self._thread.submit(self._submit, options, offer).result()

    def cancel(self, ref: Any) -> None:
        """Have it not run."""
        self._thread.submit(lambda: self._ray.cancel(ref)).result()

    def _submit(self, options: dict[str, Any], offer: Offer) -> Any:
        self._connect()
        # Of the standard library: by its name alone any worker knows it.
        task = self._ray.remote(subprocess.run).options(max_retries=0, **options)
        ref = task.remote(
            list(offer.argv), input=offer.stdin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        ref.future().add_done_callback(lambda done: offer.ended(_last_words(done)))
        return ref

    def _connect(self) -> None:
        if self._ray is not None:
            return
        ray = importlib.import_module("ray")
        if self._address == "auto":
            # A driver, which a process can be for one cluster alone.
            ray.init("auto", log_to_driver=False, configure_logging=False)
        else:
            self._context = ray.init(self._address, allow_multiple=True, log_to_driver=False)
            self._context.__enter__()
        self._ray = ray


class RayEngine:
    """Submits to Ray; see :class:`~tractor.hosts._engine.CallbackEngine`."""

    key = "ray"
    can_tunnel = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clusters: dict[str, _Cluster] = {}

    def check(self, place: Place) -> None:
        """Raises ValueError: no ``head:port[/node]`` or ``auto[/node]``, or options that would start it twice."""
        if _TARGET.fullmatch(place.target) is None:
            raise ValueError(
                f"host {place.name!r}: {place.target!r} is no target of ray: it reads 'head:10001' or 'auto', and "
                "'/10.0.0.7' behind it for a node"
            )
        for name in ("max_retries", "num_returns", "retry_exceptions"):
            if name in place.options:
                raise ValueError(f"host {place.name!r}: option {name!r} of ray is the engine's own")

    def address_here(self, place: Place) -> str:
        """The address on the way to the head, or to other networks: Ray's nodes are thought to be there."""
        host = _parts(place)["host"]
        return address_towards(host.strip("[]") if host else _OUTSIDE)

    def keepalive(self, deadline: float) -> None:
        """A client that is cut off is kept as long as the lease; how long a node is, its cluster says."""
        os.environ["RAY_CLIENT_RECONNECT_GRACE_PERIOD"] = str(math.ceil(deadline))

    def submit(self, place: Place, offer: Offer) -> _Job:
        """Connect, and submit the task."""
        parts = _parts(place)
        options = {"num_cpus": 1, **place.options}
        if parts["node"]:
            options["resources"] = {f"node:{parts['node']}": _A_BIT, **options.get("resources", {})}
        address = f"ray://{parts['host']}:{parts['port']}" if parts["host"] else "auto"
        with self._lock:
            cluster = self._clusters.setdefault(address, _Cluster(address))
        return _Job(cluster, cluster.submit(options, offer))

    def withdraw(self, job: _Job) -> None:
        """A task that waits is cancelled; one that runs has nothing left to do."""
        job.cluster.cancel(job.ref)


def _parts(place: Place) -> dict[str, str | None]:
    found = _TARGET.fullmatch(place.target)
    assert found is not None
    return found.groupdict()


def _last_words(future: Any) -> str:
    """How a task has ended."""
    if future.cancelled():
        return "the task was cancelled"
    error = future.exception()
    if error is not None:
        error = getattr(error, "cause", None) or error
        return f"the task failed: {type(error).__name__}: {error}"
    done = future.result()
    said = done.stderr[-_LAST_WORDS:].decode(errors="replace")
    return f"{said}\nthe task ended with status {done.returncode}".strip()


ENGINE = RayEngine()
