"""Which actor a trio run is."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

from tractor import log
from tractor._errors import NoRuntime, RuntimeFailure
from tractor._util._runs import Run, current_run, is_over
from tractor.process import _at_fork
from tractor.process._state import ProcessVar, of_process
from tractor.runtime._vars import reset_runtime_vars, set_run_of_vars
from tractor.transport._settings import reset_wire_settings, set_lifetime

if TYPE_CHECKING:
    from tractor.runtime._actor import Actor


class AsyncioHost(Protocol):
    """What runs the asyncio loop of an infected actor, as far as the runtime needs it."""

    def interrupted_again(self) -> None:
        """The actor got a further SIGINT after the one that cancelled it."""


_actor: ProcessVar[Actor | None] = ProcessVar(lambda: None)
_actor_run: ProcessVar[Run | None] = ProcessVar(lambda: None)
"""The run that the actor lives in."""
_last_actor: ProcessVar[Actor | None] = ProcessVar(lambda: None)


class _Claim:
    """A run that boots a root actor in this process, or has one."""

    def __init__(self) -> None:
        self.run = current_run()
        self.thread = threading.current_thread().name


_claims: dict[str, _Claim] = of_process({})
"""At most one entry.  Taken by ``setdefault()``, which no other thread can come between."""

asyncio_host: ContextVar[AsyncioHost | None] = ContextVar("asyncio_host", default=None)
"""What runs the asyncio loop whose guest this trio run is (`to_asyncio`); ``None``: trio runs by itself."""


@overload
def current_actor(err_on_no_runtime: Literal[True] = True) -> Actor: ...
@overload
def current_actor(err_on_no_runtime: bool) -> Actor | None: ...
def current_actor(err_on_no_runtime: bool = True) -> Actor | None:
    """The actor that the calling code's trio run is.

    That run is the one of this thread; in a worker thread of trio's (``trio.to_thread``) the one of the task that
    waits for it.  Other threads have no run: there it is the process's actor, if it is one.

    Args:
        err_on_no_runtime: raise when no runtime is open; else return ``None``.

    Raises:
        NoRuntime: no runtime is open in this run, be it that one is open in another run of this process.
    """
    run = current_run()
    if _actor.value is not None and (run is None or run is _actor_run.value):
        return _actor.value
    if not err_on_no_runtime:
        return None
    if _actor.value is not None:
        where = (
            f"; {_actor.value.aid.reprol()} lives in another `trio.run()`, that of another thread"
        )
    else:
        where = f"; the last one here was {_last_actor.value.aid.uid}" if _last_actor.value else ""
    raise NoRuntime(
        f"no actor runtime is open in this process's run{where}: "
        "enter `tractor.open_root_actor()` or `tractor.open_nursery()` first"
    )


def actor_state() -> Any:
    """What the lifespan of this actor has yielded, or the initializer of its pool has returned: what its endpoints and
    background tasks share.

    Raises:
        NoRuntime: no runtime is open in this run.
        RuntimeFailure: the actor was started without ``lifespan=``, or that is not entered yet, or left.
    """
    return current_actor().life.state


@overload
def process_actor(err_on_no_runtime: Literal[True]) -> Actor: ...
@overload
def process_actor(err_on_no_runtime: bool = False) -> Actor | None: ...
def process_actor(err_on_no_runtime: bool = False) -> Actor | None:
    """The actor that lives in this process, whichever run that is; for what the process shares, as the terminal.

    Args:
        err_on_no_runtime: raise when there is none; else return ``None``.

    Raises:
        NoRuntime: there is none.
    """
    return current_actor(err_on_no_runtime) if _actor.value is None else _actor.value


def set_current_actor(actor: Actor | None) -> None:
    """Make ``actor`` (or nobody) the actor of this run, and so of this process."""
    if actor is not None:
        _last_actor.value = actor
    _actor.value = actor
    _actor_run.value = None if actor is None else current_run()
    set_lifetime(None if actor is None else actor.lifetime_stack)
    set_run_of_vars(_actor_run.value)
    log.set_context_provider(None if actor is None else _own_uid)
    _at_fork.arm(actor is not None)


def _own_uid() -> tuple[str, str] | None:
    actor = current_actor(err_on_no_runtime=False)
    return None if actor is None else actor.aid.uid


def forget_actor() -> None:
    """In a process that was forked off: it is not an actor, and was none."""
    if _actor.value is not None:
        _actor.value.end_if_copy = _at_fork.leave_copy
    _claims.clear()
    set_current_actor(None)
    _last_actor.value = None


def last_actor() -> Actor | None:
    """The actor that lives in this process, or with no runtime open the one that did last; ``None``: none ever did.

    One that has ended can be looked at, and used for nothing else.
    """
    return _last_actor.value


def _forget_runtime() -> None:
    """In what user code has forked off."""
    forget_actor()
    reset_runtime_vars()
    reset_wire_settings()


_at_fork.on_fork(_forget_runtime)


def claim_process() -> None:
    """Keep every other run, and other tasks of this one, from booting a root here until :func:`release_process`.

    Raises:
        RuntimeFailure: an actor lives here already, or is being booted; it says in which thread.
    """
    holder = _claims.get("process")
    if holder is not None and holder.run is not None and is_over(holder.run):
        # Its run has crashed, and has given nothing back.
        _claims.pop("process", None)
    if _actor_run.value is not None and is_over(_actor_run.value):
        set_current_actor(None)
    claim = _Claim()
    if _actor.value is None and (holder := _claims.setdefault("process", claim)) is claim:
        return
    here = threading.current_thread().name
    run = _actor_run.value if holder is None else holder.run
    who = f"the actor {_actor.value.aid.reprol()}" if _actor.value is not None else "a root actor"
    if run is not None and run is not claim.run:
        thread = threading.main_thread().name if holder is None else holder.thread
        raise RuntimeFailure(
            f"the thread {thread!r} of this process has {who} in its `trio.run()`; a second root can't be opened in "
            f"the thread {here!r}: a process is one actor. Start the second one in a process of its own, or call into "
            "the first one's run by `trio.from_thread.run(fn, trio_token=...)`"
        )
    if _actor.value is None:
        raise RuntimeFailure(
            "another task of this process is booting a root actor; wait for it and use "
            "`tractor.open_nursery()` under the running one"
        )
    raise RuntimeFailure(
        f"this process already is {who}; a second root can't be opened in it, "
        "use `tractor.open_nursery()` under the running one"
    )


def release_process() -> None:
    """The root that had claimed this process is gone."""
    _claims.clear()
