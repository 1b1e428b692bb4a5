"""The REPL: where it stops, when it is left, what it shows, and whose settings it has."""

from __future__ import annotations

import bdb
import contextlib
import errno
import io
import os
import pdb
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ep_devx
import pytest
import trio

import tractor
from tractor._util._lazy import lazy_exports
from tractor._util._names import require_name
from tractor.devx._frames import (
    CallerInfo,
    api_frame,
    hide_runtime_frames,
    is_runtime_fault,
    is_runtime_frame,
)
from tractor.devx.debug.lock._terminal import wants_colors
from tractor.devx.debug.repl._opening import mk_pdb, open_at, open_post_mortem
from tractor.devx.debug.repl._repl import PdbREPL, TractorConfig


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Nobody's settings."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert sys.gettrace() is None, "it goes on tracing"


class Played:
    """A REPL with somebody who types the given lines; then the input ends, which quits."""

    def __init__(self, *lines: str, **kwargs: Any) -> None:
        self.out = io.StringIO()
        self.events: list[object] = []
        self.repl = PdbREPL(
            on_release=lambda: self.events.append("released"),
            stdin=io.StringIO("".join(f"{line}\n" for line in lines)),
            stdout=self.out,
            **kwargs,
        )

    def pause(self) -> None:
        open_at(self.repl, sys._getframe(1))

    @property
    def text(self) -> str:
        return self.out.getvalue()

    @property
    def lines(self) -> list[str]:
        """The source lines that it has stopped at."""
        return [line[3:] for line in self.text.splitlines() if line.startswith("-> ")]


def test_it_opens_at_the_line_after_the_call_and_is_left_before_code_goes_on() -> None:
    played = Played("c")

    def user() -> None:
        played.events.append("before")
        played.pause()
        played.events.append("after")

    user()
    assert played.events == ["before", "released", "after"]
    assert played.lines == ['played.events.append("after")']
    assert played.text.count("(Pdb+) ") == 1
    assert sys.gettrace() is None


def test_stepping_keeps_it() -> None:
    played = Played("n", "n", "c")

    def user() -> None:
        played.pause()
        played.events.append(1)
        played.events.append(2)
        played.events.append(3)

    user()
    assert played.events == [1, 2, "released", 3]


@pytest.mark.parametrize("command", ["q", "quit", "exit", "EOF", ""])
def test_quitting_raises_in_the_paused_code(command: str) -> None:
    played = Played(*([command] if command else []))

    def user() -> None:
        played.pause()
        played.events.append("not reached")

    with pytest.raises(bdb.BdbQuit):
        user()
    assert played.events == ["released"]
    assert sys.gettrace() is None


def test_a_call_in_the_last_line_stops_where_the_function_returns() -> None:
    played = Played("c")

    def user() -> None:
        played.pause()

    user()
    assert "--Return--" in played.text
    assert played.events == ["released"]


def test_a_call_in_the_last_line_of_a_coroutine_too() -> None:
    # bdb never stops there.
    played = Played("n", "c")

    async def user() -> int:
        return [played.pause(), 3][1]  # type: ignore[func-returns-value, return-value]

    async def main() -> None:
        played.events.append(await user())
        played.events.append("end")

    trio.run(main)
    assert "--Return--" in played.text
    assert played.lines == [
        "return [played.pause(), 3][1]  # type: ignore[func-returns-value, return-value]",
        'played.events.append("end")',
    ]
    assert played.events == [3, "released", "end"]


@pytest.mark.parametrize("command", ["n", "s"])
def test_stepping_over_an_await_stops_in_the_same_task_only(command: str) -> None:
    played = Played(command, command, "c")
    seen: list[str] = []

    async def other() -> None:
        for _ in range(5):
            seen.append("other")
            await trio.lowlevel.checkpoint()

    async def user() -> None:
        played.pause()
        await trio.lowlevel.checkpoint()
        seen.append("user")
        seen.append("end")

    async def main() -> None:
        async with trio.open_nursery() as tn:
            tn.start_soon(other)
            await trio.lowlevel.checkpoint()
            await user()

    trio.run(main)
    assert played.lines == [
        "await trio.lowlevel.checkpoint()",
        'seen.append("user")',
        'seen.append("end")',
    ]
    assert "other" in seen


def test_an_exception_where_the_task_waits_is_an_end_of_the_frame() -> None:
    played = Played(*["n"] * 20)

    async def user(scope: trio.CancelScope) -> None:
        played.pause()
        scope.cancel()
        await trio.lowlevel.checkpoint()

    async def main() -> None:
        with trio.CancelScope() as scope:
            await user(scope)
        played.events.append("after")

    trio.run(main)
    assert "Cancelled" in played.text
    assert 'played.events.append("after")' in played.lines
    assert played.events == ["after", "released"]


def test_stepping_over_an_await_with_a_portal() -> None:
    greenback = pytest.importorskip("greenback")
    played = Played("n", "n", "c")

    async def user() -> None:
        played.pause()
        await trio.lowlevel.checkpoint()
        played.events.append(1)
        played.events.append(2)

    async def main() -> None:
        await greenback.ensure_portal()
        await user()

    trio.run(main)
    assert played.events == [1, "released", 2]


def test_stepping_into_what_it_may_show_and_not_into_what_is_hidden() -> None:
    played = Played("s", "s", "r", "s", "s", "c")

    def hidden() -> None:
        __tracebackhide__ = True
        shown()

    def shown() -> None:
        played.events.append("shown")

    def user() -> None:
        played.pause()
        shown()
        hidden()

    user()
    assert "hidden()" in played.text
    assert "__tracebackhide__ = True" not in played.text
    # Through the hidden one into what it calls.
    assert played.lines.count("def shown() -> None:") == 2


def test_stepping_out_of_the_threads_last_frame_leaves_it() -> None:
    played = Played("n", "n", "n", "n")

    def user() -> None:
        played.pause()
        played.events.append("last")

    thread = threading.Thread(target=user)
    thread.start()
    thread.join()
    assert played.events == ["last", "released"]
    assert "threading.py" not in played.text


def test_stepping_out_of_the_tasks_last_frame_leaves_it() -> None:
    played = Played("n", "n", "n", "n")

    async def user() -> None:
        played.pause()
        played.events.append("last")

    async def main() -> None:
        async with trio.open_nursery() as tn:
            tn.start_soon(user)
        played.events.append("joined")

    trio.run(main)
    assert played.events == ["last", "released", "joined"]


def test_stepping_out_into_the_caller_stops_there() -> None:
    played = Played("n", "n", "n", "c")

    def inner() -> None:
        played.pause()
        played.events.append("inner")

    def user() -> None:
        inner()
        played.events.append("user")

    user()
    assert played.lines[-1] == 'played.events.append("user")'


def test_a_debugger_within_the_debugger() -> None:
    played = Played("debug shown()", "n", "s", "s", "c", "c")

    def shown() -> None:
        played.events.append("shown")

    def user(shown: Callable[[], None]) -> None:
        played.pause()
        played.events.append("user")

    user(shown)
    assert "ENTERING RECURSIVE DEBUGGER" in played.text
    assert "((Pdb+)) " in played.text
    assert played.events == ["shown", "released", "user"]


def test_set_trace_as_in_pdb() -> None:
    played = Played("n", "c")

    def user() -> None:
        played.repl.set_trace()
        played.events.append(1)
        played.events.append(2)

    user()
    assert played.events[-1] == 2
    assert played.events.count("released") == 1
    assert sys.gettrace() is None


@pytest.mark.parametrize("last", ["c", "n"])
def test_what_is_assigned_at_the_prompt_counts(last: str) -> None:
    played = Played("total = 3000", "p total", "total", last, "c")

    def user() -> int:
        total = 3
        played.pause()
        played.events.append(total)
        return total

    assert user() == 3000
    assert 3000 in played.events
    assert played.text.count("3000") >= 2


def test_assignments_in_frames_above_count_too() -> None:
    played = Played("u", "total = 3000", "d", "c")

    def user() -> int:
        total = 3
        inner()
        return total

    def inner() -> None:
        played.pause()
        played.events.append("inner")

    assert user() == 3000


# -- breakpoints that are set in it --


def user_with_a_later_line(played: Played) -> None:
    played.pause()
    played.events.append(1)
    played.events.append(2)  # here
    played.events.append(3)


def line_of(comment: str) -> int:
    text = Path(__file__).read_text().splitlines()
    return next(i for i, line in enumerate(text, 1) if line.endswith(f"  # {comment}"))


@pytest.fixture
def no_breakpoints_left() -> Any:
    yield
    sys.settrace(None)
    bdb.Breakpoint.clearBreakpoints()


@pytest.mark.usefixtures("no_breakpoints_left")
def test_a_breakpoint_takes_the_terminal_anew() -> None:
    def retake(repl: PdbREPL) -> Callable[[], None]:
        played.events.append("retaken")
        return lambda: played.events.append("released again")

    played = Played(f"tbreak {line_of('here')}", "c", "c", on_reopen=retake)
    user_with_a_later_line(played)
    assert played.events == ["released", 1, "retaken", "released again", 2, 3]


@pytest.mark.usefixtures("no_breakpoints_left")
def test_a_breakpoint_is_passed_where_the_terminal_can_not_be_had() -> None:
    played = Played(f"tbreak {line_of('here')}", "c", on_reopen=lambda repl: None)
    user_with_a_later_line(played)
    assert played.events == ["released", 1, 2, 3]
    assert "breakpoint in user_with_a_later_line() passed" in played.text


@pytest.mark.usefixtures("no_breakpoints_left")
def test_with_a_breakpoint_set_nothing_else_stops_it() -> None:
    played = Played("b os.path.supports_unicode_filenames", f"b {line_of('never')}", "c")

    async def user() -> None:
        played.pause()
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            list(number for number in range(3))  # noqa: C400
        if played.events == ["other"]:
            played.events.append("unreachable")  # never

    trio.run(user)
    assert played.events == ["released"]
    assert played.text.count("(Pdb+)") == 3


# -- for ctrl-c --


def test_it_knows_whether_it_is_at_its_prompt() -> None:
    states: list[bool] = []

    class Input(io.StringIO):
        def readline(self, *args: Any) -> str:  # type: ignore[override]
            states.append(played.repl.redraw_prompt())
            return super().readline(*args)

    played = Played()
    played.repl.stdin = Input("n\nc\n")

    def user() -> None:
        played.pause()
        states.append(played.repl.redraw_prompt())
        states.append(played.repl.redraw_prompt())

    user()
    assert states == [True, False, True, False]
    # Twice each: shown, and redrawn.
    assert played.text.count("(Pdb+) (Pdb+) ") == 2


def test_detached_while_stepping_it_lets_go() -> None:
    played = Played("n", "never read")

    def user() -> None:
        played.pause()
        played.repl.detach()
        played.events.append("goes on")

    user()
    assert played.events == ["released", "goes on"]
    assert sys.gettrace() is None


# -- nobody there --


class OnTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def pause_for_the_streams() -> list[object]:
    """Pause at `sys.stdin` and `sys.stdout`; what happened."""
    events: list[object] = []
    repl = PdbREPL(on_release=lambda: events.append("released"))
    try:
        open_at(repl, sys._getframe())
        events.append("goes on")
    except bdb.BdbQuit:
        events.append("quit")
    return events


def test_the_end_of_input_that_is_no_terminal_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A service whose stdin is `/dev/null` neither waits for somebody nor ends."""
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert pause_for_the_streams() == ["released", "goes on"]
    assert "nobody can answer the REPL (stdin is not a terminal, and has ended)" in caplog.text


def test_ctrl_d_on_a_terminal_quits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", OnTerminal(""))
    assert pause_for_the_streams() == ["released", "quit"]


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
@pytest.mark.parametrize("is_closed", [True, False])
def test_without_one_of_the_streams_it_goes_on(
    name: str,
    is_closed: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gone = io.StringIO("") if is_closed else None
    if gone is not None:
        gone.close()
    monkeypatch.setattr(sys, name, gone)
    assert pause_for_the_streams() == ["released", "goes on"]
    assert f"nobody can answer the REPL (`sys.{name}` is closed)" in caplog.text
    assert open_post_mortem(mk_pdb(), crashed().__traceback__)  # type: ignore[arg-type]


def test_a_terminal_that_is_lost_on_the_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Lost(io.StringIO):
        def readline(self, *_: Any) -> Any:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("sys.stdin", Lost())
    assert pause_for_the_streams() == ["released", "goes on"]
    assert "the terminal is lost: [Errno 5]" in caplog.text


def test_a_line_that_is_no_text_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\n"), "utf-8"))
    assert pause_for_the_streams() == ["released", "goes on"]
    assert "*** not understood: 'utf-8' codec can't decode byte 0xff" in capsys.readouterr().out


def test_let_go_in_the_middle_of_letting_go() -> None:
    """A signal handler may come at any time: once is enough, and nothing waits for itself."""
    played = Played()

    def release() -> None:
        played.events.append("released")
        played.repl.detach()

    played.repl._on_release = [release]
    played.repl.detach()
    played.repl.detach()
    assert played.events == ["released"]


# -- post mortem --


def crashed() -> BaseException:
    def hidden() -> None:
        __tracebackhide__ = True
        raise ValueError("sorry")

    def user() -> None:
        hidden()

    try:
        user()
    except ValueError as exc:
        return exc
    raise AssertionError


@pytest.mark.parametrize(
    ("command", "went_on"), [("c", True), ("n", True), ("q", False), ("EOF", False)]
)
def test_post_mortem(command: str, went_on: bool) -> None:
    played = Played("w", command)
    exc = crashed()
    assert exc.__traceback__ is not None
    assert open_post_mortem(played.repl, exc.__traceback__) is went_on
    assert played.events == ["released"]
    # The innermost frame that is not hidden.
    assert played.lines == ["hidden()", "user()", "hidden()"]


def test_a_debugger_within_a_post_mortem() -> None:
    played = Played("debug len([1])", "c", "p 'back'", "q")
    exc = crashed()
    assert exc.__traceback__ is not None
    assert open_post_mortem(played.repl, exc.__traceback__) is False
    assert "LEAVING RECURSIVE DEBUGGER" in played.text
    assert "'back'" in played.text
    # Not in what runs the prompt.
    assert "cmd.py" not in played.text


def test_post_mortem_shows_all_frames_on_request() -> None:
    played = Played("c", hide_tb=False)
    exc = crashed()
    assert exc.__traceback__ is not None
    open_post_mortem(played.repl, exc.__traceback__)
    assert played.lines == ['raise ValueError("sorry")']


def test_post_mortem_of_hidden_frames_only() -> None:
    def hidden() -> None:
        __tracebackhide__ = True
        raise ValueError("sorry")

    with pytest.raises(ValueError, match="sorry") as caught:
        hidden()
    exc = caught.value
    assert exc.__traceback__ is not None
    assert exc.__traceback__.tb_next is not None
    played = Played("c")
    open_post_mortem(played.repl, exc.__traceback__.tb_next)
    assert 'raise ValueError("sorry")' in played.lines


def test_post_mortem_of_hidden_frames_opens_in_the_code_that_waits_for_them() -> None:
    played = Played("up", "c")

    def hidden() -> None:
        __tracebackhide__ = True
        try:
            raise ValueError("sorry")
        except ValueError as exc:
            open_post_mortem(played.repl, exc.__traceback__)  # type: ignore[arg-type]

    def user() -> None:
        hidden()

    user()
    assert played.lines == ["hidden()", "user()"]


def test_post_mortem_leaves_another_tracer_alone() -> None:
    def tracer(*_: Any) -> None:
        return None

    exc = crashed()
    assert exc.__traceback__ is not None
    played = Played("c")
    sys.settrace(tracer)
    try:
        open_post_mortem(played.repl, exc.__traceback__)
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(None)


# -- settings --


def test_sticky_is_off_until_ll_and_off_again_with_w() -> None:
    look = "states.append(repl.sticky)"
    played = Played(look, "ll", look, "w", look, "c")

    def user(repl: PdbREPL, states: list[bool]) -> list[bool]:
        played.pause()
        return states

    assert user(played.repl, []) == [False, True, False]


def test_long_lines_are_not_cut() -> None:
    played = Played("ll", "c")

    def user() -> str:
        played.pause()
        return (
            "A long line: "
            + "lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusm"
            + "THE END"
        )

    user()
    assert "THE END" in played.text


def test_the_users_settings_count_and_ours_fill_the_rest(own_home: Path) -> None:
    (own_home / ".pdbrc.py").write_text(
        "import pdbp\nclass Config(pdbp.DefaultConfig):\n    prompt = '(mine) '\n    sticky_by_default = True\n"
    )
    config = Played().repl.config
    assert config.prompt == "(mine) "
    assert config.sticky_by_default is True
    assert config.enable_hidden_frames is True
    assert isinstance(config, TractorConfig)


def test_settings_that_expect_pdbps_names_in_pdb(own_home: Path) -> None:
    before = dict(vars(pdb))
    (own_home / ".pdbrc.py").write_text(
        "import pdb\nclass Config(pdb.DefaultConfig):\n    prompt = '(mine) '\n"
    )
    assert Played().repl.prompt == "(mine) "
    assert dict(vars(pdb)) == before


PDB_OF_A_PROGRAM = """
{first}
import pdb
before = pdb.Pdb, pdb.set_trace
from tractor.devx.debug import mk_pdb
mk_pdb()
print(before == (pdb.Pdb, pdb.set_trace), pdb.Pdb.__module__, hasattr(pdb, "xpm"))
"""


@pytest.mark.parametrize(
    ("first", "said"), [("", "True pdb False"), ("import pdbp", "True pdbp True")]
)
def test_the_stdlibs_pdb_is_what_the_program_has_made_it(first: str, said: str) -> None:
    program = PDB_OF_A_PROGRAM.format(first=first)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == f"{said}\n", done.stderr


def test_settings_that_are_no_class_of_pdbps(own_home: Path) -> None:
    (own_home / ".pdbrc.py").write_text("class Config:\n    prompt = '(plain) '\n")
    config = Played().repl.config
    assert config.prompt == "(plain) "
    assert config.truncate_long_lines is False


def test_broken_settings_are_reported_and_ours_used(
    own_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_home / ".pdbrc.py").write_text("1 / 0\n")
    assert Played().repl.prompt == "(Pdb+) "
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_pdbrc_commands_are_run(own_home: Path) -> None:
    (own_home / ".pdbrc").write_text("p 'from the rc file'\n")
    played = Played("c")

    def user() -> None:
        played.pause()
        played.events.append("line")

    user()
    assert "'from the rc file'" in played.text


@pytest.mark.parametrize(
    ("variables", "tty", "colored"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"PYTHON_COLORS": "0"}, True, False),
        ({"PYTHON_COLORS": "1"}, False, True),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": "1", "PYTHON_COLORS": "1"}, True, True),
    ],
)
def test_colors(
    variables: dict[str, str], tty: bool, colored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHON_COLORS", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert wants_colors(SimpleNamespace(isatty=lambda: tty)) is colored


@pytest.mark.parametrize("asked", ["0", "1"])
def test_no_escape_sequence_is_printed_without_colors(
    asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHON_COLORS", asked)
    played = Played("ll", "l", "w", "p played", "c")

    def user() -> None:
        played.pause()
        played.events.append("line")

    user()
    assert ("\x1b" in played.text) is (asked == "1")


def test_completion_with_libedit(monkeypatch: pytest.MonkeyPatch) -> None:
    import readline

    bound: list[str] = []
    played = Played("c")

    def user() -> None:
        played.pause()
        played.events.append("line")

    monkeypatch.setattr(readline, "__doc__", "with libedit readline")
    monkeypatch.setattr(readline, "parse_and_bind", bound.append)
    user()
    assert bound[-1] == "bind ^I rl_complete"


def test_the_programs_completer_is_put_back() -> None:
    import readline

    def completer(text: str, state: int) -> None:
        return None

    before = readline.get_completer(), readline.get_completer_delims()
    readline.set_completer(completer)
    readline.set_completer_delims(" x")
    try:
        played = Played("c")

        def user() -> None:
            played.pause()
            played.events.append("line")

        user()
        assert readline.get_completer() is completer
        assert readline.get_completer_delims() == " x"
    finally:
        readline.set_completer(before[0])
        readline.set_completer_delims(before[1])


def test_mk_pdb_reads_the_terminal() -> None:
    repl = mk_pdb()
    assert isinstance(repl, PdbREPL)
    assert repl.use_rawinput
    assert repl.prompt == "(Pdb+) "


IMPORTS = """
import sys
before = sys.breakpointhook, sys.gettrace()
import tractor, tractor.devx, tractor.devx.debug
from tractor.devx.debug import pause, post_mortem, pause_from_sync, open_crash_handler, BoxedMaybeException
assert before == (sys.breakpointhook, sys.gettrace())
print(sorted({"pdbp", "pdb", "readline", "rlcompleter", "greenback", "asyncio"} & set(sys.modules)))
"""


def test_importing_the_debugger_loads_no_repl_and_changes_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.stdout == "[]\n", done.stderr


# -- frames --


def test_runtime_frames_are_told_by_package_or_mark() -> None:
    def hidden() -> Any:
        __tracebackhide__ = True
        return sys._getframe()

    assert is_runtime_frame(hidden())
    assert not is_runtime_frame(sys._getframe())
    assert {"tractor", "trio"} <= hide_runtime_frames()


def test_api_frames_and_their_callers() -> None:
    @api_frame
    def api() -> CallerInfo:
        return CallerInfo.find(sys._getframe())

    @api_frame(hide_tb=False)
    def shown() -> Any:
        return sys._getframe()

    def user() -> CallerInfo:
        return api()

    info = user()
    assert info.function.endswith("user")
    assert info.api.endswith("api")
    assert info.file == __file__
    assert "called by" in str(info)
    assert not is_runtime_frame(shown())


def test_errors_of_the_runtime_itself() -> None:
    def caught(fn: Callable[[], Any]) -> BaseException:
        try:
            fn()
        except Exception as exc:
            return exc
        raise AssertionError

    # The runtime's own frames are what there is to see ...
    assert is_runtime_fault(caught(lambda: lazy_exports("tractor.msg")[0]("nothing")))
    # ... but not for an error that it raises because of what the user has done,
    assert not is_runtime_fault(caught(lambda: require_name("")))
    # nor for the user's own.
    assert not is_runtime_fault(caught(lambda: dict[str, int]()["x"]))


def test_who_opened_a_context(reg_addr: Any) -> None:
    @contextlib.asynccontextmanager
    async def library(portal: Any) -> Any:
        __runtimeframe__ = True  # noqa: F841
        async with portal.open_context(ep_devx.hold_open) as (ctx, _):
            yield ctx

    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            portal = await an.start_actor("kid", enable_modules=["ep_devx"])
            async with portal.open_context(ep_devx.hold_open) as (ctx, _):
                assert re.search(rf"main\(\) at {re.escape(__file__)}:\d+$", ctx.repr_caller)
                await ctx.cancel()
            async with library(portal) as ctx:
                assert re.search(rf"main\(\) at {re.escape(__file__)}:\d+$", ctx.repr_caller)
                await ctx.cancel()
            await portal.cancel_actor()

    trio.run(main)
