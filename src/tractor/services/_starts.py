"""What the actor of one member is started with, each time; at the next host where one is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tractor._errors import RuntimeFailure
from tractor.hosts._place import HostLike
from tractor.services._specification import ServiceSpec
from tractor.supervise._arguments import StartOptions


class Starts:
    """The starts of one member.

    Args:
        options: checks and gives what an actor is started with, at a host; ``None``: here.
        hosts: where it may run, at least one: it stays at one until :meth:`move_on`.

    Raises:
        TypeError, ValueError, RuntimeFailure: they can't be used.  A module that can't be found is a start that
            fails: by the next one it may be there.
    """

    def __init__(
        self, options: Callable[[HostLike | None], StartOptions], hosts: Sequence[HostLike | None]
    ) -> None:
        self._options = options
        self._hosts = hosts
        self._made = [_checked(options, host) for host in hosts]
        self._at = 0

    def __len__(self) -> int:
        """How many hosts there are."""
        return len(self._hosts)

    def next(self) -> StartOptions:
        """What the next actor is started with."""
        return self._made[self._at] or self._options(self._hosts[self._at])

    def move_on(self) -> None:
        """That host is lost, or takes none: the next one's turn, round and round."""
        self._at = (self._at + 1) % len(self._hosts)


def hosts_of(spec: ServiceSpec) -> list[HostLike | None]:
    """The hosts of ``actor={"host": ...}``, one or a list.

    Raises:
        ValueError: an empty list.
    """
    host = spec.actor.get("host")
    if not isinstance(host, (list, tuple)):
        return [host]
    if not host:
        raise ValueError("actor={'host': []} names no host")
    return list(host)


def _checked(
    options: Callable[[HostLike | None], StartOptions], host: HostLike | None
) -> StartOptions | None:
    try:
        return options(host)
    except (TypeError, ValueError, RuntimeFailure):
        raise
    except Exception:
        return None
