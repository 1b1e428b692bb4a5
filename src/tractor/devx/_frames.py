"""Whose frames are which: the user's, the runtime's, and who called an API function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, TypeVar, overload

from tractor._errors import InternalError
from tractor._util._frames import RUNTIME_PACKAGES, is_of, module_of

FuncT = TypeVar("FuncT", bound=Callable[..., Any])

_hidden: set[str] = set(RUNTIME_PACKAGES)
_api_codes: dict[CodeType, bool] = {}
"""The functions that `api_frame` has marked, and whether their frames are left out."""


def hide_runtime_frames(*packages: str) -> frozenset[str]:
    """Have REPLs leave out the frames of ``packages``, in addition to those of the runtime and of what it runs on.

    Frames whose function (or module) has a true ``__tracebackhide__`` are left out anyway.

    Returns:
        All packages whose frames are left out.
    """
    _hidden.update(packages)
    return frozenset(_hidden)


def is_runtime_frame(frame: FrameType) -> bool:
    """Whether a REPL leaves this frame out."""
    marked = _api_codes.get(frame.f_code)
    if marked is not None:
        return marked
    if is_of(module_of(frame), _hidden):
        return True
    hidden = frame.f_locals.get("__tracebackhide__") or frame.f_globals.get("__tracebackhide__")
    return bool(hidden)


def is_runtime_fault(exc: BaseException) -> bool:
    """Whether an error is one of the runtime itself, so that its frames are what there is to see."""
    tb = exc.__traceback__
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    if tb is None or not is_of(module_of(tb.tb_frame), {"tractor"}):
        return False
    return isinstance(
        exc, InternalError | AssertionError | AttributeError | LookupError | NameError
    )


@dataclass(frozen=True)
class CallerInfo:
    """Where an API function was called from.

    Attributes:
        api: the function's name; empty when no API frame is on the stack.
        function, file, line: the calling code.
    """

    api: str
    function: str
    file: str
    line: int

    @classmethod
    def find(cls, frame: FrameType) -> CallerInfo:
        """Go up from ``frame`` through runtime frames to the first of the user's.

        Returns:
            That one; the outermost frame if all are the runtime's.
        """
        api = ""
        at = frame
        while True:
            if at.f_code in _api_codes or at.f_locals.get("__runtimeframe__"):
                api = at.f_code.co_qualname
            if at.f_back is None or not is_runtime_frame(at):
                return cls(api, at.f_code.co_qualname, at.f_code.co_filename, at.f_lineno)
            at = at.f_back

    def __str__(self) -> str:
        called = f"{self.api}() called by " if self.api else ""
        return f"{called}{self.function}() at {self.file}:{self.line}"


@overload
def api_frame(func: FuncT, /) -> FuncT: ...
@overload
def api_frame(*, hide_tb: bool = True) -> Callable[[FuncT], FuncT]: ...
def api_frame(func: FuncT | None = None, /, *, hide_tb: bool = True) -> Any:
    """Mark a library's function as part of its API: REPLs leave its frame out and name its caller instead.

    Args:
        func: the function; without it, the decorator is returned.
        hide_tb: ``False``: its frames stay visible.

    Returns:
        The same function: a call costs nothing more.
    """

    def mark(marked: FuncT) -> FuncT:
        inner = marked
        while hasattr(inner, "__wrapped__"):
            inner = inner.__wrapped__
        _api_codes[inner.__code__] = hide_tb
        return marked

    return mark if func is None else mark(func)
