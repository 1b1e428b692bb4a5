"""Hosts on one machine: ``python tests/hosts/bed.py shell h1 h2 h3``.

Each *host* has its own network, processes, name, monotonic clock, `/tmp`, `/run`, `/dev/shm` and home; the project
and its venv are there, read-only, at the same paths. A switch joins the hosts and this machine, and no route leads
further. An sshd runs on each, slurm if asked for. Needed are Linux, root, and Debian's `openssh-server iproute2`, for
slurm `munge slurm-wlm`.

The shell has an `ssh` for which `ssh h1` works, and `bed-in h1 COMMAND…`, `bed-cut h1`, `bed-drop h1` and
`bed-heal h1`. In a program, :func:`open_bed` is the way in. When the owner of a bed ends, however that comes, all of
it ends.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bed_claim import Claim, claimed
from bed_init import PROJECT, host_script
from bed_keeper import ENVIRONMENT, STAY, Keeper, start_keeper, wait_for
from bed_slurm import CONTROLLER, start_slurm, write_slurm_config
from bed_ssh import SSHD_LIMIT, answers, host_key, write_config, write_wrapper

OTHER_PYTHON = "TRACTOR_TEST_OTHER_PYTHON"
"""Names an interpreter of another version, whose venv has what the project needs."""

NAMES = ("h1", "h2", "h3")

_PROGRAMS = [
    *("bash", "bridge", "hostname", "ip", "mount", "nsenter", "setpriv", "unshare"),
    *("ssh", "ssh-keygen", "sshd"),
]
_PROGRAMS_OF_SLURM = ["munged", "salloc", "sinfo", "slurmctld", "slurmd", "srun"]


@dataclass(frozen=True)
class Process:
    """A process on a host.

    Attributes:
        pid: over there.
        pid_here: the same process, as this machine numbers it.
        argv: its arguments; none where it is a zombie.
        state: a letter, as in `/proc/PID/stat`: `T` is stopped, `Z` a zombie.
        parent_here: of its parent, as this machine numbers it.
    """

    pid: int
    pid_here: int
    argv: tuple[str, ...]
    state: str
    parent_here: int

    @property
    def is_below_nsenter(self) -> bool:
        """Whether it is a command that was started from here."""
        return Path(f"/proc/{self.parent_here}/comm").read_text() == "nsenter\n"


@dataclass(repr=False)
class Host:
    """One of a bed's hosts."""

    name: str
    address: str
    keeper: Keeper
    own: frozenset[int] = frozenset()
    """Pids, as the machine numbers them, of what the bed itself has started there."""


@dataclass(repr=False)
class Bed:
    """The hosts; made by :func:`open_bed`.

    Attributes:
        address: of this machine, as hosts reach it.
        ssh_config: for `ssh -F`.
        environ: variables to be set in a program here, so that `ssh NAME` works in it, and `srun` where slurm runs.
        python: the interpreter of the tests; it is on every host.
        other_python: one of another version; `None` where there is none.
    """

    claim: Claim
    address: str
    switch: Keeper
    hosts: dict[str, Host]
    ssh_config: Path
    environ: dict[str, str]
    python: str = sys.executable
    other_python: str | None = None

    # -- the network --

    def cut(self, name: str) -> None:
        """Take a host's link down: both sides can see that, and nothing gets through."""
        self.switch.must_run(["ip", "link", "set", _port(name), "down"], only="n")

    def drop(self, name: str) -> None:
        """Lose every packet from and to a host, with its link up: nobody can see why."""
        self.switch.must_run(["bridge", "link", "set", "dev", _port(name), "state", "0"], only="n")

    def heal(self, name: str) -> None:
        """Undo :meth:`cut` and :meth:`drop`."""
        self.switch.must_run(["ip", "link", "set", _port(name), "up"], only="n")
        forwards = ["bridge", "link", "set", "dev", _port(name), "state", "3"]
        # The link's other end has to be seen first.
        wait_for(
            lambda: not self.switch.run(forwards, only="n").returncode, f"the link of {name} up"
        )

    # -- programs on a host --

    def inside(self, name: str, argv: Sequence[str]) -> list[str]:
        """The command that runs another one on a host: its input and output are the command's own."""
        return self.hosts[name].keeper.inside(argv)

    def run(
        self, name: str, argv: Sequence[str], stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host, as after a login, and wait for it; its output is kept as text."""
        return self.hosts[name].keeper.run(argv, stdin=stdin)

    def popen(self, name: str, argv: Sequence[str]) -> subprocess.Popen[str]:
        """Start a command on a host; stdin and stdout are pipes, stderr is ours.

        Of the process that is returned the command is a child: to send it a signal, :meth:`kill` it there.
        """
        return subprocess.Popen(
            self.inside(name, argv),
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    # -- the truth over there --

    def processes(self, name: str) -> list[Process]:
        """What runs on a host, zombies included, beside what the bed itself has started; by the kernel's own word."""
        host = self.hosts[name]
        return [process for process in _processes_of(host) if process.pid_here not in host.own]

    def kill(self, name: str, pid: int, number: int) -> None:
        """Send a signal to a process of a host, by its pid there.

        Raises:
            ProcessLookupError: there is none.
        """
        for process in _processes_of(self.hosts[name]):
            if process.pid == pid:
                below_nsenter = process.is_below_nsenter
                os.kill(process.pid_here, number)
                if below_nsenter and number != signal.SIGSTOP:
                    # It has stopped with its command, and would not see that end.
                    os.kill(process.parent_here, signal.SIGCONT)
                return
        raise ProcessLookupError(f"no process {pid} on {name}")

    def next_pid(self, name: str, pid: int) -> None:
        """Let the next process of a host have this pid, unless one has it."""
        self.hosts[name].keeper.must_run(
            ["sh", "-c", f"echo {pid - 1} >/proc/sys/kernel/ns_last_pid"]
        )

    def power_off(self, name: str) -> None:
        """A host is gone from one moment to the next: it says no good-bye on any connection."""
        self.cut(name)
        self.hosts[name].keeper.end()


# -- making one --


@contextlib.contextmanager
def open_bed(names: Sequence[str] = NAMES, *, slurm: bool = False) -> Iterator[Bed]:
    """Hosts for the block, reachable by ssh; nothing of them is left after it.

    To be used by a thread that lives as long as the block: the main thread, say.

    Args:
        names: of the hosts.
        slurm: with slurm on them, its controller on one more, and an allocation of them all.

    Raises:
        RuntimeError: this machine can't have one (see :func:`missing`), or something failed; says what.
        TimeoutError: a part did not come up in time.
    """
    reason = missing(slurm)
    if reason is not None:
        raise RuntimeError(f"no test bed here: {reason}")
    with claimed() as claim, contextlib.ExitStack() as stack:
        everyone = [*names, CONTROLLER] if slurm else list(names)
        addresses = {name: claim.address(11 + index) for index, name in enumerate(everyone)}
        _write_hosts_file(claim, addresses)
        config = write_config(claim, {name: addresses[name] for name in names})
        other = other_python()
        switch = start_keeper(claim, "switch", f"echo up{STAY}", ["net"])
        stack.callback(switch.end)
        keepers = {}
        for index, name in enumerate(everyone):
            commands = _ssh_on_host(claim, name) if name != CONTROLLER else []
            script = host_script(
                claim, name, [sys.executable, *([other] if other else [])], commands
            )
            # Clocks of two hosts have nothing to do with each other.
            clock = 100_000 * (index + 1)
            keepers[name] = start_keeper(claim, name, script, ["net", "uts", "ipc"], clock)
            stack.callback(keepers[name].end)
        for keeper in (switch, *keepers.values()):
            keeper.wait_until_up(claim)
        _join(claim, switch, keepers, addresses)
        for name in names:
            wait_for(
                functools.partial(answers, addresses[name]), f"sshd answers on {name}", SSHD_LIMIT
            )
        environ = _tools(claim, config, switch, keepers)
        if slurm:
            write_slurm_config(claim, addresses)
            environ.update(start_slurm(claim, switch, keepers))
        hosts = {name: Host(name, addresses[name], keepers[name]) for name in names}
        for host in hosts.values():
            host.own = frozenset(process.pid_here for process in _processes_of(host))
        yield Bed(claim, claim.address(1), switch, hosts, config, environ, other_python=other)


def missing(slurm: bool = False) -> str | None:
    """What this machine lacks for a bed; `None`: nothing."""
    reason = _missing_for_bed()
    if reason is None and slurm:
        reason = _missing_programs(_PROGRAMS_OF_SLURM, "munge slurm-wlm")
    return reason


@functools.cache
def _missing_for_bed() -> str | None:
    if sys.platform != "linux":
        return f"hosts are namespaces of Linux; this is {sys.platform}"
    if os.geteuid() != 0:
        return "only root can make hosts"
    reason = _missing_programs(_PROGRAMS, "openssh-server openssh-client iproute2")
    if reason is not None:
        return reason
    tried = subprocess.run(
        [
            "unshare",
            "--net",
            "--pid",
            "--fork",
            "--mount-proc",
            "ip",
            "link",
            "add",
            "type",
            "veth",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no namespaces may be made here: {tried.stderr.strip()}" if tried.returncode else None


def _missing_programs(names: Sequence[str], packages: str) -> str | None:
    found = {name: shutil.which(name, path=ENVIRONMENT["PATH"]) for name in names}
    lacking = [name for name, path in found.items() if path is None]
    return f"no {', '.join(lacking)} here; Debian has it in: {packages}" if lacking else None


def other_python() -> str | None:
    """An interpreter of another version: that of `OTHER_PYTHON`, else of a `.venv-X.Y` of the project."""
    named = os.environ.get(OTHER_PYTHON)
    candidates = [named] if named else [str(p / "bin/python") for p in PROJECT.glob(".venv-3.*")]
    own = "{}.{}".format(*sys.version_info)
    for python in candidates:
        shown = subprocess.run([python, "--version"], capture_output=True, text=True, check=False)
        version = shown.stdout.removeprefix("Python ").strip()
        if not shown.returncode and not version.startswith(f"{own}."):
            return python
    return None


def _write_hosts_file(claim: Claim, addresses: Mapping[str, str]) -> None:
    lines = ["127.0.0.1 localhost", *(f"{addr} {name}" for name, addr in addresses.items())]
    (claim.share / "hosts").write_text("\n".join(lines) + "\n")


def _ssh_on_host(claim: Claim, name: str) -> list[str]:
    """Lines that start sshd, and let root log in from there to the others."""
    key = f"{claim.local}/host_key"
    return [
        f"(umask 077; cat >{key}) <<'END'\n{host_key(claim, name).rstrip()}\nEND",
        f"cp -r {claim.share}/ssh ~/.ssh; chmod -R go= ~/.ssh",
        # By its full name, which it starts itself anew by.
        f'"$(command -v sshd)" -D -e -f {claim.share}/sshd_config &',
    ]


def _port(name: str) -> str:
    return f"to-{name}"


def _join(
    claim: Claim, switch: Keeper, keepers: Mapping[str, Keeper], addresses: Mapping[str, str]
) -> None:
    """The switch, and a link from it to each host and to this machine."""
    lines = ["link set lo up", "link add br0 type bridge", "link set br0 up"]
    ends = [("machine", claim.link, os.getpid())]
    ends += [(name, "eth0", keeper.pid) for name, keeper in keepers.items()]
    for name, device, pid in ends:
        lines += [
            f"link add {_port(name)} type veth peer name {device} netns {pid}",
            f"link set {_port(name)} master br0",
            f"link set {_port(name)} up",
        ]
    switch.must_run(["ip", "-batch", "-"], only="n", stdin="\n".join(lines) + "\n")
    for name, keeper in keepers.items():
        keeper.must_run(
            ["ip", "-batch", "-"],
            only="n",
            stdin=f"link set lo up\naddr add {addresses[name]}/24 dev eth0\nlink set eth0 up\n",
        )
    subprocess.run(
        ["ip", "-batch", "-"],
        input=f"addr add {claim.address(1)}/24 dev {claim.link}\nlink set {claim.link} up\n",
        text=True,
        check=True,
    )


def _tools(
    claim: Claim, config: Path, switch: Keeper, keepers: Mapping[str, Keeper]
) -> dict[str, str]:
    """Commands for programs of this machine, and the variables that let them be found."""
    folder = claim.directory / "bin"
    folder.mkdir()
    write_wrapper(folder, config)
    in_switch = shlex.join(switch.inside([], only="n"))
    cases = [f"{name}) pid={keeper.pid} ;;" for name, keeper in keepers.items()]
    find = f'case "$1" in {" ".join(cases)} *) echo "no host $1" >&2; exit 2 ;; esac\n'
    some = next(iter(keepers.values()))
    enter = shlex.join(some.inside([])).replace(str(some.pid), '"$pid"')
    scripts = {
        "bed-in": f'shift; exec env -i {shlex.join(f"{k}={v}" for k, v in ENVIRONMENT.items())} {enter} "$@"',
        "bed-cut": f'exec {in_switch} ip link set "to-$1" down',
        "bed-drop": f'exec {in_switch} bridge link set dev "to-$1" state 0',
        "bed-heal": f'{in_switch} ip link set "to-$1" up; sleep .1; '
        f'exec {in_switch} bridge link set dev "to-$1" state 3',
    }
    for name, line in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{find}{line}\n")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}


def _processes_of(host: Host) -> list[Process]:
    """All of its pid namespace, from the machine's `/proc`."""
    try:
        namespace = os.readlink(f"/proc/{host.keeper.pid}/ns/pid")
    except FileNotFoundError:
        return []  # its power is off
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            # It may end while it is looked at; one that may not be looked at is none of ours.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                if os.readlink(f"/proc/{entry}/ns/pid") == namespace:
                    found.append(_look_at(int(entry)))
    return found


def _look_at(pid: int) -> Process:
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
    # One that has set its title has nothing but zeros behind it.
    stripped = arguments.rstrip(b"\0")
    argv = tuple(map(os.fsdecode, stripped.split(b"\0"))) if stripped else ()
    return Process(
        pid=int(status["NSpid"].split()[-1]),
        pid_here=pid,
        argv=argv,
        state=status["State"].split()[0],
        parent_here=int(status["PPid"]),
    )


# -- by hand --


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    shell = commands.add_parser("shell", help="a shell, or another program, with hosts")
    shell.add_argument("--slurm", action="store_true", help="with slurm on them")
    shell.add_argument("names", nargs="*", metavar="HOST", help=f"default: {' '.join(NAMES)}")
    shell.add_argument("--run", metavar="COMMAND", help="instead of a shell")
    args = parser.parse_args()
    with open_bed(args.names or NAMES, slurm=args.slurm) as bed:
        for host in bed.hosts.values():
            print(f"{host.name}  {host.address}")
        shell_here = os.environ.get("SHELL", "/bin/sh")
        argv = [shell_here, "-c", args.run] if args.run else [shell_here]
        return subprocess.run(argv, env={**os.environ, **bed.environ}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
