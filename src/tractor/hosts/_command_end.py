"""The end of an engine's command."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import trio

_CLOSING_TIME = 0.3
_WITHDRAWAL_TIME = 1.0


async def end_command(process: trio.Process, may_wait: bool) -> None:
    """Close the stdin of an engine's command, which ends by that; else kill it.

    Args:
        process: the command's.
        may_wait: in a queue, nothing having been started yet: then it is asked first. So it withdraws what waits;
            killed, it would leave that there, to be started later.
    """
    assert process.stdin is not None
    await process.stdin.aclose()
    steps = [(_CLOSING_TIME, signal.SIGKILL)]  # type: ignore[attr-defined, unused-ignore]
    if may_wait:
        steps = [(_CLOSING_TIME, signal.SIGTERM), (_WITHDRAWAL_TIME, signal.SIGKILL)]  # type: ignore[attr-defined, unused-ignore]
    for patience, number in steps:
        with trio.move_on_after(patience):
            await process.wait()
        if process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)  # type: ignore[attr-defined, unused-ignore]
    await process.wait()
    # Not before: it may have something to say meanwhile, and would die of a closed pipe in the middle of its own end.
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            await stream.aclose()
