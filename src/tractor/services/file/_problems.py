"""What is wrong with a service file: all of it at once, each with its place."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from tractor._util._names import nearest as nearest
from tractor.services.file._positions import KeyPath

MAX_SHOWN = 60
"""Characters of a value in an error."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong.

    Attributes:
        line: from 1; ``None``: of no line, as what is missing.
        table: as it is written in brackets; empty: of none.
        key: in the table, with dots; empty: the table itself.
        value: as the file has it, shortened; empty: there is none, or it is shown nowhere.
        text: what is wrong, and what would be right.
        nearest: the known name that is most like the wrong one; empty: there is none.
    """

    line: int | None
    table: str
    key: str
    value: str
    text: str
    nearest: str = ""

    def __str__(self) -> str:
        place = f"[{self.table}] " if self.table else ""
        subject = f"{self.key} = {self.value}" if self.key and self.value else self.key
        hint = f"; did you mean {self.nearest!r}?" if self.nearest else ""
        return f"{place}{subject}{': ' if subject else ''}{self.text}{hint}"


class ServiceFileError(ValueError):
    """A service file can't be used; its text has a line for each thing that is wrong.

    Attributes:
        path: the file.
        problems: what is wrong with it, in the order of lines.
    """

    def __init__(self, path: Path, problems: Iterable[Problem]) -> None:
        self.path = path
        self.problems = tuple(sorted(problems, key=lambda p: p.line or 0))
        super().__init__(path, self.problems)

    def __str__(self) -> str:
        return "\n".join(
            f"{self.path}{'' if p.line is None else f':{p.line}'}: {p}" for p in self.problems
        )


class Findings:
    """Collects problems.

    Args:
        lines: of each key; see :func:`~tractor.services.file._positions.lines_of_keys`.
    """

    def __init__(self, lines: dict[KeyPath, int]) -> None:
        self._lines = lines
        self._places: set[KeyPath] = set()
        self.problems: list[Problem] = []

    def note(
        self,
        path: KeyPath,
        text: str,
        *,
        value: Any = msgspec.UNSET,
        wrong: str = "",
        known: Iterable[str] = (),
    ) -> None:
        """Something is wrong at ``path``.

        Args:
            path: from the document on.
            text: what.
            value: what stands there; none: it is not shown.
            wrong: the name that is none of ``known``; default: the value.
            known: the names that would be right.
        """
        self._places.add(path[:3])
        table = 2 if path[:1] == ("services",) and len(path) > 1 else 1
        if isinstance(value, str) and not wrong:
            wrong = value
        self.problems.append(
            Problem(
                line=self._line(path),
                table=_joined(path[:table]),
                key=_joined(path[table:]),
                value="" if value is msgspec.UNSET or "env" in path[2:3] else _shortened(value),
                text=text,
                nearest=nearest(wrong, known),
            )
        )

    def has(self, table: KeyPath, *keys: str) -> bool:
        """Whether one of these keys of a table is wrong, so that what follows from it need not be told."""
        return any((*table, key)[:3] in self._places for key in keys)

    def _line(self, path: KeyPath) -> int | None:
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path)


def _joined(path: KeyPath) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{_as_key(part)}"
    return text


def _as_key(text: str) -> str:
    is_bare = bool(text) and all(c.isascii() and (c.isalnum() or c in "_-") for c in text)
    return text if is_bare else msgspec.json.encode(text).decode()


def _shortened(value: Any) -> str:
    # As it is written in the file, where that is about the same.
    text = msgspec.json.encode(value).decode() if isinstance(value, bool | str) else repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
