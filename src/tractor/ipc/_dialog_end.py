"""One end of a dialog, as its channel knows it."""

from __future__ import annotations

from typing import Any

from tractor._errors import TransportClosed
from tractor.msg.types import (
    CancelAck,
    Credit,
    Error,
    MsgType,
    Return,
    StartAck,
    Started,
    Stop,
    Yield,
)


class DialogEnd:
    """One end of a dialog.

    All is called by the channel's reader and never blocks.  Every message is out of the dialog's grammar unless the
    subclass takes it; each takes an error, and the loss of the channel.
    """

    __slots__ = ()

    def _out_of_grammar(self, msg: MsgType) -> None:
        """End the dialog, and it alone, for a message that it does not know."""
        raise NotImplementedError

    def on_start_ack(self, msg: StartAck) -> None:
        self._out_of_grammar(msg)

    def on_started(self, msg: Started[Any]) -> None:
        self._out_of_grammar(msg)

    def on_yield(self, msg: Yield[Any]) -> bool | None:
        """Take a message of the stream; whether other tasks need a turn before the next one."""
        self._out_of_grammar(msg)
        return None

    def on_yields(self, msgs: list[Yield[Any]]) -> bool:
        """Take several at once; ``False``: they must come one by one."""
        return False

    def on_stop(self, msg: Stop) -> None:
        self._out_of_grammar(msg)

    def on_return(self, msg: Return[Any]) -> None:
        self._out_of_grammar(msg)

    def on_cancel_ack(self, msg: CancelAck) -> None:
        self._out_of_grammar(msg)

    def on_credit(self, msg: Credit) -> None:
        self._out_of_grammar(msg)

    def on_error(self, msg: Error) -> None:
        raise NotImplementedError

    def on_lost(self, exc: TransportClosed) -> None:
        """The channel has ended; it is forgotten there already."""
        raise NotImplementedError
