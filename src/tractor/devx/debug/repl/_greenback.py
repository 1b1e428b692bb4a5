"""Greenback portals: what lets sync code in a task wait for the terminal."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from types import CodeType
from typing import Any

import trio

from tractor import log as _log
from tractor._errors import InternalError
from tractor._util.dist._name import pip_install
from tractor.process._breakpoint import greenback_is_there
from tractor.process._state import ProcessVar
from tractor.runtime._state import process_actor
from tractor.runtime._vars import is_root_process, runtime_vars


class SyncPauses(trio.abc.Instrument):
    """Gives a portal to each task that the actor starts from now on, but to those that carry its channels.

    Attributes:
        token: how other threads reach the actor's tasks.
        thread: the thread that runs them.
    """

    def __init__(self, bestow_portal: Any, channels: trio.Nursery | None) -> None:
        self._bestow = bestow_portal
        self._channels = channels
        # Those of trio's own are its children.
        self._passed: weakref.WeakSet[trio.lowlevel.Task] = weakref.WeakSet()
        root = trio.lowlevel.current_root_task()
        if root is not None:
            self._passed.add(root)
        self.token = trio.lowlevel.current_trio_token()
        self.thread = threading.get_ident()
        self._pid = os.getpid()

    @property
    def is_own(self) -> bool:
        """Whether it is this process's, not that of one which this was forked off."""
        return self._pid == os.getpid()

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Called by trio before the task's first step."""
        nursery = task.parent_nursery
        if nursery is None or nursery is self._channels or nursery.parent_task in self._passed:
            self._passed.add(task)
        else:
            _let_ctrl_c_in(task)
            self._bestow(task)


_pauses: ProcessVar[SyncPauses | None] = ProcessVar(lambda: None)


def sync_pauses() -> SyncPauses:
    """What this actor has been given for pauses in sync code.

    Raises:
        RuntimeError: greenback is not installed.
        InternalError: it has never been initialised here.
    """
    if _pauses.value is None or not _pauses.value.is_own:
        if not greenback_is_there(say=False):
            raise RuntimeError(
                "pausing in sync code needs `greenback`, which is not installed: "
                f"`{pip_install('sync-pause')}`, or use `await tractor.pause()`"
            )
        raise InternalError(
            "greenback has not been initialised in this actor: open the root actor with `debug_mode=True` "
            "and `maybe_enable_greenback=True` (the default), or use `await tractor.pause()`"
        )
    return _pauses.value


async def maybe_init_greenback() -> bool:
    """Give portals to the calling task, and to all tasks that this actor starts from now on.

    Nothing happens where the runtime var ``use_greenback`` is false.  Where greenback is not installed this is
    logged, and the var becomes ``False``.

    Returns:
        Whether sync code in the actor's tasks can pause now.

    Raises:
        NoRuntime: this process is not an actor.
    """
    actor = process_actor(err_on_no_runtime=True)
    settings = runtime_vars()
    settings.use_greenback = settings.use_greenback and greenback_is_there()
    if not settings.use_greenback:
        return False
    import greenback

    if _pauses.value is None or not _pauses.value.is_own:
        _pauses.value = SyncPauses(greenback.bestow_portal, actor.io_nursery)
        trio.lowlevel.add_instrument(_pauses.value)
    _let_ctrl_c_in(trio.lowlevel.current_task())
    await greenback.ensure_portal()
    return True


def _let_ctrl_c_in(task: trio.lowlevel.Task) -> None:
    """Have ``KeyboardInterrupt`` raised in a task's code as without a portal: at once, not at its next checkpoint.

    Trio finds out whether it may by a walk from the interrupted frame up to the task's own, or to a mark.  A portal
    runs the task on another stack, on which the task's own frame is not met; so the code gets the mark.
    """
    code = getattr(task.coro, "cr_code", None)
    if not is_root_process() or code is None or code.co_filename.startswith(PACKAGES):
        return
    if code not in _marked and not _has_mark(code):
        _marked.add(code)
        trio.lowlevel.disable_ki_protection(_WithCode(code))


PACKAGES = tuple(os.path.dirname(str(module.__file__)) + os.sep for module in (_log, trio))
"""Where the code is that protects itself."""

_marked: weakref.WeakSet[CodeType] = weakref.WeakSet()


class _WithCode:
    def __init__(self, code: CodeType) -> None:
        self.__code__ = code


def _has_mark(code: CodeType) -> bool:
    """Whether the user has said something about it; if there is no way to know, yes."""
    marks = getattr(trio._core._ki, "_CODE_KI_PROTECTION_STATUS_WMAP", None)
    try:
        return marks is None or marks[code] is not None
    except KeyError:
        return False


def stop_greenback() -> None:
    """Give no more portals; what tasks have they keep."""
    before, _pauses.value = _pauses.value, None
    if before is not None and before.is_own:
        trio.lowlevel.remove_instrument(before)


def portal_is_there() -> bool:
    """Whether the running task, trio's or asyncio's, can wait in sync code."""
    greenback = sys.modules.get("greenback")
    return greenback is not None and bool(greenback.has_portal())
