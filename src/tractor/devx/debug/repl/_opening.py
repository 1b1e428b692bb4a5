"""Opening a REPL.  pdbp, and what it loads, is imported when one opens."""

from __future__ import annotations

from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from tractor.devx.debug.repl._taking import retake

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
