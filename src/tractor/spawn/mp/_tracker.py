"""The resource tracker of :mod:`multiprocessing`: one for a whole tree, as its own children have it.

The tracker removes the shared memory and semaphores that were not removed when all who hold its pipe have ended.  An
actor with a tracker of its own would, at its end, remove what it has only attached to.

Most trees never need one.  So the pipe is made with the first subactor, and handed down; the process at its other end
is started by the root when something has been written.  ``multiprocessing`` is not imported before: where its module
is loaded later, it is told of the pipe then.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import os
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import trio

from tractor import log as _log
from tractor.process._state import ProcessVar
from tractor.process._stdio import to_hand_down
from tractor.spawn._command import interpreter_flags

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:
    # That module takes a millisecond to load, and its classes give nothing that the import system asks for.
    Loader = MetaPathFinder = object

log = _log.get_logger()

MODULE = "multiprocessing.resource_tracker"
PROGRAM = f"from {MODULE} import main; main(%d)"


class _OnImport(MetaPathFinder):
    """Tells the module of the pipe when it is loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != MODULE:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = None if finder is self or find is None else find(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader)
                return spec  # type: ignore[no-any-return]
        return None


class _Loader(Loader):
    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        found: ModuleType | None = self._loader.create_module(spec)
        return found

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        if _fd.value is not None:
            _tell(_fd.value)


_fd: ProcessVar[int | None] = ProcessVar(lambda: None)
"""The pipe's write end, on which everybody tells the tracker."""
_hook = _OnImport()


def tracker_fd() -> int | None:
    """The descriptor that a subactor of this process gets; ``None``: there is none."""
    if _fd.value is not None and _is_pipe(_fd.value):
        return _fd.value
    # One that the program has started before.
    found: int | None = getattr(_record(), "_fd", None)
    return found


def _record() -> Any:
    """What multiprocessing knows of its tracker; ``None``: its module is not loaded."""
    return getattr(sys.modules.get(MODULE), "_resource_tracker", None)


def _is_pipe(fd: int) -> bool:
    """Whether it still is one: in what user code forks off, multiprocessing may have closed it."""
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:
        return False


def use_tracker(fd: int) -> None:
    """In a subactor: tell the tracker that this writes to, whenever it is needed.

    Args:
        fd: inherited; open until the end of the process.
    """
    with contextlib.suppress(OSError):
        os.set_inheritable(fd, False)
    _fd.value = fd
    if not _tell(fd) and _hook not in sys.meta_path:
        sys.meta_path.insert(0, _hook)


def _tell(fd: int) -> bool:
    """Whether the module is there to be told."""
    record = _record()
    if record is not None and record._fd is None:
        record._fd = fd
    return record is not None


def take_over_tracker() -> None:
    """In a child of multiprocessing's fork server: use the tracker that it has handed down, if any."""
    record = _record()
    fd: int = record._fd
    if _is_pipe(fd):
        use_tracker(fd)
    else:
        # The fork server had none to hand down; who needs one starts it.
        os.close(fd)
        record._fd = None


def forget_tracker() -> None:
    """In a process that was forked off: it knows of no tracker."""
    _fd.value = None
    with contextlib.suppress(ValueError):
        sys.meta_path.remove(_hook)


@trio.lowlevel.enable_ki_protection
async def share_tracker(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """In a root: have a pipe for :func:`tracker_fd`, and start the tracker once something is written; until cancelled.

    A tracker that was started lives until the end of the program, as it does in any program.
    """
    # The executable of a frozen program is that program.
    can_start = os.name == "posix" and bool(sys.executable) and not getattr(sys, "frozen", False)
    if not can_start or tracker_fd() is not None:
        task_status.started()
        return
    read_fd, write_fd = os.pipe()
    use_tracker(write_fd)
    task_status.started()
    started = False
    try:
        await trio.lowlevel.wait_readable(read_fd)
        started = _start(read_fd)
        await trio.sleep_forever()
    finally:
        if not started and _is_readable(read_fd):
            started = _start(read_fd)
        forget_tracker()
        os.close(read_fd)
        if not started:
            record = _record()
            if record is not None and record._fd == write_fd:
                # Loaded, and used by nobody.
                record._fd = None
            os.close(write_fd)


def _is_readable(fd: int) -> bool:
    if sys.platform == "win32":
        raise NotImplementedError
    # Not select(), whose numbers end at 1023.
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _start(read_fd: int) -> bool:
    """Start the tracker's process; whether that has worked."""
    if sys.platform == "win32":
        raise NotImplementedError
    importlib.import_module(MODULE)
    # It ignores them itself, once it runs.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        process = subprocess.Popen(
            [sys.executable, *interpreter_flags(), "-c", PROGRAM % read_fd],
            pass_fds=[read_fd],
            **to_hand_down(),  # type: ignore[call-overload, unused-ignore]
        )
    except OSError as exc:
        log.warning("multiprocessing's resource tracker could not be started: %s", exc)
        return False
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    # multiprocessing reaps it by its number, if at all.
    process.returncode = 0
    _record()._pid = process.pid
    return True
