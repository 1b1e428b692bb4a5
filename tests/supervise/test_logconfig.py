"""How an actor logs: the level of its parent, and on request a `dictConfig` of its own."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import ep_life
import pytest
from ep_life_tools import start as start
from ep_supervise_tools import run

import tractor

HERE = ["ep_life"]


def to_file(path: Path, **more: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "formatters": {"plain": {"format": "%(levelname)s %(name)s: %(message)s"}},
        "handlers": {
            "file": {"class": "logging.FileHandler", "filename": str(path), "formatter": "plain"}
        },
        "loggers": {"shop": {"level": "INFO", "handlers": ["file"]}},
        **more,
    }


def test_a_configuration_is_in_force_before_any_module_is_imported(
    start: str, tmp_path: Path
) -> None:
    path = tmp_path / "log"

    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor(
                "it", enable_modules=["ep_logs_at_import", *HERE], logconfig=to_file(path)
            )
            await portal.run(ep_life.log_a_line, name="shop.orders")
            # By default it disables every logger that is there: the runtime's would be silent.
            assert await portal.run(ep_life.disabled_loggers) == []
            await portal.cancel_actor()

    run(main)
    assert path.read_text().splitlines() == [
        "INFO shop: imported",
        "INFO shop.orders: asked by a peer",
    ]


@pytest.mark.usefixtures("forked_actors")
def test_it_may_set_the_level_of_the_runtimes_loggers(tmp_path: Path) -> None:
    config = to_file(tmp_path / "log")
    config["loggers"]["tractor"] = {"level": "RUNTIME"}

    async def main() -> None:
        async with tractor.open_nursery(loglevel="warning") as an:
            portal = await an.start_actor("it", enable_modules=HERE, logconfig=config)
            config["loggers"].clear()
            assert await portal.run(ep_life.level_of, name="tractor") == 15
            assert await portal.run(ep_life.level_of, name="shop") == logging.INFO
            await portal.cancel_actor()

    run(main)


@pytest.mark.usefixtures("forked_actors")
def test_one_that_is_wrong_is_the_error_of_the_start(tmp_path: Path) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            with pytest.raises(tractor.RemoteActorError, match="no_such_handler") as caught:
                await an.start_actor(
                    "it",
                    logconfig={"version": 1, "root": {"handlers": ["no_such_handler"]}},
                )
            assert caught.value.boxed_type is ValueError

    run(main)


@pytest.mark.parametrize(
    "wrong", [7, "name", {"version": 1, "formatters": {"f": {"()": logging.Formatter}}}]
)
def test_one_that_can_not_travel_is_refused_here(wrong: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            with pytest.raises(TypeError, match="logconfig"):
                await an.start_actor("it", logconfig=wrong)
            assert an.statistics().spawned == 0

    run(main)


@pytest.fixture
def no_level() -> Any:
    logger = logging.getLogger("tractor")
    before = logger.level
    logger.setLevel(logging.NOTSET)
    yield logger
    logger.setLevel(before)


@pytest.mark.parametrize(
    ("own", "argument", "expected"),
    [
        (logging.NOTSET, None, logging.ERROR),
        # Set by the program, on the logger itself.
        (logging.CRITICAL, None, logging.CRITICAL),
        (logging.CRITICAL, "warning", logging.WARNING),
        # A number that has no name can't be handed down.
        (logging.CRITICAL + 3, None, logging.ERROR),
    ],
)
def test_the_level_of_the_parent_reaches_the_child(
    own: int, argument: str | None, expected: int, no_level: logging.Logger, forked_actors: None
) -> None:
    async def main() -> None:
        no_level.setLevel(own)
        async with tractor.open_nursery(loglevel=argument) as an:
            portal = await an.start_actor("it", enable_modules=HERE)
            assert await portal.run(ep_life.level_of, name="tractor") == expected
            await portal.cancel_actor()

    run(main)
