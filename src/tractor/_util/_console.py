"""The console side of logging: which actor and task a record comes from, and how it is printed."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping

from tractor.process._state import ProcessVar

DATE_FORMAT = "%b %d %H:%M:%S"
LOG_FORMAT = (
    "%(log_color)s%(asctime)s (%(actor_field)s, %(pid_field)s, %(task_field)s) "
    "%(bold_log_color)s[%(levelname)s]%(reset)s%(log_color)s "
    "%(name)s %(filename)s:%(lineno)d%(reset)s %(message)s"
)
"""`%` style; the ``*_field`` names are filled in by :class:`ContextFilter`."""

ID_TAIL = 6
"""Digits of a uuid or of an object's id that are printed."""

_actor_uid: ProcessVar[Callable[[], tuple[str, str] | None] | None] = ProcessVar(lambda: None)


def set_context_provider(provider: Callable[[], tuple[str, str] | None] | None) -> None:
    """Tell log records where to find the running actor.

    Args:
        provider: gives the actor's ``(name, uuid)``, or ``None`` while there is none; it is called
            for each record that is printed, in any thread.  ``None`` takes the provider away.
    """
    _actor_uid.value = provider


def actor_field() -> str:
    """``name[uuid6]`` of the running actor."""
    uid = None if _actor_uid.value is None else _actor_uid.value()
    return "no actor context" if uid is None else f"{uid[0]}[{uid[1][:ID_TAIL]}]"


def task_field() -> str:
    """``name[id tail]`` of the running trio or asyncio task, or of a side thread."""
    running = _trio_task() or _asyncio_task() or _side_thread()
    if running is None:
        return "no task context"
    name, number = running
    return f"{name}[{str(number)[-ID_TAIL:]}]"


def _trio_task() -> tuple[str, int] | None:
    # What was never imported runs nothing: neither library is loaded for the sake of a log line.
    trio = sys.modules.get("trio")
    if trio is None:
        return None
    try:
        task = trio.lowlevel.current_task()
    except (RuntimeError, AttributeError):
        # No run in this thread, or trio is only half imported.
        return None
    return task.name, id(task)


def _asyncio_task() -> tuple[str, int] | None:
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        task = asyncio.current_task()
    except (RuntimeError, AttributeError):
        return None
    return None if task is None else (task.get_name(), id(task))


def _side_thread() -> tuple[str, int] | None:
    threading = sys.modules["threading"]
    thread = threading.current_thread()
    if thread is threading.main_thread():
        return None
    return thread.name, thread.ident or 0


class ContextFilter(logging.Filter):
    """Fills in the fields of :data:`LOG_FORMAT`, and lets each record pass only once.

    A logger and its parent may both have a console handler; the record would be printed twice.
    """

    def __init__(self, level_names: Mapping[int, str]) -> None:
        super().__init__()
        self._level_names = level_names

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "on_console", False):
            return False
        record.on_console = True
        record.levelname = self._level_names.get(record.levelno, record.levelname)
        record.actor_field = actor_field()
        record.pid_field = record.process or "no pid context"
        record.task_field = task_field()
        return True


class _CurrentStderr:
    """What a formatter asks whether to colour: the stderr of now, which tests and REPLs replace."""

    @staticmethod
    def isatty() -> bool:
        return sys.stderr is not None and sys.stderr.isatty()


class ConsoleHandler(logging.Handler):
    """Writes to what ``sys.stderr`` is at the time, coloured if that is a terminal.

    Attributes:
        stands_back: nobody has asked for this handler, so it prints nothing that a handler of the program's gets.
    """

    def __init__(
        self,
        level_names: Mapping[int, str],
        palette: Mapping[str, str],
        secondary: Mapping[str, Mapping[str, str]],
    ) -> None:
        super().__init__()
        self.addFilter(ContextFilter(level_names))
        self.stands_back = False
        self._palette = palette
        self._secondary = secondary

    def format(self, record: logging.LogRecord) -> str:
        """The record as printed; what that needs is loaded for the first one."""
        if self.formatter is None:
            self.formatter = self._make_formatter()
        return super().format(record)

    def _make_formatter(self) -> logging.Formatter:
        import colorlog

        return colorlog.ColoredFormatter(
            LOG_FORMAT,
            DATE_FORMAT,
            log_colors=self._palette,
            secondary_log_colors=self._secondary,
            stream=_CurrentStderr(),  # type: ignore[arg-type]
            no_color=os.environ.get("PYTHON_COLORS") == "0",
        )

    @property
    def stream(self) -> object:
        """The current ``sys.stderr``."""
        return sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        try:
            stream = sys.stderr
            if stream is None or (self.stands_back and _has_other_handler(record.name)):
                return
            stream.write(self.format(record) + "\n")
            stream.flush()
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)


def _has_other_handler(name: str) -> bool:
    """Whether a handler that is none of ours gets the records of a logger."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        if any(_is_the_programs(handler) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


def _is_the_programs(handler: logging.Handler) -> bool:
    # Those of pytest collect records for its report.
    of_pytest = type(handler).__module__.startswith("_pytest.")
    return not (of_pytest or isinstance(handler, ConsoleHandler | logging.NullHandler))
