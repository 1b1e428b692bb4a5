"""A REPL where a block of sync code crashes: which errors, what is raised, with and without a runtime."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

import tractor
from tractor.devx import maybe_open_crash_handler, open_crash_handler
from tractor.devx.debug import BoxedMaybeException, Lock
from tractor.runtime._vars import runtime_vars

CRASHED = "Opening a pdb REPL in crashed actor"

Type = Callable[..., None]


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Type:
    """Somebody who types these lines."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def typed(*lines: str) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))

    typed()
    return typed


def crash(exc: BaseException) -> None:
    raise exc


class Seen:
    """What somebody at the terminal reads.  What is said goes through the program's logging, here pytest's."""

    def __init__(self, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
        self._caplog = caplog
        self._capfd = capfd

    @property
    def said(self) -> str:
        return "\n".join(record.getMessage() for record in self._caplog.records)

    def repls(self) -> int:
        """How many REPLs were opened."""
        count = self.said.count(CRASHED)
        assert (self._capfd.readouterr().out.count("(Pdb+) ") > 0) is (count > 0)
        return count


@pytest.fixture
def seen(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Seen:
    return Seen(caplog, capfd)


def test_a_block_that_does_not_crash_has_an_empty_box(seen: Seen) -> None:
    with open_crash_handler() as box:
        pass
    assert box.value is None
    assert seen.repls() == 0


def test_the_repl_opens_where_it_crashed(types: Type, seen: Seen) -> None:
    types("events.append(exc)", "c")
    events: list[BaseException] = []

    def user(events: list[BaseException], exc: BaseException) -> None:
        raise exc

    handler = open_crash_handler()
    with pytest.raises(ValueError, match="sorry") as caught, handler as box:
        user(events, ValueError("sorry"))
    assert [box.value] == [caught.value] == events
    said = seen.said
    assert said.index("x>(") < said.index(" |_ <Thread(MainThread, ")
    assert said.index("Traceback (most recent call last)") < said.index("ValueError: sorry")


CANCELLED_ONLY = BaseExceptionGroup("", [KeyboardInterrupt(), KeyboardInterrupt()])
MIXED = BaseExceptionGroup("", [KeyboardInterrupt(), ValueError()])


@pytest.mark.parametrize(
    ("exc", "options", "opens", "raises", "noted"),
    [
        (ValueError(), {}, True, True, True),
        (SystemExit(), {}, True, True, True),
        (KeyboardInterrupt(), {}, False, True, True),
        (CANCELLED_ONLY, {}, False, True, True),
        (MIXED, {}, True, True, True),
        (ValueError(), {"raise_on_exit": False}, True, False, True),
        (ValueError(), {"raise_on_exit": (ValueError,)}, True, True, True),
        (ValueError(), {"raise_on_exit": [KeyError]}, True, False, True),
        (KeyboardInterrupt(), {"raise_on_exit": False}, False, False, True),
        (ValueError(), {"ignore": {ValueError}}, False, True, True),
        (ValueError(), {"ignore": {ValueError}, "raise_on_exit": False}, False, False, True),
        (ValueError(), {"ignore": ()}, True, True, True),
        (KeyError(), {"catch": {ValueError}}, False, True, False),
        (KeyError(), {"catch": {ValueError}, "raise_on_exit": False}, False, True, False),
        (KeyError(), {"catch": {LookupError}, "raise_on_exit": False}, True, False, True),
    ],
)
def test_which_errors(
    exc: BaseException,
    options: dict[str, Any],
    opens: bool,
    raises: bool,
    noted: bool,
    types: Type,
    seen: Seen,
) -> None:
    types("c")
    handler = open_crash_handler(**options)
    expected: Any = pytest.raises(type(exc)) if raises else contextlib.nullcontext()
    with expected, handler as box:
        raise exc
    assert (box.value is exc) is noted
    assert seen.repls() == opens


def test_quitting_raises_the_original_error(types: Type) -> None:
    types("q")
    with pytest.raises(ValueError, match="sorry"), open_crash_handler(raise_on_exit=False):
        crash(ValueError("sorry"))


def test_where_nobody_can_answer_it_goes_on(types: Type) -> None:
    """As a service does that has no terminal."""
    types()
    with open_crash_handler(raise_on_exit=False) as box:
        crash(ValueError("sorry"))
    assert str(box.value) == "sorry"


def test_an_abandoned_generator_is_no_crash(seen: Seen) -> None:
    def numbers() -> Generator[int, None, None]:
        with open_crash_handler(ignore={GeneratorExit}):
            yield 1

    given = numbers()
    assert next(given) == 1
    given.close()
    assert seen.repls() == 0


def test_a_fixture_is_entered_around_the_repl(types: Type, seen: Seen) -> None:
    types("events.append('at the prompt')", "c")
    events: list[Any] = []

    @contextlib.contextmanager
    def fixture(repl: Any, maybe_bxerr: BoxedMaybeException) -> Iterator[bool]:
        events.append((type(repl).__name__, maybe_bxerr.value))
        yield True
        events.append("left")

    def user(events: list[Any], exc: BaseException) -> None:
        raise exc

    exc = ValueError()
    with open_crash_handler(repl_fixture=fixture, raise_on_exit=False):
        user(events, exc)
    assert events == [("PdbREPL", exc), "at the prompt", "left"]
    assert seen.repls() == 1


def test_a_fixture_that_yields_false_skips_the_repl(seen: Seen) -> None:
    events: list[str] = []

    @contextlib.contextmanager
    def fixture(repl: Any, maybe_bxerr: BoxedMaybeException) -> Iterator[bool]:
        yield False
        events.append("left")

    with open_crash_handler(repl_fixture=fixture, raise_on_exit=False) as box:
        crash(ValueError())
    assert isinstance(box.value, ValueError)
    assert events == ["left"]
    assert seen.repls() == 0


@pytest.mark.parametrize(
    ("pdb", "debug_mode", "opens"),
    [
        (None, False, False),
        (None, True, True),
        (True, False, True),
        (False, True, False),
    ],
)
def test_maybe(
    pdb: bool | None,
    debug_mode: bool,
    opens: bool,
    types: Type,
    monkeypatch: pytest.MonkeyPatch,
    seen: Seen,
) -> None:
    types("c")
    monkeypatch.setattr(runtime_vars(), "_debug_mode", debug_mode)
    expected: Any = contextlib.nullcontext() if opens else pytest.raises(ValueError, match=r"^$")
    with expected, maybe_open_crash_handler(pdb, raise_on_exit=False) as box:
        assert box.value is None
        crash(ValueError())
    assert (box.value is not None) is opens
    assert seen.repls() == opens


@pytest.mark.parametrize("where", ["task", "thread", "without greenback"])
def test_in_a_runtime_the_terminal_is_taken_where_that_is_possible(
    where: str, types: Type, capfd: pytest.CaptureFixture[str]
) -> None:
    types("holders.append(status().holder)", "c")
    holders: list[Any] = []

    def user(holders: list[Any], status: Any) -> None:
        raise ValueError("sorry")

    def block() -> None:
        with open_crash_handler(raise_on_exit=False):
            user(holders, Lock.statistics)

    async def main() -> None:
        async with tractor.open_root_actor(
            debug_mode=True,
            maybe_enable_greenback=where != "without greenback",
            loglevel="warning",
        ):
            if where == "thread":
                await trio.to_thread.run_sync(block)
            else:
                block()
            assert Lock.statistics().holder is None

    if where != "without greenback":
        pytest.importorskip("greenback")
    trio.run(main)
    (holder,) = holders
    assert (holder is not None and holder[0] == "root") is (where != "without greenback")
    err = capfd.readouterr().err
    assert "('root', '" in err[err.index(CRASHED) :]
    assert ("without the tree's terminal" in err) is (where == "without greenback")


PROGRAM = """
from tractor.devx import open_crash_handler

def user(x):
    raise ValueError(x)

with open_crash_handler():
    user(3)
"""


def test_ctrl_c_at_the_prompt_of_a_program_without_runtime(tmp_path: Path) -> None:
    pytest.importorskip("pexpect")
    if sys.platform == "win32":
        pytest.skip("no pseudo-terminals on this platform")
    sys.path.insert(0, str(Path(__file__).parent))
    from pty_terminal import Terminal

    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    with Terminal([sys.executable, str(script)], tmp_path) as terminal:
        terminal.prompt()
        terminal.insist_on_ctrl_c("--KeyboardInterrupt--")
        terminal.prompt()
        terminal.command("p 'x is', x", "('x is', 3)")
        terminal.leave()
        terminal.end(1, "ValueError: 3")
