"""Which scope has cancelled a task: where it was opened, and by what it was cancelled.

trio does not say.  The chain of scopes around a task is read from trio's own record; where one was opened is
found among the local variables of the frames around, and else by the `with` statements that those frames are in.
"""

from __future__ import annotations

import ast
import functools
import linecache
import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any, NamedTuple

import trio

from tractor._util._frames import RUNTIME_PACKAGES, is_of, module_of

__all__ = ["which_scope"]

SCOPE_MAKERS = frozenset(
    ("CancelScope", "move_on_after", "move_on_at", "fail_after", "fail_at", "open_nursery")
)
"""Functions, of whatever module, whose `with` statement opens a scope."""


class _Place(NamedTuple):
    """A `with` statement, or a variable, that holds a scope."""

    code: CodeType
    line: int
    name: str = ""

    def __str__(self) -> str:
        what = f"{self.name!r} " if self.name else ""
        return f"{what}in {self.code.co_qualname}() at {self.code.co_filename}:{self.line}"


def which_scope() -> str:
    """For people: the scope that has cancelled the calling task, with its frame, and what it was cancelled by.

    Costs a look at every frame around, so call it only for a log that is read.  Never raises.
    """
    try:
        return _which(trio.lowlevel.current_task())
    except Exception as exc:
        return f"a surrounding scope (which one can't be told: {exc!r})"


def _which(task: trio.lowlevel.Task) -> str:
    for owner, scopes, frames in _around(task):
        places = _places(scopes, frames)
        for scope in scopes:
            if scope.cancel_called:
                nursery = _nursery_of(scope, owner)
                kind = "a cancel scope" if nursery is None else "a nursery"
                place = places.get(id(scope))
                where = f"{place}" if place is not None else f"of {owner!r}"
                return f"{kind} {where}, {_reason(scope, nursery)}"
    return "a surrounding scope"


def _around(
    task: trio.lowlevel.Task,
) -> Iterator[tuple[trio.lowlevel.Task, list[trio.CancelScope], list[FrameType]]]:
    """For a task and those above it: the scopes that it has entered and that reach down here, innermost first."""
    status: Any = getattr(task, "_cancel_status", None)
    frames = list(_own_frames())
    owner: trio.lowlevel.Task | None = task
    while owner is not None and status is not None:
        above = owner.parent_nursery
        # The status of a nursery's tasks is the nursery's own, of a scope that its opener has entered.
        end = getattr(above, "_cancel_status", None)
        scopes: list[trio.CancelScope] = []
        while status is not None and status is not end:
            scopes.append(status._scope)
            if status._scope.shield:
                # What is around it does not reach the task.
                yield owner, scopes, frames
                return
            status = status._parent
        yield owner, scopes, frames
        owner = None if above is None else above.parent_task
        if owner is not None:
            frames = list(_suspended_frames(owner))


def _own_frames() -> Iterator[FrameType]:
    """The frames of the calling task, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and module_of(frame) != "trio._core._run":
        yield frame
        frame = frame.f_back


def _suspended_frames(task: trio.lowlevel.Task) -> Iterator[FrameType]:
    """The frames of a task that waits, innermost first."""
    frames: list[FrameType] = []
    coro: Any = task.coro
    while coro is not None:
        for kind in ("cr", "ag", "gi"):
            frame = getattr(coro, f"{kind}_frame", None)
            if frame is not None:
                frames.append(frame)
                coro = getattr(coro, f"{kind}_await" if kind != "gi" else "gi_yieldfrom", None)
                break
        else:
            break
    return iter(reversed(frames))


def _places(scopes: list[trio.CancelScope], frames: list[FrameType]) -> dict[int, _Place]:
    """Where scopes of one task were opened, by the scope's id, as far as that can be told."""
    wanted = {id(scope) for scope in scopes}
    found: dict[int, _Place] = {}
    unnamed: list[_Place] = []
    # The user's first; of the runtime's own, this package's alone may know more.
    users = [frame for frame in frames if not is_of(module_of(frame), RUNTIME_PACKAGES)]
    own = [frame for frame in frames if is_of(module_of(frame), {"tractor"})]
    for frame in (*users, *own):
        withs = _open_withs(frame)
        lines = {name: line for name, line in withs if name}
        for name, value in frame.f_locals.items():
            for scope in _scopes_in(value):
                if id(scope) in wanted:
                    line = lines.get(name, frame.f_lineno)
                    found.setdefault(id(scope), _Place(frame.f_code, line, name))
        if frame in users:
            unnamed += [_Place(frame.f_code, line) for name, line in withs if not name]
    # Both innermost first: what is left over on either side belongs together.
    rest = [scope for scope in scopes if id(scope) not in found]
    pairs = zip(reversed(rest), reversed(unnamed), strict=False)
    return found | {id(scope): place for scope, place in pairs}


def _scopes_in(value: object, deep: bool = True) -> Iterator[trio.CancelScope]:
    """The scopes that a variable's value is; of an object of this package also those that it holds."""
    kind = type(value)
    if issubclass(kind, trio.CancelScope):
        yield value  # type: ignore[misc]
    elif issubclass(kind, trio.Nursery):
        yield value.cancel_scope  # type: ignore[attr-defined]
    elif deep and is_of(kind.__module__, {"tractor"}):
        for held in list(getattr(value, "__dict__", {}).values()):
            yield from _scopes_in(held, deep=False)


def _open_withs(frame: FrameType) -> list[tuple[str, int]]:
    """The scope-making `with` items that a frame is in, innermost first: the bound name, or ``''``, and the line."""
    at = frame.f_lineno
    found = [
        (name, line)
        for name, line, first, last in _withs(frame.f_code.co_filename)
        if first <= at <= last and frame.f_code.co_firstlineno <= line
    ]
    return found[::-1]


@functools.lru_cache(maxsize=64)
def _withs(file: str) -> tuple[tuple[str, int, int, int], ...]:
    """The scope-making `with` items of a file, outermost first: the bound name, the line, the lines in force."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return ()
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.With | ast.AsyncWith):
            last = node.body[-1].end_lineno or node.body[-1].lineno
            for item in node.items:
                if _makes_scope(item.context_expr):
                    bound = item.optional_vars
                    name = bound.id if isinstance(bound, ast.Name) else ""
                    line = item.context_expr.lineno
                    found.append((name, line, line, last))
    return tuple(sorted(found, key=lambda entry: entry[1]))


def _makes_scope(expr: ast.expr) -> bool:
    if not isinstance(expr, ast.Call):
        return False
    called = expr.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name in SCOPE_MAKERS


def _nursery_of(scope: trio.CancelScope, owner: trio.lowlevel.Task) -> trio.Nursery | None:
    """The nursery, of those that a task has opened, whose scope it is."""
    return next((n for n in owner.child_nurseries if n.cancel_scope is scope), None)


def _reason(scope: trio.CancelScope, nursery: trio.Nursery | None) -> str:
    told = getattr(scope, "_cancel_reason", None)
    source = getattr(told, "source", None)
    text = getattr(told, "reason", None)
    why = f" ({text})" if text else ""
    if source == "deadline" or (source is None and scope.deadline <= trio.current_time()):
        return f"by its deadline{why}"
    if source == "nursery" or (source is None and getattr(nursery, "_pending_excs", None)):
        return f"because a task in it, or its block, has failed{why}"
    if source == "KeyboardInterrupt":
        return "by a ctrl-c"
    if source == "shutdown":
        return "by the end of the trio run"
    return f"by a call of cancel(){why}"
