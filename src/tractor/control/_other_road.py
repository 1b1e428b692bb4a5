"""Asking a subactor past its event loop: by its control socket, on whichever host that is.

A socket is never reached across hosts.  The subactor's parent asks the one of a process on its own host itself; of one
elsewhere the agent there does, which is its process's parent.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import outcome
import trio

from tractor._errors import HostUnavailable
from tractor.control._protocol import (
    MAX_ANSWER,
    VERSION,
    Code,
    Refusal,
    answer_in,
    read_answer,
    request_line,
)
from tractor.hosts._process import RemoteProcess
from tractor.ipc._debug_sock import control_path
from tractor.process.host._host_id import is_here
from tractor.trionics._groups import collapse_eg

GRACE = 0.3
"""Seconds in which a subactor's loop should have answered, before its socket is asked, too."""

T = TypeVar("T")


async def or_past_the_loop(
    ask: Callable[[], Awaitable[T]], past: Callable[[], Awaitable[T | None]]
) -> T:
    """The answer of a subactor, over its channel; or what its socket says, if that is first.

    Args:
        ask: asks over the channel.
        past: asks the socket, once the loop has had :data:`GRACE`; ``None``, or a Refusal: that says nothing.

    Raises:
        Exception: what ``ask`` has raised.
    """
    by_channel: list[outcome.Outcome[T]] = []
    by_socket: list[T] = []

    async def second(scope: trio.CancelScope) -> None:
        await trio.sleep(GRACE)
        with contextlib.suppress(Refusal):
            told = await past()
            if told is not None:
                by_socket.append(told)
                scope.cancel()

    async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
        tn.start_soon(second, tn.cancel_scope)
        try:
            by_channel.append(outcome.Value(await ask()))
        except Exception as exc:
            by_channel.append(outcome.Error(exc))
        tn.cancel_scope.cancel()
    # Of both at once the loop's own is the better one.
    return by_channel[0].unwrap() if by_channel else by_socket[0]


def has_other_road(record: Any) -> bool:
    """Whether a subactor may have a control socket that can be asked.

    Args:
        record: what its parent keeps of it.
    """
    if isinstance(record.process, RemoteProcess):
        return True
    return _path_of(record) is not None


async def ask_past_the_loop(record: Any, request: Mapping[str, Any], limit: float) -> Any:
    """What a subactor's control socket answers.

    Args:
        record: what its parent keeps of it.
        request: what is asked.
        limit: seconds.

    Raises:
        Refusal: it has refused, or can't be asked so, or did not answer in time.
    """
    line = {"v": VERSION, **request}
    process = record.process
    if isinstance(process, RemoteProcess):
        try:
            return answer_in(await process.host.look(process, line, limit))
        except (HostUnavailable, ValueError) as exc:
            raise Refusal(Code.FAILED, str(exc)) from None
    path = _path_of(record)
    if path is None:
        raise Refusal(Code.FAILED, "it has no control socket")
    try:
        with trio.fail_after(limit):
            return await _asked(path, line)
    except trio.TooSlowError:
        raise Refusal(Code.TOO_SLOW, "its control socket did not answer in time, either") from None
    except (OSError, ValueError) as exc:
        raise Refusal(Code.FAILED, f"its control socket can't be asked: {exc}") from None


def _path_of(record: Any) -> str | None:
    """Where one with a process of its own on this host listens; a sub-interpreter has no socket."""
    info = record.info()
    if info.pid in (None, os.getpid()) or not is_here(info.host):
        return None
    path = control_path(info.aid.name, info.pid)
    return None if path is None else str(path)


async def _asked(path: str, request: Mapping[str, Any]) -> Any:
    stream = await trio.open_unix_socket(path)
    async with stream:
        await stream.send_all(request_line(request))
        line = bytearray()
        while not line.endswith(b"\n"):
            data = await stream.receive_some(65536)
            if not data:
                raise ConnectionResetError("it has hung up")
            line += data
            if len(line) > MAX_ANSWER:
                raise ValueError(f"an answer of more than {MAX_ANSWER} bytes")
        return read_answer(bytes(line))
