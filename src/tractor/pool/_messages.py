"""What a worker pool and its workers say to each other, over one stream for each worker."""

from __future__ import annotations

import enum
from typing import Any, TypeAlias

import msgspec
from msgspec import Raw

from tractor._errors import MsgTypeError
from tractor.msg._codec import codec_in_force
from tractor.msg._payload import encode_payload
from tractor.msg.types import Error


class Given(enum.Enum):
    """How a job's payload becomes the arguments of a call."""

    ITEM = 0
    """It is the one positional argument."""
    KEYWORDS = 1
    """It is a dict of keywords."""
    POSITIONS = 2
    """It is a list of two: positional arguments, keywords."""


class Jobs(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """To a worker: run these, in this order, after those that it has.

    Attributes:
        path: the function, as ``'module:name'``.
        is_async: it is an async function.
        given: how each payload becomes arguments.
        tells: say when the job begins, and wait until that was said.
        common: keywords of every call.
        jobs: pairs of a number, unique in the pool, and the payload.

    Values of the user's arrive undecoded: the function's annotations say what they are to be.
    """

    path: str
    is_async: bool
    given: Given
    tells: bool
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
    """From a worker: what calls have returned, undecoded, and the seconds that all of them took.

    Attributes:
        lent: numbers of those whose memory is lent until they were :class:`Taken`.
    """

    values: list[tuple[int, Raw]]
    busy: float
    lent: list[int]


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


class Begun(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """From a worker: a job begins; its function is at hand."""

    id: int


class Spent(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """From a worker: it has grown too large.  It has given back what waited, and is to get no more."""


class Taken(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """To a worker: these values were decoded; what was lent for them is lent no more."""

    ids: list[int]


PoolMsg: TypeAlias = Taken | Jobs | Withdraw | GiveBack | Values | Failed | NotRun | Begun | Spent


def own_error(value: Any, what: str, error: Exception) -> Exception:
    """The error of a value that a message of the pool's could not be sent with because of ``error``: it tells of the
    value alone, where it is the value that can't be encoded.
    """
    try:
        encode_payload(codec_in_force().enc, value, what)
    except MsgTypeError as exc:
        if exc.__cause__ is not None:
            exc.__cause__.__context__ = None
        return exc
    return error
