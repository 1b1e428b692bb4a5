"""The plugin's command line: options, what they switch on, and what can't work."""

from __future__ import annotations

import logging
import os
import signal
from contextlib import ExitStack

import pytest

from tractor import log as _log
from tractor._util._task_tree import arm_task_dumps
from tractor.address._types import HAS_UDS
from tractor.spawn._contract import (
    get_backend,
    known_start_methods,
    selected_start_method,
    try_set_start_method,
)
from tractor.testing._addrs import reserve_ports
from tractor.transport._table import known_transports, transport_keys

STACKSCOPE_VARIABLE = "TRACTOR_ENABLE_STACKSCOPE"

MARKERS = (
    "skipon_spawn_backend(*keys, reason=None): skip on these spawn backends.",
    "no_tpt(key): skip on this transport.",
    "has_nested_actors: starts actors below actors.",
    "trio: an async test that runs in `trio.run()`, without a root actor.",
    "ctlcs_bish(*conds): where all conditions hold, skip the variation in which `ctlc` is true.",
)

_undo = pytest.StashKey[ExitStack]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tractor", "actors (tractor)")
    group.addoption(
        "--spawn-backend",
        metavar="KEY",
        default=os.environ.get("TRACTOR_SPAWN_METHOD") or "trio",
        help="how actors are started: "
        + ", ".join(known_start_methods())
        + " (default: $TRACTOR_SPAWN_METHOD, else trio)",
    )
    group.addoption(
        "--tpt-proto",
        dest="tpt_protos",
        metavar="KEY",
        nargs="+",
        default=None,
        help="run each test that takes `tpt_proto` once on each of these transports",
    )
    group.addoption(
        "--tpdb",
        "--debug-mode",
        dest="tractor_debug_mode",
        action="store_true",
        help="the value of the fixture `debug_mode`; use it with -s",
    )
    group.addoption(
        "--enable-stackscope",
        action="store_true",
        help="dump task trees on SIGUSR1, in pytest and in every actor",
    )
    group.addoption(
        "--ll",
        "--loglevel",
        dest="loglevel",
        metavar="LEVEL",
        default=None,
        help="print the log of the tested package from this level on",
    )
    group.addoption(
        "--tl",
        "--tractor-loglevel",
        dest="tractor_loglevel",
        metavar="SPEC",
        default=None,
        help="print tractor's own log: a level, or `part:level,part:level`",
    )


def forks(key: str) -> bool:
    """Whether a spawn backend makes processes by `fork()`."""
    return "fork" in key


def session_transports(config: pytest.Config) -> list[str]:
    """The transports of this session; without the option the one that a root actor would take."""
    return config.getoption("tpt_protos") or ["uds" if HAS_UDS else "tcp"]


def pytest_configure(config: pytest.Config) -> None:
    for line in MARKERS:
        config.addinivalue_line("markers", line)
    backend = config.getoption("spawn_backend")
    _check_backend(backend)
    _check_transports(config)
    _check_levels(config)
    _check_capture(config, backend)
    with ExitStack() as stack:
        stack.callback(try_set_start_method, selected_start_method())
        try_set_start_method(backend)
        _keep_loggers(stack)
        _log.apply_logspec(config.getoption("tractor_loglevel") or False)
        if config.getoption("enable_stackscope"):
            _arm_stack_dumps(stack)
        # Before any test counts its file descriptors.
        reserve_ports()
        config.stash[_undo] = stack.pop_all()


def undo_configuration(config: pytest.Config) -> None:
    """Put back what `pytest_configure` has changed; nothing where it has failed."""
    if _undo in config.stash:
        config.stash[_undo].close()
        del config.stash[_undo]


def _check_backend(key: str) -> None:
    try:
        get_backend(key)
    except (ValueError, NotImplementedError, RuntimeError, ImportError) as exc:
        line = "=" * 72
        raise pytest.UsageError(
            f"\n{line}\n--spawn-backend {key}: not available here\n\n{exc}\n{line}"
        ) from exc


def _check_transports(config: pytest.Config) -> None:
    given = config.getoption("tpt_protos")
    if given is None:
        return
    try:
        config.option.tpt_protos = known_transports(given)
    except (NotImplementedError, ImportError) as exc:
        raise pytest.UsageError(
            f"--tpt-proto {' '.join(given)}: {exc}\n"
            f"known here: {', '.join(transport_keys())}; the option takes all words up to the next "
            "option: put files and directories before it"
        ) from exc


def _check_levels(config: pytest.Config) -> None:
    for option, dest in (("--ll", "loglevel"), ("--tl", "tractor_loglevel")):
        value = config.getoption(dest)
        if value is None:
            continue
        try:
            if dest == "loglevel":
                _log.level_value(value)
            else:
                _log.parse_logspec(value)
        except ValueError as exc:
            raise pytest.UsageError(f"{option} {value}: {exc}") from exc


def _check_capture(config: pytest.Config, backend: str) -> None:
    if not forks(backend) or config.getoption("capture") != "fd":
        return
    text = (
        f"--spawn-backend {backend} forks, and a forked actor would write into pytest's own capture "
        "files: run with --capture=sys or -s"
    )
    if os.environ.get("CI"):
        pytest.exit(text, returncode=2)
    config.issue_config_time_warning(pytest.PytestConfigWarning(text), stacklevel=2)


def _keep_loggers(stack: ExitStack) -> None:
    """Put the level and the handlers of the package's loggers back at the end."""
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "tractor"]
    before = {
        name: (logging.getLogger(name).level, list(logging.getLogger(name).handlers))
        for name in ["tractor", *names]
    }

    def restore() -> None:
        for name in list(logging.root.manager.loggerDict):
            if name.split(".")[0] == "tractor":
                logger = logging.getLogger(name)
                level, handlers = before.get(name, (logging.NOTSET, []))
                logger.setLevel(level)
                for handler in set(logger.handlers).difference(handlers):
                    logger.removeHandler(handler)

    stack.callback(restore)


def _arm_stack_dumps(stack: ExitStack) -> None:
    """SIGUSR1 makes this process, and by the variable each actor, write its task tree."""
    before = os.environ.get(STACKSCOPE_VARIABLE)
    os.environ[STACKSCOPE_VARIABLE] = "1"

    def restore() -> None:
        os.environ.pop(STACKSCOPE_VARIABLE, None)
        if before is not None:
            os.environ[STACKSCOPE_VARIABLE] = before

    stack.callback(restore)
    if hasattr(signal, "SIGUSR1"):
        handler = arm_task_dumps("pytest")
        # A handler that is not a function of Python's is `None`, and can't be put back.
        stack.callback(signal.signal, signal.SIGUSR1, handler or signal.SIG_DFL)
