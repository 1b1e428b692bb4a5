"""`tractor.__version__`: of the installed package, and loaded when it is asked for."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib import metadata

import pytest

import tractor
from tractor._util import _version


def test_it_is_that_of_the_installed_package() -> None:
    assert tractor.__version__ == metadata.version("tractor")


def test_the_import_of_the_package_does_not_look_it_up() -> None:
    program = """
import sys, tractor
assert "tractor._util._version" not in sys.modules
assert "importlib.metadata" not in sys.modules
assert tractor.__version__
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_it_is_unknown_where_the_package_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    with monkeypatch.context() as patch:
        patch.setattr(metadata, "version", none)
        assert importlib.reload(_version).__version__ == "unknown"
    importlib.reload(_version)
