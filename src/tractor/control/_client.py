"""Asking the actors of this host that listen on control sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tractor._errors import TransportClosed
from tractor.address._types import HAS_UDS
from tractor.control._protocol import MAX_ANSWER, VERSION, Code, Refusal, Who, read_answer
from tractor.ipc._debug_sock import control_socks
from tractor.process._dirs import runtime_dir_path
from tractor.process._stat import process_start_time
from tractor.process.host._host_id import is_here
from tractor.transport._uds import check_peer_uid

T = TypeVar("T")

LIMIT = 1.0
"""Seconds in which an actor must have said who it is."""

IN_FLIGHT = 64
"""Actors that are asked at a time."""


class Asked:
    """A connection to one actor.

    Args:
        path: of its socket.
        limit: seconds for each answer.

    Raises:
        OSError: nobody listens there.
        TransportClosed: it is another user's.
    """

    def __init__(self, path: Path, limit: float = LIMIT) -> None:
        self.path = path
        self._limit = limit
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)  # type: ignore[attr-defined, unused-ignore]
        try:
            self._sock.settimeout(limit)
            self._sock.connect(str(path))
            check_peer_uid(self._sock, may_be_anyone=os.geteuid() == 0)  # type: ignore[attr-defined, unused-ignore]
        except BaseException:
            self._sock.close()
            raise

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._sock.close()

    def ask(self, op: str, *, limit: float | None = None, **fields: Any) -> Any:
        """One request, and its answer.

        Args:
            op: what is asked.
            limit: seconds for the answer; default: the connection's.
            fields: of the request.

        Raises:
            Refusal: the answer is an error, or none came in time.
            OSError, ValueError: the actor is gone, or says what is no answer.
        """
        deadline = time.monotonic() + (self._limit if limit is None else limit)
        request = msgspec.json.encode({"v": VERSION, "op": op, **fields})
        line = bytearray()
        try:
            self._sock.sendall(request + b"\n")
            while not line.endswith(b"\n"):
                self._sock.settimeout(max(0.001, deadline - time.monotonic()))
                data = self._sock.recv(65536)
                if not data:
                    raise ConnectionResetError("the actor has hung up")
                line += data
                if len(line) > MAX_ANSWER:
                    raise ValueError(f"an answer of more than {MAX_ANSWER} bytes")
        except TimeoutError:
            raise Refusal(Code.TOO_SLOW, "no answer came in time") from None
        return read_answer(bytes(line))


def runtime_dirs(more: Iterable[Path] = ()) -> list[Path]:
    """Every runtime directory that this user may have: a service's is often another than a login's.

    Args:
        more: further ones.
    """
    uid = os.getuid() if hasattr(os, "getuid") else 0
    places = [
        *more,
        runtime_dir_path(),
        Path(f"/run/user/{uid}/tractor"),
        Path(f"/tmp/tractor-{uid}"),
    ]
    return list(dict.fromkeys(places))


def find_actors(dirs: Iterable[Path], op: str) -> list[tuple[Path, Who]]:
    """The actors of this host that may be asked ``op``, by name and pid; who doesn't answer within 1 s is left out."""
    if not HAS_UDS:
        return []
    found = in_parallel(_who, control_socks(dirs))
    actors = [one for one in found if one is not None and op in one[1].ops]
    return sorted(actors, key=lambda one: (one[1].name, one[1].pid))


def _who(path: Path) -> tuple[Path, Who] | None:
    with contextlib.suppress(
        OSError, ValueError, Refusal, TransportClosed, msgspec.ValidationError
    ):
        with Asked(path) as asked:
            who = msgspec.convert(asked.ask("hello"), Who)
        if not is_here(who.host_id):
            # Of another pid namespace, with which this one shares the directory.
            return None
        # A pid that is used again is nobody's.
        if who.start_time is None or process_start_time(who.pid) == who.start_time:
            return path, who
    return None


def in_parallel(fn: Callable[[Path], T], paths: list[Path]) -> list[T]:
    """The results of ``fn`` for each path, in their order."""
    if not paths:
        return []
    with ThreadPoolExecutor(min(IN_FLIGHT, len(paths))) as pool:
        return list(pool.map(fn, paths))
