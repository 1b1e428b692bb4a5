"""What ``open_root_actor(instruments=...)`` was given: instruments of the root alone, and factories for every actor."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

from tractor._errors import RuntimeFailure
from tractor.msg._nspath import NamespacePath
from tractor.runtime.seen._instrument import Instrument
from tractor.runtime.seen._told import TOLD


def checked_instruments(given: object) -> tuple[Instrument | str, ...]:
    """Instruments, and the ``'module:function'`` of factories, as a root was given them.

    Raises:
        TypeError: it is no list, or something in it is neither.
        ValueError: a text in it is not of that form.
    """
    rule = (
        "`instruments` is a list of instruments, which stay in the root, and of the 'module:function' of factories, "
        "which every actor calls"
    )
    if isinstance(given, str | Instrument) or not isinstance(given, Iterable):
        raise TypeError(f"{rule}, not {given!r}")
    found: list[Instrument | str] = []
    for one in given:
        if isinstance(one, str):
            NamespacePath(one).to_tuple()
            found.append(str(one))
        elif isinstance(one, Instrument):
            found.append(one)
        else:
            raise TypeError(
                f"{rule}; {one!r} is neither: derive its class from `tractor.devx.Instrument`"
            )
    return tuple(found)


def factories_of(given: Iterable[Instrument | str]) -> list[str]:
    """Those that are handed down."""
    return [one for one in given if isinstance(one, str)]


def begin_telling(given: Sequence[Instrument | str], who: str) -> None:
    """Have an actor's instruments told from now on; its factories are called.

    Args:
        given: instruments and factories.
        who: the actor, for people.

    Raises:
        RuntimeFailure: a factory can't be found, has raised, or makes no instrument.
    """
    for one in given:
        made = _made(one, who) if isinstance(one, str) else one
        if made is not None:
            TOLD.add(made)


def _made(path: str, who: str) -> Instrument | None:
    failed = f"the factory of instruments {path!r} has failed in {who}"
    try:
        made: Any = NamespacePath(path).load_ref()()
    except Exception as exc:
        raise RuntimeFailure(
            f"{failed}: {type(exc).__name__}: {exc}. Every actor calls it at its start, without arguments: its"
            " module must be found there"
        ) from exc
    if made is None or isinstance(made, Instrument):
        return made
    if inspect.iscoroutine(made):
        made.close()
    raise RuntimeFailure(
        f"{failed}: it has made {made!r}, and not an instance of `tractor.devx.Instrument`, or `None`"
    )
