"""Exception groups: taking off those of one, and telling whether only cancellations are inside."""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from typing import NoReturn

import trio

from tractor.trionics._ki import ki_protected_manager


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
        or a group of several.  ``None`` if ``beg`` is not a group, or one of several: there is nothing
        to take off.
    """
    inner: BaseException = beg
    while isinstance(inner, BaseExceptionGroup) and len(inner.exceptions) == 1:
        inner = inner.exceptions[0]
    return None if inner is beg else inner


def the_one_error(exc: BaseException) -> BaseException:
    """The error that a group holds, at any depth, if it is one beside cancellations; else ``exc`` as it is.

    What was said of the groups stays with it: their notes, and the cause of the innermost that has one.
    """
    if not isinstance(exc, BaseExceptionGroup):
        return exc
    found: BaseException | None = None
    above: list[BaseException] = [exc]
    pending: list[BaseException] = list(exc.exceptions)
    while pending:
        one = pending.pop()
        if isinstance(one, BaseExceptionGroup):
            above.append(one)
            pending += one.exceptions
        elif not isinstance(one, trio.Cancelled):
            if found is not None and one is not found:
                return exc
            found = one
    if found is None:
        return exc
    if found.__traceback__ is None:
        # Made, but never raised by itself: it went where its group went.
        found.__traceback__ = exc.__traceback__
    for group in above:
        for note in getattr(group, "__notes__", ()):
            if note not in getattr(found, "__notes__", ()):
                found.add_note(note)
        if found.__cause__ is None and group.__cause__ not in (None, found):
            found.__cause__ = group.__cause__
    return found


def without(
    exc: BaseException, is_dropped: Callable[[BaseException], bool]
) -> BaseException | None:
    """What is left of an error or group when some of the errors in it are taken out; ``None`` if that is nothing."""
    if not isinstance(exc, BaseExceptionGroup):
        return None if is_dropped(exc) else exc
    kept = [left for one in exc.exceptions if (left := without(one, is_dropped)) is not None]
    if len(kept) == len(exc.exceptions) and all(map(operator.is_, kept, exc.exceptions)):
        return exc
    if not kept:
        return None
    # Not by `derive()`: a group of the application's own type may fail to be made anew.
    group = BaseExceptionGroup(exc.message, kept).with_traceback(exc.__traceback__)
    group.__cause__, group.__context__ = exc.__cause__, exc.__context__
    group.__suppress_context__ = exc.__suppress_context__
    for note in getattr(exc, "__notes__", ()):
        group.add_note(note)
    return group


def leaves(exc: BaseException) -> Iterator[BaseException]:
    """The errors in a group, at any depth, in order; of what is not a group itself."""
    if isinstance(exc, BaseExceptionGroup):
        for one in exc.exceptions:
            yield from leaves(one)
    else:
        yield exc


@ki_protected_manager
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
            and what is not a group, passes unchanged.
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
    beg: BaseException,
    ignore_nested: Collection[type[BaseException]] = frozenset(),
) -> bool:
    """Whether an error is a cancellation, or a group of nothing else at any depth.

    Args:
        beg: an error or a group.
        ignore_nested: types that count as cancellations beside ``trio.Cancelled``.
    """
    cancellations: tuple[type[BaseException], ...] = (trio.Cancelled, *ignore_nested)
    if isinstance(beg, BaseExceptionGroup) and not isinstance(beg, cancellations):
        return beg.split(cancellations)[1] is None
    return isinstance(beg, cancellations)
