"""Merging reports, the table and the progress bar."""

from __future__ import annotations

import io
import os

from tractor.demo._index import FileReport, FunctionSpan
from tractor.demo._progress import BAR_WIDTH, Progress
from tractor.demo._report import FAILURES_SHOWN, Summary, render


def summary_of(*reports: tuple[str, FileReport], keep: int = 10) -> Summary:
    summary = Summary(keep=keep)
    for number, worker in enumerate(dict.fromkeys(worker for worker, _ in reports)):
        summary.add_worker(worker, pid=100 + number)
    for worker, report in reports:
        summary.add(worker, report)
    return summary


def test_reports_add_up() -> None:
    summary = summary_of(
        ("w0", FileReport("a.py", lines=10, tokens=100, names=3)),
        ("w1", FileReport("b.py", lines=20, tokens=300, names=4)),
        ("w0", FileReport("c.py", lines=5, error="SyntaxError: no")),
    )

    assert (summary.files, summary.lines, summary.tokens, summary.names) == (3, 35, 400, 7)
    assert [report.path for report in summary.failures] == ["c.py"]
    assert {name: (s.pid, s.files, s.tokens) for name, s in summary.shares.items()} == {
        "w0": (100, 2, 100),
        "w1": (101, 1, 300),
    }


def test_longest_functions_do_not_depend_on_the_order_of_reports() -> None:
    reports = [
        (
            "w0",
            FileReport(f"{n}.py", longest=[FunctionSpan(f"f{n}", 1, n), FunctionSpan("g", 9, 7)]),
        )
        for n in range(1, 9)
    ]

    forwards = summary_of(*reports, keep=5)
    backwards = summary_of(*reversed(reports), keep=5)

    assert forwards.longest == backwards.longest
    assert [span.lines for span, _ in forwards.longest] == [8, 7, 7, 7, 7]


def test_table_shows_what_was_measured() -> None:
    folder = os.path.join(os.sep, "lib")
    summary = summary_of(
        (
            "w0",
            FileReport(
                os.path.join(folder, "a.py"),
                lines=1500,
                tokens=9000,
                names=12,
                longest=[FunctionSpan("C.m", 7, 80)],
            ),
        ),
        ("w1", FileReport(os.path.join(folder, "b.py"), tokens=3000, error="SyntaxError: odd")),
    )

    text = render(summary, seconds=2.0, folder=folder)

    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "files 2" in rows
    assert "lines 1,500" in rows
    assert "tokens 12,000" in rows
    assert "defined names 12" in rows
    assert "time 2.00 s" in rows
    assert "throughput 1 files/s, 750 lines/s, 6,000 tokens/s" in rows
    assert "80 C.m (a.py:7)" in rows
    assert "w0 100 1 9,000 75.0 %" in rows
    assert "w1 101 1 3,000 25.0 %" in rows
    assert "b.py: SyntaxError: odd" in rows


def test_table_of_files_without_any_token() -> None:
    text = render(summary_of(("w0", FileReport("a.py"))), seconds=1.0, folder="x")

    assert "longest functions: none" in text
    assert "0.0 %" in text


def test_long_lists_of_failures_are_cut_visibly() -> None:
    reports = [
        ("w0", FileReport(f"{number:03}.py", error="SyntaxError: no"))
        for number in range(FAILURES_SHOWN + 3)
    ]

    text = render(summary_of(*reports), seconds=1.0, folder="x")

    assert text.endswith("... and 3 more")
    assert text.count("SyntaxError") == FAILURES_SHOWN


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_bar_is_redrawn_in_place_and_not_too_often() -> None:
    out, clock = Terminal(), Clock()
    progress = Progress(4, out, clock)

    clock.now = 1.0
    progress.show(1)
    progress.show(2)  # too soon
    clock.now = 2.0
    progress.show(3)
    progress.show(4)  # the end is always shown
    progress.close()

    drawings = out.getvalue().split("\r\x1b[K")
    assert [text.count("#") for text in drawings] == [0, BAR_WIDTH // 4, 3 * BAR_WIDTH // 4, 32, 0]
    assert drawings[1].endswith(" 25%  1/4 files  1 files/s")
    assert drawings[-1] == ""
    assert "\n" not in out.getvalue()


def test_progress_elsewhere_is_a_few_lines() -> None:
    out, clock = io.StringIO(), Clock()
    progress = Progress(1000, out, clock)

    for done in range(1, 1001):
        clock.now = done / 100
        progress.show(done)
    progress.close()

    lines = out.getvalue().splitlines()
    assert [line.split("%")[0].strip() for line in lines] == ["20", "40", "60", "80", "100"]
    assert lines[0] == " 20%  200/1000 files  100 files/s"
    assert "\x1b" not in out.getvalue()
