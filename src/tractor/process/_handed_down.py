"""What a process is born with besides its streams: limits of the kernel, and sockets that it finds by name."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Collection, Mapping
from typing import Any

from tractor.process._state import of_process

_fds: dict[str, int] = of_process({})
_sockets: dict[str, socket.socket] = of_process({})


def inherited_sockets() -> dict[str, socket.socket]:
    """The listening sockets that this process was started with, as by ``listen`` in a service file.

    The manager, or whoever else has started this process, keeps them open: connections wait while a service is
    restarted, and replicas share them. ``trio.SocketListener(trio.socket.from_stdlib_socket(sock))`` serves one.

    Returns:
        By name; none in a process that was started without, and in actors below the one that was. The same objects at
        each call: who closes one has closed it for this process.
    """
    for name, fd in _fds.items():
        if name not in _sockets:
            _sockets[name] = socket.socket(fileno=fd)
    return dict(_sockets)


def take_sockets(fds: Mapping[str, int]) -> None:
    """In a process that was just started: these descriptors are its sockets, and not those of its own children."""
    for fd in fds.values():
        os.set_inheritable(fd, False)
    _fds.update(fds)


def limits_of(options: Mapping[str, Any]) -> dict[str, int]:
    """The limits of the kernel among a process's options.

    Raises:
        TypeError, ValueError: they are no such thing, or no limits of this platform.
    """
    limits = _whole_numbers(options, "limits", "limits")
    require_limits(limits)
    return limits


def sockets_of(options: Mapping[str, Any]) -> dict[str, int]:
    """The descriptors of sockets among a process's options.  Raises TypeError: they are no such thing."""
    return _whole_numbers(options, "sockets", "descriptors of sockets")


def _whole_numbers(options: Mapping[str, Any], key: str, what: str) -> dict[str, int]:
    given = options.get(key, {})
    if not isinstance(given, Mapping) or any(
        not isinstance(name, str) or type(value) is not int for name, value in given.items()
    ):
        raise TypeError(
            f"proc_kwargs[{key!r}] must be {what} by name, as whole numbers, not {given!r}"
        )
    return dict(given)


def require_limits(names: Collection[str]) -> None:
    """Return where the kernel has limits of these names.

    Raises:
        ValueError: it has not.
    """
    for name in names:
        _limit(name)


def set_limits_of_kernel(limits: Mapping[str, int]) -> None:
    """Set limits of this process, soft and hard ones.

    Raises:
        OSError: one is above the hard limit, which only root may raise; the text names it.
    """
    if sys.platform == "win32" or not limits:
        return
    import resource

    for name, value in limits.items():
        try:
            resource.setrlimit(_limit(name), (value, value))
        except (ValueError, OSError) as exc:
            _, hard = resource.getrlimit(_limit(name))
            raise OSError(
                f"the limit {name!r} can't be set to {value} (the hard limit is {hard}): {exc}"
            ) from exc


def _limit(name: str) -> int:
    if sys.platform != "win32":
        import resource

        found = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if found is not None:
            return int(found)
    raise ValueError(f"this platform has no limit {name!r}")
