"""The package's version, as it was installed; loaded when it is asked for, since to look it up takes milliseconds."""

from __future__ import annotations

from importlib import metadata

try:
    __version__ = metadata.version("tractor")
except metadata.PackageNotFoundError:
    # A program that was frozen without the package's metadata, or a bare source tree.
    __version__ = "unknown"
