"""Facades: what they list, what they load, and when; also where only compiled code is left."""

from __future__ import annotations

import compileall
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tractor import devx, msg

FACADE = """
from tractor._util._lazy import lazy_exports
__getattr__, __dir__ = lazy_exports(__name__)
"""
EXPORTS = """
"A list."
from facade import sub as sub
from facade._home import count as count
from facade._home import value as value
from facade._home import _hidden as _hidden
other = value
"""
PROGRAM = """
import sys, facade
assert "facade._home" not in sys.modules, "too early"
assert facade.__all__ == ["sub", "count", "value", "other"], facade.__all__
assert {*facade.__all__} < {*dir(facade)} and "_hidden" not in dir(facade)
assert "facade._home" not in sys.modules, "too early"
assert (facade.value, facade.other, facade.count, facade._hidden) == (1, 1, 2, 3)
assert "facade.sub" not in sys.modules, "too early"
assert facade.sub is sys.modules["facade.sub"]
assert vars(facade)["value"] == 1
assert "facade._exports" not in sys.modules, "its imports must not be made"
try:
    facade.missing
except AttributeError as exc:
    assert str(exc) == "module 'facade' has no attribute 'missing'"
else:
    raise AssertionError
from facade import *
assert (sub, other) == (facade.sub, 1)
"""


@pytest.mark.parametrize("form", ["sources", "compiled", "archive"])
def test_names_are_loaded_when_they_are_used(form: str, tmp_path: Path) -> None:
    package = tmp_path / "facade"
    package.mkdir()
    (package / "__init__.py").write_text(FACADE)
    (package / "_exports.py").write_text(EXPORTS)
    (package / "_home.py").write_text("value, count, _hidden = 1, 2, 3")
    (package / "sub.py").touch()
    path = tmp_path
    if form != "sources":
        assert compileall.compile_dir(package, quiet=1, legacy=True)
        for source in package.glob("*.py"):
            source.unlink()
    if form == "archive":
        path = tmp_path / "library.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in package.glob("*.pyc"):
                archive.write(file, f"facade/{file.name}")
        shutil.rmtree(package)
    code = f"import sys; sys.path.insert(0, {str(path)!r}){PROGRAM}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_a_missing_list_is_said() -> None:
    from tractor._util import _lazy

    load, _ = _lazy.lazy_exports("tractor.cli")
    with pytest.raises(ImportError, match=r"there is no code of tractor\.cli\._exports"):
        load("x")


def test_packages_list_their_names() -> None:
    assert {"Struct", "pretty_struct"} <= {*msg.__all__}  # type: ignore[attr-defined]
    assert {"pause", "debug"} <= {*dir(devx)}
