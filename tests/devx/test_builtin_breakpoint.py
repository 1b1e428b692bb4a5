"""The builtin ``breakpoint()`` while a runtime is open, and after."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import ep_sync_pause
import pytest
import trio

import tractor
from tractor.process._breakpoint import SYNC_PAUSE, greenback_is_there, own_breakpoint
from tractor.runtime._vars import runtime_vars

Settings = tuple[Any, str | None]


def settings() -> Settings:
    return sys.breakpointhook, os.environ.get("PYTHONBREAKPOINT")


@contextlib.asynccontextmanager
async def child(**kwargs: Any) -> AsyncIterator[tractor.Portal]:
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("kid", enable_modules=["ep_sync_pause"], **kwargs)
        yield portal
        await portal.cancel_actor()


@pytest.mark.parametrize("variable", [None, "0", "some.function"])
@pytest.mark.parametrize("target", [None, "os.getpid"])
def test_hook_and_variable_are_put_back(
    variable: str | None, target: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv("PYTHONBREAKPOINT", variable)
    before = settings()
    seen = []
    with contextlib.suppress(KeyError), own_breakpoint(target):
        seen.append(os.environ["PYTHONBREAKPOINT"])
        raise KeyError
    assert seen == [target or "0"]
    assert settings() == before


def test_breakpoint_calls_the_target_whatever_hook_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "breakpointhook", lambda: "another")
    with own_breakpoint("os.path.basename"):
        assert breakpoint("a/b") == "b"  # type: ignore[func-returns-value]
    assert breakpoint() == "another"  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("options", "hooked"),
    [
        ({}, False),
        ({"debug_mode": True}, True),
        ({"debug_mode": True, "maybe_enable_greenback": False}, False),
    ],
)
def test_in_root_and_child(options: dict[str, Any], hooked: bool) -> None:
    pytest.importorskip("greenback")
    before = settings()

    async def main() -> None:
        async with tractor.open_root_actor(**options), child() as portal:
            here = ep_sync_pause.hook_and_variable()
            assert here[1] == (SYNC_PAUSE if hooked else "0")
            assert runtime_vars().use_greenback is hooked
            there = await portal.run(ep_sync_pause.breakpoint_settings)
            assert tuple(there[:2]) == here
            if not hooked:
                with pytest.raises(RuntimeError, match="debug_mode=True"):
                    breakpoint()
                with pytest.raises(tractor.RemoteActorError, match="debug_mode=True") as caught:
                    await portal.run(ep_sync_pause.call_builtin)
                assert caught.value.boxed_type is RuntimeError
        assert settings() == before

    trio.run(main)


def test_one_armed_child_of_a_tree_that_is_not_armed() -> None:
    pytest.importorskip("greenback")

    async def main() -> None:
        async with tractor.open_root_actor(), child(debug_mode=True) as portal:
            assert os.environ["PYTHONBREAKPOINT"] == "0"
            _, variable, _ = await portal.run(ep_sync_pause.breakpoint_settings)
            assert variable == SYNC_PAUSE

    trio.run(main)


def test_it_is_put_back_after_a_crash() -> None:
    before = settings()

    async def main() -> None:
        async with tractor.open_root_actor():
            assert settings() != before
            raise ValueError("sorry")

    with pytest.raises(ValueError, match="sorry"):
        trio.run(main)
    assert settings() == before


def test_it_is_put_back_when_the_root_can_not_boot() -> None:
    before = settings()

    async def main() -> None:
        async with tractor.open_root_actor(enable_modules=["no_such_module_anywhere"]):
            raise AssertionError("unreachable")

    with pytest.raises(ModuleNotFoundError):
        trio.run(main)
    assert settings() == before


@pytest.fixture
def no_greenback(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were not installed."""
    find_spec = importlib_find_spec()
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *a: None if name == "greenback" else find_spec(name, *a),
    )


def importlib_find_spec() -> Any:
    import importlib.util

    return importlib.util.find_spec


@pytest.mark.usefixtures("no_greenback")
def test_without_greenback_it_is_said_once_and_boot_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(debug_mode=True, loglevel="warning"), child() as portal:
            assert runtime_vars().use_greenback is False
            assert os.environ["PYTHONBREAKPOINT"] == "0"
            with pytest.raises(RuntimeError, match="greenback"):
                breakpoint()
            with pytest.raises(RuntimeError, match="greenback"):
                tractor.pause_from_sync()
            # What the root has found out counts below.
            settings = await portal.run(ep_sync_pause.breakpoint_settings)
            assert tuple(settings) == ("_refuse", "0", False)

    trio.run(main)
    said = [
        r
        for r in caplog.records
        if "greenback" in r.getMessage() and "not installed" in r.getMessage()
    ]
    assert len(said) == 1
    assert not greenback_is_there()
