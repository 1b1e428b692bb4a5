"""The task tree of a trio run as text, on demand and on a signal."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import trio

from tractor._util._frames import frames_above, suspended_frames


def format_task_tree(task: trio.lowlevel.Task, depth: int = 0) -> Iterator[str]:
    """One line for *task* and where it waits, then the same for the tasks in its nurseries."""
    yield f"{'    ' * depth}{task.name}: {' > '.join(map(_place, suspended_frames(task.coro)))}"
    for nursery in task.child_nurseries:
        for child in sorted(nursery.child_tasks, key=lambda child: child.name):
            yield from format_task_tree(child, depth + 1)


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_qualname}:{frame.f_lineno}"


def _root_task() -> trio.lowlevel.Task | None:
    """The root of the trio run in this thread, if there is one."""
    with contextlib.suppress(RuntimeError):
        return trio.lowlevel.current_root_task()
    return None


def format_here() -> str:
    """The tree of the trio run in this thread, with full stacks where stackscope is installed."""
    return format_tree_of(_root_task())


def format_tree_of(root: trio.lowlevel.Task | None) -> str:
    """The tree of tasks from ``root`` on, with full stacks where stackscope is installed; ``None``: says so."""
    if root is None:
        return "no trio run in this thread\n"
    with contextlib.suppress(Exception):
        return _full_stacks(root)
    return "\n".join(format_task_tree(root)) + "\n"


def _full_stacks(root: trio.lowlevel.Task) -> str:
    """Raises ImportError, and whatever stackscope may."""
    with warnings.catch_warnings():
        # It leaves coroutines unawaited to learn their types.
        warnings.simplefilter("ignore")
        import stackscope

        text = str(stackscope.extract(root, recurse_child_tasks=True))
        # On some versions of Python it does not see all nurseries, and so not the tasks in them.
        for task in _all_tasks(root):
            if repr(task) not in text:
                text += str(stackscope.extract(task, recurse_child_tasks=True))
    return text


def _all_tasks(root: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    yield root
    for nursery in root.child_nurseries:
        for child in nursery.child_tasks:
            yield from _all_tasks(child)


def format_threads() -> str:
    """The stack of every thread of this process; this function's own frames are left out."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        above = (one for one in frames_above(frame) if one.f_code.co_filename != __file__)
        parts.append(f"thread {names.get(ident, 'unknown to Python')!r}:\n")
        parts.extend(traceback.format_stack(next(above, None)))
    return "".join(parts)


def dump_file(pid: int) -> Path:
    """Where the process *pid* appends its dumps."""
    return Path(f"/tmp/tractor-stackscope-{pid}.log")


def read_dumps(path: Path) -> bytes:
    """What one of our processes has written to a file of dumps; nothing if it is anybody else's file."""
    if sys.platform == "win32":
        raise NotImplementedError
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW)) as f:
            return f.read() if os.fstat(f.fileno()).st_uid == os.getuid() else b""
    except OSError:
        return b""


def dumped_since(pid: int, begin: int) -> str | None:
    """What was dumped behind the first ``begin`` bytes; ``None`` while that is no whole dump."""
    text = read_dumps(dump_file(pid))[begin:].decode(errors="replace")
    return text if is_whole(text) else None


def is_whole(text: str) -> bool:
    """Whether a dump of :func:`arm_task_dumps` has come to its end."""
    return re.search(r"^end-of-.*\n", text, re.MULTILINE) is not None


def append_dump(path: Path, text: str) -> None:
    """Add text to a file, which is made with mode 0600 where there is none.  Raises OSError, also for a link."""
    _write(_opened(path), text)


def _opened(path: Path) -> int:
    if sys.platform == "win32":
        raise NotImplementedError
    # Others may write into /tmp, too: never through a link of theirs.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o600)


def _write(fd: int, text: str) -> None:
    """Write it all, and close the file."""
    try:
        data = text.encode(errors="replace")
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)


def arm_task_dumps(label: str, opened: Callable[[], int] | None = None) -> Any:
    """On SIGUSR1 append this process's task tree and threads to a file.

    Each dump stands between the lines ``start-of-<label>`` and ``end-of-<label>``.  For the main
    thread of a process; does nothing where the platform has no SIGUSR1.

    Args:
        label: names the process.
        opened: gives a descriptor to write to, which is closed after that; default: of `dump_file`.

    Returns:
        The handler that was installed before, to be put back with `signal.signal`.
    """
    if not hasattr(signal, "SIGUSR1"):
        return None

    def dump(signum: int, frame: FrameType | None) -> None:
        # A dump that fails must not become an error of whatever the process is doing.
        with contextlib.suppress(Exception):
            _write(
                opened() if opened is not None else _opened(dump_file(os.getpid())),
                f"start-of-{label}\n{format_here()}\n{format_threads()}end-of-{label}\n",
            )

    return signal.signal(signal.SIGUSR1, dump)
