"""Engine ``'ssh'``: the ``ssh`` program, with the user's own configuration, agent and jump hosts."""

from __future__ import annotations

import math
import re
import shlex
import subprocess
from collections.abc import Sequence

from tractor.hosts._engine import Port, Target, address_towards, require_options
from tractor.hosts._place import Place

_TARGET = re.compile(
    r"(?:(?P<user>[^@:/\s-][^@:/\s]*)@)?(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^@:/\s-][^@:/\s]*)(?::(?P<port>\d{1,5}))?"
)
_ALLOCATED = re.compile(r"Allocated port (\d+) for remote forward to (\S+):(\d+)")


class SshEngine:
    """Runs ``ssh``; see :class:`~tractor.hosts._engine.HostEngine`."""

    key = "ssh"
    can_tunnel = True

    def check(self, place: Place) -> None:
        """Raises ValueError: no ``[user@]host[:port]``, or options that are no texts."""
        if _TARGET.fullmatch(place.target) is None:
            raise ValueError(
                f"host {place.name!r}: {place.target!r} is no target of ssh: it reads '[user@]host[:port]'"
            )
        require_options(place, "ssh", (str, int))

    def command(self, place: Place, program: Sequence[str], back: Sequence[Target]) -> list[str]:
        """The ``ssh`` command."""
        # Ours ends first: it is what says what still runs.
        alive = math.ceil(place.deadline)
        options = {
            "BatchMode": "yes",
            "ControlMaster": "no",
            "ControlPath": "none",
            "ServerAliveInterval": alive,
            "ServerAliveCountMax": 3,
            "ConnectTimeout": max(1, math.floor(place.start_timeout)),
            "EscapeChar": "none",
            "RequestTTY": "no",
            # Tells of the port.
            "LogLevel": "INFO",
        }
        argv = ["ssh"]
        # The first that ssh reads counts.
        for name, value in [*place.options.items(), *options.items()]:
            argv += ["-o", f"{name}={value}"]
        if back:
            argv += ["-o", "ExitOnForwardFailure=yes"]
        for host, port in back:
            argv += ["-R", f"127.0.0.1:0:{f'[{host}]' if ':' in host else host}:{port}"]
        return [*argv, *self._destination(place), shlex.join(program)]

    def port_there(self, line: str) -> tuple[Target, Port] | None:
        """From ssh's own words."""
        found = _ALLOCATED.search(line)
        return ((found[2].strip("[]"), int(found[3])), int(found[1])) if found else None

    def address_here(self, place: Place) -> str:
        """The address on the way to the host that ssh's configuration leads to."""
        shown = subprocess.run(
            ["ssh", "-G", *self._destination(place)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=10,
            check=True,
        ).stdout
        names = [
            line.split(" ", 1)[1] for line in shown.splitlines() if line.startswith("hostname ")
        ]
        return address_towards(names[0] if names else place.target)

    def _destination(self, place: Place) -> list[str]:
        target = _TARGET.fullmatch(place.target)
        assert target is not None
        argv: list[str] = []
        if target["port"]:
            argv += ["-p", target["port"]]
        if target["user"]:
            argv += ["-l", target["user"]]
        return [*argv, "--", target["host"].strip("[]")]


ENGINE = SshEngine()
