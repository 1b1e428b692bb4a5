"""Levels, names, the console record and log specs."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import trio

from tractor import MessagingError
from tractor import log as log_module
from tractor._util._console import ConsoleHandler
from tractor.log import (
    BOLD_PALETTE,
    CUSTOM_LEVELS,
    STD_PALETTE,
    StackLevelAdapter,
    add_log_level,
    apply_logspec,
    at_least_level,
    get_console_log,
    get_logger,
    get_loglevel,
    parse_logspec,
    set_context_provider,
)

LEVELS = {
    "transport": 5,
    "debug": 10,
    "runtime": 15,
    "devx": 17,
    "info": 20,
    "io": 21,
    "cancel": 22,
    "warning": 30,
    "error": 40,
    "critical": 50,
    "pdb": 500,
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def clean_loggers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Loggers of the packages used here are put back as they were."""
    for variable in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    before = {
        name: (logger.level, logger.handlers[:], logger.propagate)
        for name, logger in logging.root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger)
    }
    yield
    set_context_provider(None)
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger):
            level, handlers, propagate = before.get(name, (logging.NOTSET, [], True))
            logger.setLevel(level)
            logger.handlers[:] = handlers
            logger.propagate = propagate


class Stderr:
    """What the test has printed there so far, each piece given once."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def getvalue(self) -> str:
        return self._capture.readouterr().err


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Stderr:
    return Stderr(capsys)


# -- levels --


@pytest.mark.parametrize(("name", "value"), LEVELS.items())
def test_each_level_has_its_value_method_and_name(
    caplog: pytest.LogCaptureFixture, name: str, value: int
) -> None:
    log = get_logger(pkg_name="levelled")
    log.setLevel(name)
    assert (log.level, log.logger.level) == (value, value)
    getattr(log, name)("said %s", "so")
    (record,) = caplog.records
    assert (record.levelno, record.levelname, record.getMessage()) == (
        value,
        name.upper(),
        "said so",
    )
    log.setLevel(value + 1)
    getattr(log, name)("not said")
    assert len(caplog.records) == 1


def test_custom_levels_are_known_to_logging() -> None:
    for name, value in CUSTOM_LEVELS.items():
        assert logging.getLevelName(value) == name
        plain = logging.getLogger("test.plain")
        plain.setLevel(name)
        assert plain.level == value
        assert name in STD_PALETTE
        assert name in BOLD_PALETTE["bold"]


def test_a_disabled_level_formats_nothing() -> None:
    class Explosive:
        def __str__(self) -> str:
            raise AssertionError("formatted")

        __repr__ = __str__

    log = get_logger(pkg_name="quiet")
    log.setLevel("pdb")
    for name in LEVELS:
        if name != "pdb":
            getattr(log, name)("%s", Explosive())


@pytest.mark.parametrize("name", [*LEVELS, "exception", "log"])
def test_records_name_the_callers_file_and_line(
    caplog: pytest.LogCaptureFixture, name: str
) -> None:
    log = get_logger(pkg_name="lines")
    log.setLevel(1)
    args: tuple[object, ...] = (30, "x") if name == "log" else ("x",)
    here = sys._getframe().f_lineno
    getattr(log, name)(*args)

    def wrapper() -> None:
        getattr(log, name)(*args, stacklevel=2)

    wrapper()
    first, second = caplog.records
    assert (first.filename, first.lineno, first.funcName) == (
        "test_log.py",
        here + 1,
        "test_records_name_the_callers_file_and_line",
    )
    assert (second.lineno, second.funcName) == (here + 6, first.funcName)


def test_exceptions_extra_and_stack_are_passed_on(caplog: pytest.LogCaptureFixture) -> None:
    log = StackLevelAdapter(logging.getLogger("extras"), {"kept": 1})
    error = ValueError("boom")
    log.error("a", exc_info=error, extra={"more": 2}, stack_info=True)
    try:
        raise error
    except ValueError:
        log.exception("b")
        log.cancel("too low")
        log.error("c", exc_info=True)
    log.error("d")
    a, b, c, d = caplog.records
    assert (vars(a)["kept"], vars(a)["more"]) == (1, 2)
    assert a.stack_info
    assert "test_log.py" in a.stack_info
    for record in (a, b, c):
        assert record.exc_info is not None
        assert record.exc_info[1] is error
    assert d.exc_info is None


def test_at_least_level() -> None:
    log = get_logger(pkg_name="least")
    log.setLevel("cancel")
    for level in ("cancel", "CANCEL", 22, "warning", "pdb", 30):
        assert at_least_level(log, level)
        assert log.at_least_level(level)
    for level in ("io", 21, "debug"):
        assert not at_least_level(log.logger, level)
    with pytest.raises(ValueError, match="unknown log level 'loud': use one of transport, debug"):
        at_least_level(log, "loud")


def test_add_log_level(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "_level_names", dict(log_module._level_names))
    for table in (CUSTOM_LEVELS, STD_PALETTE, BOLD_PALETTE["bold"]):
        for name in ("CHATTY", "OTHER"):
            monkeypatch.setitem(table, name, None)
            del table[name]
    monkeypatch.setattr(StackLevelAdapter, "chatty", None, raising=False)
    monkeypatch.delattr(StackLevelAdapter, "chatty")

    add_log_level("chatty", 7, "red")
    add_log_level("CHATTY", 7, "green")
    assert STD_PALETTE["CHATTY"] == "green"
    assert BOLD_PALETTE["bold"]["CHATTY"] == "bold_green"
    log = get_logger(pkg_name="chat")
    log.setLevel("chatty")
    log.chatty("hello")  # type: ignore[attr-defined]
    (record,) = caplog.records
    assert (record.levelname, record.levelno, record.filename) == ("CHATTY", 7, "test_log.py")

    for name, value in (("chatty", 8), ("log", 9), ("no name", 9), ("info", 20)):
        with pytest.raises(ValueError, match=f"{name!r} can't name a log level"):
            add_log_level(name, value)
    with pytest.raises(ValueError, match="22 has the name 'CANCEL' already"):
        add_log_level("other", 22)


# -- names --


def logger_in(package: str | None, module: str, call: str) -> str:
    """The name of the logger that ``call`` gives in a module."""
    scope: dict[str, object] = {
        "__name__": module,
        "__package__": package,
        "get_logger": get_logger,
    }
    exec(f"log = {call}", scope)
    log = scope["log"]
    assert isinstance(log, StackLevelAdapter)
    return log.logger.name


@pytest.mark.parametrize(
    ("package", "module", "call", "name"),
    [
        ("tractor", "tractor", "get_logger()", "tractor"),
        ("tractor", "tractor.log", "get_logger()", "tractor"),
        ("tractor.ipc", "tractor.ipc", "get_logger()", "tractor.ipc"),
        ("tractor.ipc", "tractor.ipc._chan", "get_logger()", "tractor.ipc"),
        ("tractor.devx.debug", "tractor.devx.debug._x", "get_logger()", "tractor.devx.debug"),
        ("tractor.ipc", "tractor.ipc._chan", "get_logger(mk_sublog=False)", "tractor"),
        ("tractors", "tractors.x", "get_logger()", "tractor"),
        (None, "__main__", "get_logger()", "tractor"),
        (None, "__main__", "get_logger(pkg_name='mylib')", "mylib"),
        ("mylib.sub", "mylib.sub.mod", "get_logger(pkg_name='mylib')", "mylib.sub"),
        ("mylib.sub", "mylib.sub.mod", "get_logger()", "tractor"),
        (None, "x", "get_logger('tractor')", "tractor"),
        (None, "x", "get_logger('ipc')", "tractor.ipc"),
        (None, "x", "get_logger('devx.debug')", "tractor.devx.debug"),
        (None, "x", "get_logger('tractor.devx.debug')", "tractor.devx.debug"),
        (None, "x", "get_logger('tractor.tractor.ipc')", "tractor.ipc"),
        (None, "x", "get_logger('mylib.sub.mod', 'mylib')", "mylib.sub.mod"),
        (None, "x", "get_logger(subsys_spec='devx.debug')", "tractor.devx.debug"),
    ],
)
def test_logger_names(package: str | None, module: str, call: str, name: str) -> None:
    assert logger_in(package, module, call) == name


def test_a_given_logger_is_wrapped() -> None:
    plain = logging.getLogger("plain.one")
    log = get_logger(logger=plain)
    assert log.logger is plain
    assert get_logger(logger=log) is log


def test_the_old_keyword_warns() -> None:
    with pytest.warns(DeprecationWarning, match="pkg_name") as caught:
        log = get_logger(_root_name="old")
    assert log.logger.name == "old"
    assert caught[0].filename == __file__


# -- the console --


RECORD = re.compile(
    r"(?P<time>[A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d) \((?P<actor>.*?), (?P<pid>.*?), (?P<task>.*?)\) "
    r"\[(?P<level>\w+)\] (?P<logger>\S+) (?P<file>\S+):(?P<line>\d+) (?P<message>.*)\n"
)


def printed(stderr: Stderr) -> re.Match[str]:
    text = stderr.getvalue()
    match = RECORD.fullmatch(text)
    assert match is not None, text
    return match


def test_a_record_outside_of_everything(stderr: Stderr) -> None:
    log = get_console_log("io", pkg_name="con")
    get_logger("sub.part", "con").io("hello %d", 3)
    assert log.logger.name == "con"
    record = printed(stderr)
    assert record["actor"] == "no actor context"
    assert record["task"] == "no task context"
    assert record["pid"] == str(os.getpid())
    assert record.group("level", "logger", "file", "message") == (
        "IO",
        "con.sub.part",
        "test_log.py",
        "hello 3",
    )


def test_a_record_without_a_pid(stderr: Stderr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "logProcesses", False)
    get_console_log("io", pkg_name="con").io("x")
    assert printed(stderr)["pid"] == "no pid context"


def test_a_record_in_an_actors_trio_task(stderr: Stderr) -> None:
    log = get_console_log("info", pkg_name="con")
    set_context_provider(lambda: ("doggy", "0123456789ab"))

    async def main() -> int:
        log.info("x")
        return id(trio.lowlevel.current_task())

    number = trio.run(main)
    record = printed(stderr)
    assert record["actor"] == "doggy[012345]"
    assert record["task"].endswith(f".main[{str(number)[-6:]}]")


def test_a_provider_without_an_actor(stderr: Stderr) -> None:
    set_context_provider(lambda: None)
    get_console_log("info", pkg_name="con").info("x")
    assert printed(stderr)["actor"] == "no actor context"


def test_a_record_in_an_asyncio_task(stderr: Stderr) -> None:
    log = get_console_log("info", pkg_name="con")

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("aio")
        log.info("x")

    asyncio.run(main())
    assert printed(stderr)["task"].startswith("aio[")


def test_a_record_in_a_thread(stderr: Stderr) -> None:
    log = get_console_log("info", pkg_name="con")
    thread = threading.Thread(target=log.info, args=("x",), name="side")
    thread.start()
    thread.join()
    assert printed(stderr)["task"] == f"side[{str(thread.ident)[-6:]}]"


def test_one_handler_for_a_logger(stderr: Stderr) -> None:
    get_console_log("info", pkg_name="con")
    get_console_log("cancel", pkg_name="con")
    log = get_console_log(pkg_name="con")
    assert len(log.logger.handlers) == 1
    assert isinstance(log.logger.handlers[0], ConsoleHandler)
    assert log.level == 22
    assert get_console_log(logger=log.logger).logger is log.logger
    assert len(log.logger.handlers) == 1


def test_a_record_is_printed_once_by_parent_and_child(stderr: Stderr) -> None:
    get_console_log("info", pkg_name="con")
    get_console_log("debug", name="sub", pkg_name="con").debug("x")
    assert printed(stderr)["logger"] == "con.sub"


def test_a_foreign_record_of_a_custom_level_has_its_name(stderr: Stderr) -> None:
    get_console_log(1, pkg_name="con")
    logging.getLogger("con.plain").log(22, "x")
    assert printed(stderr)["level"] == "CANCEL"


def test_colour_iff_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    log = get_console_log("info", pkg_name="con")
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        log.error("x")
        assert ("\x1b[31m" in stream.getvalue()) == stream.isatty()


def test_no_stderr_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    log = get_console_log("info", pkg_name="con")
    monkeypatch.setattr(sys, "stderr", None)
    log.error("x")


def test_an_unformattable_record_is_reported_as_logging_does(stderr: Stderr) -> None:
    log = get_console_log("info", pkg_name="con")
    log.logger.propagate = False
    log.info("%d", "no number")
    assert "--- Logging error ---" in stderr.getvalue()


# -- log specs --


@pytest.mark.parametrize(
    ("spec", "default", "parsed"),
    [
        (True, None, ("cancel", {})),
        (False, "info", (None, {})),
        (None, None, (None, {})),
        (None, "Info", ("info", {})),
        ("", "info", ("info", {})),
        ("RUNTIME", "info", ("runtime", {})),
        ("ipc:transport", None, (None, {"ipc": "transport"})),
        (" ipc:info , devx.debug:PDB ", "error", ("error", {"ipc": "info", "devx.debug": "pdb"})),
    ],
)
def test_parse_logspec(
    spec: str | bool | None, default: str | None, parsed: tuple[str | None, dict[str, str]]
) -> None:
    assert parse_logspec(spec, default) == parsed


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("info,ipc:debug", "'info' in log spec .* is not a `sub:level` pair"),
        ("ipc:debug,info", "'info' in log spec .* is not a `sub:level` pair"),
        ("info,debug", "is not a `sub:level` pair"),
        ("ipc:debug,", "'' in log spec"),
        ("loud", "unknown log level 'loud'"),
        ("ipc:loud", "unknown log level 'loud'"),
        ("tractor:info", "sub-logger name 'tractor' holds the package's name"),
        ("tractor.ipc:info", "sub-logger name 'tractor.ipc' holds the package's name"),
        (":info", "'' is not a name of a part"),
        ("a..b:info", "'a..b' is not a name of a part"),
        ("ipc:info,ipc:debug", "names 'ipc' twice"),
    ],
)
def test_wrong_logspecs(spec: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        parse_logspec(spec)


def test_apply_logspec(stderr: Stderr) -> None:
    level, loggers = apply_logspec("a:transport,b.c:pdb", "warning", "con")
    assert level == "warning"
    assert {name: log.level for name, log in loggers.items()} == {
        "con": 30,
        "con.a": 5,
        "con.b.c": 500,
    }
    get_logger("a", "con").transport("x")
    get_logger("b.c", "con").critical("y")
    get_logger("d", "con").info("z")
    assert printed(stderr)["message"] == "x"


def test_apply_no_logspec() -> None:
    assert apply_logspec(False, "info", "con") == (None, {})
    assert logging.getLogger("con").handlers == []


def test_a_wrong_logspec_changes_nothing() -> None:
    with pytest.raises(ValueError, match="unknown log level"):
        apply_logspec("a:info,b:loud", pkg_name="con")
    assert logging.getLogger("con.a").handlers == []


def test_get_loglevel() -> None:
    logging.getLogger("tractor").setLevel(logging.NOTSET)
    assert get_loglevel() == "error"
    get_logger("tractor").setLevel("cancel")
    assert get_loglevel() == "cancel"


# -- import --


def test_import_changes_nothing_global() -> None:
    code = (
        "import logging, sys\n"
        "import tractor.log as log\n"
        "log.get_logger().warning\n"
        "assert not logging.root.handlers, logging.root.handlers\n"
        "assert not logging.getLogger('tractor').handlers\n"
        "assert logging.getLogger('tractor').level == logging.NOTSET\n"
        "assert logging.getLevelName('CANCEL') == 22\n"
        "assert logging.getLoggerClass() is logging.Logger\n"
        "loaded = {'colorlog', 'asyncio'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_control_characters_are_escaped(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="tractor")
    own, users = get_logger("tractor.some.place"), get_logger("anothers", pkg_name="anothers")
    error = MessagingError("\x1b]0;owned\x07 a\r\n\tb\x9b31m\u2028")
    own.warning("%s said %s", "pe\x08er", error)
    own.warning("as it is: %s", "grüß\n\t🙂")
    users.warning("%s", "\x1b[31mred")
    assert [one.getMessage() for one in caplog.records] == [
        "pe\\x08er said \\x1b]0;owned\\x07 a\\r\n\tb\\x9b31m\\u2028",
        "as it is: grüß\n\t🙂",
        "\x1b[31mred",
    ]
    assert caplog.records[1].args == ("grüß\n\t🙂",)
