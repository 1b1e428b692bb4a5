from __future__ import annotations

import sys
import threading
from types import ModuleType
from typing import Any

import pytest

from tractor._util import _mains
from tractor._util._mains import load_main_later, main_modules
from tractor.msg import NamespacePath

HIDDEN = {"__name__": "__main__", "main_modules": main_modules, "NamespacePath": NamespacePath}


@pytest.fixture
def mains(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    monkeypatch.delitem(sys.modules, "__mp_main__", raising=False)
    monkeypatch.setattr(_mains._load, "value", None)
    return module


def test_a_main_that_only_runs_is_found_by_its_frames(mains: ModuleType) -> None:
    space: dict[str, Any] = dict(HIDDEN)
    exec(
        "def work(): ...\n"
        "found = main_modules()\n"
        "path = NamespacePath.from_ref(work)\n"
        "same = path.load_ref() is work\n",
        space,
    )
    assert space["same"]
    assert space["found"][0] is mains
    assert vars(space["found"][1]) is space
    assert all(vars(module) is not space for module in main_modules()), "it is over"


def test_what_is_registered_comes_first(mains: ModuleType) -> None:
    mains.work = registered = lambda: None  # type: ignore[attr-defined]
    space: dict[str, Any] = dict(HIDDEN)
    exec("def work(): ...\nfound = NamespacePath('__main__:work').load_ref()\n", space)
    assert space["found"] is registered


def test_a_main_is_loaded_when_it_is_first_asked_for(mains: ModuleType) -> None:
    loads: list[str] = []

    def load() -> None:
        loads.append(threading.current_thread().name)
        main_modules()  # As its own code may.
        mains.work = load  # type: ignore[attr-defined]

    load_main_later(load)
    assert loads == []
    threads = [
        threading.Thread(target=NamespacePath("__main__:work").load_ref, name="first")
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert NamespacePath("__mp_main__:work").load_ref() is load
    assert loads == ["first"]
    load_main_later(None)
    assert main_modules()[0] is mains
