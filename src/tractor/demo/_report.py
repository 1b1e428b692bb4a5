"""Merging the reports of many files, and the table that is shown at the end.  Pure."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from tractor.demo._index import FileReport, FunctionSpan

FAILURES_SHOWN = 10


@dataclass
class Share:
    """What one worker did."""

    pid: int
    files: int = 0
    tokens: int = 0


@dataclass
class Summary:
    """What all reports add up to."""

    keep: int = 10
    """How many of the longest functions are kept."""
    files: int = 0
    lines: int = 0
    tokens: int = 0
    names: int = 0
    failures: list[FileReport] = field(default_factory=list)
    """Reports of the files that could not be indexed; they count as files and lines."""
    longest: list[tuple[FunctionSpan, str]] = field(default_factory=list)
    """The longest functions and the path of each, longest first."""
    shares: dict[str, Share] = field(default_factory=dict)
    """By the worker's name."""

    def add_worker(self, worker: str, pid: int) -> None:
        """Note a worker, which may turn out to do nothing."""
        self.shares[worker] = Share(pid)

    def add(self, worker: str, report: FileReport) -> None:
        """Merge one report by one worker, which must have been added."""
        self.files += 1
        self.lines += report.lines
        self.tokens += report.tokens
        self.names += report.names
        share = self.shares[worker]
        share.files += 1
        share.tokens += report.tokens
        if report.error is not None:
            self.failures.append(report)
        if report.longest:
            self.longest.extend((span, report.path) for span in report.longest)
            self.longest.sort(key=lambda entry: (-entry[0].lines, entry[1], entry[0].line))
            del self.longest[self.keep :]


def render(summary: Summary, seconds: float, folder: str) -> str:
    """The result as text.

    Args:
        summary: what was counted.
        seconds: wall time that indexing took; above 0.
        folder: what paths are shown relative to.
    """
    parts = [
        _totals(summary, seconds),
        _longest(summary, folder),
        _shares(summary),
    ]
    if summary.failures:
        parts.append(_failures(summary.failures, folder))
    return "\n\n".join(parts)


def _totals(summary: Summary, seconds: float) -> str:
    rows = [
        ("files", summary.files),
        ("lines", summary.lines),
        ("tokens", summary.tokens),
        ("defined names", summary.names),
        ("not indexable", len(summary.failures)),
    ]
    return "\n".join(
        [
            *(f"{name:<14} {count:>12,}" for name, count in rows),
            f"{'time':<14} {seconds:>12.2f} s",
            f"{'throughput':<14} {summary.files / seconds:>12,.0f} files/s, "
            f"{summary.lines / seconds:,.0f} lines/s, {summary.tokens / seconds:,.0f} tokens/s",
        ]
    )


def _longest(summary: Summary, folder: str) -> str:
    if not summary.longest:
        return "longest functions: none, no file defines one"
    lines = ["longest functions", f"{'lines':>7}  function"]
    for span, path in summary.longest:
        lines.append(f"{span.lines:>7}  {span.name}  ({_relative(path, folder)}:{span.line})")
    return "\n".join(lines)


def _shares(summary: Summary) -> str:
    width = max((len(name) for name in summary.shares), default=0)
    lines = [f"{'worker':<{width}}  {'pid':>8}  {'files':>7}  {'tokens':>12}  share of tokens"]
    for name, share in summary.shares.items():
        percent = 100 * share.tokens / summary.tokens if summary.tokens else 0.0
        lines.append(
            f"{name:<{width}}  {share.pid:>8}  {share.files:>7,}  {share.tokens:>12,}  "
            f"{percent:5.1f} %"
        )
    return "\n".join(lines)


def _failures(failures: Iterable[FileReport], folder: str) -> str:
    ordered = sorted(failures, key=lambda report: report.path)
    lines = [f"not indexable: {len(ordered)}"]
    lines += [
        f"  {_relative(report.path, folder)}: {report.error}" for report in ordered[:FAILURES_SHOWN]
    ]
    if len(ordered) > FAILURES_SHOWN:
        lines.append(f"  ... and {len(ordered) - FAILURES_SHOWN} more")
    return "\n".join(lines)


def _relative(path: str, folder: str) -> str:
    """The path below the folder; as it is if it lies elsewhere."""
    prefix = os.path.join(folder, "")
    return path.removeprefix(prefix)
