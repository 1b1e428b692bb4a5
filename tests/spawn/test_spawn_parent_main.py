from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tractor import RuntimeFailure, spawn
from tractor.spawn import _parent_main
from tractor.spawn._parent_main import apply_parent_main_data, get_parent_main_data

SRC = str(Path(spawn.__file__).parents[2])

# A main that prints what a child of it would be told.
MAIN = """
import sys, dataclasses, msgspec
from tractor.spawn._parent_main import get_parent_main_data
counter = 0
def endpoint():
    global counter
    counter += 1
    return __name__, counter
@dataclasses.dataclass
class Record:
    x: "int" = 1
args = list(sys.argv)
if __name__ == "__main__":
    inherit = "no" not in sys.argv
    asked = ["__main__"] if "asked" in sys.argv else []
    data = msgspec.msgpack.encode(get_parent_main_data(inherit, asked))
    sys.stdout.buffer.write(data)
"""

# A child that applies it and shows the result; then what its own child would be told.
CHILD = """
import sys, msgspec
from tractor.spawn._parent_main import apply_parent_main_data, get_parent_main_data
before = sys.modules["__main__"]
data = msgspec.msgpack.decode(sys.stdin.buffer.read())
apply_parent_main_data(data)
main = sys.modules["__main__"]
out = {"replayed": main is not before, "path": sys.path}
if main is not before:
    assert main is sys.modules["__mp_main__"]
    main.endpoint()
    out["endpoint"] = main.endpoint()
    out["counter"] = main.counter
    out["module"] = main.Record.__module__
    out["args"] = main.args
    again = get_parent_main_data(True, ["__main__"])
    out["again"] = again == data
print(msgspec.json.encode(out).decode())
"""


def env(*more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([SRC, *more])}


def parent(*command: str, cwd: Path, source: bytes | None = None) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=env(), input=source, stdout=-1, check=True
    )
    data: dict[str, Any] = msgspec.msgpack.decode(done.stdout)
    return data


def child(data: dict[str, Any], cwd: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        cwd=cwd,
        env=env(),
        input=msgspec.msgpack.encode(data),
        stdout=-1,
        check=True,
    )
    seen: dict[str, Any] = msgspec.json.decode(done.stdout)
    return seen


@pytest.fixture
def project(tmp_path: Path) -> Path:
    package = tmp_path / "project" / "pkg"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "mod.py").write_text(MAIN)
    (package / "__main__.py").write_text(MAIN)
    (tmp_path / "project" / "script.py").write_text(MAIN)
    (tmp_path / "project" / "bare").write_text(MAIN)
    (tmp_path / "project" / "__main__.py").write_text(MAIN)
    return tmp_path / "project"


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (["script.py"], "init_main_from_path"),
        (["bare"], "init_main_from_path"),
        (["-m", "pkg.mod"], "init_main_from_name"),
        (["-m", "script"], "init_main_from_name"),
    ],
)
def test_replayed(project: Path, tmp_path: Path, command: list[str], key: str) -> None:
    data = parent(*command, "an-argument", cwd=project)
    assert set(data) == {"sys_path", "sys_argv", "replay_main", key}
    assert data["replay_main"] is True
    # The child's directory is another one, and it is not the parent's main that it ran itself.
    seen = child(data, tmp_path)
    assert seen["replayed"]
    assert seen["endpoint"] == ["__mp_main__", 2]
    assert seen["counter"] == 2
    assert seen["module"] == "__mp_main__"
    assert seen["args"][1:] == ["an-argument"]
    assert seen["again"]
    assert str(project) in seen["path"]
    if key == "init_main_from_path":
        assert not (project / "__pycache__").exists()


@pytest.mark.parametrize(
    ("command", "source"),
    [
        (["-c", MAIN], None),
        (["-"], MAIN.encode()),
        (["script.py", "no"], None),
        (["-m", "pkg.mod", "no"], None),
    ],
)
def test_not_replayed(
    project: Path, tmp_path: Path, command: list[str], source: bytes | None
) -> None:
    data = parent(*command, cwd=project, source=source)
    assert set(data) == {"sys_path"}
    seen = child(data, tmp_path)
    assert not seen["replayed"]
    assert str(project) in seen["path"]


@pytest.mark.parametrize(
    ("command", "key"), [(["-m", "pkg"], "init_main_from_name"), (["."], "init_main_from_entry")]
)
def test_what_exists_to_be_run_is_replayed_only_if_it_is_asked_for(
    project: Path, tmp_path: Path, command: list[str], key: str
) -> None:
    data = parent(*command, cwd=project)
    assert set(data) == {"sys_path", "sys_argv", "replay_main", key}
    assert data["replay_main"] is False
    assert not child(data, tmp_path)["replayed"]
    data = parent(*command, "asked", cwd=project)
    seen = child(data, tmp_path)
    assert seen["endpoint"] == ["__mp_main__", 2]
    assert seen["again"]


@pytest.mark.usefixtures("_restored")
def test_child_that_has_nothing_of_main_hands_nothing_on() -> None:
    apply_parent_main_data({"sys_path": sys.path})
    assert set(get_parent_main_data(True)) == {"sys_path"}
    with pytest.raises(RuntimeFailure, match="started with `inherit_parent_main=False`"):
        get_parent_main_data(True, ["__main__"])


def test_main_that_is_enabled_but_not_inherited() -> None:
    with pytest.raises(ValueError, match="`inherit_parent_main=False` keeps"):
        get_parent_main_data(False, ["__main__"])


@pytest.fixture
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_parent_main._told, "value", None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))


@pytest.mark.usefixtures("_restored")
def test_failing_main_raises_its_own_error_and_changes_nothing(tmp_path: Path) -> None:
    script = tmp_path / "bad.py"
    script.write_text("raise LookupError('in main')\n")
    before = sys.modules["__main__"]
    data = {"sys_path": sys.path, "init_main_from_path": str(script), "sys_argv": []}
    with pytest.raises(LookupError, match="in main"):
        apply_parent_main_data({**data, "replay_main": True})
    assert sys.modules["__main__"] is before
    assert "__mp_main__" not in sys.modules


@pytest.mark.usefixtures("_restored")
def test_main_module_that_is_not_here() -> None:
    with pytest.raises(ImportError, match="'no_such_main' cannot be found"):
        apply_parent_main_data(
            {
                "sys_path": sys.path,
                "sys_argv": [],
                "init_main_from_name": "no_such_main",
                "replay_main": True,
            }
        )


@pytest.mark.usefixtures("_restored")
def test_names_that_are_no_utf8_and_relative_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", "sub", "/odd-\udcff", Path("/ignored")])
    data = get_parent_main_data(False)
    data = msgspec.msgpack.decode(msgspec.msgpack.encode(data))
    apply_parent_main_data(data)
    cwd = os.getcwd()
    assert sys.path == [cwd, os.path.join(cwd, "sub"), "/odd-\udcff"]
