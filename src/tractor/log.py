"""Logging: levels of the runtime's own, loggers named after packages, one console format.

Importing this module tells :mod:`logging` the names of the levels, installs no handler and sets no
level; records of a disabled level are not formatted, nor even built.
"""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from tractor._util._console import (
    DATE_FORMAT,
    LOG_FORMAT,
    ConsoleHandler,
    set_context_provider,
)

__all__ = [
    "BOLD_PALETTE",
    "CUSTOM_LEVELS",
    "DATE_FORMAT",
    "LOG_FORMAT",
    "STD_PALETTE",
    "StackLevelAdapter",
    "add_log_level",
    "apply_logspec",
    "at_least_level",
    "get_console_log",
    "get_logger",
    "get_loglevel",
    "level_value",
    "parse_logspec",
    "print_unless_handled",
    "set_context_provider",
]

PACKAGE = "tractor"
DEFAULT_LEVEL = "error"

CUSTOM_LEVELS: dict[str, int] = {
    "TRANSPORT": 5,
    "RUNTIME": 15,
    "DEVX": 17,
    "IO": 21,
    "CANCEL": 22,
    "PDB": 500,
}
"""Level values that :mod:`logging` does not have, by upper-case name."""

_STANDARD_LEVELS = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
}

STD_PALETTE: dict[str, str] = {
    "TRANSPORT": "cyan",
    "DEBUG": "green",
    "RUNTIME": "light_black",
    "DEVX": "blue",
    "INFO": "white",
    "IO": "purple",
    "CANCEL": "yellow",
    "WARNING": "yellow",
    "ERROR": "red",
    "CRITICAL": "red",
    "PDB": "white",
}
"""Colour of a record, by upper-case level name."""

BOLD_PALETTE: dict[str, dict[str, str]] = {
    "bold": {name: f"bold_{color}" for name, color in STD_PALETTE.items()}
}
"""Colour of its level field, in the form of colorlog's ``secondary_log_colors``."""

_level_names: dict[int, str] = {
    value: name for name, value in {**_STANDARD_LEVELS, **CUSTOM_LEVELS}.items()
}

for _name, _value in CUSTOM_LEVELS.items():
    logging.addLevelName(_value, _name)


def level_value(level: str | int) -> int:
    """The number of a level.

    Args:
        level: a standard or custom name in any case, or the number itself.

    Raises:
        ValueError: no level has that name.
    """
    if isinstance(level, int):
        return level
    name = level.strip().upper()
    value = _STANDARD_LEVELS.get(name, CUSTOM_LEVELS.get(name))
    if value is None:
        known = ", ".join(_level_names[value].lower() for value in sorted(_level_names))
        raise ValueError(f"unknown log level {level!r}: use one of {known}")
    return value


def is_level(name: str) -> bool:
    """Whether a level has that name; a number may be in force that has none."""
    return name.upper() in _STANDARD_LEVELS or name.upper() in CUSTOM_LEVELS


def _level_name(value: int) -> str:
    return _level_names.get(value) or logging.getLevelName(value)


class StackLevelAdapter(logging.LoggerAdapter[logging.Logger]):
    """A logger with one method for each level, custom ones included.

    Records name the file and line of the caller, or of its callers with ``stacklevel=2`` and up.
    Keywords are those of :meth:`logging.Logger.log`.
    """

    def __init__(self, logger: logging.Logger, extra: Mapping[str, object] | None = None) -> None:
        super().__init__(logger, extra)

    @property
    def level(self) -> int:
        """The number of the level from which on records are made: the logger's or its parents'."""
        return self.logger.getEffectiveLevel()

    def at_least_level(self, level: str | int) -> bool:
        """Whether records of ``level`` are made.  Raises ValueError for an unknown name."""
        return at_least_level(self, level)

    def setLevel(self, level: int | str) -> None:
        """Set the logger's own level, a number or a known name.  Raises ValueError."""
        self.logger.setLevel(level_value(level))

    # Each method below calls `_emit()` itself, from a frame of its own: `_emit()` counts on there
    # being exactly one frame between it and the caller.

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if self.logger.isEnabledFor(level):
            self._emit(level, msg, args, **kwargs)

    def transport(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Connections, messages, expected disconnects (5)."""
        if self.logger.isEnabledFor(5):
            self._emit(5, msg, args, **kwargs)

    def runtime(self, msg: object, *args: object, **kwargs: Any) -> None:
        """How actors start and how they end normally (15)."""
        if self.logger.isEnabledFor(15):
            self._emit(15, msg, args, **kwargs)

    def devx(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Debugging aids (17)."""
        if self.logger.isEnabledFor(17):
            self._emit(17, msg, args, **kwargs)

    def io(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Lines of supervised foreign processes (21)."""
        if self.logger.isEnabledFor(21):
            self._emit(21, msg, args, **kwargs)

    def cancel(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Who cancelled what, and for whom (22)."""
        if self.logger.isEnabledFor(22):
            self._emit(22, msg, args, **kwargs)

    def pdb(self, msg: object, *args: object, **kwargs: Any) -> None:
        """The debugger; above every other level (500)."""
        if self.logger.isEnabledFor(500):
            self._emit(500, msg, args, **kwargs)

    def _emit(
        self,
        level: int,
        msg: object,
        args: tuple[object, ...],
        *,
        exc_info: Any = None,
        stack_info: bool = False,
        stacklevel: int = 1,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        logger = self.logger
        # Frames of `logging` are not counted; this one and the level method's are.
        file, line, func, stack = logger.findCaller(stack_info, stacklevel + 2)
        if isinstance(exc_info, BaseException):
            exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
        elif exc_info and not isinstance(exc_info, tuple):
            exc_info = sys.exc_info()
        if self.extra:
            extra = {**self.extra, **(extra or {})}
        record = logger.makeRecord(
            logger.name, level, file, line, msg, args, exc_info or None, func, extra, stack
        )
        # Whatever another library calls that number.
        record.levelname = _level_name(level)
        if logger.name == PACKAGE or logger.name.startswith(f"{PACKAGE}."):
            _escape_controls(record)
        logger.handle(record)


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
"""What moves a terminal's cursor, colours it or begins a line, but for a tab and a line feed."""


def _escape_controls(record: logging.LogRecord) -> None:
    """Show control characters in a record of the runtime's as escapes: peers choose many of its texts."""
    try:
        text = record.getMessage()
    except Exception:
        # Told by whoever formats it.
        return
    shown = _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)
    if shown != text:
        record.msg, record.args = shown, None


def add_log_level(name: str, value: int, color: str = "white") -> None:
    """Add a level, and a method of that name to :class:`StackLevelAdapter`.

    Adding the same level again only sets its colour.

    Args:
        name: an identifier, in any case; the method's name is its lower-case form.
        value: the level's number.
        color: a colour of colorlog, such as ``"red"``.

    Raises:
        ValueError: the name or the number is taken, or the name is not an identifier.
    """
    upper, lower = name.upper(), name.lower()
    known = CUSTOM_LEVELS.get(upper)
    if known != value:
        if not name.isidentifier() or known is not None or hasattr(StackLevelAdapter, lower):
            raise ValueError(f"{name!r} can't name a log level: it is taken, or no identifier")
        if value in _level_names:
            raise ValueError(f"log level {value} has the name {_level_names[value]!r} already")

        def method(self: StackLevelAdapter, msg: object, *args: object, **kwargs: Any) -> None:
            if self.logger.isEnabledFor(value):
                self._emit(value, msg, args, **kwargs)

        method.__name__ = lower
        method.__doc__ = f"Log at level {upper} ({value})."
        setattr(StackLevelAdapter, lower, method)
        CUSTOM_LEVELS[upper] = value
        _level_names[value] = upper
        logging.addLevelName(value, upper)
    STD_PALETTE[upper] = color
    BOLD_PALETTE["bold"][upper] = f"bold_{color}"


def get_logger(
    name: str | None = None,
    pkg_name: str = PACKAGE,
    logger: logging.Logger | StackLevelAdapter | None = None,
    subsys_spec: str | None = None,
    mk_sublog: bool = True,
    *,
    _root_name: str | None = None,
) -> StackLevelAdapter:
    """The logger of a package or of one of its parts.

    Args:
        name: the part's dotted name, with or without the package's; taken literally.  ``None``:
            the calling module's package if it lies in ``pkg_name``, else ``pkg_name`` itself.
        pkg_name: the top of the logger's name.
        logger: wrap this one, whatever its name.
        subsys_spec: the part's name as a log spec has it, without the package's.
        mk_sublog: with no name given, whether to go below ``pkg_name``.

    Returns:
        An adapter of the standard logger of that name.

    Raises:
        ValueError: ``subsys_spec`` begins with the package's name.
    """
    if _root_name is not None:
        warnings.warn(
            "get_logger(_root_name=...) is now get_logger(pkg_name=...)",
            DeprecationWarning,
            stacklevel=2,
        )
        pkg_name = _root_name
    if isinstance(logger, StackLevelAdapter):
        return logger
    if logger is not None:
        return StackLevelAdapter(logger)
    if subsys_spec is not None:
        part = _checked_sub_name(subsys_spec, pkg_name)
    elif name is not None:
        part = _without_package(name, pkg_name)
    elif mk_sublog:
        part = _without_package(_calling_package(), pkg_name, else_empty=True)
    else:
        part = ""
    return StackLevelAdapter(logging.getLogger(f"{pkg_name}.{part}" if part else pkg_name))


def _calling_package() -> str:
    """The package of the module that called the function which calls this one."""
    return sys._getframe(2).f_globals.get("__package__") or ""


def _without_package(name: str, pkg_name: str, *, else_empty: bool = False) -> str:
    if name != pkg_name and not name.startswith(f"{pkg_name}."):
        return "" if else_empty else name
    while name.startswith(f"{pkg_name}."):
        name = name[len(pkg_name) + 1 :]
    return "" if name == pkg_name else name


def _checked_sub_name(name: str, pkg_name: str) -> str:
    if not all(part for part in name.split(".")):
        raise ValueError(
            f"{name!r} is not a name of a part of {pkg_name!r}: write it as `part.sub`"
        )
    if name == pkg_name or name.startswith(f"{pkg_name}."):
        raise ValueError(
            f"sub-logger name {name!r} holds the package's name: leave {pkg_name!r} out, "
            "or give a plain level for the whole package"
        )
    return name


def get_console_log(
    level: str | int | None = None,
    logger: logging.Logger | StackLevelAdapter | None = None,
    **get_logger_kwargs: Any,
) -> StackLevelAdapter:
    """Print a logger's records on stderr.

    Calling it again changes the level and adds nothing; a record of a logger whose parent prints
    too is printed once.

    Args:
        level: set this level; ``None`` leaves it as it is.
        logger: the logger to print; default: the one that :func:`get_logger` gives for the
            keywords, which is ``pkg_name``'s own if they name no part.
        get_logger_kwargs: see :func:`get_logger`.

    Raises:
        ValueError: no level has that name.
    """
    get_logger_kwargs.setdefault("mk_sublog", False)
    log = get_logger(logger=logger, **get_logger_kwargs)
    if level is not None:
        log.setLevel(level)
    _console_handler(log.logger).stands_back = False
    return log


def print_unless_handled(level: str | int | None) -> None:
    """Print the package's records on stderr, but for those that a handler of the program's gets.

    Args:
        level: set this level for the package; ``None`` leaves it as it is.

    Raises:
        ValueError: no level has that name.
    """
    logger = logging.getLogger(PACKAGE)
    if level is not None:
        logger.setLevel(level_value(level))
    _console_handler(logger, stands_back=True)


def _console_handler(logger: logging.Logger, stands_back: bool = False) -> ConsoleHandler:
    """The logger's handler for the console, added if it has none."""
    for handler in logger.handlers:
        if isinstance(handler, ConsoleHandler):
            return handler
    handler = ConsoleHandler(_level_names, STD_PALETTE, BOLD_PALETTE)
    handler.stands_back = stands_back
    logger.addHandler(handler)
    return handler


def apply_dictconfig(config: Mapping[str, Any]) -> None:
    """Configure logging as ``logging.config.dictConfig()``, as if no logger of the runtime's had been there before.

    Raises:
        ValueError, TypeError, AttributeError, ImportError: the configuration is none.
    """
    import logging.config

    logging.config.dictConfig(dict(config))
    given = config.get("loggers", {})
    for name, logger in logging.Logger.manager.loggerDict.items():
        is_ours = name == PACKAGE or name.startswith(f"{PACKAGE}.")
        if is_ours and name not in given and isinstance(logger, logging.Logger):
            logger.disabled = False


def parse_logspec(
    logspec: str | bool | None,
    default_level: str | None = None,
    pkg_name: str = PACKAGE,
) -> tuple[str | None, dict[str, str]]:
    """Read a log spec: a level, or ``sub:level,sub:level``.

    Args:
        logspec: the spec; ``True`` stands for ``"cancel"``, ``False`` for nothing at all, ``None`` and
            ``""`` for ``default_level``.
        default_level: the package's level where the spec is about parts of it only.
        pkg_name: the package that it is about.

    Returns:
        The package's level (``None``: none given) and the level of each part; lower case.

    Raises:
        ValueError: a level is unknown, the two forms are mixed, a part is named twice, or a part's
            name holds the package's.
    """
    spec = logspec
    if spec is True:
        return "cancel", {}
    if spec is False:
        return None, {}
    default = None if default_level is None else _known_level(default_level)
    if spec is None or not spec.strip():
        return default, {}
    items = [item.strip() for item in spec.split(",")]
    if ":" not in spec and len(items) == 1:
        return _known_level(items[0]), {}
    parts: dict[str, str] = {}
    for item in items:
        name, colon, level = (text.strip() for text in item.partition(":"))
        if not colon:
            raise ValueError(
                f"{item!r} in log spec {spec!r} is not a `sub:level` pair: "
                "give either one level, or such pairs only"
            )
        if name in parts:
            raise ValueError(f"log spec {spec!r} names {name!r} twice")
        parts[_checked_sub_name(name, pkg_name)] = _known_level(level)
    return default, parts


def _known_level(level: str) -> str:
    return _level_name(level_value(level)).lower()


def apply_logspec(
    logspec: str | bool | None,
    default_level: str | None = None,
    pkg_name: str = PACKAGE,
) -> tuple[str | None, dict[str, StackLevelAdapter]]:
    """Set levels by a log spec and print the loggers concerned on stderr.

    Arguments and errors are those of :func:`parse_logspec`; with an error nothing has changed.

    Returns:
        The package's level (``None``: left alone) and the loggers that were set, by full name.
    """
    level, parts = parse_logspec(logspec, default_level, pkg_name)
    loggers: dict[str, StackLevelAdapter] = {}
    if level is not None:
        loggers[pkg_name] = get_console_log(level, pkg_name=pkg_name)
    for name, part_level in parts.items():
        log = get_console_log(part_level, pkg_name=pkg_name, subsys_spec=name)
        loggers[log.logger.name] = log
    return level, loggers


def get_loglevel() -> str:
    """Name of the level that was set for the ``tractor`` logger; ``"error"`` if none was."""
    value = logging.getLogger(PACKAGE).level
    return _level_name(value).lower() if value else DEFAULT_LEVEL


def at_least_level(log: logging.Logger | StackLevelAdapter, level: str | int) -> bool:
    """Whether ``log`` makes records of ``level``, a number or a standard or custom name.

    Raises:
        ValueError: no level has that name.
    """
    return log.getEffectiveLevel() <= level_value(level)
