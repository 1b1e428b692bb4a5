"""What surrounds the package: its metadata, the files that people look for, and workflows that run what there is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SETTINGS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT: dict[str, Any] = SETTINGS["project"]
SOURCE: str = PROJECT["urls"]["Source"]

TEXTS = ["README.md", "CHANGELOG.md", "SECURITY.md"]
"""Files that are also read where the repository is not: on PyPI, in an archive."""

YAMLS = sorted(
    [
        *(ROOT / ".github").glob("**/*.yml"),
        ROOT / ".readthedocs.yaml",
        ROOT / ".pre-commit-config.yaml",
    ]
)


@pytest.mark.parametrize("text", TEXTS)
def test_links_work_where_the_repository_is_not(text: str) -> None:
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / text).read_text())
    assert links
    for link in links:
        assert link.startswith("https://"), f"{link} leads nowhere on PyPI"
        place = re.fullmatch(rf"{re.escape(SOURCE)}/(?:blob|tree)/main/(.+)", link)
        assert place is None or (ROOT / place[1]).exists(), f"{link} names no file"


def test_extras_are_for_users_and_groups_for_who_works_on_it() -> None:
    groups = SETTINGS["dependency-groups"]
    assert {*groups} == {"dev", "docs", "benches", "dist"}
    assert not {*groups} & {*PROJECT["optional-dependencies"]}
    # The Makefile reads them without a resolver of its own.
    assert all(isinstance(line, str) for group in groups.values() for line in group)


def test_the_changelog_has_the_place_where_notes_are_put() -> None:
    assert SETTINGS["tool"]["towncrier"]["start_string"] in (ROOT / "CHANGELOG.md").read_text()


def test_one_place_is_the_projects_home() -> None:
    assert all(
        url.startswith(SOURCE) for name, url in PROJECT["urls"].items() if name != "Documentation"
    )
    for path in [*YAMLS, *map(ROOT.joinpath, TEXTS)]:
        homes = re.findall(r"https://github\.com/[\w.-]+/[\w.-]+", path.read_text())
        assert {home for home in homes if "tractor" in home} <= {SOURCE}, path


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.name)
def test_files_of_services_can_be_read(path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_workflows_run_targets_that_there_are() -> None:
    targets = {*re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)}
    texts = [path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yml")]
    used = {target for text in texts for target in re.findall(r"\bmake ([\w-]+)", text)}
    assert {"test", "check", "docs", "dist-check"} <= used <= targets


RUNS = """
test-version test:
\t@echo run >>runs; mkdir -p .pytest_cache/v/cache; echo '{{}}' >.pytest_cache/v/cache/lastfailed
\t@echo '$@ $(VENV) $(ARGS)' >>asked
\t@printf '%s\\n' {lines}; test $$(wc -l <runs) -gt {bad}
"""
"""Tests that say *lines* and fail the first *bad* times, and note what was asked for."""


@pytest.mark.skipif(sys.platform == "win32", reason="a script of bash")
@pytest.mark.parametrize(
    ("failing", "bad", "passes", "runs"),
    [
        pytest.param(0, 0, True, 1, id="none"),
        pytest.param(2, 1, True, 4, id="two that pass again"),
        pytest.param(1, 2, False, 2, id="one that fails again"),
        pytest.param(4, 1, False, 1, id="too many"),
        pytest.param(0, 1, False, 1, id="no test, but the run"),
    ],
)
def test_what_fails_in_ci_may_pass_three_times_more(
    failing: int, bad: int, passes: bool, runs: int, tmp_path: Path
) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "tests", tmp_path / ".ci")
    names = [f"tests/test_a.py::test_{number}[a b]" for number in range(failing)]
    lines = " ".join(f"'FAILED {name} - OSError: x'" for name in names) or "nothing"
    (tmp_path / "Makefile").write_text(RUNS.format(lines=lines, bad=bad))
    done = subprocess.run(
        [tmp_path / ".ci" / "tests", "test-version", "VENV=.v"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode == 0) is passes, done
    assert (tmp_path / "runs").read_text().count("run") == runs
    asked, *again = (tmp_path / "asked").read_text().splitlines()
    assert asked.split() == ["test-version", ".v"]
    # A set refuses names that it has and that were not collected, as all but those that failed.
    assert {line.split()[0] for line in again} <= {"test"}
    assert all(line.split()[1:3] == [".v", "--last-failed"] for line in again)
    assert ("FLAKY" in done.stdout) is bool(failing and passes)
    assert all(done.stdout.rstrip().endswith(name) for name in names[-1:] if passes)
