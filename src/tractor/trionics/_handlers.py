"""Whether an exception that is another one's context had been caught, or was on its way when the other one came.

Python sets ``__context__`` alike for both::

    try:                                    try:
        raise ValueError                        raise ValueError
    except ValueError:                      finally:
        await trio.sleep(1)  # cancelled        await trio.sleep(1)  # cancelled

To the left the error is dealt with, to the right it is lost.  What tells them apart is the code of the frame that
both exceptions passed: the kind of handler that was being run.  Neither the exceptions nor their frames say more than
where they were, and the sources may not be there.  So this reads the exception table and the byte code, as CPython 3.11
and later write them; on a Python that writes them otherwise `tests/trionics/test_handlers.py` fails.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator
from opcode import opmap
from types import CodeType, FrameType, TracebackType

from tractor._util._frames import calling_frames


def _op(name: str) -> int:
    return opmap.get(name, -1)


_PUSH_EXC_INFO = _op("PUSH_EXC_INFO")
_CHECKS = {_op("CHECK_EXC_MATCH"), _op("CHECK_EG_MATCH")}
_POP_TOP = _op("POP_TOP")
_COPY, _POP_EXCEPT = _op("COPY"), _op("POP_EXCEPT")
_RAISE = _op("RAISE_VARARGS")

# What an `except` clause evaluates before its check consists of none of these, nor of an await.
_NO_EXPRESSION = {
    _op(name)
    for name in ("POP_TOP", "PUSH_EXC_INFO", "WITH_EXCEPT_START", "RERAISE", "POP_EXCEPT", "SEND")
}


def was_caught(raised: BaseException, context: BaseException, nth: int = 0) -> bool:
    """Whether ``context`` had been caught, or was handled further out, when ``raised`` was raised.

    Args:
        raised: the later exception.
        context: one of its chain of contexts.
        nth: how many exceptions before it in that chain were last seen by the same frame.

    Returns:
        ``True``: an ``except`` clause that does not raise it again was being run, or it is the affair of a frame
        that still runs, around the one that asks.  ``False``: it was on its way, or nothing can be said.
    """
    frame = last_frame(context)
    if frame is None:
        return False
    at = _last_entry(raised.__traceback__, frame)
    if at is None:
        return frame in calling_frames()
    running = list(_Handlers(frame.f_code).running(at.tb_lasti))
    return nth < len(running) and running[nth]


def last_frame(exc: BaseException) -> FrameType | None:
    """The outermost frame that an exception has reached."""
    return None if exc.__traceback__ is None else exc.__traceback__.tb_frame


def _last_entry(tb: TracebackType | None, frame: FrameType) -> TracebackType | None:
    """A frame's entry for where an exception came from; those before it are of its being raised again."""
    found = None
    while tb is not None:
        if tb.tb_frame is frame:
            found = tb
        tb = tb.tb_next
    return found


class _Handlers:
    """The exception handlers of a code object.

    Each handler that is being run is protected by a clean-up, at ``COPY 3, POP_EXCEPT``, by whose offset it goes here.
    """

    def __init__(self, code: CodeType) -> None:
        self.ops = code.co_code
        # Where there are none, as in another implementation of Python, nothing can be said.
        entries = getattr(dis.Bytecode(code), "exception_entries", ())
        self.entries = [(entry.start, entry.end, entry.target) for entry in entries]

    def _target_of(self, offset: int) -> int | None:
        return next((to for start, end, to in self.entries if start <= offset < end), None)

    def _settled(self, target: int | None) -> int | None:
        """The handler that runs where an exception would go to ``target``."""
        for _ in self.entries:
            if target is None:
                return None
            if self.ops[target] == _PUSH_EXC_INFO:
                # A handler that would be entered.  What is around it is around its own clean-up, too.
                cleanup = self._target_of(target)
                target = None if cleanup is None else self._target_of(cleanup)
            elif self.ops[target] == _COPY and self.ops[target + 2] == _POP_EXCEPT:
                return target
            else:
                target = self._target_of(target)
        return None

    def running(self, at: int) -> Iterator[bool]:
        """For each handler that runs at an offset, the innermost first: does it keep what it has caught?"""
        handler = self._settled(self._target_of(at))
        for _ in self.entries:
            if handler is None:
                return
            yield self._is_except(handler) and not self._raises_again(handler, at)
            handler = self._settled(self._target_of(handler))

    def _is_except(self, handler: int) -> bool:
        """Whether it is an `except` clause: it begins with a check of the type, or by forgetting the exception."""
        offset = min(start for start, _, to in self.entries if to == handler)
        if self.ops[offset] != _PUSH_EXC_INFO:
            return False
        offset += 2
        if self.ops[offset] == _POP_TOP:
            return True
        while offset < len(self.ops) and self.ops[offset] not in _NO_EXPRESSION:
            if self.ops[offset] in _CHECKS:
                return True
            offset += 2
        return False

    def _raises_again(self, handler: int, at: int) -> bool:
        """Whether a `raise` without an exception follows."""
        return any(
            self.ops[offset] == _RAISE and self.ops[offset + 1] == 0
            for start, end, to in self.entries
            if self._settled(to) == handler
            for offset in range(max(start, at), end, 2)
        )
