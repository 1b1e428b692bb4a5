"""Who is told of events: adding, removing, one that raises, headers and their bounds."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from ep_run import run

import tractor
from tractor.devx import Instrument, events
from tractor.runtime.seen._factories import checked_instruments
from tractor.runtime.seen._told import EVENTS, MAX_HEADER_BYTES, MAX_HEADERS, Told, read_headers

RUNG = events.Rung(1, "me", "child", "name", 2)
CALL = events.CallStarted(1, "me", ("me", 1), "caller", "peer", "p", "m:f", 1, "uds")


class Rungs(Instrument):
    def __init__(self) -> None:
        self.kept: list[events.Event] = []

    def rung(self, record: events.Rung) -> None:
        self.kept.append(record)


class Raises(Rungs):
    def rung(self, record: events.Rung) -> None:
        super().rung(record)
        raise LookupError("not this one")


def tell(told: Told, record: events.Rung = RUNG) -> None:
    if told.rung is not None:
        told.rung(record)


def test_there_is_a_method_and_a_record_for_each_event() -> None:
    methods = {name for name in vars(Instrument) if not name.startswith("_")}
    assert methods == {*EVENTS, "headers"}


def test_what_nobody_overrides_is_nobody() -> None:
    told = Told()
    assert {getattr(told, event) for event in EVENTS} == {None}
    told.add(Rungs())
    assert {event for event in EVENTS if getattr(told, event) is not None} == {"rung"}
    assert not told.dialogs


def test_added_twice_it_is_told_once_and_removed_no_more() -> None:
    told, one = Told(), Rungs()
    told.add(one)
    told.add(one)
    tell(told)
    told.remove(one)
    tell(told)
    assert one.kept == [RUNG]
    assert told.rung is None
    with pytest.raises(KeyError):
        told.remove(one)


def test_what_is_no_instrument_is_refused() -> None:
    with pytest.raises(TypeError, match=r"'x' is not an instrument: derive its class from"):
        Told().add("x")  # type: ignore[arg-type]


def test_one_that_raises_is_removed_with_its_traceback_in_the_log_and_the_others_are_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("tractor"), "propagate", True)
    told, bad, good = Told(), Raises(), Rungs()
    told.add(bad)
    told.add(good)
    with caplog.at_level("ERROR"):
        tell(told)
        tell(told)
    assert (bad.kept, good.kept) == ([RUNG], [RUNG, RUNG])
    assert told.instruments == (good,)
    (said,) = [one for one in caplog.records if "instrument" in one.getMessage()]
    assert "Raises has raised in `rung()`" in said.getMessage()
    assert said.exc_info is not None
    assert isinstance(said.exc_info[1], LookupError)


def test_instruments_come_and_go_while_one_is_told() -> None:
    """Who is told of an event was fixed when it happened."""
    told, other, late = Told(), Rungs(), Rungs()

    class Changes(Instrument):
        def rung(self, record: events.Rung) -> None:
            told.remove(self)
            told.remove(other)
            told.add(late)

    told.add(Changes())
    told.add(other)
    tell(told)
    tell(told)
    assert (len(other.kept), len(late.kept)) == (1, 1)


def test_a_method_of_the_object_itself_counts() -> None:
    told, kept = Told(), list[Any]()
    one: Any = Instrument()
    one.rung = kept.append
    told.add(one)
    tell(told)
    assert kept == [RUNG]


# -- headers --


class Sends(Instrument):
    def __init__(self, headers: Any) -> None:
        self._headers = headers

    def headers(self, _record: Any) -> Mapping[str, str] | None:
        if isinstance(self._headers, Exception):
            raise self._headers
        return self._headers  # type: ignore[no-any-return]


def sent(*given: Any) -> tuple[dict[str, str] | None, int]:
    told = Told()
    for one in given:
        told.add(Sends(one))
    assert told.dialogs
    return told.headers(CALL), told.headers_dropped


def test_headers_of_all_instruments_are_joined() -> None:
    assert sent({"a": "1"}, None, {"b": "2", "a": "3"}) == ({"a": "3", "b": "2"}, 0)
    assert sent({}) == (None, 0)


def test_headers_over_the_limits_are_dropped_and_counted() -> None:
    many, dropped = sent({str(n): "x" for n in range(MAX_HEADERS + 5)})
    assert many is not None
    assert (len(many), dropped) == (MAX_HEADERS, 5)
    assert sent({"a": "x" * MAX_HEADER_BYTES, "b": "y"}) == ({"b": "y"}, 1)
    # Bytes, not characters.
    assert sent({"a": "\u20ac" * (MAX_HEADER_BYTES // 2)}) == (None, 1)


def test_headers_that_are_no_text_are_dropped_and_counted() -> None:
    assert sent({"a": 1, 2: "b", "c": "d"}) == ({"c": "d"}, 2)


def test_an_instrument_whose_headers_fail_is_removed() -> None:
    assert sent(LookupError("no"), {"a": "b"}) == ({"a": "b"}, 0)
    assert sent(["no mapping"], {"a": "b"}) == ({"a": "b"}, 0)


@pytest.mark.parametrize(
    "came",
    [
        None,
        7,
        [],
        {},
        {"a": 1},
        {1: "a"},
        {str(n): "" for n in range(MAX_HEADERS + 1)},
        {"a": "x" * MAX_HEADER_BYTES},
    ],
    ids=repr,
)
def test_headers_of_a_peer_that_are_none(came: Any) -> None:
    assert read_headers(came) is None


def test_headers_of_a_peer() -> None:
    assert read_headers({"a": "b"}) == {"a": "b"}


# -- what a root is given --


class Given(list[Any]):
    """Not a list, but as good."""


def test_what_a_root_may_be_given() -> None:
    one = Rungs()
    assert checked_instruments(Given([one, "pkg.mod:make"])) == (one, "pkg.mod:make")


@pytest.mark.parametrize("given", ["pkg:make", Rungs(), 7, [7]], ids=["text", "one", "7", "[7]"])
def test_what_is_no_list_of_instruments_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="`instruments` is a list of instruments"):
        checked_instruments(given)


def test_a_factory_is_named_by_module_and_function() -> None:
    async def main() -> None:
        async with tractor.open_root_actor(instruments=["pkg.make"]):
            pass

    with pytest.raises(ValueError, match=r"'pkg\.make' is not a namespace path"):
        run(main)


def test_importing_the_package_loads_nothing_of_it() -> None:
    code = (
        "import sys, tractor; print([m for m in sys.modules if 'runtime.seen' in m or 'devx' in m])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True
    )
    assert done.stdout == "[]\n"


@pytest.fixture(autouse=True)
def unchanged() -> Iterator[None]:
    """Nothing of this is of the process."""
    yield
    from tractor.runtime.seen._told import TOLD

    assert TOLD.instruments == ()
