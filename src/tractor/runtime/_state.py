"""Which actor this process is, and which context the running task is in."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal, Protocol, overload

from tractor import log
from tractor._errors import InternalError, NoRuntime
from tractor.ipc._settings import set_lifetime
from tractor.msg._pld_rx import current_dialog
from tractor.runtime._vars import runtime_vars

if TYPE_CHECKING:
    from tractor.runtime._actor import Actor
    from tractor.runtime._context import Context

__all__ = [
    "asyncio_host",
    "current_actor",
    "current_ipc_ctx",
    "debug_mode",
    "forget_actor",
    "is_root_process",
    "last_actor",
    "set_current_actor",
]


class AsyncioHost(Protocol):
    """What runs the asyncio loop of an infected actor, as far as the runtime needs it."""

    def interrupted_again(self) -> None:
        """The actor got a further SIGINT after the one that cancelled it."""


_actor: Actor | None = None
_last_actor: Actor | None = None

ipc_ctx: ContextVar[Context | None] = current_dialog
"""The innermost open context of a task; inherited by the tasks that it starts."""

asyncio_host: ContextVar[AsyncioHost | None] = ContextVar("asyncio_host", default=None)
"""What runs the asyncio loop whose guest this trio run is (`to_asyncio`); ``None``: trio runs by itself."""


@overload
def current_actor(err_on_no_runtime: Literal[True] = True) -> Actor: ...
@overload
def current_actor(err_on_no_runtime: bool) -> Actor | None: ...
def current_actor(err_on_no_runtime: bool = True) -> Actor | None:
    """The actor that this process is.

    Args:
        err_on_no_runtime: raise when no runtime is open; else return ``None``.

    Raises:
        NoRuntime: no runtime is open in this process.
    """
    if _actor is None and err_on_no_runtime:
        was = f"; the last one here was {_last_actor.aid.uid}" if _last_actor else ""
        raise NoRuntime(
            f"no actor runtime is open in this process{was}: "
            "enter `tractor.open_root_actor()` or `tractor.open_nursery()` first"
        )
    return _actor


def set_current_actor(actor: Actor | None) -> None:
    """Make ``actor`` (or nobody) this process's actor."""
    global _actor, _last_actor
    if actor is not None:
        _last_actor = actor
    _actor = actor
    set_lifetime(None if actor is None else actor.lifetime_stack)
    log.set_context_provider(None if actor is None else (lambda: actor.aid.uid))


def forget_actor() -> None:
    """In a process that was forked off: it is no actor, and was none."""
    global _last_actor
    set_current_actor(None)
    _last_actor = None


def last_actor() -> Actor | None:
    """The actor that this process is, or with no runtime open the one that it was last; ``None``: it was none.

    One that has ended can be looked at, and used for nothing else.
    """
    return _last_actor


@overload
def current_ipc_ctx(error_on_not_set: Literal[True]) -> Context: ...
@overload
def current_ipc_ctx(error_on_not_set: bool = False) -> Context | None: ...
def current_ipc_ctx(error_on_not_set: bool = False) -> Context | None:
    """The innermost context that is open in the calling task.

    Args:
        error_on_not_set: raise when there is none; else return ``None``.

    Raises:
        InternalError: no context is open in this task.
    """
    ctx = ipc_ctx.get()
    if ctx is None and error_on_not_set:
        raise InternalError("no IPC context is open in this task")
    return ctx


def is_root_process() -> bool:
    """Whether this process is the root of the actor tree."""
    return runtime_vars()._is_root


def debug_mode() -> bool:
    """Whether the multi-process debugger is armed in this actor."""
    return runtime_vars()._debug_mode
