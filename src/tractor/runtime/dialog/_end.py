"""What the ends of all dialogs have in common: a message that has no place in them."""

from __future__ import annotations

from typing import Any

from tractor.msg.types import (
    CancelAck,
    Credit,
    MsgType,
    Return,
    StartAck,
    Started,
    Stop,
    Yield,
)


class DialogEnd:
    """One end of a dialog, as a channel's reader knows it.

    Every message is out of the dialog's grammar unless the subclass takes it.
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
