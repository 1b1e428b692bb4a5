"""TCP: telling a host that has vanished from a peer that is busy.

Theory of operation.  Keepalive finds a host that vanished while nothing was under way.  While bytes are
unacknowledged or unsent it is off, and ``TCP_USER_TIMEOUT`` is not a substitute: it also ends a connection whose peer
lives, but reads nothing, such as one that computes or is stopped.  That peer's kernel still acknowledges, window probes
included.  So a timer reads the kernel's own account, ``TCP_INFO``: a peer is lost when nothing at all was acknowledged
for :data:`SILENCE` seconds although something is due.  A probe of a closed window is due an answer, too, and counts as
unanswered until it comes.

Linux only.  Elsewhere keepalive and the system's own limits decide.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys

import trio

SILENCE = 20.0
"""Seconds without any acknowledgement, though one is due, after which the peer's host counts as lost."""

CHECK_EVERY = 5.0
"""Seconds between two looks."""

# `struct tcp_info` of <linux/tcp.h>: retransmits, probes; unacked; last_ack_recv, in milliseconds.
_INFO = struct.Struct("=2xBB20xI28xI")

_TCP_RTO_MAX_MS = 44
"""Bounds the pause between retransmissions and probes, which else grows to two minutes; Linux 6.15 and newer."""


def limit_probe_pause(sock: socket.socket) -> None:
    """Have a closed window probed often enough for :func:`is_silent`, where the kernel can."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_RTO_MAX_MS, int(CHECK_EVERY * 1000))


def is_silent(sock: socket.socket, limit: float = SILENCE) -> bool:
    """Whether the peer's host owes an acknowledgement and has sent none for so many seconds.  Raises OSError."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)  # type: ignore[attr-defined, unused-ignore]
    retransmits, probes, unacked, last_ack = _INFO.unpack(info)
    # A live kernel may leave one probe unanswered: it limits how often it answers.
    return bool(retransmits or unacked or probes > 1) and last_ack > limit * 1000


async def watch_silence(sock: socket.socket) -> str:
    """Wait until the peer's host is silent; what to say then.  Waits for ever where that can't be known."""
    if sys.platform != "linux":
        await trio.sleep_forever()
    before = False
    while True:
        await trio.sleep(CHECK_EVERY)
        try:
            now = is_silent(sock)
        except OSError:
            # Closed; its reader knows.
            await trio.sleep_forever()
        # Twice: something sent after a long pause is due an answer only from then on.
        if now and before:
            return f"the peer's host has acknowledged nothing for {SILENCE:g} s; it has vanished"
        before = now
