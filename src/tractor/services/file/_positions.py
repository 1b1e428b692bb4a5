"""Where in a TOML text each key stands, which `tomllib` does not tell."""

from __future__ import annotations

import re
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]

_SPACE = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'",
    re.DOTALL,
)
_PLAIN_VALUE = re.compile(r"[^,\]}#\n]*")
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))")
_SHORT_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


def lines_of_keys(text: str) -> dict[KeyPath, int]:
    """The line, from 1, on which each key of a document begins.

    Args:
        text: what `tomllib` has accepted.

    Returns:
        By path: names of tables and keys, and numbers of elements of arrays.
    """
    return _Scanner(text).scan()


class _Scanner:
    """One pass over a document that is known to be right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._pos = 0
        self._found: dict[KeyPath, int] = {}
        self._arrays: dict[KeyPath, int] = {}

    def scan(self) -> dict[KeyPath, int]:
        """The whole document."""
        table: KeyPath = ()
        while self._after_gap():
            if self._text[self._pos] == "[":
                table = self._header()
            else:
                self._pair(table)
        return self._found

    def _after_gap(self) -> bool:
        """Pass over spaces, ends of lines and comments; whether anything follows."""
        self._pass(_GAP)
        return self._pos < len(self._text)

    def _pass(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._pos)
        if match is None:
            raise ValueError(f"no TOML at {self._text[self._pos : self._pos + 20]!r}")
        self._pos = match.end()
        return match[0]

    def _note(self, path: KeyPath, line: int) -> None:
        for depth in range(1, len(path) + 1):
            self._found.setdefault(path[:depth], line)

    def _line(self) -> int:
        return self._text.count("\n", 0, self._pos) + 1

    def _header(self) -> KeyPath:
        line = self._line()
        is_array = self._text.startswith("[[", self._pos)
        self._pos += 2 if is_array else 1
        path = self._resolved(self._keys(), is_array)
        self._pos += 2 if is_array else 1
        self._note(path, line)
        return path

    def _resolved(self, keys: KeyPath, is_array: bool) -> KeyPath:
        """With the number of the last element behind each name of an array of tables."""
        path: KeyPath = ()
        for i, key in enumerate(keys):
            path = (*path, key)
            if is_array and i == len(keys) - 1:
                self._arrays[path] = self._arrays.get(path, -1) + 1
            if path in self._arrays:
                path = (*path, self._arrays[path])
        return path

    def _keys(self) -> KeyPath:
        keys: list[str] = []
        while True:
            self._pass(_SPACE)
            if self._text[self._pos] in "\"'":
                keys.append(_unquoted(self._pass(_STRING)))
            else:
                keys.append(self._pass(_BARE_KEY))
            self._pass(_SPACE)
            if self._text[self._pos] != ".":
                return tuple(keys)
            self._pos += 1

    def _pair(self, table: KeyPath) -> None:
        line = self._line()
        path = (*table, *self._keys())
        self._note(path, line)
        self._pos += 1
        self._pass(_SPACE)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        self._note(path, self._line())
        first = self._text[self._pos]
        if first in "\"'":
            self._pass(_STRING)
        elif first == "[":
            self._elements(path)
        elif first == "{":
            self._members(path)
        else:
            self._pass(_PLAIN_VALUE)

    def _elements(self, path: KeyPath) -> None:
        self._pos += 1
        number = 0
        while self._after_gap() and self._text[self._pos] != "]":
            if self._text[self._pos] == ",":
                self._pos += 1
                number += 1
            else:
                self._value((*path, number))
        self._pos += 1

    def _members(self, path: KeyPath) -> None:
        self._pos += 1
        while self._after_gap() and self._text[self._pos] != "}":
            if self._text[self._pos] == ",":
                self._pos += 1
            else:
                self._pair(path)
        self._pos += 1


def _unquoted(text: str) -> str:
    if text[0] == "'":
        return text[1:-1]
    return _ESCAPE.sub(_unescaped, text[1:-1])


def _unescaped(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    return chr(int(code, 16)) if code else _SHORT_ESCAPES.get(match[3], match[3])
