"""Engine ``'command'``: any command whose stdin and stdout are those of a program elsewhere.

``docker exec -i NAME``, ``kubectl exec -i NAME --``, ``podman exec -i NAME``; a place's ``options`` have it as
``command``, a list of arguments in which ``{name}`` stands for the URL's target.
"""

from __future__ import annotations

from collections.abc import Sequence

from tractor.hosts._engine import Port, Target
from tractor.hosts._place import Place


class CommandEngine:
    """Runs the place's own command; see :class:`~tractor.hosts._engine.HostEngine`."""

    key = "command"
    can_tunnel = False

    def check(self, place: Place) -> None:
        """Raises ValueError: no command, or one that is no list of arguments."""
        given = place.options.get("command")
        if set(place.options) - {"command"}:
            raise ValueError(
                f"host {place.name!r}: the only option of 'command://' is 'command', not {sorted(place.options)}"
            )
        if (
            not isinstance(given, (list, tuple))
            or not given
            or not all(isinstance(a, str) for a in given)
        ):
            raise ValueError(
                f"host {place.name!r}: options['command'] must be the arguments of the command, as in "
                f"['docker', 'exec', '-i', '{{name}}'], not {given!r}"
            )

    def command(self, place: Place, program: Sequence[str], back: Sequence[Target]) -> list[str]:
        """The command, then the program."""
        name = place.target
        return [*(arg.replace("{name}", name) for arg in place.options["command"]), *program]

    def port_there(self, line: str) -> tuple[Target, Port] | None:
        """Nothing."""
        return None

    def address_here(self, place: Place) -> str:
        """Loopback: where the command leads to another host, this actor has to listen at an address of its choice."""
        return "127.0.0.1"


ENGINE = CommandEngine()
