"""Jobs of a worker pool: what is called, with what, how long that takes, who waits for it."""

from __future__ import annotations

import enum
import inspect
import reprlib
import types
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from tractor._errors import (
    ActorFailure,
    MsgTypeError,
    RuntimeFailure,
    describe_exit,
    one_line,
)
from tractor.msg._conversion import Conversions, any_value, conversions_of
from tractor.msg._nspath import NamespacePath
from tractor.pool._items import ONCE, Handling, ItemTimeout, may_help
from tractor.pool._messages import Given, own_error
from tractor.pool._values import Packer, is_plain
from tractor.runtime.dialog._endpoints import Kind, kind_of
from tractor.runtime.dialog._targets import Parameters, parameters_of, plain_function
from tractor.spawn._parent_main import require_program

AHEAD = 0.010
"""Seconds of work that a worker is given beyond the job that it runs, to spare it the wait for the next one."""

MOST_AHEAD = 512
"""Jobs that a worker has at most."""


class WorkerDied(ActorFailure):
    """A worker's process ended while it had a job, which is not tried again.

    Attributes:
        what: the job, for messages: the function, and the item or the arguments.
        uid, returncode, stderr_tail: the worker's, as of every :class:`tractor.ActorFailure`.
    """

    def __init__(
        self,
        uid: tuple[str, str] | None = None,
        returncode: int | None = None,
        stderr_tail: str = "",
        *,
        what: str = "a job",
        among: int = 1,
    ) -> None:
        self.what = what
        had = f"{what}, and {among - 1} other jobs" if among > 1 else what
        super().__init__(
            uid,
            returncode,
            stderr_tail,
            message=f"worker {uid} died: {describe_exit(returncode)}; it had {had}",
        )


class Pace:
    """How long calls of one function take."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds: float | None = None

    def note(self, seconds: float) -> None:
        """A call took so long; longer ones count at once, shorter ones by and by."""
        if self.seconds is None or seconds > self.seconds:
            self.seconds = seconds
        else:
            self.seconds += (seconds - self.seconds) / 2

    @property
    def window(self) -> int:
        """How many jobs a worker may have at once, the one that it runs included."""
        if self.seconds is None:
            return 1
        return min(MOST_AHEAD, 1 + int(AHEAD / max(self.seconds, 1e-6)))


class Call:
    """What is called: shared by all jobs of one map, and by all runs of one function.

    Attributes:
        given: how a job's payload becomes arguments.
        by_item: the jobs are those of a map.
        common: keywords of every call of a map.
        merged: keywords of a partial that is run; each run's own go over them.
        conversions: what the function's annotations ask for.
        parameters: what it takes.
        decode: gives a value that it has returned.
    """

    __slots__ = (
        "by_item",
        "common",
        "conversions",
        "decode",
        "given",
        "is_async",
        "merged",
        "pace",
        "parameters",
        "path",
    )

    def __init__(
        self,
        path: str,
        fn: Any,
        given: Given,
        keywords: dict[str, Any],
        pace: Pace,
        by_item: bool = False,
    ) -> None:
        self.path = path
        self.is_async = inspect.iscoroutinefunction(fn)
        self.by_item = by_item
        is_common = given is Given.ITEM
        self.common = keywords if is_common else {}
        self.merged = {} if is_common else keywords
        self.pace = pace
        self.conversions: Conversions = conversions_of(fn)
        self.parameters: Parameters = parameters_of(fn)
        if given is Given.POSITIONS and self.parameters.order is not None:
            # So each argument meets its annotation.
            given = Given.KEYWORDS
        self.given = given
        result = self.conversions.result
        self.decode: Callable[[Any], Any] = any_value if result is None else result.decode

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The arguments of one run, as its payload.  Raises TypeError: they do not fit the function."""
        kwargs = {**self.merged, **kwargs}
        if self.given is Given.POSITIONS:
            return [list(args), kwargs]
        return self.parameters.keywords(self.path, args, kwargs)

    def pack(self, payload: Any, packer: Packer) -> Any:
        """What to send of a job.

        Raises:
            MsgTypeError: it can't be encoded.
            TypeError: it is an item that holds no arguments for the function.
        """
        if self.given is Given.ITEM:
            return packer.pack(payload, "Start", is_known=self.conversions.first is not None)
        if self.by_item:
            if isinstance(payload, (str, bytes)) or not isinstance(payload, Iterable):
                raise TypeError(
                    f"each item of a starmap() holds the arguments of one call, as a tuple: {reprlib.repr(payload)}"
                )
            payload = self.arguments(tuple(payload), {})
        if self.given is Given.KEYWORDS:
            payload = self._pack_each(payload, packer)
        return packer.pack(payload, "Start")

    def pack_common(self) -> dict[str, Any]:
        """What to send of every call's keywords.  Raises MsgTypeError: they can't be encoded."""
        return self._pack_each(self.common, Packer(None)) if self.common else self.common

    def _pack_each(self, keywords: dict[str, Any], packer: Packer) -> dict[str, Any]:
        known, rest = self.conversions.arguments, self.conversions.rest
        return {
            name: packer.pack(value, "Start", is_known=known.get(name, rest) is not None)
            for name, value in keywords.items()
        }


class JobState(enum.Enum):
    """Where a job is."""

    WAITING = "waiting"
    SENT = "sent"
    OVER = "over"


class Sink(Protocol):
    """Who waits for jobs; told of the end of each, once."""

    def on_taken(self, job: Job) -> bool:
        """A worker is about to be given it; whether it is still wanted."""

    def on_value(self, job: Job, value: Any) -> None:
        """It has returned."""

    def on_error(self, job: Job, error: BaseException) -> None:
        """It has raised, or can't be run any more."""

    def on_dropped(self, job: Job) -> None:
        """It was withdrawn, and does not run any more."""


class Job:
    """One call to make.

    Attributes:
        index: its place in the map.
        label: names the item, if the map was given a ``key``.
        tries: how often it has failed and is made again.
        withdrawn: nobody wants it any more, so it must not run again.
        overdue: it has taken too long, and is being ended.
        packer: what holds the memory that its worker borrows, while a worker has it.
        is_suspect: a worker that had it has died, with others: it may be what has killed it.
    """

    __slots__ = (
        "call",
        "handling",
        "id",
        "index",
        "is_suspect",
        "label",
        "overdue",
        "packer",
        "payload",
        "sink",
        "state",
        "tries",
        "withdrawn",
    )

    def __init__(
        self,
        number: int,
        call: Call,
        payload: Any,
        sink: Sink,
        index: int = 0,
        handling: Handling = ONCE,
    ) -> None:
        self.id = number
        self.call = call
        self.payload = payload
        self.sink = sink
        self.index = index
        self.handling = handling
        self.label = payload if handling.key is None else handling.key(payload)
        self.tries = 0
        self.packer: Packer | None = None
        self.state = JobState.WAITING
        self.withdrawn = self.overdue = self.is_suspect = False

    @property
    def is_alone(self) -> bool:
        """Whether its worker may have no other job meanwhile: what happens to the worker is then of its doing."""
        return self.is_suspect or self.handling.timeout is not None

    @property
    def has_tries_left(self) -> bool:
        """Whether it may be made again."""
        return self.tries < self.handling.retries and not self.withdrawn

    @property
    def may_go_alone(self) -> bool:
        """Whether it may be made again by itself, after a death that may have been another one's fault: once."""
        return self.handling.retries > 0 and not self.is_suspect and not self.withdrawn

    def pack(self, share_above: int | None) -> Any:
        """What to send of it.  Raises as :meth:`Call.pack`."""
        if self.call.given is Given.ITEM and is_plain(self.payload):
            return self.payload
        self.packer = Packer(share_above, names_shared=True)
        return self.call.pack(self.payload, self.packer)

    def release(self) -> None:
        """No worker has it: lend nothing more."""
        if self.packer is not None:
            self.packer.close()
            self.packer = None

    def what(self) -> str:
        """The job in words; the payload is cut short."""
        if self.call.by_item:
            return f"item {self.index} of {self.call.path}: {_short(self.label)}"
        if self.call.given is Given.POSITIONS:
            args, kwargs = self.payload
        else:
            args, kwargs = (), {**self.call.common, **self.payload}
        shown = [*map(_short, args), *(f"{name}={_short(value)}" for name, value in kwargs.items())]
        return f"{self.call.path}({', '.join(shown)})"

    def failed(self, error: BaseException) -> bool:
        """A try has ended with this; whether it is to be made again.  Once not, the error tells of the tries."""
        if self.has_tries_left and may_help(error):
            self.tries += 1
            self.overdue = False
            return True
        if self.tries:
            error.add_note(f"{self.what()} was tried {self.tries + 1} times")
        return False

    def too_late(self) -> ItemTimeout:
        """It has taken longer than it may."""
        return ItemTimeout(self.what(), self.handling.timeout or 0.0)

    def unsendable(self, error: Exception) -> Exception:
        """The error of a job whose arguments can't be sent because of ``error``."""
        text = f"{self.what()} can't be sent to a worker"
        if is_plain(self.payload):
            error = own_error(self.payload, "Start", error)
        if isinstance(error, MsgTypeError):
            error.add_note(text)
            return error
        found: Exception = MsgTypeError(f"{text}: {one_line(error)}", boxed_type=type(error))
        found.__cause__ = error
        return found


def _short(value: Any) -> str:
    return " ".join(reprlib.repr(value).split())


def call_of(
    fn: Callable[..., Any], given: Given, paces: dict[str, Pace], by_item: bool = False
) -> Call:
    """How a worker finds ``fn``.

    Args:
        fn: the function.
        given: how its arguments are given.
        paces: how long calls take, by function.
        by_item: the jobs are those of a map.

    Raises:
        TypeError: it is not a function that can be called in a worker and gives one value.
        ValueError: no name leads to it: a lambda, a local function, one that was replaced under its name.
        RuntimeFailure: it is one of a ``__main__`` that no other process can load.
    """
    inner, keywords = plain_function(fn)
    if not callable(inner):
        raise TypeError(f"a worker can't call {inner!r}: it is not a function")
    if kind_of(inner) not in (None, Kind.CALL) or inspect.isgeneratorfunction(inner):
        raise TypeError(
            f"a worker runs functions that return one value, and {inner!r} is none: it streams, or is a context"
        )
    if isinstance(inner, types.MethodType) and not isinstance(inner.__self__, type):
        raise TypeError(
            f"{inner!r} is a method of an object, which does not travel: use a function, and pass what it needs"
        )
    path = NamespacePath.from_ref(inner)
    try:
        found = path.load_ref()
    except (ImportError, AttributeError, ValueError) as exc:
        raise ValueError(f"a worker could not find {inner!r}: {path!r} leads nowhere") from exc
    if found != inner:
        raise ValueError(f"a worker could not find {inner!r}: {path!r} leads to {found!r}")
    if path.startswith("__main__:"):
        require_program()
    pace = paces.setdefault(str(path), Pace())
    return Call(str(path), inner, given, keywords, pace, by_item)


def closed_error(job: Job | None = None) -> RuntimeFailure:
    """The pool's block was left."""
    return RuntimeFailure(
        "the worker pool is closed"
        + (f"; this was not run to its end: {job.what()}" if job else "")
    )
