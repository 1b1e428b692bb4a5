"""Finding a running actor by its pid or name, for commands that talk to one."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import trio

from tractor._errors import RuntimeFailure, TransportClosed
from tractor.address._types import HAS_UDS, UDSAddress, UnwrappedAddress
from tractor.devx.debug.attach._wire import Wire
from tractor.ipc._debug_sock import CONTROL_DIR, DEBUG_DIR, debug_socks
from tractor.observe.afar._by_message import request_of
from tractor.process._dirs import runtime_dir_path
from tractor.reaping._table import read_process
from tractor.transport._addresses import wrap_address
from tractor.transport._table import default_lo_addrs
from tractor.transport._uds import check_peer_uid, peer_credentials
from tractor.transport._uds_leftovers import answers

CONNECT_LIMIT = 1.0
"""Seconds in which a local actor must say who it is."""

ASK_LIMIT = 3.0
"""Seconds in which a registrar must answer."""


class FoundActor(NamedTuple):
    """An actor in debug mode on this host, of this user."""

    path: Path
    name: str
    uuid: str
    pid: int
    addrs: list[UnwrappedAddress]

    def __str__(self) -> str:
        return f"{self.name}[{self.uuid[:6]}]@{self.pid}"


def add_registry_option(
    parser: argparse.ArgumentParser,
    text: str = "a registrar to ask about names that are not known here, as a multiaddr; may be repeated",
) -> None:
    """Let a command take addresses of registrars: ``args.registry``, unwrapped."""
    parser.add_argument(
        "--registry",
        action="append",
        default=[],
        type=_registry_address,
        metavar="ADDR",
        help=text,
    )


def _registry_address(text: str) -> UnwrappedAddress:
    """A multiaddr; for argparse.  Raises argparse.ArgumentTypeError."""
    try:
        return wrap_address(text).unwrap()
    except (TypeError, ValueError, ImportError) as exc:
        raise argparse.ArgumentTypeError(f"{text!r} is not a multiaddr: {exc}") from None


def open_wire(path: Path) -> tuple[socket.socket, Wire]:
    """Connect to where an actor listens for users.

    Raises:
        OSError: nobody listens.
        TransportClosed: it is another user's.
    """
    if sys.platform == "win32":
        raise NotImplementedError
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(str(path))
        check_peer_uid(sock, may_be_anyone=os.geteuid() == 0)
    except BaseException:
        sock.close()
        raise
    return sock, Wire(sock)


def attachable() -> list[FoundActor]:
    """The actors that can be attached to."""
    found = []
    for path in debug_socks() if HAS_UDS else ():
        with contextlib.suppress(OSError, TransportClosed, KeyError, TypeError, ValueError):
            sock, wire = open_wire(path)
            try:
                sock.settimeout(CONNECT_LIMIT)
                wire.send("hello")
                told = wire.recv() or {}
                pid = _pid_here(sock, int(told["pid"]))
                if not pid:
                    continue
                addrs = [wrap_address(tuple(a)).unwrap() for a in told.get("addrs", ())]
                found.append(FoundActor(path, str(told["name"]), str(told["uuid"]), pid, addrs))
            finally:
                wire.close()
    return found


def _pid_here(sock: socket.socket, told: int) -> int:
    """The process that listens, by the kernel's word where it gives one; 0: it is of another pid namespace."""
    pid, _ = peer_credentials(sock)
    return told if pid is None else pid


def matching(wanted: str, actors: Sequence[FoundActor]) -> list[FoundActor]:
    """Those of that pid, name, or name with uuid or pid as it is printed."""
    if wanted.isdecimal():
        by_pid = [actor for actor in actors if actor.pid == int(wanted)]
        if by_pid:
            return by_pid
    return [
        actor
        for actor in actors
        if wanted
        in (
            actor.name,
            f"{actor.name}@{actor.pid}",
            f"{actor.name}[{actor.uuid[:6]}]",
            str(actor),
        )
    ]


def why_not_one(
    wanted: str, found: Collection[object], registries: Sequence[UnwrappedAddress] = ()
) -> str:
    """Why what was found is not the one actor of that pid or name; nothing where it is."""
    if not found:
        return explain(wanted, registries)
    if len(found) > 1:
        listed = "\n".join(f"  {one}" for one in found)
        return f"several actors are called {wanted!r}; give a pid:\n{listed}"
    return ""


def explain(wanted: str, registries: Sequence[UnwrappedAddress] = ()) -> str:
    """Why there is nobody to attach to under that pid or name."""
    if wanted.isdecimal():
        return _explain_pid(int(wanted))
    files = [path for path in _peer_sockets() if path.name.rpartition("@")[0] == wanted]
    if files:
        pids = ", ".join(path.name.rpartition("@")[2].removesuffix(".sock") for path in files)
        return f"actor {wanted!r} (pid {pids}) is not in debug mode: {_HOW}"
    registered = _registered(wanted, registries)
    if registered:
        return (
            f"actor {wanted!r} is registered at {registered[0]}, but is not in debug mode, or not one of this user "
            f"on this host: {_HOW}"
        )
    return (
        f"there is no actor {wanted!r}: neither a socket file of that name in {runtime_dir_path()}, nor a registrar "
        "that knows it (`--registry` names further ones)"
    )


_HOW = "start its tree, or it alone, with `debug_mode=True`"


def _explain_pid(pid: int) -> str:
    try:
        process = read_process(pid) if pid > 0 else None
    except RuntimeError as exc:
        return f"process {pid} can't be looked at: {exc}"
    if process is None:
        return f"there is no process {pid}"
    if not process.is_own:
        return f"process {pid} is not yours: it belongs to uid {process.uid}"
    files = [path for path in _peer_sockets() if path.name.endswith(f"@{pid}.sock")]
    what = f"actor {files[0].name.rpartition('@')[0]!r} (pid {pid})" if files else f"process {pid}"
    also = "" if files else "no actor, or "
    return f"{what} is {also}not in debug mode: {_HOW}"


def _peer_sockets() -> list[Path]:
    """The socket files of actors that listen."""
    top = runtime_dir_path()
    with contextlib.suppress(OSError):
        return [
            path
            for path in sorted(top.rglob("*@*.sock"))
            if path.parent not in (top / DEBUG_DIR, top / CONTROL_DIR) and answers(str(path))
        ]
    return []


def addresses_of(
    wanted: str, registries: Sequence[UnwrappedAddress] = ()
) -> dict[str, list[UnwrappedAddress]]:
    """Where the actors of that pid or name listen: on this host, or as a registrar says; by what to call each."""
    found = {str(actor): actor.addrs for actor in matching(wanted, attachable()) if actor.addrs}
    if found:
        return found
    ending = f"@{wanted}.sock" if wanted.isdecimal() else ""
    for path in _peer_sockets() if HAS_UDS else ():
        stem = path.name.removesuffix(".sock")
        if (ending and path.name.endswith(ending)) or wanted in (stem, stem.rpartition("@")[0]):
            found[stem] = [UDSAddress(str(path.parent), path.name).unwrap()]
    if found:
        return found
    return {f"{wanted} at {addrs}": addrs for addrs in _registered(wanted, registries)}


def _registered(name: str, registries: Sequence[UnwrappedAddress]) -> list[list[UnwrappedAddress]]:
    """The addresses of each actor of that name in the first registrar that answers."""
    for addr in registries or default_lo_addrs(["uds", "tcp"] if HAS_UDS else ["tcp"]):
        try:
            table = trio.run(request_of, addr, "get_registry", {}, ASK_LIMIT)
        except (OSError, TransportClosed, RuntimeFailure, RuntimeError, trio.TooSlowError):
            continue
        return [
            [wrap_address(tuple(a)).unwrap() for a in addrs]
            for uid, addrs in dict(table).items()
            if uid.rpartition(".")[0] == name
        ]
    return []
