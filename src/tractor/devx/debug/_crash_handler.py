"""A REPL where a block of sync code has crashed, with or without a runtime."""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType
from typing import Any

import trio

from tractor import log as _log
from tractor._errors import DebugRequestError
from tractor.devx._frames import is_runtime_fault
from tractor.devx.debug.lock._holder import current_ident, describe
from tractor.devx.debug.lock._lease import Lease, NoLease
from tractor.devx.debug.lock._session import ReplFixture
from tractor.devx.debug.lock._status import Holder, _repl_fail_msg
from tractor.devx.debug.repl import _opening
from tractor.devx.debug.repl._greenback import sync_pauses
from tractor.devx.debug.repl._taking import current_holder, take_terminal
from tractor.runtime._state import process_actor
from tractor.runtime._vars import debug_mode
from tractor.trionics._masking import BoxedMaybeException

log = _log.get_logger()

CATCH = frozenset({BaseException})
IGNORE: frozenset[type[BaseException]] = frozenset({KeyboardInterrupt, trio.Cancelled})


class open_crash_handler:
    """Open a REPL where the block crashes; usable with or without a runtime, in any thread.

    Inside a runtime the tree's terminal is waited for first, where sync code can wait (as for
    :func:`tractor.pause_from_sync`); else the REPL opens at once.

    Args:
        catch: types of errors to handle; others pass, unnoted.
        ignore: types, of those, that open no REPL, nor does a group of nothing else.
        hide_tb: leave runtime frames out.
        repl_fixture: context manager factory, called with ``repl=`` and ``maybe_bxerr=``, around the REPL; if it yields
            ``False`` the REPL is skipped.
        raise_on_exit: whether the error leaves the block; or the types that do: exactly these, not their subclasses.

    Yields:
        A :class:`BoxedMaybeException`, whose ``value`` is the error once there is one.

    Raises:
        BaseException: the block's error, unless it is caught and ``raise_on_exit`` says no.  Quitting the REPL
            raises it in any case.
    """

    def __init__(
        self,
        catch: Collection[type[BaseException]] = CATCH,
        ignore: Collection[type[BaseException]] = IGNORE,
        hide_tb: bool = True,
        repl_fixture: ReplFixture | None = None,
        raise_on_exit: bool | Collection[type[BaseException]] = True,
    ) -> None:
        self._catch = tuple(catch)
        self._ignore = tuple(ignore)
        self._hide_tb = hide_tb
        self._fixture = repl_fixture
        self._box = BoxedMaybeException(raise_on_exit=raise_on_exit)

    def __enter__(self) -> BoxedMaybeException:
        return self._box

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        __tracebackhide__ = self._hide_tb
        if exc is None or not isinstance(exc, self._catch):
            return False
        self._box.value = exc
        if _is_only(exc, self._ignore) or self._look(exc, tb):
            return not self._box.is_raised(exc)
        return False

    def _look(self, exc: BaseException, tb: TracebackType | None) -> bool:
        """Show the crash; returns whether the user went on, not quit."""
        __tracebackhide__ = self._hide_tb
        lease = _terminal()
        if tb is None:
            lease.release()
            return True
        hide_tb = self._hide_tb and not is_runtime_fault(exc)
        try:
            return _opening.at_crash(lease, self._fixture, hide_tb, self._box, tb)
        except DebugRequestError as why:
            # Not in place of what has crashed.
            log.pdb("%s: %s", _repl_fail_msg, why)
            return True


class maybe_open_crash_handler:
    """As :class:`open_crash_handler` if asked for; else a block with an empty box.

    Args:
        pdb: whether to handle crashes; default: iff debug mode is armed in this actor.
        hide_tb, kwargs: for :class:`open_crash_handler`.
    """

    def __init__(self, pdb: bool | None = None, hide_tb: bool = True, **kwargs: Any) -> None:
        wanted = debug_mode() if pdb is None else pdb
        self._handler = open_crash_handler(hide_tb=hide_tb, **kwargs) if wanted else None

    def __enter__(self) -> BoxedMaybeException:
        return BoxedMaybeException() if self._handler is None else self._handler.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        return self._handler is not None and self._handler.__exit__(kind, exc, tb)


def _is_only(exc: BaseException, types: tuple[type[BaseException], ...]) -> bool:
    """Whether ``exc`` is of these types, or a group, at any depth, of nothing else."""
    if isinstance(exc, types):
        return True
    return isinstance(exc, BaseExceptionGroup) and all(_is_only(e, types) for e in exc.exceptions)


def _terminal() -> Lease | NoLease:
    """The terminal, for who has crashed, where it can be waited for."""
    ident = current_ident()
    if process_actor() is not None:
        try:
            pauses = sync_pauses()
            return take_terminal(pauses, current_holder(pauses), shield=True)
        except (RuntimeError, DebugRequestError) as exc:
            log.warning("the crash REPL opens without the tree's terminal: %s", exc)
    return NoLease(Holder(ident, describe(ident)))
