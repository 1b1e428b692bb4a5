"""The sites of other projects that the pages link to, and the writer of their inventories.

The build has no network.  `names.txt` lists what is linked to, as ``site domain:role name page``, and ``python -m
inventories`` in `docs/` writes an inventory for each site from it, in the format that Sphinx reads.  A name that the
pages refer to and that is not listed has no link.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

SITES = {
    "python": "https://docs.python.org/3/",
    "trio": "https://trio.readthedocs.io/en/stable/",
    "msgspec": "https://jcristharif.com/msgspec/",
}

ALIASES = {
    "_asyncio.Future": "asyncio.Future",
    "_asyncio.Task": "asyncio.Task",
    "concurrent.futures._base.Executor": "concurrent.futures.Executor",
}


def listed() -> dict[str, list[tuple[str, str, str]]]:
    """By site: the role, the name and the page of each."""
    found: dict[str, list[tuple[str, str, str]]] = {site: [] for site in SITES}
    for line in (HERE / "names.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            site, role, name, page = line.split()
            found[site].append((role, name, page))
    return found


def inventory(site: str, names: list[tuple[str, str, str]]) -> bytes:
    """An inventory of version 2; ``$`` stands for the name."""
    head = (
        "# Sphinx inventory version 2\n"
        f"# Project: {site}\n"
        "# Version: \n"
        "# The remainder of this file is compressed using zlib.\n"
    )
    lines = "".join(f"{name} {role} 1 {page}#$ -\n" for role, name, page in sorted(names))
    return head.encode() + zlib.compress(lines.encode(), 9)


def write() -> None:
    for site, names in listed().items():
        (HERE / f"{site}.inv").write_bytes(inventory(site, names))


def alias(node: Any) -> None:
    """Let a reference to where a type is defined lead to the name that its project documents."""
    node["reftarget"] = ALIASES.get(node["reftarget"], node["reftarget"])
