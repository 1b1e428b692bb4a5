"""The distribution's name, which one module knows; its version; and another one of the same import name."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import tractor
from tractor._util.dist import _version
from tractor._util.dist._name import NAME, pip_install, refuse_neighbour

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_it_is_that_of_the_installed_package() -> None:
    assert tractor.__version__ == metadata.version(NAME)


def test_the_import_of_the_package_does_not_look_it_up() -> None:
    program = """
import sys, tractor
assert "tractor._util.dist._version" not in sys.modules
assert "importlib.metadata" not in sys.modules
assert tractor.__version__
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_it_is_unknown_where_the_package_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    with monkeypatch.context() as patch:
        patch.setattr(metadata, "version", none)
        # What Python passes over when it looks for modules is passed over here, too.
        patch.setattr(sys, "path", [Path("/"), "\0"])
        assert importlib.reload(_version).__version__ == "unknown"
    importlib.reload(_version)


# -- the name --


def test_the_name_is_that_of_the_project() -> None:
    assert PROJECT["name"] == NAME
    assert pip_install() == f"pip install {NAME}"
    assert pip_install("certs") == f"pip install '{NAME}[certs]'"


def test_every_extra_that_text_names_is_one_of_this_distribution() -> None:
    """`tractor[certs]` would install another project."""
    texts = [ROOT / "README.md", *(ROOT / "docs").glob("**/*.rst")]
    texts += [path for top in ("src", "examples") for path in (ROOT / top).glob("**/*.py")]
    extras = "|".join(map(re.escape, PROJECT["optional-dependencies"]))
    other = re.compile(rf"(?<![\w-])tractor\[({extras})\]")
    assert {str(path): found for path in texts if (found := other.findall(path.read_text()))} == {}
    ours = re.compile(rf"{re.escape(NAME)}\[([\w,-]+)\]")
    named = {
        extra
        for path in texts
        for group in ours.findall(path.read_text())
        for extra in group.split(",")
    }
    assert named
    assert named <= {*PROJECT["optional-dependencies"]}


# -- another distribution --


def _installed(site: Path, folder: str, summary: str | None = "something else") -> str:
    (site / folder).mkdir(parents=True)
    if summary is not None:
        (site / folder / "METADATA").write_text(
            f"Name: x\nSummary: {summary}\n\nSummary: {PROJECT['description']}\n"
        )
    return str(site / "tractor")


@pytest.mark.parametrize("folder", ["tractor-0.1.0a5.dist-info", "tractor-0.1.0a5-py3.9.egg-info"])
@pytest.mark.parametrize("summary", ["something else", None])
def test_another_distribution_of_the_import_name_is_refused(
    tmp_path: Path, folder: str, summary: str | None
) -> None:
    package = _installed(tmp_path, folder, summary)
    told = f"'tractor' 0.1.0a5 in {tmp_path} .* `pip uninstall -y tractor {NAME}`, then `pip install {NAME}`"
    with pytest.raises(ImportError, match=told) as caught:
        refuse_neighbour(package)
    assert (caught.value.name, caught.value.path) == ("tractor", package)


@pytest.mark.parametrize(
    "folder",
    [
        "trio_tractor-0.1.0.dist-info",
        "tractor_common-1.1.dist-info",
        "tractor-db.py",
        "tractor-0.1",
    ],
)
def test_what_has_another_name_is_not_meant(tmp_path: Path, folder: str) -> None:
    refuse_neighbour(_installed(tmp_path, folder))


def test_what_is_left_of_this_package_under_its_former_name_does_no_harm(tmp_path: Path) -> None:
    refuse_neighbour(_installed(tmp_path, "tractor-0.1.0.dist-info", PROJECT["description"]))


def test_nothing_is_refused_where_the_folder_cannot_be_read(tmp_path: Path) -> None:
    refuse_neighbour(str(tmp_path / "app.pyz" / "tractor"))


def test_an_import_beside_another_distribution_says_so(tmp_path: Path) -> None:
    _installed(tmp_path, "tractor-0.1.0a5.dist-info")
    (tmp_path / "tractor").symlink_to(Path(*tractor.__path__), target_is_directory=True)
    done = subprocess.run(
        [sys.executable, "-c", "import tractor"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "ImportError: the distribution 'tractor' 0.1.0a5" in done.stderr
