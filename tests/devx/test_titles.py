"""Process titles: which process is which."""

from __future__ import annotations

import builtins
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import ep_devx
import pytest
import trio

import tractor
from tractor.process import _title
from tractor.process._title import actor_title, set_actor_proctitle
from tractor.testing import get_rando_addr

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("worker", "_subactor[worker@7]"),
        ("a b", "_subactor[a b@7]"),
        ("näme", "_subactor[näme@7]"),
        ("x\0y\n\x1b[31m", "_subactor[x?y??[31m@7]"),
    ],
)
def test_what_a_title_is_like(name: str, title: str) -> None:
    assert actor_title(name, 7) == title


def test_without_the_library_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "setproctitle":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(_title, "set_title_without_library", lambda title: False, raising=False)
    assert set_actor_proctitle(SimpleNamespace(name="x", pid=1)) is None


def test_the_title_is_given_back() -> None:
    pytest.importorskip("setproctitle")
    code = (
        "from types import SimpleNamespace as N; from tractor.process._title import set_actor_proctitle as s;"
        "print(s(N(name='x', pid=1)), s(N(name='y', pid=2), prefix='_other'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "_subactor[x@1] _other[y@2]\n"


@linux_only
def test_an_actor_has_its_title_when_it_is_ready_and_the_root_keeps_its_own() -> None:
    pytest.importorskip("setproctitle")
    with open("/proc/self/comm") as file:
        own = file.read()

    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[get_rando_addr("tcp")]) as an:
            portal = await an.start_actor("titled", enable_modules=["ep_devx"])
            pid = await portal.run(ep_devx.pid)
            title, comm = await portal.run(ep_devx.title)
            await portal.cancel_actor()
        assert title == f"_subactor[titled@{pid}]"
        # The kernel keeps 15 bytes.
        assert comm == f"_subactor[titled@{pid}]"[:15]

    trio.run(main)
    with open("/proc/self/comm") as file:
        assert file.read() == own


@linux_only
def test_a_sub_interpreter_leaves_the_process_its_title() -> None:
    if "subint" not in tractor.spawn.usable_start_methods():
        pytest.skip("no sub-interpreters here")
    with open("/proc/self/comm") as file:
        own = file.read().strip()

    async def main() -> None:
        async with tractor.open_nursery(
            registry_addrs=[get_rando_addr("tcp")], start_method="subint"
        ) as an:
            portal = await an.start_actor("inside", enable_modules=["ep_devx"])
            _, comm = await portal.run(ep_devx.title)
            await portal.cancel_actor()
        assert comm == own

    trio.run(main)
