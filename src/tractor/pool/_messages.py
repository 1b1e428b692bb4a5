"""What a worker pool and its workers say to each other, over one stream for each worker."""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from msgspec import Raw

from tractor.msg.types import Error


class Jobs(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """To a worker: run these, in this order, after those that it has.

    Attributes:
        path: the function, as ``'module:name'``.
        is_async: it is an async function.
        by_item: each payload is the one positional argument; else a dict of keywords.
        common: keywords of every call.
        jobs: pairs of a number, unique in the pool, and the payload.

    Values of the user's arrive undecoded: the function's annotations say what they are to be.
    """

    path: str
    is_async: bool
    by_item: bool
    common: dict[str, Raw]
    jobs: list[tuple[int, Raw]]


class Withdraw(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """To a worker: nobody wants these any more.

    Those that wait are dropped, an async function that runs is cancelled.  If one of them is a sync function that
    runs, the worker gives back all that wait behind it: its process may be ended soon.
    """

    ids: list[int]


class GiveBack(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """To a worker: give back up to so many of those that wait, the last ones first; another one has nothing to do."""

    most: int


class Values(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """From a worker: what calls have returned, undecoded, and the seconds that all of them took."""

    values: list[tuple[int, Raw]]
    busy: float


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """From a worker: a call has raised."""

    id: int
    error: Error


class NotRun(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """From a worker: what was dropped or cancelled as asked, and what is given back, never begun.

    Attributes:
        answers: this is the answer to a :class:`GiveBack`.
    """

    dropped: list[int]
    returned: list[int]
    answers: bool = False


PoolMsg: TypeAlias = Jobs | Withdraw | GiveBack | Values | Failed | NotRun
