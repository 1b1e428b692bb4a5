"""One end of a dialog, as its channel knows it."""

from __future__ import annotations

from typing import Any

from tractor._errors import TransportClosed
from tractor.msg.types import Error, MsgType, Yield


class DialogEnd:
    """One end of a dialog.

    All is called by the channel's reader and never blocks.  Every message is out of the dialog's grammar unless the
    subclass takes it; each takes an error, and the loss of the channel.
    """

    __slots__ = ()

    def _out_of_grammar(self, msg: MsgType) -> None:
        """End the dialog, and it alone, for a message that it does not know."""
        raise NotImplementedError

    def _unexpected(self, msg: Any) -> None:
        self._out_of_grammar(msg)

    on_start_ack = on_started = on_stop = on_return = on_cancel_ack = on_credit = _unexpected

    def on_yield(self, msg: Yield[Any]) -> bool | None:
        """Take a message of the stream; whether other tasks need a turn before the next one."""
        self._out_of_grammar(msg)
        return None

    def on_yields(self, msgs: list[Yield[Any]]) -> bool:
        """Take several at once; ``False``: they must come one by one."""
        return False

    def on_error(self, msg: Error) -> None:
        raise NotImplementedError

    def on_lost(self, exc: TransportClosed) -> None:
        """The channel has ended; it is forgotten there already."""
        raise NotImplementedError
