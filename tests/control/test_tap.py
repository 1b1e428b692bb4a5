"""Log records for somebody at another terminal; nothing else changes for the handlers of the actor itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from tractor import log as _log
from tractor.control._tap import LEASE, MOST, Tap


class Own(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@pytest.fixture
def own() -> Iterator[Own]:
    """The program's handler; its level is `warning`, that of one part `info`."""
    logger, part = logging.getLogger("tractor"), logging.getLogger("tractor.some_part")
    before, handler = logger.level, Own()
    logger.setLevel("WARNING")
    part.setLevel("INFO")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    part.setLevel(logging.NOTSET)
    logger.setLevel(before)


def test_records_of_a_lower_level_reach_nobody_else(own: Own) -> None:
    async def main() -> None:
        log, part = _log.get_logger("other_part"), _log.get_logger("some_part")
        tap = Tap(logging.DEBUG)
        log.debug("low")
        log.warning("high")
        part.info("its own level")
        told = tap.take()
        assert [one["text"] for one in told["records"]] == ["low", "high", "its own level"]
        assert (told["records"][0]["level"], told["dropped"]) == ("debug", 0)
        assert tap.take()["records"] == []
        tap.remove()
        log.debug("nobody's")
        log.warning("end")
        assert own.texts == ["high", "its own level", "end"]
        assert logging.getLogger("tractor").level == logging.WARNING

    trio.run(main)


def test_a_level_that_is_set_meanwhile_stays(own: Own) -> None:
    async def main() -> None:
        tap = Tap(logging.DEBUG)
        logging.getLogger("tractor").setLevel("INFO")
        tap.remove()
        assert logging.getLogger("tractor").level == logging.INFO

    trio.run(main)


def test_more_than_a_thousand_in_a_second_are_counted(
    own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tractor.control._tap.time.monotonic", lambda: 5.0)

    async def main() -> None:
        tap = Tap(logging.WARNING)
        for i in range(MOST + 7):
            _log.get_logger("other_part").warning("%d", i)
        told = tap.take()
        assert (len(told["records"]), told["dropped"]) == (MOST, 7)
        tap.remove()

    trio.run(main)


def test_it_ends_when_nobody_asks(own: Own) -> None:
    async def main() -> None:
        tap = Tap(logging.DEBUG)
        async with trio.open_nursery() as tn:
            tn.start_soon(tap.keep)
            await trio.sleep(LEASE - 1)
            tap.take()
            await trio.sleep(LEASE - 1)
            assert tap in logging.getLogger("tractor").handlers
        assert tap not in logging.getLogger("tractor").handlers
        assert logging.getLogger("tractor").level == logging.WARNING

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
