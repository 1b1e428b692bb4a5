"""A registry request that takes its time: for a look at an address, or until somebody has a name."""

from __future__ import annotations

from collections import Counter

from tractor._errors import RuntimeFailure
from tractor.ipc._chan import Channel
from tractor.msg._boxing import pack_error
from tractor.runtime.dialog._callee import ServedCall, put_error
from tractor.runtime.dialog._telling import ToldDialog


class CountedCall(ServedCall):
    """A registry request that waits; it is counted from before it begins to its end.

    Attributes:
        counter: by channel.
    """

    __slots__ = ("counter",)
    counter: Counter[Channel]

    async def run(self, told: ToldDialog | None = None) -> None:
        try:
            await super().run(told)
        finally:
            self.counter[self.chan] -= 1
            if not self.counter[self.chan]:
                del self.counter[self.chan]

    async def report_error(self, exc: BaseException) -> None:
        if isinstance(exc, PermissionError | RuntimeFailure):
            # A refusal is not a crash of this actor.
            put_error(self.chan, pack_error(exc, self.cid, self.actor.aid.uid, tb_str=str(exc)))
        else:
            await super().report_error(exc)
