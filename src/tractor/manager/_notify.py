"""Talking with systemd: the notifications of `sd_notify(3)`, and sockets that it hands down."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping

import msgspec

from tractor import log as _log
from tractor.services.file._service_file import KEPT_FROM_CHILDREN

log = _log.get_logger()

FIRST_LISTEN_FD = 3


class Systemd(msgspec.Struct, frozen=True, kw_only=True):
    """What systemd has told this process.

    Attributes:
        notify_socket: where it listens; empty: nobody does.
        watchdog: seconds in which it wants a sign of life; ``None``: never.
        listening: the sockets that it has opened, with their names; a name need not be unique.
    """

    notify_socket: str = ""
    watchdog: float | None = None
    listening: tuple[tuple[str, int], ...] = ()


def take_from_environment(
    environ: MutableMapping[str, str] | None = None, pid: int | None = None
) -> Systemd:
    """What systemd has told this process; its variables are taken out, so that no child has them.

    Args:
        environ: default: this process's.
        pid: default: this process's.
    """
    env = os.environ if environ is None else environ
    pid = os.getpid() if pid is None else pid
    given = {name: env.pop(name, "") for name in KEPT_FROM_CHILDREN}
    usec = _number(given["WATCHDOG_USEC"])
    is_watched = usec > 0 and given["WATCHDOG_PID"] in ("", str(pid))
    listening: list[tuple[str, int]] = []
    if given["LISTEN_PID"] == str(pid):
        names = given["LISTEN_FDNAMES"].split(":") if given["LISTEN_FDNAMES"] else []
        for i in range(_number(given["LISTEN_FDS"])):
            listening.append((names[i] if i < len(names) else "unknown", FIRST_LISTEN_FD + i))
    return Systemd(
        notify_socket=given["NOTIFY_SOCKET"],
        watchdog=usec / 1e6 if is_watched else None,
        listening=tuple(listening),
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() else 0


class Notifier:
    """Sends notifications; where nobody listens, it does nothing.

    Args:
        path: of the socket; ``@`` stands before an abstract one's name; empty: nobody listens.
    """

    def __init__(self, path: str) -> None:
        self._path = f"\0{path[1:]}" if path.startswith("@") else path
        self._sock: socket.socket | None = None
        if not path:
            return
        if not path.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
            log.warning("NOTIFY_SOCKET=%r is no Unix socket; nothing is told to it", path)
            return
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        self._status = ""

    @property
    def is_on(self) -> bool:
        """Whether somebody is to be told."""
        return self._sock is not None

    def close(self) -> None:
        """Free the socket.  Idempotent."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def ready(self, status: str) -> None:
        """The manager, or its reload, has come to its end; so also after one that has failed."""
        self._send(READY=1, STATUS=status)

    def status(self, text: str) -> None:
        """One line for people; the same twice is sent once."""
        if self.is_on and text != self._status:
            self._send(STATUS=text)

    def reloading(self, status: str) -> None:
        """A reload begins: both words in one message, as systemd wants it."""
        self._send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000, STATUS=status)

    def stopping(self, status: str, extend: float) -> None:
        """The manager goes.

        Args:
            status: one line for people.
            extend: seconds from now for which systemd is to wait at least.
        """
        self._send(STOPPING=1, EXTEND_TIMEOUT_USEC=int(extend * 1e6), STATUS=status)

    def alive(self) -> None:
        """A sign of life for the watchdog."""
        self._send(WATCHDOG=1)

    def _send(self, **words: str | int) -> None:
        if self._sock is None:
            return
        self._status = str(words.get("STATUS", self._status))
        text = "".join(f"{key}={_one_line(value)}\n" for key, value in words.items())
        # One that is full or gone is no reason for the services to end.
        try:
            self._sock.sendto(text.encode("utf-8", "surrogateescape"), self._path)
        except OSError as exc:
            log.warning("systemd could not be told %s: %s", next(iter(words)), exc)


def _one_line(value: str | int) -> str:
    return " ".join(str(value).split())
