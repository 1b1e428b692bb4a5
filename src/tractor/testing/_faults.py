"""Making things go wrong on purpose, and expecting what then must come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from tractor._errors import ContextCancelled, TransportClosed
from tractor.trionics._ki import ki_protected_manager
from tractor.trionics._masking import BoxedMaybeException

if TYPE_CHECKING:
    from tractor.runtime.dialog._context import MsgStream

BREAK_METHODS = ("socket_close", "socket_eof")


async def break_ipc(
    stream: MsgStream,
    method: str | None = None,
    pre_close: bool = False,
    def_method: str = "socket_close",
) -> None:
    """Break the connection below a stream, behind the runtime's back.

    Every dialog on that connection is hit, not only the stream's.  A connection that is gone
    already stays as it is.

    Args:
        stream: any stream over the connection.
        method: ``'socket_close'`` closes the socket at once, ``'socket_eof'`` ends its sending half
            only; default: ``def_method``.
        pre_close: first close the stream in good order, so that its peer sees the end of it.
        def_method: what ``method=None`` means.

    Raises:
        RuntimeError: there is no such method.
    """
    chosen = def_method if method is None else method
    if chosen not in BREAK_METHODS:
        raise RuntimeError(
            f"no way to break a connection is called {chosen!r}; "
            f"choose one of {', '.join(BREAK_METHODS)}"
        )
    transport = stream.chan.transport
    if pre_close:
        with suppress(TransportClosed):
            await stream.aclose()
            await transport.flush()
    if chosen == "socket_close":
        transport.io.close()
    else:
        with suppress(OSError):
            transport.io.send_eof()
    await trio.lowlevel.checkpoint()


@ki_protected_manager
async def expect_ctxc(yay: bool, reraise: bool = False) -> AsyncIterator[BoxedMaybeException]:
    """Expect that the block ends with a `ContextCancelled`, or do nothing.

    Args:
        yay: whether one must come.
        reraise: let it out of this block, too.

    Yields:
        A box whose ``value`` is the error, after the block.

    Raises:
        RuntimeError: one must come, and the block ended without an error.
        ContextCancelled: it came, and ``reraise`` is true or ``yay`` is false.
        BaseException: whatever else the block raised.
    """
    box = BoxedMaybeException(raise_on_exit=reraise or not yay)
    try:
        yield box
    except ContextCancelled as ctxc:
        box.value = ctxc
        if box.raise_on_exit:
            raise
    else:
        if yay:
            raise RuntimeError("a ContextCancelled was expected, but the block ended without one")
