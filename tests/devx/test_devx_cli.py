"""Options of the runtime for a command line."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import trio

import tractor
from tractor.devx.cli import load_runtime_vars
from tractor.runtime._vars import reset_runtime_vars
from tractor.testing import get_rando_addr


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    logger = logging.getLogger("tractor")
    level, handlers = logger.level, list(logger.handlers)
    yield
    reset_runtime_vars()
    logger.setLevel(level)
    for handler in set(logger.handlers).difference(handlers):
        logger.removeHandler(handler)


def test_the_options_reach_the_command_and_the_root() -> None:
    ctx = SimpleNamespace(obj={"mine": 1})
    load_runtime_vars(ctx, pdb=True, loglevel="info")
    assert ctx.obj == {"mine": 1, "debug_mode": True, "loglevel": "info"}
    assert tractor.log.get_loglevel() == "info"

    async def main() -> bool:
        async with tractor.open_root_actor(registry_addrs=[get_rando_addr("tcp")]):
            return tractor.debug_mode()

    assert trio.run(main)
    # What was noted is for one root.
    assert not trio.run(main)


def test_without_options_nothing_changes() -> None:
    ctx = SimpleNamespace(obj=None)
    before = logging.getLogger("tractor").level
    load_runtime_vars(ctx)
    assert ctx.obj == {"debug_mode": False, "loglevel": None}
    assert logging.getLogger("tractor").level == before


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(Exception, match="unknown log level 'loud'"):
        load_runtime_vars(SimpleNamespace(obj=None), loglevel="loud")


def test_it_is_annotated_for_typer_also_without_it() -> None:
    parameters = inspect.signature(load_runtime_vars).parameters
    assert list(parameters) == ["ctx", "pdb", "loglevel"]


def test_typer_takes_it() -> None:
    typer = pytest.importorskip("typer")
    testing = pytest.importorskip("typer.testing")
    app = typer.Typer(callback=load_runtime_vars)

    def go(ctx: Any) -> None:
        print("OBJ", sorted(ctx.obj.items()))

    go.__annotations__["ctx"] = typer.Context
    app.command()(go)
    result = testing.CliRunner().invoke(app, ["--pdb", "-l", "info", "go"])
    assert result.exit_code == 0, result.output
    assert "OBJ [('debug_mode', True), ('loglevel', 'info')]" in result.output
