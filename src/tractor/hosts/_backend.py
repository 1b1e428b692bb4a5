"""The spawn backend for a place on another host."""

from __future__ import annotations

import os

import msgspec
import trio

from tractor.hosts._frames import to_text
from tractor.hosts._host import Host
from tractor.hosts._links import links_of, registrars_there
from tractor.hosts._place import VARIABLE, Place
from tractor.hosts._process import RemoteProcess
from tractor.msg.types import SpawnSpec
from tractor.process._handed_down import limits_of
from tractor.process._stat import ProcessId
from tractor.runtime._actor import Actor
from tractor.spawn._boot import BootRecord, packed_record
from tractor.spawn._contract import SpawnRequest, selected_start_method
from tractor.transport._authkey import KEY_FILE_VARIABLE


class HostBackend:
    """Starts subactors at one place; see :class:`~tractor.spawn._contract.SpawnBackend`.

    Args:
        actor: this process's.
        place: where.
    """

    def __init__(self, actor: Actor, place: Place) -> None:
        self._actor = actor
        self._place = place

    @property
    def key(self) -> str:
        """The engine's."""
        return self._place.engine

    def is_available(self) -> None:
        """Return: whether a host can be reached is only known when it is tried."""

    async def start(self, request: SpawnRequest, nursery: trio.Nursery) -> RemoteProcess:
        """Start a child there.

        Raises:
            HostUnavailable: the host can't be reached within the place's ``start_timeout``, or can't run it.
            ValueError, ImportError: the place can't be used.
            OSError: the process could not be started there.
        """
        links = links_of(self._actor)
        host = await links.open(self._place)
        try:
            request = msgspec.structs.replace(request, parent_addr=host.parent_addr)
            # Before there is a process.
            registrars_there(self._actor, host)
            path = await host.ship()
            order = _order(host, request, path)
            output = request.proc_kwargs.get("stdout")
            return await host.spawn((request.name, request.uuid), order, output)
        finally:
            links.release(host)


def _order(host: Host, request: SpawnRequest, path: list[str]) -> dict[str, object]:
    """What the agent is told to start."""
    agent = ProcessId(host.host_id, host.facts["pid"], host.facts["start"])
    record = BootRecord(
        claim=request.claim,
        authkey=request.authkey,
        key_is_explicit=request.key_is_explicit,
        tls=request.tls,
        parent_pid=agent.pid,
        by_agent=True,
        start_method=selected_start_method(),
        # It ends with its agent; what is above that is of other hosts.
        ancestry=[agent],
        limits=limits_of(request.proc_kwargs),
    )
    options = request.proc_kwargs
    return {
        "argv": ["{python}", "-m", "tractor._child", *request.argv("{boot_fd}")],
        "env": {**_own_variables(), **host.place.env, **options.get("env", {})},
        "cwd": os.fspath(options.get("cwd") or host.place.cwd or "~"),
        "boot": to_text(packed_record(record)),
        "path": path,
    }


def _own_variables() -> dict[str, str]:
    """The runtime's own variables, which travel; not those that name files of this host."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("TRACTOR_") and name not in (VARIABLE, KEY_FILE_VARIABLE)
    }


def spec_there(spec: SpawnSpec, process: RemoteProcess, actor: Actor) -> SpawnSpec:
    """A subactor's configuration as it is to be on its host.

    Args:
        spec: as it would be here.
        process: the subactor's.
        actor: its parent.
    """
    host = process.host
    transports = list(spec._runtime_vars["_enable_tpts"])
    bind = spec.bind_addrs
    if bind is None:
        # Peers of other hosts reach it by TCP alone.
        bind = [(host.place.listen or host.own_host, 0)]
    registrars = registrars_there(actor, host)
    variables = {
        **spec._runtime_vars,
        "_enable_tpts": transports if "tcp" in transports else ["tcp"],
        "_registry_addrs": registrars,
        "_registry_host": host.host_id,
        "_advertise": host.place.advertise,
    }
    return msgspec.structs.replace(
        spec, bind_addrs=bind, reg_addrs=registrars, _runtime_vars=variables
    )
