"""Opening a REPL.  pdbp, and what it loads, is imported when one opens."""

from __future__ import annotations

from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from tractor.devx.debug.lock._lease import Lease, NoLease
from tractor.devx.debug.lock._session import ReplFixture, enter_fixture, say_crashed, say_paused
from tractor.devx.debug.repl._taking import retake
from tractor.trionics._masking import BoxedMaybeException

if TYPE_CHECKING:
    from tractor.devx.debug.repl._repl import PdbREPL


def mk_pdb(
    on_release: Callable[[], None] | None = None,
    *,
    hide_tb: bool = True,
) -> PdbREPL:
    """A new REPL on this process's stdin and stdout.

    Args:
        on_release: called once when the user has left it for good, in the thread that ran it.
        hide_tb: leave out runtime frames.

    A breakpoint of its own that is hit after that takes the terminal anew.
    """
    from tractor.devx.debug.repl._repl import PdbREPL

    return PdbREPL(on_release=on_release, on_reopen=retake, hide_tb=hide_tb)


def open_at(repl: PdbREPL, frame: FrameType) -> None:
    """Have ``repl`` open at the next line of ``frame``; to be called last before returning there."""
    repl.arm(frame)


def open_post_mortem(repl: PdbREPL, tb: TracebackType) -> bool:
    """Open ``repl`` in the frame that raised, and wait for the user.

    Returns:
        ``True``: the user went on; ``False``: quit.
    """
    return repl.post_mortem(tb)


def for_pause(lease: Lease | NoLease, fixture: ReplFixture | None, hide_tb: bool) -> PdbREPL | None:
    """A REPL that is announced, and about to open; ``None``: the fixture says no.

    The lease ends with the REPL; at once where there is none, also because of an error.

    Raises:
        DebugRequestError: the terminal is on another host, and can't be reached.
    """
    try:
        repl = _make(lease, fixture, hide_tb, None)
        if repl is None:
            lease.release()
        else:
            say_paused(lease)
        return repl
    except BaseException:
        lease.release()
        raise


def at_crash(
    lease: Lease | NoLease,
    fixture: ReplFixture | None,
    hide_tb: bool,
    box: BoxedMaybeException,
    tb: TracebackType,
) -> bool:
    """Open a REPL in the frame that raised, and wait for the user; afterwards the lease is over.

    Returns:
        ``True``: the user went on, or the fixture said no; ``False``: quit.

    Raises:
        DebugRequestError: the terminal is on another host, and can't be reached.
    """
    try:
        repl = _make(lease, fixture, hide_tb, box)
        if repl is None:
            return True
        say_crashed(lease, box.value, tb, hide_tb)
        return open_post_mortem(repl, tb)
    finally:
        lease.release()


def _make(
    lease: Lease | NoLease,
    fixture: ReplFixture | None,
    hide_tb: bool,
    box: BoxedMaybeException | None,
) -> PdbREPL | None:
    repl: PdbREPL
    if isinstance(lease, Lease) and lease.key:
        from tractor.devx.debug.relay._repl import RelayREPL

        repl = RelayREPL(lease, on_reopen=retake, hide_tb=hide_tb)
    else:
        repl = lease.repl = mk_pdb(lease.release, hide_tb=hide_tb)
    return repl if enter_fixture(lease.at_end, repl, fixture, box) else None
