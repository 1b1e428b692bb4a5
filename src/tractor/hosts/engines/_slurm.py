"""Engine ``'slurm'``: ``srun`` inside an allocation of the user's; the target is a node's name."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from tractor.hosts._engine import Port, Target, address_towards, require_options
from tractor.hosts._place import Place

_NODE = re.compile(r"[A-Za-z0-9][\w.-]*")


class SlurmEngine:
    """Runs ``srun``; see :class:`~tractor.hosts._engine.HostEngine`."""

    key = "slurm"
    can_tunnel = False

    def check(self, place: Place) -> None:
        """Raises ValueError: no node's name, or options that are no flags."""
        if _NODE.fullmatch(place.target) is None:
            raise ValueError(f"host {place.name!r}: {place.target!r} is no name of a node")
        require_options(place, "srun", (str, int, bool))

    def command(self, place: Place, program: Sequence[str], back: Sequence[Target]) -> list[str]:
        """The ``srun`` command: one task, beside others of the allocation, its output not held back."""
        argv = ["srun", f"--nodelist={place.target}", "--nodes=1", "--ntasks=1", "--overlap"]
        argv += ["--unbuffered", "--kill-on-bad-exit=0", "--wait=0", "--mpi=none", "--quiet"]
        for name, value in place.options.items():
            argv.append(f"--{name}" if value is True else f"--{name}={value}")
        return [*argv, *program]

    def port_there(self, line: str) -> tuple[Target, Port] | None:
        """Nothing."""
        return None

    def address_here(self, place: Place) -> str:
        """The address on the way to the node, of which Slurm may know more than this host's list of names."""
        shown = subprocess.run(
            ["scontrol", "show", "node", place.target, "--oneliner"],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=10,
            check=False,
        ).stdout
        found = re.search(r" NodeAddr=(\S+)", shown)
        return address_towards(found[1] if found else place.target)


ENGINE = SlurmEngine()
