"""What a start on another host needs beyond one here; loaded when there is one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tractor.hosts._place import HostLike, Place
from tractor.hosts._process import RemoteProcess
from tractor.msg.types import SpawnSpec
from tractor.process._handed_down import limits_of
from tractor.runtime._actor import Actor
from tractor.runtime._vars import runtime_vars
from tractor.spawn._contract import OutputOfChildren, SpawnBackend


def place_of(host: HostLike, options: Mapping[str, Any]) -> Place:
    """The place that ``host=`` means, where the other options fit it.

    Raises:
        TypeError, ValueError: it is none; options that are for a process of this host; no limits of the kernel.
    """
    unfit = sorted(set(options) - {"env", "cwd", "limits"})
    if isinstance(options.get("stdout"), OutputOfChildren):
        unfit.remove("stdout")
    if unfit:
        raise TypeError(
            f"proc_kwargs {unfit} are for a process of this host; on host {host!r} there are 'env', 'cwd' and 'limits'"
        )
    limits_of(options)
    from tractor.hosts._table import place_of

    return place_of(host, runtime_vars()._hosts)


def main_data_of(place: Place, needed: Iterable[str]) -> dict[str, Any]:
    """What stands in for the data of this program's main module.  Raises RuntimeFailure."""
    from tractor.hosts._ship import main_data_elsewhere

    return main_data_elsewhere(place, needed)


def backend_of(actor: Actor, place: Place) -> SpawnBackend:
    """What starts an actor there."""
    from tractor.hosts._backend import HostBackend

    return HostBackend(actor, place)


def spec_of(spec: SpawnSpec, process: RemoteProcess, actor: Actor) -> SpawnSpec:
    """The configuration of an actor as it is to be there."""
    from tractor.hosts._backend import spec_there

    return spec_there(spec, process, actor)
