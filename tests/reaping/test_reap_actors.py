"""Which processes are taken for actors, as far as their looks go."""

from __future__ import annotations

import os

import pytest

from tractor.process.sentinel import _sentinel
from tractor.reaping import _actors
from tractor.reaping._actors import actor_name, is_actor, is_child_command, is_sentinel
from tractor.reaping._table import ProcessInfo, descendants

SETS_PATH = "import sys; sys.path[:] = ['/x']; from tractor._child import main; main(sys.argv[3:])"


def looks(
    *argv: str,
    comm: str = "python3",
    pid: int = 77,
    ppid: int = 1,
    uid: int | None = None,
    is_zombie: bool = False,
) -> ProcessInfo:
    own = os.getuid() if hasattr(os, "getuid") else None
    return ProcessInfo(pid, ppid, own if uid is None else uid, 1.0, comm, argv, is_zombie)


@pytest.fixture(autouse=True)
def all_are_python_and_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_actors, "runs_python", lambda process: True)
    monkeypatch.setattr(_actors, "in_own_namespace", lambda process: True)


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "tractor._child"],
        ["-m", "tractor._child", "--uid", "x"],
        ["-mtractor._child"],
        ["-E", "-P", "-m", "tractor._child"],
        ["-Im", "tractor._child"],
        ["-X", "utf8", "-W", "error", "-m", "tractor._child"],
        ["-Xdev", "-Werror", "-OO", "-m", "tractor._child"],
        ["--check-hash-based-pycs", "always", "-m", "tractor._child"],
        ["-Wd", "-c", SETS_PATH, "-m", "tractor._child", "--uid", "x"],
    ],
)
def test_command_lines_of_actors(words: list[str]) -> None:
    assert is_child_command(["python", *words])
    assert is_actor(looks("python", *words))


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["python"],
        ["python", "-m"],
        ["python", "-m", "other._child"],
        ["python", "-m", "tractor"],
        ["python", "-m", "tractor._child2"],
        ["python", "-m", "pytest", "-m", "tractor._child"],
        ["python", "tractor._child"],
        ["python", "tractor/_child.py", "-m", "tractor._child"],
        ["python", "script.py", "-m", "tractor._child"],
        ["python", "-c", "pass", "-m", "tractor._child"],
        ["python", "-Ic", "pass", "-m", "tractor._child"],
        ["python", "-", "-m", "tractor._child"],
        ["python", "-c", SETS_PATH, "-m", "pytest", "tractor._child"],
        ["python", "-c", SETS_PATH],
        ["python", "-c", SETS_PATH + "; x()", "-m", "tractor._child"],
        ["python", "--", "-m", "tractor._child"],
        ["python", "-X", "-m", "tractor._child"],
        ["python", "-W", "-m", "-m", "other"],
        ["vim", "tractor._child.py"],
        ["grep", "-r", "_subactor["],
        ["tail", "-f", "_subactor[a@77]"],
    ],
)
def test_command_lines_that_only_look_alike(argv: list[str]) -> None:
    assert not is_child_command(argv)
    assert not is_actor(looks(*argv))


@pytest.mark.parametrize(
    ("title", "found"),
    [
        ("_subactor[worker@77]", True),
        ("_subactor[a @ b@77]", True),
        ("_subactor[@77]", True),
        ("_subactor[worker@78]", False),  # of the actor that forked it
        ("_subactor[worker@770]", False),
        ("_subactor[worker]", False),
        ("_subactor[worker@77", False),
        ("_subactor[worker@77] and more", False),
        ("x_subactor[worker@77]", False),
    ],
)
def test_titles(title: str, found: bool) -> None:
    assert is_actor(looks(title)) is found
    # What a title says, a short name cut from it does not overrule.
    assert is_actor(looks(title, comm="_subactor[worke")) is (found or title[0] == "x")


@pytest.mark.parametrize(
    ("comm", "found"),
    [
        ("_subactor[abcde", True),
        ("_subactor[a@77]", True),
        ("_subactor[a@78]", False),
        ("_subactor[a", False),
        ("python3", False),
        ("subactor", False),
    ],
)
def test_short_names(comm: str, found: bool) -> None:
    assert is_actor(looks(comm=comm)) is found
    assert is_actor(looks("python", "app.py", comm=comm)) is found


def test_no_interpreter_no_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in (False, None):
        monkeypatch.setattr(_actors, "runs_python", lambda process, answer=answer: answer)
        assert not is_actor(looks("python", "-m", "tractor._child"))


def test_a_containers_actor_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_actors, "in_own_namespace", lambda process: False)
    assert not is_actor(looks("python", "-m", "tractor._child"))


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no users")
def test_another_users_actor_is_none_of_ours() -> None:
    assert not is_actor(looks("python", "-m", "tractor._child", uid=os.getuid() + 1))


def test_a_zombie_is_no_actor() -> None:
    assert not is_actor(looks(comm="_subactor[abcde", is_zombie=True))


SENTINEL = str(_sentinel.PROGRAM)


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        (["python", "-I", "-S", SENTINEL, "12"], True),
        (["python", "-I", "-S", "-c", f"import sys{_sentinel.ARCHIVED_MAIN}", "12"], True),
        (["python", "-I", "-S", "-c", "import sys", "12"], False),
        (["python", "-I", "-S", SENTINEL], False),
        (["python", "-I", "-S", SENTINEL, "twelve"], False),
        (["python", "-I", "-S", SENTINEL, "12", "13"], False),
        (["python", "-I", "-S", "/lib/other/_sentinel_main.py", "12"], False),
        (["python", "-I", "-S", f"{SENTINEL}c", "12"], False),
        (["python", "-c", "-S", SENTINEL, "12"], False),
        (["vim", SENTINEL], False),
    ],
)
def test_sentinels(argv: list[str], found: bool) -> None:
    assert is_sentinel(looks(*argv)) is found
    assert not is_actor(looks(*argv))
    if found:
        assert actor_name(looks(*argv)) == "sentinel of 12"


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["_subactor[a @ b@77]"], "a @ b"),
        (["python", "-m", "tractor._child", "--uid", "('kim', 'abc')"], "kim"),
        (["python", "-m", "tractor._child", "--uid", "nonsense"], "python3"),
        (["python", "-m", "tractor._child", "--uid"], "python3"),
        ([], "python3"),
    ],
)
def test_names(argv: list[str], name: str) -> None:
    assert actor_name(looks(*argv)) == name


def test_descendants_are_told_level_by_level_whatever_the_table_is() -> None:
    parents = {1: 0, 10: 1, 11: 10, 12: 10, 13: 12, 20: 1, 30: 31, 31: 30, 40: 40}
    table = {pid: looks(pid=pid, ppid=ppid) for pid, ppid in parents.items()}
    assert [process.pid for process in descendants(table, 10)] == [11, 12, 13]
    assert descendants(table, 13) == []
    assert [process.pid for process in descendants(table, 30)] == [31]
    assert descendants(table, 40) == []
    assert {process.pid for process in descendants(table, 1)} == {10, 11, 12, 13, 20}
