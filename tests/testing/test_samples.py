"""Sample messages, and the way to the example scripts."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from tractor.testing import _samples, examples_dir, generate_sample_messages, mk_cmd, repodir

ROOT = Path(__file__).resolve().parents[2]


def test_messages_are_numbered_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    messages, total = generate_sample_messages(3)
    assert messages == [b"[00000000]", b"[00000001]", b"[00000002]"]
    assert total == 30
    assert "3 sample messages, 30 bytes" in capsys.readouterr().out


def test_noise_has_its_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    messages, total = generate_sample_messages(200, rand_min=2, rand_max=5, silent=True)
    sizes = {len(message) - 10 for message in messages}
    assert sizes == {2, 3, 4, 5}
    assert total == sum(map(len, messages))
    assert capsys.readouterr().out == ""
    (exact,), _ = generate_sample_messages(1, rand_min=7, silent=True)
    assert len(exact) == 17


@pytest.mark.parametrize("wrong", [(-1, 0, 0), (1, -1, 0), (1, 5, 2), (1, 0, -3)])
def test_impossible_numbers_are_refused(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"can't make -?\d+ messages with -?\d+ to -?\d+"):
        generate_sample_messages(*wrong, silent=True)


def test_paths_are_those_of_the_checkout() -> None:
    assert repodir() == ROOT
    assert examples_dir() == ROOT / "examples"


def test_commands_run_a_script_with_this_python() -> None:
    assert shlex.split(mk_cmd("root_actor_error")) == [
        sys.executable,
        str(ROOT / "examples" / "debugging" / "root_actor_error.py"),
    ]
    assert mk_cmd("single_func", "parallelism").endswith("examples/parallelism/single_func.py")


def test_an_installed_copy_has_no_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_samples, "__file__", str(tmp_path / "a" / "b" / "c" / "_samples.py"))
    with pytest.raises(FileNotFoundError, match="pip install --editable"):
        repodir()
