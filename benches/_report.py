"""The results, as a table and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from benches._rows import Options, Row, Series

__all__ = ["Result", "as_json", "table"]

HEAD = ("row", "work", "measured", "floor", "ratio", "paired", "target", "")


@dataclass(frozen=True)
class Result:
    """One row's samples, or why there are none."""

    row: Row
    series: Series
    error: str | None = None


@dataclass(frozen=True)
class _Figures:
    """What a result comes to: ``ratio`` of the figures that are shown, ``paired_ratio`` of neighbours in time."""

    measured: float | None
    floor: float | None
    ratio: float | None
    paired_ratio: float | None
    met: bool | None


def _figures(result: Result, statistic: str, judge: bool) -> _Figures:
    row, series = result.row, result.series
    measured, floor = row.pick(series.measured, statistic), row.pick(series.floor, statistic)
    if measured is None:
        return _Figures(None, floor, None, None, None)
    met = row.meets(measured, floor) if judge else None
    if floor is None:
        return _Figures(measured, None, None, None, met)
    return _Figures(measured, floor, measured / floor, row.paired(series), met)


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return "-"
    digits = 0 if value >= 1000 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}".rstrip()


def _verdict(result: Result, figures: _Figures, judge: bool) -> str:
    if result.error is not None:
        return "FAILED"
    if not judge:
        return "runs"
    return {True: "met", False: "MISSED", None: ""}[figures.met]


def table(results: list[Result], options: Options, statistic: str) -> str:
    """Plain text, a line a row and the notes below."""
    judge = not options.smoke
    lines: list[tuple[str, ...]] = [HEAD]
    notes: list[str] = []
    for result in results:
        row, figures = result.row, _figures(result, statistic, judge)
        lines.append(
            (
                row.name,
                row.work,
                _number(figures.measured, row.unit),
                _number(figures.floor, row.unit),
                _number(figures.ratio),
                _number(figures.paired_ratio),
                row.target_text(),
                _verdict(result, figures, judge),
            )
        )
        notes += [f"{row.name}: {note}" for note in result.series.notes]
        if row.floor is not None and row.floor not in row.work:
            notes.append(f"{row.name}: the floor is {row.floor}")
        if result.error is not None:
            notes.append(f"{row.name}: FAILED: {result.error}")
    return "\n".join([*aligned(lines, left=(0, 1, 6, 7)), "", *notes])


def aligned(lines: list[tuple[str, ...]], left: tuple[int, ...]) -> list[str]:
    """Columns as wide as their widest cell, those of *left* to the left; a rule below the head."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    text.insert(1, "-" * max(map(len, text)))
    return text


def as_json(
    results: list[Result],
    options: Options,
    statistic: str,
    machine: dict[str, str],
    peers: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Everything, with every sample."""
    judge = not options.smoke
    records = []
    for result in results:
        row, series = result.row, result.series
        figures = _figures(result, statistic, judge)
        records.append(
            {
                "name": row.name,
                "work": row.work,
                "unit": row.unit,
                "higher_is_better": row.higher_is_better,
                **asdict(figures),
                "target": row.target_text(),
                "floor_is": row.floor,
                "samples": series.measured,
                "floor_samples": series.floor,
                "notes": series.notes,
                "error": result.error,
            }
        )
    return {
        "machine": machine,
        "options": asdict(options),
        "statistic": statistic,
        "rows": records,
        "peers": peers,
    }
