"""Exception groups: taking off those of one, and telling whether only cancellations are inside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import NoReturn

import trio


def raise_as_it_was(exc: BaseException) -> NoReturn:
    """Raise an error that has been caught, maybe inside another one, without a new context.

    ``raise`` would make the error that is being handled its ``__context__``: for the member of a
    group that is the group itself, and the error would be printed inside out.
    """
    __tracebackhide__ = True
    context, cause, suppress = exc.__context__, exc.__cause__, exc.__suppress_context__
    try:
        raise exc
    finally:
        exc.__context__, exc.__cause__ = context, cause
        exc.__suppress_context__ = suppress
        del exc, context, cause


def get_collapsed_eg(beg: BaseException) -> BaseException | None:
    """What is inside a group of one.

    Returns:
        The only member of ``beg``, or of the innermost group that is alone in its group: an error,
        or a group of several.  ``None`` if ``beg`` is no group, or one of several: there is nothing
        to take off.
    """
    inner: BaseException = beg
    while isinstance(inner, BaseExceptionGroup) and len(inner.exceptions) == 1:
        inner = inner.exceptions[0]
    return None if inner is beg else inner


@asynccontextmanager
async def collapse_eg(
    hide_tb: bool = True,
    ignore: Collection[type[BaseException]] = frozenset(),
    add_notes: bool = True,
    bp: bool = False,
) -> AsyncIterator[None]:
    """Raise the only member of a group of one in the group's place.

    Args:
        hide_tb: hide this frame in tracebacks.
        ignore: types whose instances, once taken out of their group, are absorbed.
        add_notes: note on the error which groups were taken off.
        bp: call ``breakpoint()`` when a group arrives.

    Raises:
        BaseException: the member, with its own cause, context and traceback.  A group of several,
            and what is no group, passes unchanged.
    """
    __tracebackhide__ = hide_tb
    try:
        yield
    except BaseExceptionGroup as group:
        if bp:
            breakpoint()
        inner = get_collapsed_eg(group)
        if inner is None:
            raise
        if ignore and isinstance(inner, tuple(ignore)):
            return
        if add_notes:
            note = f"(taken out of the exception group {group.message!r}, of which it was all)"
            if note not in getattr(inner, "__notes__", ()):
                inner.add_note(note)
        raise_as_it_was(inner)


def is_multi_cancelled(
    exc: BaseException,
    ignore_nested: Collection[type[BaseException]] = frozenset(),
) -> bool:
    """Whether an error is a cancellation, or a group of nothing else at any depth.

    Args:
        exc: an error or a group.
        ignore_nested: types that count as cancellations beside ``trio.Cancelled``.
    """
    cancellations: tuple[type[BaseException], ...] = (trio.Cancelled, *ignore_nested)
    if isinstance(exc, BaseExceptionGroup) and not isinstance(exc, cancellations):
        return exc.split(cancellations)[1] is None
    return isinstance(exc, cancellations)
