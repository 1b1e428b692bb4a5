"""The picture in ARCHITECTURE.md, drawn from the imports: ``python tests/test_picture.py`` draws it anew.

Rooms are the folders of the package, and what stands beside them at its top.  An arrow leads from a room to one that
it imports from; those that follow from others are left out.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
PAGE = ROOT / "ARCHITECTURE.md"
BEGIN, END = "```mermaid\n", "```\n"

BOOT = ("_boot_actor", "_root", "_root_options", "_child", "_clustering", "_tools")
BESIDE = ("_exceptions", "_freeze", "_testing", "notebook", "reap", "__main__", "__init__")
FACADES = {"trionics.__init__", "trionics._cached", "ipc.__init__", "ipc.fd_share"}
"""What stands in a low room and belongs to users."""


def modules() -> dict[str, str]:
    """Dotted names, without the package's own, and the sources."""
    return {
        ".".join(path.relative_to(SOURCE / "tractor").with_suffix("").parts): path.read_text()
        for path in sorted((SOURCE / "tractor").rglob("*.py"))
    }


def room_of(name: str) -> str:
    top = name.split(".")[0]
    if name in FACADES or name in BESIDE or name.endswith("_exports"):
        return "for users"
    if name == "process._state":
        return "_util"
    if top in BOOT:
        return "boot"
    if top in ("_errors", "_error_registry", "log", "_util"):
        return "_util"
    return top


def imported(source: str) -> set[str]:
    """The modules and names of the package that a source imports, as a dotted name each."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name.removeprefix("tractor.") for name in found if name.startswith("tractor.")}


def arrows(sources: dict[str, str]) -> dict[str, set[str]]:
    """From each room to those that it imports from."""
    found: dict[str, set[str]] = {}
    for name, source in sources.items():
        here = room_of(name)
        below = found.setdefault(here, set())
        # The boot's tools are loaded from above, when they are used; a package's own file only names what is inside.
        if here == "for users" or name == "_tools" or name.endswith("__init__"):
            continue
        for target in imported(source):
            parts = target.split(".")
            known = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
            module = next((one for one in known if one in sources), None)
            if module is not None:
                below.add(room_of(module))
        below.discard(here)
    return found


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Without the arrows that follow from others."""

    def reach(room: str, seen: set[str]) -> set[str]:
        for below in graph.get(room, set()) - seen:
            seen.add(below)
            reach(below, seen)
        return seen

    return {
        room: {
            one for one in below if not any(one in reach(other, set()) for other in below - {one})
        }
        for room, below in graph.items()
    }


def picture(sources: dict[str, str]) -> str:
    graph = reduced(arrows(sources))
    sizes: dict[str, int] = {}
    for name in sources:
        sizes[room_of(name)] = sizes.get(room_of(name), 0) + 1
    lines = ["flowchart TD"]
    for room in sorted(graph):
        if room != "for users":
            lines.append(f"    {room}[{room}: {sizes[room]}]")
    for room in sorted(graph):
        lines += [f"    {room} --> {below}" for below in sorted(graph[room])]
    return "\n".join(lines) + "\n"


def shown() -> str:
    match = re.search(f"{BEGIN}(.*?){END}", PAGE.read_text(), re.DOTALL)
    assert match is not None, "ARCHITECTURE.md has no picture"
    return match[1]


def test_the_picture_is_that_of_the_code() -> None:
    assert shown() == picture(modules()), "draw it anew: python tests/test_picture.py"


def test_no_room_is_below_itself() -> None:
    graph = arrows(modules())

    def walk(room: str, path: list[str]) -> None:
        assert room not in path, " -> ".join([*path[path.index(room) :], room])
        for below in graph.get(room, set()):
            walk(below, [*path, room])

    for room in graph:
        walk(room, [])


@pytest.mark.parametrize("page", [PAGE, ROOT / "docs" / "internals.md"], ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    """A path of the package, or the plain name of one of its files."""
    files = {path.name for path in SOURCE.rglob("*.py")} | {
        p.name for p in ROOT.rglob("tests/*.py")
    }
    missing = []
    for name in re.findall(r"`(?:src/)?(?:tractor/)?([\w/]+\.py)\b", page.read_text()):
        there = (SOURCE / "tractor" / name, ROOT / name)
        if not any(path.exists() for path in there) and ("/" in name or name not in files):
            missing.append(name)
    assert not missing


def test_the_map_is_short() -> None:
    text = PAGE.read_text()
    assert len(text.split()) < 1500
    walks = text.split("## Walks")[1].split("\n## ")[0].split("\n**")[1:]
    assert len(walks) == 5
    for walk in walks:
        assert 4 <= len(re.findall(r"^\d\. ", walk, re.MULTILINE)) <= 8


def test_what_follows_from_others_is_left_out() -> None:
    sources = {
        "pool._a": "from tractor.runtime._b import x\nfrom tractor._util._c import y",
        "runtime._b": "from tractor._util import _c",
        "_util._c": "import os",
    }
    assert arrows(sources) == {"pool": {"runtime", "_util"}, "runtime": {"_util"}, "_util": set()}
    assert reduced(arrows(sources)) == {"pool": {"runtime"}, "runtime": {"_util"}, "_util": set()}


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text().replace(shown(), picture(modules())))
