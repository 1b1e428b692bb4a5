"""The timeline of the page: a recording at a click, drawn from the very records of the file that can be saved."""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ep_trace_tree as traced
import pytest
import trio
from ep_browser import browser, errors_of, nodes, wait
from ep_observe import fail, run
from ep_page import ask, entered, following, viewing

import tractor

for _name in ("starlette", "hypercorn"):
    pytest.importorskip(_name, reason=f"needs {_name}")

from tractor.control import _recording as at_the_actor  # noqa: E402
from tractor.control._client import runtime_dirs  # noqa: E402
from tractor.observe.page._drawn import drawn  # noqa: E402
from tractor.observe.page._serve import Dash  # noqa: E402
from tractor.observe.tracing._format import Trace  # noqa: E402
from tractor.observe.tracing._recorded import Recorded, Recording  # noqa: E402
from tractor.runtime.seen._events import CallEnded, CallStarted  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets")

CALLS = 7
LONG = 300.0
"""Seconds of a recording that is ended by something else."""

Test = Callable[[Dash, str, tractor.Portal], Awaitable[None]]


async def until_recorded(portal: tractor.Portal, expected: bool = True) -> None:
    while await portal.run(traced.is_recorded) is not expected:
        await trio.sleep(0.02)


def with_dash(test: Test, seconds: float = LONG) -> None:
    """Have a page without `--control`, its secret, and an actor of whom it knows."""

    async def main(an: tractor.ActorNursery, _: tractor.Portal) -> None:
        portal = await an.start_actor("traced", enable_modules=[traced.__name__, fail.__module__])
        dash = Dash(runtime_dirs(), str(os.getpid()), limit=20.0, recorded=seconds)
        async with dash.serving():
            secret = await entered(dash)
            async with known(dash, secret):
                await test(dash, secret, portal)

    run(main)


@asynccontextmanager
async def known(dash: Dash, secret: str) -> AsyncIterator[None]:
    """A look has been taken."""
    async with viewing(dash, secret, "tree") as states:
        async for kind, _ in states:
            if kind == "tree":
                break
        yield


def uuid_of(portal: tractor.Portal) -> str:
    assert portal.chan.aid is not None
    return portal.chan.aid.uuid


def slices(told: dict[str, Any]) -> list[tuple[str, str, bool, str]]:
    """Name, kind, whether it is an error, and the actor, of each slice that is drawn."""
    return [
        (told["names"][one[2]], told["cats"][one[3]], bool(one[5]), actor["title"])
        for actor in told["actors"]
        for row in actor["rows"]
        for one in row["slices"]
    ]


def test_calls_that_were_made_are_the_slices_of_the_page_and_of_the_file(
    forked_actors: None,
) -> None:
    async def test(dash: Dash, secret: str, portal: tractor.Portal) -> None:
        told: dict[str, Any] = {}
        kinds: Counter[str] = Counter()
        asked = {"uuid": uuid_of(portal)}
        async with following(dash, secret, "/api/record", asked) as lines, trio.open_nursery() as tn:

            async def work() -> None:
                await until_recorded(portal)
                for _ in range(CALLS):
                    await portal.run(traced.nap, seconds=0.001)
                with pytest.raises(tractor.RemoteActorError):
                    await portal.run(fail)
                await ask(dash, "/api/record/stop", "POST", body={}, secret=secret)

            tn.start_soon(work)
            async for kind, data in lines:
                kinds[kind] += 1
                if kind == "recording":
                    assert 0 < data["left"] <= LONG
                told = data
        assert kinds["timeline"] == 1, told
        assert kinds["recording"] >= 1
        found = slices(told)
        served = [one for one in found if one[:2] == (f"{traced.__name__}:nap", "call.served")]
        assert len(served) == CALLS
        assert {(is_bad, title.partition("[")[0]) for *_, is_bad, title in served} == {
            (False, "traced")
        }
        (failed,) = [one for one in found if one[0] == f"{fail.__module__}:fail"]
        assert failed[1:3] == ("call.served", True)
        assert (told["left_out"], told["lost"], told["missing"]) == (0, 0, [])
        # The file is whole, and has what is drawn.
        got = await ask(
            dash, "/api/record/file", "POST", body={"number": told["number"]}, secret=secret
        )
        assert got.status == 200
        assert got.headers["content-type"] == "application/gzip"
        assert 'filename="traced-' in got.headers["content-disposition"]
        assert len(got.body) == told["file"]["bytes"]
        file = json.loads(gzip.decompress(got.body))
        assert file["metadata"]["made-by"].startswith("tractor trace ")
        assert [one["name"] for one in file["metadata"]["actors"]] == ["traced"]
        records = [one for one in file["traceEvents"] if one["ph"] in ("X", "b", "i")]
        assert Counter(one["name"] for one in records) == Counter(name for name, *_ in found)
        assert told["slices"] == len(records)

    with_dash(test)


def test_who_may_not_record_is_told_why(forked_actors: None) -> None:
    async def test(dash: Dash, secret: str, portal: tractor.Portal) -> None:
        uuid = uuid_of(portal)
        for path in ("/api/record", "/api/record/stop", "/api/record/file"):
            assert (await ask(dash, path, "POST", body={"uuid": uuid, "number": 1})).status == 401
            assert (await ask(dash, path, "GET", secret=secret)).status == 405
        assert await portal.run(traced.is_recorded) is False

        async def answer(path: str, **body: Any) -> tuple[int, str]:
            got = await ask(dash, path, "POST", body=body, secret=secret)
            return got.status, got.json["error"]

        assert await answer("/api/record", uuid="nobody") == (409, "there is no such actor")
        assert (await answer("/api/record"))[0] == 400
        assert (await answer("/api/record/file", number="1"))[0] == 400
        assert "record again" in (await answer("/api/record/file", number=1))[1]
        async with following(dash, secret, "/api/record", {"uuid": uuid}):
            await until_recorded(portal)
            status, why = await answer("/api/record", uuid=uuid)
            assert status == 409
            assert why.startswith("a recording of traced@")

    with_dash(test)


def test_an_actor_that_is_recorded_as_often_as_it_may_be_says_so(
    monkeypatch: pytest.MonkeyPatch, forked_actors: None
) -> None:
    # Forked actors have it as well.
    monkeypatch.setattr(at_the_actor, "AT_A_TIME", 0)

    async def test(dash: Dash, secret: str, portal: tractor.Portal) -> None:
        asked = {"uuid": uuid_of(portal)}
        async with following(dash, secret, "/api/record", asked) as lines:
            *_, (kind, data) = [line async for line in lines]
        assert kind == "failed"
        assert "traced@" in data["why"]
        assert "record" in data["why"]

    with_dash(test, seconds=1.0)


def test_nothing_stays_on_when_the_page_is_closed(forked_actors: None) -> None:
    async def test(dash: Dash, secret: str, portal: tractor.Portal) -> None:
        asked = {"uuid": uuid_of(portal)}
        for _ in range(2):
            # The second time it is free again.
            async with following(dash, secret, "/api/record", asked) as lines:
                assert (await anext(lines))[0] == "recording"
                await until_recorded(portal)
            await until_recorded(portal, False)
            with trio.fail_after(30):
                while (await ask(dash, "/api/record", "POST", body={}, secret=secret)).status != 400:
                    await trio.sleep(0.02)

    with_dash(test)


def test_nothing_stays_on_when_the_command_ends(forked_actors: None) -> None:
    async def main(an: tractor.ActorNursery, _: tractor.Portal) -> None:
        portal = await an.start_actor("traced", enable_modules=[traced.__name__])
        dash = Dash(runtime_dirs(), str(os.getpid()), limit=20.0, recorded=LONG)
        async with dash.serving():
            secret = await entered(dash)
            async with known(dash, secret):
                asked = {"uuid": uuid_of(portal)}
                async with following(dash, secret, "/api/record", asked) as lines:
                    assert (await anext(lines))[0] == "recording"
                    await until_recorded(portal)
        await until_recorded(portal, False)

    run(main)


# -- what is drawn --


def recording(calls: int) -> Recording:
    """One whose calls take 1, 2, 3… µs, each after the other; the shortest is an error."""
    events: list[Any] = []
    time = 0
    for number in range(1, calls + 1):
        common: dict[str, Any] = {"actor": "a" * 32, "dialog": ("b" * 32, number)}
        common |= {"side": "callee", "peer": "b" * 32, "peer_name": "b", "function": f"m:f{number}"}
        common |= {"task": 1 + number % 3, "kind": "call", "transport": "uds"}
        events.append(CallStarted(time=time, **common))
        time += 1000 * number
        outcome = "error" if number == 1 else "ok"
        more = {"outcome": outcome, "duration": 1000 * number}
        events.append(CallEnded(time=time, **common, **more))
    actor = Recorded("a", "a" * 32, 7, "h", None, 0, time, events=events)
    return Recording(1.0, "h", 0, time, [actor])


def test_of_too_many_the_errors_and_the_longest_are_drawn_and_the_others_counted() -> None:
    trace = Trace(recording(30))
    told = drawn(trace)
    assert (told["slices"], told["left_out"], told["rows_left_out"]) == (30, 0, 0)
    assert len(told["actors"][0]["rows"]) == 3
    fewer = drawn(trace, most=4)
    assert (fewer["slices"], fewer["left_out"]) == (4, 26)
    assert {name for name, *_ in slices(fewer)} == {"m:f1", "m:f28", "m:f29", "m:f30"}
    assert [name for name, _, is_bad, _ in slices(fewer) if is_bad] == ["m:f1"]
    one_row = drawn(trace, most_rows=1)
    assert (one_row["slices"], one_row["left_out"], one_row["rows_left_out"]) == (10, 20, 2)
