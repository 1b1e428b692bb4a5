"""Which scope has cancelled a task: where it was opened, and by what it was cancelled.

trio does not say.  The chain of scopes around a task is read from trio's own record; where one was opened is
found among the local variables of the frames around, and else by the `with` statements that those frames are in.
"""

from __future__ import annotations

import ast
import functools
import linecache
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, NamedTuple

import trio

from tractor._util._frames import (
    RUNTIME_PACKAGES,
    calling_frames,
    is_of,
    module_of,
    suspended_frames,
)

SCOPE_MAKERS = frozenset(
    ("CancelScope", "move_on_after", "move_on_at", "fail_after", "fail_at", "open_nursery")
)
"""Functions, of whatever module, whose `with` statement opens a scope."""


def which_scope(known: Mapping[int, str] = {}) -> str:
    """In words: the scope that has cancelled the calling task, with its frame, and what it was cancelled by.

    Costs a look at every frame around, so call it only for a log that is read.  Never raises.

    Args:
        known: by their ids, what scopes are that no frame shows.
    """
    try:
        return _which(trio.lowlevel.current_task(), known)
    except Exception as exc:
        return f"a surrounding scope (which one can't be told: {exc!r})"


def _which(task: trio.lowlevel.Task, known: Mapping[int, str]) -> str:
    said = "a surrounding scope"
    for owner, scopes, frames in _around(task):
        for cancelled in (scope for scope in scopes if scope.cancel_called):
            nursery = _nursery_of(cancelled, owner)
            kind = "a cancel scope" if nursery is None else "a nursery"
            unknown = [scope for scope in scopes if id(scope) not in known]
            where = _places(owner, unknown, frames).get(id(cancelled), f"of {owner!r}")
            what = known.get(id(cancelled)) or f"{kind} {where}"
            said = f"{what}, {_reason(cancelled, nursery)}"
            if nursery is None:
                return said
            # A nursery also cancels itself because a scope around it has cancelled its block: look on.
    return said


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
            scope: trio.CancelScope = status._scope
            scopes.append(scope)
            if scope.shield:
                # What is around it does not reach the task.
                yield owner, scopes, frames
                return
            status = status._parent
        yield owner, scopes, frames
        owner = None if above is None else above.parent_task
        if owner is not None:
            frames = list(suspended_frames(owner.coro))[::-1]


def _own_frames() -> Iterator[FrameType]:
    """The frames of the calling task, innermost first."""
    for frame in calling_frames():
        if module_of(frame) == "trio._core._run":
            return
        if frame.f_code.co_filename != __file__:
            yield frame


def _places(
    owner: trio.lowlevel.Task, scopes: list[trio.CancelScope], frames: list[FrameType]
) -> dict[int, str]:
    """Where scopes of one task, innermost first, were opened, by the scope's id, as far as that can be told."""
    wanted = {id(scope) for scope in scopes}
    found: dict[int, str] = {}
    unnamed: dict[bool, list[str]] = {True: [], False: []}
    # The user's first; of the runtime's own, this package's alone may know more.
    users = [frame for frame in frames if not is_of(module_of(frame), RUNTIME_PACKAGES)]
    own = [frame for frame in frames if is_of(module_of(frame), {"tractor"})]
    for frame in (*users, *own):
        withs = _open_withs(frame)
        lines = {one.name: one.line for one in withs if one.name}
        for name, value in frame.f_locals.items():
            for scope in _scopes_in(value):
                if id(scope) in wanted:
                    line = lines.get(name, frame.f_lineno)
                    found.setdefault(id(scope), f"{name!r} {_place(frame, line)}")
                    if scope is scopes[0] and frame in users:
                        # What its block has opened since, say beside a nursery's task, is not around the task.
                        unnamed = {True: [], False: []}
                        withs = [one for one in withs if one.line <= line]
        if frame in users:
            for one in withs:
                if not one.name:
                    unnamed[one.is_nursery].append(_place(frame, one.line))
    # A scope without a name is one of the `with` statements without one; both are in the same order.
    for is_nursery, places in unnamed.items():
        rest = [
            id(scope)
            for scope in scopes
            if id(scope) not in found and (_nursery_of(scope, owner) is not None) is is_nursery
        ]
        sure = "" if len(rest) == len(places) else "probably "
        found |= {key: sure + place for key, place in zip(rest, places, strict=False)}
    return found


def _place(frame: FrameType, line: int) -> str:
    return f"in {frame.f_code.co_qualname}() at {frame.f_code.co_filename}:{line}"


def _scopes_in(value: object, depth: int = 2) -> Iterator[trio.CancelScope]:
    """The scopes that a variable's value is; of an object of this package also those that it, or its parts, hold."""
    kind = type(value)
    if issubclass(kind, trio.CancelScope):
        yield value  # type: ignore[misc]
    elif issubclass(kind, trio.Nursery):
        yield value.cancel_scope  # type: ignore[attr-defined]
    elif depth and is_of(kind.__module__, {"tractor"}):
        for held in list(getattr(value, "__dict__", {}).values()):
            yield from _scopes_in(held, depth - 1)


class _With(NamedTuple):
    """An item of a `with` statement that opens a scope: the lines in which that is open, and its name, if any."""

    line: int
    last: int
    name: str
    is_nursery: bool


def _open_withs(frame: FrameType) -> list[_With]:
    """The scope-making `with` items that a frame is in, innermost first."""
    at, start = frame.f_lineno, frame.f_code.co_firstlineno
    return [
        one
        for one in reversed(_withs(frame.f_code.co_filename))
        if start <= one.line <= at <= one.last
    ]


@functools.lru_cache(maxsize=64)
def _withs(file: str) -> tuple[_With, ...]:
    """The scope-making `with` items of a file, outer ones before inner ones."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return ()
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.With | ast.AsyncWith):
            last = node.body[-1].end_lineno or node.body[-1].lineno
            for item in node.items:
                made_by = _scope_maker(item.context_expr)
                if made_by:
                    bound = item.optional_vars
                    name = bound.id if isinstance(bound, ast.Name) else ""
                    line = item.context_expr.lineno
                    found.append(_With(line, last, name, made_by == "open_nursery"))
    return tuple(sorted(found, key=lambda one: one.line))


def _scope_maker(expr: ast.expr) -> str:
    """The function that makes a scope in a `with` item; ``''``: it makes none."""
    if not isinstance(expr, ast.Call):
        return ""
    called = expr.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name if name in SCOPE_MAKERS else ""


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
