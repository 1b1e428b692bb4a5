"""The hosts' sshd, and what the `ssh` of the machine needs to reach them: nothing of the user's is read or changed."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bed_claim import Claim

SSHD_LIMIT = 30.0
"""Seconds that an sshd may take until it answers on a busy machine."""


def write_config(claim: Claim, addresses: Mapping[str, str]) -> Path:
    """Make keys and configuration.

    Args:
        claim: the bed's.
        addresses: of each host.

    Returns:
        The client's configuration, for `ssh -F`.
    """
    private = claim.directory / "ssh"
    private.mkdir(mode=0o700)
    keys = [private / "id", *(private / f"key-{name}" for name in addresses)]
    makers = [
        subprocess.Popen(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", os.fspath(key)])
        for key in keys
    ]
    if sum(maker.wait() for maker in makers):
        raise RuntimeError("ssh-keygen failed")
    shutil.copy(private / "id.pub", claim.share / "authorized_keys")
    known = []
    for name in addresses:
        # Each host finds the key of all at one path: it is copied into its `local` before sshd starts.
        known.append(f"{name} {(private / f'key-{name}.pub').read_text()}")
    (private / "known_hosts").write_text("".join(known))
    (claim.share / "sshd_config").write_text(
        f"HostKey {claim.local}/host_key\n"
        f"AuthorizedKeysFile {claim.share}/authorized_keys\n"
        "PasswordAuthentication no\n"
        "PermitRootLogin yes\n"
        "StrictModes no\n"
        "UsePAM no\n"
        "PrintLastLog no\n"
        "PidFile none\n"
    )
    # Hosts reach each other in the same way.
    there = claim.share / "ssh"
    there.mkdir(mode=0o700)
    for name in ("id", "known_hosts"):
        shutil.copy(private / name, there)
    (there / "config").write_text(_client_config(addresses, "~/.ssh"))
    config = private / "config"
    config.write_text(_client_config(addresses, os.fspath(private)))
    return config


def _client_config(addresses: Mapping[str, str], folder: str) -> str:
    entries = [
        f"Host {name}\n  HostName {address}\n  HostKeyAlias {name}\n"
        for name, address in addresses.items()
    ]
    return "".join(entries) + (
        "Host *\n"
        "  User root\n"
        f"  IdentityFile {folder}/id\n"
        "  IdentitiesOnly yes\n"
        "  IdentityAgent none\n"
        f"  UserKnownHostsFile {folder}/known_hosts\n"
        "  GlobalKnownHostsFile none\n"
        "  StrictHostKeyChecking yes\n"
    )


def host_key(claim: Claim, name: str) -> str:
    """The private key of a host's sshd."""
    return (claim.directory / "ssh" / f"key-{name}").read_text()


def write_wrapper(folder: Path, config: Path) -> None:
    """An `ssh` that reads the bed's configuration, for a directory at the front of PATH."""
    real = shutil.which("ssh")
    assert real is not None
    for name in ("ssh", "scp", "sftp"):
        if (found := shutil.which(name)) is not None:
            wrapper = folder / name
            wrapper.write_text(
                f'#!/bin/sh\nexec {shlex.quote(found)} -F {shlex.quote(os.fspath(config))} "$@"\n'
            )
            wrapper.chmod(0o755)


def answers(address: str) -> bool:
    """Whether an sshd does there."""
    try:
        with socket.create_connection((address, 22), timeout=1.0) as sock:
            return sock.recv(4) == b"SSH-"
    except OSError:
        return False
