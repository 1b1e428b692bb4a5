"""`tractor_test`, called by hand."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import trio

import tractor
from tractor.testing import get_rando_addr, tractor_test
from tractor.testing.hangs import _snapshot


@pytest.fixture(autouse=True)
def _not_in_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots that are made on purpose are not news for whoever runs these tests."""
    monkeypatch.setattr(_snapshot, "_written", [])


def test_a_sync_function_is_refused() -> None:
    def not_async() -> None: ...

    for decorate in (tractor_test, tractor_test(timeout=3)):
        with pytest.raises(TypeError, match=r"'not_async' is none; define it with `async def`"):
            decorate(not_async)  # type: ignore[arg-type]


def test_what_the_test_takes_boots_its_root(reg_addr: tuple[Any, Any], tpt_proto: str) -> None:
    seen = []

    @tractor_test
    async def check(reg_addr: Any, loglevel: str, tpt_proto: str) -> None:
        """What it is about."""
        actor = tractor.current_actor()
        seen.append((actor.reg_addrs, actor.loglevel))
        assert tractor.get_runtime_vars()["_enable_tpts"] == [tpt_proto]

    check(reg_addr=reg_addr, loglevel="critical", tpt_proto=tpt_proto)
    assert seen == [([reg_addr], "critical")]
    assert tractor.current_actor(err_on_no_runtime=False) is None
    assert check.__doc__ == "What it is about."


def test_the_signature_is_that_of_the_test_and_a_request() -> None:
    @tractor_test
    async def plain(a: int, tmp_path: Path) -> None: ...

    @tractor_test
    async def with_request(request: object) -> None: ...

    @tractor_test
    async def with_any(**anything: object) -> None: ...

    assert list(inspect.signature(plain).parameters) == ["a", "tmp_path", "request"]
    assert list(inspect.signature(with_request).parameters) == ["request"]
    assert list(inspect.signature(with_any).parameters) == ["request", "anything"]


def test_a_test_that_hangs_is_ended_with_a_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ended = []

    @tractor_test(timeout=1.5)
    async def hang(reg_addr: Any) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(True)

    with pytest.raises(trio.TooSlowError):
        hang(reg_addr=get_rando_addr("tcp"))
    assert ended == [True]
    (found,) = (tmp_path / "tractor" / "hung-dumps").iterdir()
    assert found.name.startswith("hang__")
