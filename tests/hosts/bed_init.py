"""What the first process of a host does: it hides what hosts must not share."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from bed_claim import Claim
from bed_keeper import STAY

if sys.platform != "win32":
    import pwd

PROJECT = Path(__file__).resolve().parents[2]

FIRST_DESCRIPTOR = 20


def host_script(claim: Claim, name: str, pythons: Iterable[str], commands: Sequence[str]) -> str:
    """The script of a host's keeper.

    Args:
        claim: the bed's.
        name: the host's.
        pythons: interpreters that are to be found there at the same path, with their packages.
        commands: lines that start what is to run there.
    """
    # A Unix socket in a directory that two hosts share would join them, whatever the network says.
    hidden = ["/tmp", "/run", "/dev/shm", *_homes()]
    shown = _outermost([claim.share, PROJECT, *_folders_of(pythons)])
    lines = ["set -e", f"hostname {shlex.quote(name)}", "umask 022"]
    # Held open: a path that leads through a hidden directory is found no more.
    descriptors = dict(enumerate(shown, start=FIRST_DESCRIPTOR))
    lines += [f"exec {fd}<{shlex.quote(str(path))}" for fd, path in descriptors.items()]
    lines += [f"mount -t tmpfs none {shlex.quote(path)}" for path in hidden]
    lines += ["chmod 1777 /tmp /dev/shm", "mkdir -p /run/sshd /run/lock"]
    for fd, path in descriptors.items():
        where = shlex.quote(str(path))
        lines += [
            f"[ -e {where} ] || mkdir -p {where}",
            f"mount -c --bind /proc/self/fd/{fd} {where}",
            f"mount -o remount,bind,ro {where}",
            f"exec {fd}<&-",
        ]
    lines += [
        # Not that of the machine, which every host could see.
        f"mkdir -p -m 755 {claim.local}",
        f"mount --bind {claim.share}/hosts /etc/hosts",
        # No server of names can be reached; without one a question fails at once.
        "mount --bind /dev/null /etc/resolv.conf",
        # slurmd wants one with a freezer.
        "if mount -t tmpfs none /sys/fs/cgroup; then mkdir /sys/fs/cgroup/freezer;"
        " mount -t cgroup -o freezer none /sys/fs/cgroup/freezer || true; fi 2>/dev/null",
        *commands,
        "echo up",
    ]
    return "\n".join(lines) + STAY


def _homes() -> list[str]:
    """The user's: that of the environment, and that of a login."""
    homes = {pwd.getpwuid(os.getuid()).pw_dir, os.path.expanduser("~")}
    return sorted(home for home in homes if os.path.isdir(home) and home != "/")


def _folders_of(pythons: Iterable[str]) -> list[Path]:
    """Where interpreters and their packages are."""
    folders = {Path(sys.prefix), Path(sys.base_prefix)}
    for python in pythons:
        path = Path(python)
        folders |= {path.parents[1], path.resolve().parents[1]}
    return [folder for folder in folders if folder.resolve() != Path("/usr")]


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """Each once, and none within another."""
    chosen: list[Path] = []
    for path in sorted({path.resolve() for path in paths}):
        if not any(path.is_relative_to(other) for other in chosen):
            chosen.append(path)
    return chosen
