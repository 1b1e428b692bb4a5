"""Namespaces, and the process that keeps each set of them.

Nothing here has a name in the kernel: a namespace lives while a process is in it. The first process of a pid
namespace, its *keeper*, is killed when the bed's owner dies, however that comes; then the kernel kills all in that
namespace, and with the last process the network, its links and all mounts are gone. No code of ours runs for that.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bed_claim import Claim

BOOT_LIMIT = 30.0
"""Seconds that a keeper may take on a busy machine."""

STAY = """
sleep infinity &
# Of its own children it knows this one; whatever else ends here was adopted, and is reaped.
while :; do wait -n; done
"""
"""The end of a script that keeps namespaces."""

ENVIRONMENT = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "LOGNAME": "root",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SHELL": "/bin/bash",
    "USER": "root",
}
"""Of programs that are run on a host: as after a login."""


@functools.cache
def has_time_namespaces() -> bool:
    """Whether a host can have monotonic clocks of its own."""
    return os.path.exists("/proc/self/ns/time")


@dataclass
class Keeper:
    """A process that keeps a set of namespaces.

    Attributes:
        outer: the process that started it; its end ends the keeper.
        pid: the keeper's, out here.  Inside it is 1.
        namespaces: `nsenter`'s options for all of them.
    """

    name: str
    outer: subprocess.Popen[bytes]
    log: Path
    clock: bool
    pid: int = 0

    def inside(self, argv: Sequence[str], only: str | None = None) -> list[str]:
        """The command that runs another one in the namespaces, or in some, by letters of `nsenter`."""
        letters = only or "minup" + ("T" if self.clock else "")
        return ["nsenter", "-t", str(self.pid), *(f"-{letter}" for letter in letters), "--", *argv]

    def run(
        self, argv: Sequence[str], only: str | None = None, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in them, with all of its output kept as text."""
        return subprocess.run(
            self.inside(argv, only),
            env=ENVIRONMENT,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            check=False,
        )

    def must_run(self, argv: Sequence[str], only: str | None = None, stdin: str = "") -> None:
        """The same for what can't fail where the bed works.

        Raises:
            RuntimeError: it did; with its words.
        """
        done = self.run(argv, only, stdin)
        if done.returncode:
            raise RuntimeError(
                f"{self.name}: {' '.join(argv)} failed:\n{stdin}{done.stdout}{done.stderr}"
            )

    def wait_until_up(self, claim: Claim) -> None:
        """Wait until its script has said that it is ready.

        Raises:
            RuntimeError: it ended instead; with its words.
        """
        assert self.outer.stdout is not None
        with self.outer.stdout as stdout:
            line = stdout.readline()
        if line != b"up\n":
            self.outer.kill()
            self.outer.wait()
            raise RuntimeError(f"{self.name} did not start:\n{self.log.read_text()}")
        children = f"/proc/{self.outer.pid}/task/{self.outer.pid}/children"
        self.pid = int(Path(children).read_text().split()[0])
        claim.note_keeper(self.pid)

    def end(self) -> None:
        """Kill all that is in the namespaces, and wait until it is gone."""
        # It is reaped by its parent, which then ends as well. The kernel lets it end after all others of its pid
        # namespace.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid or self.outer.pid, signal.SIGKILL)
        self.outer.wait()


def start_keeper(
    claim: Claim, name: str, script: str, kinds: Sequence[str], clock: int = 0
) -> Keeper:
    """Start one; it is up after :meth:`Keeper.wait_until_up`.

    To be called by a thread that lives as long as the bed: with it the keeper ends.

    Args:
        claim: the bed's.
        name: the host's.
        script: what it does first, for bash; ends with `echo up` and `STAY`.
        kinds: of namespaces, as `unshare` names them, beside pid and mount.
        clock: seconds by which monotonic clocks inside are ahead; 0: the same clocks.
    """
    file = claim.directory / f"{name}.sh"
    file.write_text(script)
    log = claim.directory / f"{name}.log"
    has_clock = bool(clock) and has_time_namespaces()
    clocks = ["--time", f"--monotonic={clock}", f"--boottime={clock}"] if has_clock else []
    with log.open("wb") as stderr:
        outer = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "--"),
                *("unshare", "--kill-child", "--pid", "--mount-proc"),
                *(f"--{kind}" for kind in kinds),
                *clocks,
                *("--", "bash", str(file)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=ENVIRONMENT,
            cwd="/",
            # A ctrl-c at the terminal is for the owner.
            start_new_session=True,
        )
    claim.note_keeper(outer.pid)
    return Keeper(name, outer, log, has_clock)


def wait_for(condition: Callable[[], object], what: str, limit: float = BOOT_LIMIT) -> None:
    """Poll until `condition()` is true.

    Raises:
        TimeoutError: it was not within *limit* seconds.
    """
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {limit} s: {what}")
        time.sleep(0.02)


def environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    """`ENVIRONMENT` and more."""
    return {**ENVIRONMENT, **(extra or {})}
