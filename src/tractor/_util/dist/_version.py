"""The package's version, as it was installed; loaded when it is asked for."""

from __future__ import annotations

import contextlib
import os
import sys

from tractor._util.dist._name import NAME, RECORD


def _looked_up() -> str | None:
    """By a look into the folders of packages: what the standard library needs for that takes 20 ms to load."""
    begin = f"{RECORD}-"
    usual = ("site-packages", "dist-packages")
    # They come first: other folders may have any number of files.
    folders: list[object] = [*sys.path]
    known = [one for one in folders if isinstance(one, str)]
    for folder in sorted(known, key=lambda one: not one.endswith(usual)):
        with contextlib.suppress(OSError, ValueError):
            for name in os.listdir(folder or "."):
                if name.startswith(begin) and name.endswith(".dist-info"):
                    with open(os.path.join(folder, name, "METADATA"), encoding="utf-8") as file:
                        for line in file:
                            if line.startswith("Version: "):
                                return line.split()[1]
    return None


def _of_metadata() -> str:
    from importlib import metadata

    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:
        # A program that was frozen without the package's metadata, or a bare source tree.
        return "unknown"


__version__ = _looked_up() or _of_metadata()
