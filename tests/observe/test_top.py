"""``tractor top``: what its screen shows, what its keys do, and that the terminal is put back."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from ep_observe import found, sample

from tractor.observe._finding import Found
from tractor.runtime.seen._samples import TreeSample

textual = pytest.importorskip("textual", reason="needs textual")

from textual.widgets import DataTable, Static  # noqa: E402

from tractor.cli.watch import _top_app  # noqa: E402
from tractor.cli.watch._top_app import NARROW, USUAL, Top  # noqa: E402
from tractor.observe.tracing._collecting import Collector  # noqa: E402

Pilot = Any


def looks() -> Callable[[], tuple[Found, TreeSample]]:
    time = 100.0

    def look() -> tuple[Found, TreeSample]:
        nonlocal time
        time += 1
        actors = (
            sample("root", "r", 1, cpu_seconds=time / 2, messages_in=int(time) * 7, messages_out=0),
            sample("feed", "f", 2, "r", cpu=8.0, rss=1024, lag=0.5, fill=98.0, tasks=9),
            sample("feed.0", "f0", 3, "f", state="blocked", why="its loop did not answer"),
            sample("api", "a", 4, "r", state="stopped"),
        )
        return found(), TreeSample(time=time, host="h1", actors=actors)

    return look


def drive(test: Callable[[Top, Pilot], Awaitable[None]], size: tuple[int, int] = (130, 30)) -> None:
    async def main() -> None:
        app = Top(looks(), interval=0.5)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: len(names(app)) == 4 or not table(app).display)
            await test(app, pilot)

    asyncio.run(asyncio.wait_for(main(), 60))


def table(app: Top) -> DataTable[Any]:
    return app.query_one(DataTable)


def column(app: Top, name: str) -> list[str]:
    index = [str(one.label) for one in table(app).ordered_columns].index(name)
    return [str(table(app).get_row_at(i)[index]) for i in range(table(app).row_count)]


def names(app: Top) -> list[str]:
    return column(app, "NAME") if table(app).row_count else []


def head(app: Top) -> str:
    return str(app.query_one("#head", Static).render())


async def until(pilot: Pilot, met: Callable[[], bool]) -> None:
    while not met():
        await pilot.pause(0.01)


def test_the_table() -> None:
    async def test(app: Top, pilot: Pilot) -> None:
        assert [str(one.label) for one in table(app).ordered_columns] == list(USUAL)
        assert names(app) == ["root", "├─ feed", "│  └─ feed.0", "└─ api"]
        assert column(app, "STATE") == ["run", "run", "blocked", "stopped"]
        assert column(app, "FILL")[1] == "98%"
        assert column(app, "LAG")[2] == ">"
        # Two looks make a rate, and a second of the screen's clock is one of theirs.
        await until(pilot, lambda: column(app, "MSGS/S")[0] == "7")
        assert column(app, "CPU")[0] == "50%"
        assert "1 trees  4 actors   1 blocked   1 stopped" in head(app)
        assert "msgs 7/s" in head(app)

    drive(test)


def test_keys() -> None:
    async def test(app: Top, pilot: Pilot) -> None:
        await pilot.press("down", "space")
        await until(pilot, lambda: names(app) == ["root", "├─ feed ▸", "└─ api"])
        await pilot.press("space")
        await until(pilot, lambda: len(names(app)) == 4)
        await pilot.press("greater_than_sign")
        await until(pilot, lambda: "sort CPU" in head(app) and "feed" in names(app)[1])
        await pilot.press("p")
        await until(pilot, lambda: "frozen" in head(app))
        frozen = head(app)
        await pilot.pause(0.6)
        assert head(app) == frozen
        await pilot.press("p")
        await until(pilot, lambda: "frozen" not in head(app))
        await pilot.press("slash", *"feed.0", "enter")
        await until(pilot, lambda: names(app) == ["root", "└─ feed", "   └─ feed.0"])
        await pilot.press("enter")
        await until(pilot, lambda: "run" in str(app.query_one("#details", Static).render()))
        await pilot.press("question_mark")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await pilot.press("escape")
        await until(pilot, lambda: len(app.screen_stack) == 1)
        await pilot.press("c")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await pilot.press(*"no", "enter")
        await until(pilot, lambda: len(app.screen_stack) == 1)
        await pilot.press("q")

    drive(test)


def test_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told: list[str] = []

    def record(path: Path, collector: Collector, seconds: float) -> str:
        assert seconds == 5
        path.write_text("a trace")
        return "all"

    monkeypatch.setattr(_top_app, "record_to", record)

    async def test(app: Top, pilot: Pilot) -> None:
        monkeypatch.setattr(app, "notify", lambda text, **_: told.append(text))
        await pilot.press("down", "t")
        await until(pilot, lambda: len(told) == 2)
        assert told == ["recording feed@2 for 5 s", "all; https://ui.perfetto.dev shows it"]
        (file,) = tmp_path.iterdir()
        assert file.name.startswith("trace-feed-")
        assert file.suffixes == [".json", ".gz"]

    drive(test)


def test_nobody_to_be_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_top_app, "TRACE_SECONDS", 0.1)
    told: list[str] = []

    async def test(app: Top, pilot: Pilot) -> None:
        monkeypatch.setattr(app, "notify", lambda text, **_: told.append(text))
        await pilot.press("t")
        await until(pilot, lambda: len(told) == 2)
        assert told[1] == "no trace: no answer"
        assert not list(tmp_path.iterdir())

    drive(test)


def test_a_narrow_terminal() -> None:
    async def test(app: Top, pilot: Pilot) -> None:
        assert [str(one.label) for one in table(app).ordered_columns] == list(NARROW)

    drive(test, (70, 20))


def test_one_that_is_too_small() -> None:
    async def test(app: Top, pilot: Pilot) -> None:
        await until(pilot, lambda: head(app).startswith("too small: 60 columns and 10 lines"))

    drive(test, (50, 9))


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal")
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.long)]
)
def test_the_terminal_is_put_back_at_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    pexpect = pytest.importorskip("pexpect")
    child = pexpect.spawn(
        sys.executable,
        ["-m", "tractor", "top"],
        env={**os.environ, "TERM": "xterm-256color"},
        dimensions=(30, 120),
        timeout=50,
    )
    try:
        child.expect("tractor top   host")
        os.kill(child.pid, number)
        # The alternate screen is left, and the cursor shown.
        child.expect(r"\x1b\[\?1049l")
        child.expect(r"\x1b\[\?25h")
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 128 + number
    finally:
        child.close(force=True)


def test_without_a_terminal_it_says_what_works(capsys: pytest.CaptureFixture[str]) -> None:
    from tractor.cli._main import main as cli

    assert cli(["top"]) == 1
    assert "`tractor ps --watch` needs none" in capsys.readouterr().err
