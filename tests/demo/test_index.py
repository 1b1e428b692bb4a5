"""What the demo finds in one file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import pytest

from tractor.demo._index import (
    LONGEST_KEPT,
    FileReport,
    FunctionSpan,
    find_files,
    index_file,
    index_source,
    printable,
)

SOURCE = b"""\
'''A module.'''
import os
limit: int = 3
first, (second, *rest) = 1, (2, 3, 4)
limit = 4

class Shape:
    sides = 0
    def area(self):
        local = 1
        return local

if limit:
    async def outer():
        def inner():
            pass
else:
    fallback = None
"""


def test_names_are_functions_classes_and_assigned_variables() -> None:
    report = index_source("shape.py", SOURCE)

    # limit, first, second, rest, Shape, Shape.sides, Shape.area, outer, outer.inner, fallback
    assert report.names == 10
    assert report.lines == 18
    assert report.error is None


def test_functions_are_listed_longest_first_with_qualified_names() -> None:
    report = index_source("shape.py", SOURCE)

    assert report.longest == [
        FunctionSpan("Shape.area", line=9, lines=3),
        FunctionSpan("outer", line=14, lines=3),
        FunctionSpan("outer.inner", line=15, lines=2),
    ]


def test_no_more_functions_are_kept_than_are_shown() -> None:
    source = b"".join(b"def f%d(): pass\n" % number for number in range(2 * LONGEST_KEPT))

    report = index_source("many.py", source)

    assert report.names == 2 * LONGEST_KEPT
    assert [span.name for span in report.longest] == [f"f{n}" for n in range(LONGEST_KEPT)]


def test_tokens_of_a_line() -> None:
    # A name, an operator, a number and the end of the line; encoding and end of file are none.
    assert index_source("one.py", b"x = 1\n").tokens == 4


@pytest.mark.parametrize(("source", "lines"), [(b"", 0), (b"x", 1), (b"x\n", 1), (b"x\ny", 2)])
def test_lines(source: bytes, lines: int) -> None:
    assert index_source("short.py", source).lines == lines


def test_definitions_in_every_kind_of_block_are_found() -> None:
    source = b"""\
try:
    a = 1
except ValueError:
    b = 2
else:
    c = 3
finally:
    d = 4
with open(a):
    e = 5
match a:
    case 1:
        f = 6
while a:
    g = 7
for i in a:
    h = 8
"""
    assert index_source("blocks.py", source).names == 8


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (b"def f(:\n", "SyntaxError: "),
        (b"if x:\npass\n", "IndentationError: "),
        (b"x = '\xff'\n", "SyntaxError: "),
        (b"# -*- coding: no-such-codec -*-\n", "SyntaxError: "),
        (b"x = '''never closed\n", "SyntaxError: "),
        (b"x = 1\0\n", "null bytes"),
    ],
)
def test_what_can_not_be_parsed_is_reported(source: bytes, says: str) -> None:
    report = index_source("bad.py", source)

    assert report.error is not None
    assert says in report.error
    assert "\n" not in report.error
    assert (report.tokens, report.names, report.longest) == (0, 0, [])
    assert report.lines == 1 + source.count(b"\npass")


def test_deep_nesting_is_reported() -> None:
    report = index_source("deep.py", b"(" * 100_000 + b")" * 100_000)

    assert report.error is not None


def test_doubtful_source_warns_nobody() -> None:
    # pytest turns warnings into errors here.
    assert index_source("doubtful.py", rb"x = '\d' is 1").error is None


def test_missing_file_is_reported(tmp_path: Path) -> None:
    path = str(tmp_path / "gone.py")

    report = index_file(path)

    assert report == FileReport(path, error="FileNotFoundError: No such file or directory")


def test_report_survives_the_wire(tmp_path: Path) -> None:
    path = tmp_path / "shape.py"
    path.write_bytes(SOURCE)

    report = index_file(str(path))

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(report), type=FileReport) == report


def test_files_are_found_in_order_and_others_left_out(tmp_path: Path) -> None:
    for name in ("b.py", "a.py", "notes.txt", "sub/c.py", "site-packages/d.py", "sub.py/e.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    if os.name == "posix":
        os.mkfifo(tmp_path / "fifo.py")
        (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)

    found = [
        Path(path).relative_to(tmp_path).as_posix()
        for path in find_files(str(tmp_path), skip=["site-packages"])
    ]

    assert found == ["a.py", "b.py", "sub/c.py", "sub.py/e.py"]


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_file_name_that_is_no_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.py"
    Path(os.fsdecode(path)).write_bytes(b"x = 1\n")

    (found,) = find_files(str(tmp_path))
    report = index_file(found)

    assert os.fsencode(found) == path
    assert report.path == f"{tmp_path}/caf\\xe9.py"
    assert report.names == 1
    msgspec.msgpack.encode(report)


def test_ordinary_paths_are_printed_as_they_are() -> None:
    assert printable("/tmp/café.py") == "/tmp/café.py"
