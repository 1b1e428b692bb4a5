"""Errors that a cancellation hides.

When a task fails in a cancelled scope, the first checkpoint of its clean-up raises ``Cancelled``:
that replaces the error, which is left in ``__context__`` where nobody looks, and the scope absorbs
both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator
from typing import Any

import trio

from tractor.log import get_logger
from tractor.trionics._groups import raise_as_it_was
from tractor.trionics._handlers import last_frame, was_caught
from tractor.trionics._ki import ki_protected_manager

log = get_logger("trionics")

MASKED_NOTE = (
    "It was hidden by a cancellation: a checkpoint in the clean-up that followed it, such as an "
    "`await` in `finally:` or in `__aexit__()`, raised in a cancelled scope. Shield that clean-up."
)


class BoxedMaybeException:
    """A place for an error that a block may end with.

    Attributes:
        value: the error, once there is one.
        raise_on_exit: whether the block's end raises it: for any type, or for exactly the listed ones.
    """

    def __init__(
        self,
        value: BaseException | None = None,
        raise_on_exit: bool | Collection[type[BaseException]] = True,
    ) -> None:
        self.value = value
        self.raise_on_exit = raise_on_exit

    def is_raised(self, exc: BaseException) -> bool:
        """Whether ``exc`` is raised at the block's end."""
        if isinstance(self.raise_on_exit, bool):
            return self.raise_on_exit
        return any(type(exc) is listed for listed in self.raise_on_exit)

    def pformat(self) -> str:
        """A description on one line."""
        inside = "empty" if self.value is None else repr(self.value)
        return f"<BoxedMaybeException {inside}, raise_on_exit={self.raise_on_exit!r}>"

    __repr__ = pformat


def unmasked(
    exc: BaseException,
    unmask_from: tuple[type[BaseException], ...] = (trio.Cancelled,),
    leave: tuple[type[BaseException], ...] = (trio.WouldBlock,),
) -> BaseException | None:
    """The error that ``exc`` hides.

    Args:
        exc: an instance of ``unmask_from``, or a group of nothing else; others hide nothing.
        unmask_from: types that hide errors.
        leave: types that are not hidden error where trio itself raised and caught them: a wait for
            a lock begins with the ``WouldBlock`` of an attempt to get it at once.

    Returns:
        The most recent hidden error, from the group several of them as a group; ``None`` if there
        is none.  One that an ``except`` clause had caught, and was handling, is not hidden.
    """
    if isinstance(exc, BaseExceptionGroup):
        if exc.split(unmask_from)[1] is not None:
            return None
        hidden = [found for leaf in _leaves(exc) if (found := unmasked(leaf, unmask_from, leave))]
        unique = list({id(error): error for error in hidden}.values())
        if len(unique) > 1:
            return BaseExceptionGroup("errors hidden by cancellations", unique)
        return unique[0] if unique else None
    if not isinstance(exc, unmask_from):
        return None
    masking, context = exc, _context(exc)
    chain = [exc]
    while context is not None and not any(context is one for one in chain):
        if _masks_only(context, unmask_from):
            masking = context
        elif not _is_of_trio(context, leave) and not _was_caught(masking, context, chain):
            return context
        chain.append(context)
        context = _context(context)
    return None


def _was_caught(masking: BaseException, context: BaseException, chain: list[BaseException]) -> bool:
    """Whether what is next in the chain was being handled when ``masking``, the last that can hide, came."""
    frame = last_frame(context)
    since = next(n for n, one in enumerate(chain) if one is masking)
    nth = sum(last_frame(one) is frame for one in chain[since + 1 :])
    return was_caught(masking, context, nth)


def _context(exc: BaseException) -> BaseException | None:
    return None if exc.__suppress_context__ else exc.__context__


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for exc in group.exceptions:
        if isinstance(exc, BaseExceptionGroup):
            yield from _leaves(exc)
        else:
            yield exc


def _masks_only(exc: BaseException, unmask_from: tuple[type[BaseException], ...]) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(unmask_from)[1] is None
    return isinstance(exc, unmask_from)


def _is_of_trio(exc: BaseException, leave: tuple[type[BaseException], ...]) -> bool:
    """Whether the frame that caught ``exc``, the first of its traceback, is trio's."""
    caught_by = exc.__traceback__
    if not isinstance(exc, leave) or caught_by is None:
        return False
    module = caught_by.tb_frame.f_globals.get("__name__", "")
    return str(module).partition(".")[0] == "trio"


@ki_protected_manager
async def maybe_raise_from_masking_exc(
    unmask_from: tuple[type[BaseException], ...] = (trio.Cancelled,),
    raise_unmasked: bool = True,
    extra_note: str = MASKED_NOTE,
    always_warn_on: tuple[type[BaseException], ...] = (trio.Cancelled,),
    never_warn_on: tuple[type[BaseException], ...] = (trio.WouldBlock,),
) -> AsyncIterator[BoxedMaybeException]:
    """Raise the error that a cancellation of the block hides.

    Args:
        unmask_from: types that hide errors in their ``__context__``.
        raise_unmasked: raise the hidden error; else only put it into the box, and the block ends as
            it would have.
        extra_note: added to the hidden error, which also gets told what hid it.
        always_warn_on: types of ``unmask_from`` whose hidden errors are logged as a warning when
            they are not raised.
        never_warn_on: types that are not hidden errors where trio itself raised and caught them,
            such as the ``WouldBlock`` that a wait for a lock begins with.

    Yields:
        A box whose ``value`` is the hidden error, after the block.

    Raises:
        ValueError: ``unmask_from`` is not a tuple of exception types.
        BaseException: the hidden error, with its own cause, context and traceback, else what the
            block raised.
    """
    given: Any = unmask_from
    if not isinstance(given, tuple) or not all(isinstance(kind, type) for kind in given):
        raise ValueError(f"unmask_from must be a tuple of exception types, not {unmask_from!r}")
    box = BoxedMaybeException(raise_on_exit=raise_unmasked)
    try:
        yield box
    except BaseException as masking:
        hidden = unmasked(masking, unmask_from, never_warn_on)
        if hidden is None:
            raise
        box.value = hidden
        if not raise_unmasked:
            if _masks_only(masking, always_warn_on):
                log.warning("%r hides an error: %r", masking, hidden, exc_info=hidden)
            raise
        hidden.add_note(f"{extra_note}\n(hidden by {masking!r})")
        raise_as_it_was(hidden)
