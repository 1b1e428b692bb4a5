"""Which code has called an API function, at the cost of a look at its frame."""

from __future__ import annotations

import sys
from types import CodeType
from typing import NamedTuple

__all__ = ["Caller", "find_caller"]


class Caller(NamedTuple):
    """A place in somebody's code."""

    code: CodeType
    line: int

    def __str__(self) -> str:
        return f"{self.code.co_qualname}() at {self.code.co_filename}:{self.line}"


def find_caller(depth: int) -> Caller:
    """The code ``depth`` frames above this call's, or above that if it is a part of some API itself.

    A function is, if it has a local variable ``__runtimeframe__``; :mod:`contextlib` is passed over, too.
    """
    frame = sys._getframe(depth + 1)
    while frame.f_back is not None and (
        "__runtimeframe__" in frame.f_code.co_varnames
        or frame.f_globals.get("__name__") == "contextlib"
    ):
        frame = frame.f_back
    return Caller(frame.f_code, frame.f_lineno)
