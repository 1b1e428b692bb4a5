"""Being told what happens in this actor."""

from __future__ import annotations

from tractor.runtime._state import current_actor
from tractor.runtime.seen._instrument import Instrument


def add_instrument(instrument: Instrument) -> None:
    """Have an instrument told what happens in this actor, from now on, until it is removed or the actor ends.

    To be called in a task of the actor.  What is open already, channels, calls, contexts and streams, is told of, too,
    but the end of a call or context only if some instrument has heard its beginning.  One that was added already
    stays where it is.  For every actor of a tree there is ``open_root_actor(instruments=['module:factory'])``.

    Args:
        instrument: it.

    Raises:
        TypeError: it is not an :class:`Instrument`.
        NoRuntime: this is no actor.
    """
    current_actor().add_instrument(instrument)


def remove_instrument(instrument: Instrument) -> None:
    """Have an instrument told nothing more, from its next event on.

    Args:
        instrument: one that was added in this actor.

    Raises:
        KeyError: it was not added, or is removed already, as one that has raised is.
        NoRuntime: this is no actor.
    """
    current_actor().remove_instrument(instrument)
