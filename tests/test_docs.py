"""Every program in README.md and docs/ runs, prints what is said, and ends with nothing left."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

import tractor
from tractor._proto import deadlines

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "index.rst",
    *sorted((ROOT / "docs" / "guide").rglob("*.rst")),
]
PROGRAM_LIMIT = 55
"""Seconds that a program may take."""

OPTIONAL = ("pandas", "polars", "pyarrow")
"""What a page is about, and is too large to be installed for its test."""

MARKDOWN_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RST_BLOCK = re.compile(r"^\.\. code-block:: (\w+)\n\n((?:(?: {3}.*)?\n)+)", re.MULTILINE)


@dataclass(frozen=True)
class Program:
    page: str
    source: str
    prints: str | None
    """What it must print, where the page says so."""


def programs(page: Path) -> Iterator[Program]:
    """The python blocks of *page* that are scripts, each with the text block after it."""
    pattern = MARKDOWN_BLOCK if page.suffix == ".md" else RST_BLOCK
    blocks = [
        (language, textwrap.dedent(text).rstrip() + "\n")
        for language, text in pattern.findall(page.read_text() + "\n")
    ]
    for (language, text), (next_language, next_text) in zip(
        blocks, [*blocks, ("", "")][1:], strict=True
    ):
        if language == "python" and 'if __name__ == "__main__":' in text:
            yield Program(page.stem, text, next_text if next_language == "text" else None)


PROGRAMS = [program for page in PAGES for program in programs(page)]


def guides() -> str:
    return "\n".join(page.read_text() for page in PAGES)


def test_the_guides_explain_every_public_error() -> None:
    text = guides()
    errors = [
        name
        for name in tractor.__all__  # type: ignore[attr-defined]
        if isinstance(getattr(tractor, name), type)
        and issubclass(getattr(tractor, name), BaseException)
    ]
    assert len(errors) > 15
    assert [name for name in errors if f":exc:`~tractor.{name}`" not in text] == []
    # And none that is not there.
    told = set(re.findall(r":exc:`~tractor\.(\w+)`", text))
    assert sorted(told - set(errors)) == []


def test_the_guides_name_every_devx_function() -> None:
    text = guides()
    names = {*tractor.devx.__all__, *tractor.devx.pformat.__all__, "load_runtime_vars"}  # type: ignore[attr-defined]
    submodules = {"cli", "debug", "pformat"}
    missing = [
        name for name in sorted(names - submodules) if not re.search(rf"\b{name}(\(|``|`|\.)", text)
    ]
    assert missing == []
    told = set(re.findall(r"tractor\.devx\.(\w+)", text))
    assert sorted(told - names - submodules) == []


def test_the_page_of_limits_has_each_of_the_peers_with_its_default() -> None:
    rows = (ROOT / "docs" / "guide" / "limits.rst").read_text().split("   * - ")
    limits = tractor.Limits()
    for name in tractor.Limits.__struct_fields__:
        (row,) = [row for row in rows if f"``{name}``" in row.partition("\n")[0]]
        value = getattr(limits, name)
        told = {
            f"{value:,}",
            *(f"{value / 2**power:g} {unit}" for power, unit in ((20, "MiB"), (30, "GiB"))),
            *(f"{value * times:g} {unit}" for times, unit in ((1, "s"), (1000, "ms"))),
        }
        assert any(re.search(rf"(?<!\d){re.escape(text)}\b", row) for text in told), (name, value)


def test_the_pictures_are_as_the_code_draws_them() -> None:
    path = Path(__file__).with_name("draw_pictures.py")
    spec = importlib.util.spec_from_file_location("draw_pictures", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    drawn = module.PICTURES
    assert sorted(path.stem for path in PICTURES.glob("*.svg")) == sorted([*drawn, "tree"])
    for name, picture in drawn.items():
        assert (PICTURES / f"{name}.svg").read_text() == picture(), "run tests/draw_pictures.py"


@pytest.mark.parametrize("picture", sorted(PICTURES.glob("*.svg")), ids=lambda path: path.stem)
def test_a_picture_can_be_read_and_stands_on_a_page(picture: Path) -> None:
    svg = ElementTree.fromstring(picture.read_text())
    for tag in ("title", "desc"):
        (told,) = svg.findall(f"{{*}}{tag}")
        assert told.text
        assert told.get("id") in svg.get("aria-labelledby", "").split()
    assert "prefers-color-scheme: dark" in picture.read_text()
    assert f"pictures/{picture.name}\n   :width: 640\n   :alt: " in guides()


def test_the_numbers_of_the_ladder_are_those_of_the_code() -> None:
    texts = re.findall(r">([^<]*)</text>", (PICTURES / "ladder.svg").read_text())
    limits = [float(text.split()[2]) for text in texts if text.startswith("at most")]
    names = ("BOOT_GRACE", "ACK_TIMEOUT", "EXIT_TIMEOUT", "TERM_TIMEOUT")
    assert limits == [getattr(deadlines, name) for name in names]


def test_every_page_with_python_has_a_program() -> None:
    with_python = {
        page.stem
        for page in PAGES
        if "```python" in page.read_text() or "code-block:: python" in page.read_text()
    }
    assert with_python == {program.page for program in PROGRAMS}
    assert "README" in with_python
    assert len(with_python) > 10


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.page)
def test_a_program_runs_and_prints_what_is_said(program: Program, tmp_path: Path) -> None:
    used = set(re.findall(r"^(?:import|from) (\w+)", program.source, re.MULTILINE))
    if "pandas" in used:
        used.add("pyarrow")
    for module in OPTIONAL:
        if module in used and importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}, which is not installed")
    script = tmp_path / "program.py"
    script.write_text(program.source)
    run = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PROGRAM_LIMIT,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    if program.prints is not None:
        assert run.stdout == program.prints, run.stderr


def test_every_file_that_a_page_names_exists() -> None:
    missing = [
        f"{page.name}: {name}"
        for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "ARCHITECTURE.md"]
        for name in re.findall(r"\b(?:examples|tests|benches|docs)/[\w/]+\.\w+", page.read_text())
        if not (ROOT / name).exists()
    ]
    assert not missing
