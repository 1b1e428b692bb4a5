"""What one Python file holds.  Pure: bytes in, a report out."""

from __future__ import annotations

import ast
import io
import os
import tokenize
import warnings
from collections.abc import Collection, Iterator

import msgspec

LONGEST_KEPT = 10
"""Functions of one file that its report lists: no file adds more to the ten longest of all."""

_NO_TOKEN = frozenset({tokenize.ENCODING, tokenize.ENDMARKER})


class FunctionSpan(msgspec.Struct, frozen=True, array_like=True):
    """Where a function is and how long it is."""

    name: str
    """Qualified: ``Class.method``, ``outer.inner``."""
    line: int
    lines: int


class FileReport(msgspec.Struct, frozen=True):
    """What one file holds, or why it could not be read."""

    path: str
    """Printable; bytes of a file name that are not UTF-8 are shown as escapes."""
    lines: int = 0
    tokens: int = 0
    names: int = 0
    longest: list[FunctionSpan] = []
    error: str | None = None


def printable(path: str) -> str:
    """The path with escapes for undecodable bytes, which can't be printed or sent."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def find_files(folder: str, skip: Collection[str] = ()) -> Iterator[str]:
    """Every regular ``.py`` file below a folder, in a fixed order; symlinked folders are not
    entered.

    Args:
        folder: where to begin.
        skip: names of folders that are left out, such as ``site-packages``.
    """
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in skip)
        for name in sorted(files):
            path = os.path.join(parent, name)
            # A fifo or a device could block a worker for ever.
            if name.endswith(".py") and os.path.isfile(path):
                yield path


def index_file(path: str) -> FileReport:
    """Read and index one file.  Whatever it holds, the report says it; nothing is raised."""
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as exc:
        return FileReport(printable(path), error=f"{type(exc).__name__}: {exc.strerror}")
    return index_source(printable(path), source)


def index_source(path: str, source: bytes) -> FileReport:
    """Index the text of one file.

    Args:
        path: printable name of the file, for the report.
        source: its bytes, in the encoding that it declares (UTF-8 if it declares none).
    """
    try:
        with warnings.catch_warnings():
            # Indexed files may hold invalid escapes and the like; that is their authors' affair.
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        tokens = _count_tokens(source)
        names, spans = _definitions(tree)
    except (SyntaxError, tokenize.TokenError, ValueError, RecursionError, MemoryError) as exc:
        # ValueError: a NUL byte, or bytes that are none of the declared encoding.
        return FileReport(path, lines=_count_lines(source), error=_reason(exc))
    spans.sort(key=lambda span: (-span.lines, span.line))
    return FileReport(path, _count_lines(source), tokens, names, spans[:LONGEST_KEPT])


def _reason(exc: Exception) -> str:
    text = exc.msg if isinstance(exc, SyntaxError) else str(exc)
    first_line = printable(text or "").partition("\n")[0]
    return f"{type(exc).__name__}: {first_line}" if first_line else type(exc).__name__


def _count_lines(source: bytes) -> int:
    return source.count(b"\n") + (not source.endswith(b"\n") and bool(source))


def _count_tokens(source: bytes) -> int:
    return sum(
        token.type not in _NO_TOKEN for token in tokenize.tokenize(io.BytesIO(source).readline)
    )


def _definitions(tree: ast.Module) -> tuple[int, list[FunctionSpan]]:
    """How many names a module defines, and the span of each function.

    A definition is a function or a class wherever it stands, or a variable that is assigned at
    module or class level; a name counts once for each scope that defines it.
    """
    defined: set[str] = set()
    spans: list[FunctionSpan] = []
    # Each entry: the statements of a block, the prefix of their names, whether they are in a
    # function.
    blocks: list[tuple[list[ast.stmt], str, bool]] = [(tree.body, "", False)]
    while blocks:
        body, prefix, in_function = blocks.pop()
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = prefix + node.name
                defined.add(name)
                is_function = not isinstance(node, ast.ClassDef)
                if is_function:
                    spans.append(FunctionSpan(name, node.lineno, _length(node)))
                blocks.append((node.body, f"{name}.", is_function))
                continue
            if not in_function:
                defined.update(prefix + name for name in _assigned(node))
            blocks.extend((inner, prefix, in_function) for inner in _inner_blocks(node))
    return len(defined), spans


def _length(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _inner_blocks(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The blocks of a compound statement that open no scope."""
    for field in ("body", "orelse", "finalbody"):
        if inner := getattr(node, field, None):
            yield inner
    for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
        yield part.body


def _assigned(node: ast.stmt) -> Iterator[str]:
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = list(node.targets)
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    while targets:
        target = targets.pop()
        if isinstance(target, ast.Name):
            yield target.id
        elif isinstance(target, ast.Tuple | ast.List):
            targets.extend(target.elts)
        elif isinstance(target, ast.Starred):
            targets.append(target.value)
