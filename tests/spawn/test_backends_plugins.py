"""Keys and the errors about them; backends that other packages add."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import ep_backends
import pytest
import trio

import tractor
from tractor import spawn
from tractor.spawn import _contract

TOY = """
from tractor.spawn._exec import ExecBackend

class Toy(ExecBackend):
    key = "toy"

class Picky(ExecBackend):
    key = "picky"
    def is_available(self):
        raise RuntimeError("spawn backend 'picky' needs better weather")

INSTANCE = Toy()
"""

ENTRIES = """[tractor.spawn_backends]
toy = toy_backend:Toy
made = toy_backend:INSTANCE
picky = toy_backend:Picky
broken = toy_backend:NotThere
odd = pathlib:Path
"""


@pytest.fixture(autouse=True)
def arguments_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the suite runs on another backend: the environment would beat `start_method`."""
    monkeypatch.delenv("TRACTOR_SPAWN_METHOD", raising=False)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that adds backends, some of them good for nothing."""
    (tmp_path / "toy_backend.py").write_text(TOY)
    info = tmp_path / "toy_backend-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-backend\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    _contract.forget_plugins()
    yield
    sys.modules.pop("toy_backend", None)
    _contract.forget_plugins()


def test_errors_name_what_can_be_run_here() -> None:
    usable = spawn.usable_start_methods()
    assert "trio" in usable
    for key, error in (
        ("nope", ValueError),
        ("subint_fork", NotImplementedError),
        ("subint_forkserver", NotImplementedError),
    ):
        with pytest.raises(error) as info:
            spawn.try_set_start_method(key)
        for one in usable:
            assert repr(one) in str(info.value)


def test_a_key_that_this_platform_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(RuntimeError, match=r"sys\.executable.*usable here: 'main_thread_fork"):
        _contract.get_backend("mp_spawn")


@pytest.mark.usefixtures("installed")
def test_added_backends_are_known_and_judged() -> None:
    assert {"toy", "picky", "broken", "odd", "made"} <= set(_contract.known_start_methods())
    assert "toy" in spawn.usable_start_methods()
    assert not {"picky", "broken", "odd", "made"} & set(spawn.usable_start_methods())
    assert _contract.get_backend("toy") is _contract.get_backend("toy")
    with pytest.raises(ValueError, match=r"'nope'.*'toy'"):
        _contract.get_backend("nope")
    with pytest.raises(RuntimeError, match="better weather; usable here"):
        _contract.get_backend("picky")
    with pytest.raises(ImportError, match=r"broken.*of toy-backend 1\.0.*NotThere"):
        _contract.get_backend("broken")
    with pytest.raises(ImportError, match="without 'key', 'is_available', 'start'"):
        _contract.get_backend("odd")
    with pytest.raises(ImportError, match="its key is 'toy'"):
        _contract.get_backend("made")


def test_entry_points_are_not_looked_for_without_need(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(**_: str) -> None:
        raise AssertionError("looked for")

    monkeypatch.setattr("importlib.metadata.entry_points", never)
    _contract.forget_plugins()
    assert _contract.get_backend("trio").key == "trio"
    with pytest.raises(AssertionError, match="looked for"):
        _contract.get_backend("something")


@pytest.mark.usefixtures("installed")
def test_an_added_backend_starts_children_and_theirs() -> None:
    async def main() -> None:
        with trio.fail_after(50):
            async with tractor.open_nursery(start_method="toy") as an:
                portal = await an.start_actor("x", enable_modules=["ep_backends"])
                chain = await portal.run(ep_backends.grow, depth=2)
                assert [method for _, method in chain] == ["toy"] * 3
                await portal.cancel_actor()

    trio.run(main)
