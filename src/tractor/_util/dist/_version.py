"""The package's version, as it was installed; loaded when it is asked for, since to look it up takes milliseconds."""

from __future__ import annotations

from importlib import metadata

from tractor._util.dist._name import NAME

try:
    __version__ = metadata.version(NAME)
except metadata.PackageNotFoundError:
    # A program that was frozen without the package's metadata, or a bare source tree.
    __version__ = "unknown"
