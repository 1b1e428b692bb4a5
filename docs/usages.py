"""Which tested program uses a public name, and where: what the API reference shows as its example.

A name is used where it is read, by whatever road it was imported: names are compared by what they are bound to, not by
their text.  Of several uses the one with the shortest surroundings is taken.
"""

from __future__ import annotations

import ast
import importlib
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

MAX_LINES = 30
"""What an example may have; a longer function is shown from the statement around the use on."""

RST_BLOCK = re.compile(r"^\.\. code-block:: python\n\n((?:(?: {3}.*)?\n)+)", re.MULTILINE)


@dataclass(frozen=True)
class Source:
    """A program that the tests run.

    Attributes:
        title: the file, from the folder of the project on.
        text: the program.
        page: the guide page that it is part of, as Sphinx names it; ``None``: it is a file of its own.
        offset: lines of the file before the program.
    """

    title: str
    text: str
    page: str | None = None
    offset: int = 0


@dataclass(frozen=True)
class Usage:
    """One use of a name, with what stands around it.

    Attributes:
        source: where.
        line: of the use, in the file; from 1 on.
        code: what to show.
    """

    source: Source
    line: int
    code: str


def sources() -> Iterator[Source]:
    """All programs that the tests run."""
    for path in sorted((ROOT / "examples").rglob("*.py")):
        if not path.name.startswith("_"):
            yield Source(path.relative_to(ROOT).as_posix(), path.read_text())
    for path in sorted((ROOT / "docs" / "guide").rglob("*.rst")):
        text = path.read_text()
        title = path.relative_to(ROOT).as_posix()
        for block in RST_BLOCK.finditer(text):
            program = textwrap.dedent(block[1])
            if 'if __name__ == "__main__":' in program:
                page = path.relative_to(ROOT / "docs").with_suffix("").as_posix()
                yield Source(title, program, page, text.count("\n", 0, block.start(1)))


def _imported(tree: ast.AST) -> dict[str, Any]:
    """What the program's names are bound to by its imports from the package."""
    names: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "tractor":
                    module = importlib.import_module(alias.name)
                    first = importlib.import_module("tractor")
                    names[alias.asname or "tractor"] = module if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == (
            "tractor"
        ):
            for alias in node.names:
                names[alias.asname or alias.name] = _member(node.module or "", alias.name)
    return names


def _member(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError:
        return importlib.import_module(f"{module}.{name}")


def _value(node: ast.AST, names: dict[str, Any]) -> Any:
    """What a dotted name is bound to; ``None``: nothing of the package."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, names)
        return None if owner is None else getattr(owner, node.attr, None)
    return None


def _statements(tree: ast.Module) -> Iterator[tuple[ast.AST, list[ast.stmt]]]:
    """Each node with the statements around it, the outermost first."""

    def walk(node: ast.AST, around: list[ast.stmt]) -> Iterator[tuple[ast.AST, list[ast.stmt]]]:
        for child in ast.iter_child_nodes(node):
            inner = [*around, child] if isinstance(child, ast.stmt) else around
            yield child, inner
            yield from walk(child, inner)

    return walk(tree, [])


def _first_line(statement: ast.stmt) -> int:
    decorators = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])


def _shown(lines: list[str], around: list[ast.stmt], at: int) -> str:
    """The outermost statement around line *at* that is short enough, else the innermost one's beginning."""
    for statement in around:
        first, last = _first_line(statement), statement.end_lineno or statement.lineno
        if last - first < MAX_LINES:
            break
    else:
        first, last = max(first, at - 5), min(last, at + 20)
    return textwrap.dedent("\n".join(lines[first - 1 : last])) + "\n"


def usages() -> dict[int, list[Usage]]:
    """By the ``id()`` of what is used, which the package keeps: its uses, the shortest first."""
    found: dict[int, list[Usage]] = {}
    for source in sources():
        tree = ast.parse(source.text)
        names = _imported(tree)
        lines = source.text.splitlines()
        for node, around in _statements(tree):
            if not isinstance(node, ast.Name | ast.Attribute) or not around:
                continue
            value = _value(node, names)
            if value is not None:
                code = _shown(lines, around, node.lineno)
                usage = Usage(source, node.lineno + source.offset, code)
                found.setdefault(id(value), []).append(usage)
    for uses in found.values():
        uses.sort(key=lambda usage: (usage.code.count("\n") < 3, usage.code.count("\n")))
    return found
