"""Text for people: structs, errors, records and levels of the log.

What to learn: what the runtime prints by, your program can print by, too.
"""

import sys

import msgspec
import trio

from tractor import log
from tractor.devx import pformat
from tractor.msg import pretty_struct


class Point(pretty_struct.Struct):
    """Shown with a line for each field."""

    x: int
    y: int = 0


class Plain(msgspec.Struct):
    """One of msgspec's own."""

    x: int


def structs() -> None:
    """A line for each field, and what differs between two."""
    print(pretty_struct.pformat(Plain(1)))
    for field, value in pretty_struct.iter_fields(Plain(1)):
        print(field.name, "is", value)
    differences: pretty_struct.DiffDump = Point(1) - Point(2)
    print(differences)


def boxes() -> None:
    """How errors, dividers and nested text look."""
    print(pformat.pformat_exc(ValueError("no number"), header="got "))
    print(pformat.pformat_boxed_tb("Traceback\n  ...\nValueError: no number"))
    print(pformat.add_div("a title that is a little longer"))
    print(pformat.nest_from_op(input_op="<=", text="the task 'leaf'"))


def callers() -> None:
    """Who called this function."""
    print(pformat.pformat_caller_frame())


def scopes() -> None:
    """What a cancel scope is up to."""
    with trio.CancelScope() as scope:
        print(pformat.pformat_cs(scope, var_name="scope"))


def levels() -> None:
    """A level of your own, and which are shown."""
    log.add_log_level("audit", 26, color="blue")
    logger: log.StackLevelAdapter = log.get_logger("shop", pkg_name="shop")
    log.get_console_log("info", logger)
    assert log.at_least_level(logger, "audit")
    print("the level of the runtime:", log.get_loglevel())


def specs() -> None:
    """Levels for parts of a package, as they are given on a command line."""
    print(log.parse_logspec("ipc:debug,devx:info"))
    log.apply_logspec("ipc:warning")


async def main() -> None:
    structs()
    boxes()
    callers()
    scopes()
    levels()
    specs()
    sys.stdout.flush()


if __name__ == "__main__":
    trio.run(main)
