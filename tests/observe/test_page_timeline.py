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
from ep_browser import browser, errors_of, needs_browser, nodes, wait
from ep_observe import fail, run
from ep_page import ask, entered, following, viewing

import tractor

for _name in ("starlette", "hypercorn", "selenium"):
    pytest.importorskip(_name, reason=f"needs {_name}")

from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

from tractor.control._client import runtime_dirs  # noqa: E402
from tractor.control._recording import AT_A_TIME  # noqa: E402
from tractor.observe.page._drawn import drawn  # noqa: E402
from tractor.observe.page._serve import Dash  # noqa: E402
from tractor.observe.tracing._collecting import Collector  # noqa: E402
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


def has_begun(collector: Collector) -> bool:
    return any(one.recorded is not None for one in collector._actors)


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
        async with (
            following(dash, secret, "/api/record", asked) as lines,
            trio.open_nursery() as tn,
        ):

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


def test_an_actor_that_is_recorded_as_often_as_it_may_be_says_so(forked_actors: None) -> None:
    async def test(dash: Dash, secret: str, portal: tractor.Portal) -> None:
        uuid = uuid_of(portal)
        others = [Collector(runtime_dirs(), {uuid}, 1000) for _ in range(AT_A_TIME)]
        async with trio.open_nursery() as tn:
            try:
                for one in others:
                    tn.start_soon(trio.to_thread.run_sync, one.run, LONG)
                while not all(has_begun(one) for one in others):
                    await trio.sleep(0.02)
                async with following(dash, secret, "/api/record", {"uuid": uuid}) as lines:
                    *_, (kind, data) = [line async for line in lines]
            finally:
                for one in others:
                    one.stop()
        for one in others:
            one.leave()
        assert kind == "failed"
        assert "traced@" in data["why"]
        assert f"{AT_A_TIME} recordings of this actor run already" in data["why"]

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
                while (
                    await ask(dash, "/api/record", "POST", body={}, secret=secret)
                ).status != 400:
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


# -- in a browser --


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@needs_browser
@pytest.mark.timeout(180)
def test_a_click_records_and_the_slices_are_seen_listed_and_saved(
    tmp_path: Path, forked_actors: None
) -> None:
    saved = tmp_path / "saved"

    async def main(an: tractor.ActorNursery, _: tractor.Portal) -> None:
        portal = await an.start_actor("traced", enable_modules=[traced.__name__, fail.__module__])
        dash = Dash(runtime_dirs(), str(os.getpid()), limit=20.0, recorded=LONG)
        async with dash.serving():
            is_over = trio.Event()
            async with trio.open_nursery() as tn:

                async def work() -> None:
                    await until_recorded(portal)
                    for _ in range(CALLS):
                        await portal.run(traced.nap, seconds=0.001)
                    with pytest.raises(tractor.RemoteActorError):
                        await portal.run(fail)
                    is_over.set()

                tn.start_soon(work)
                await trio.to_thread.run_sync(look, dash.new_address(), is_over)

    def look(address: str, is_over: trio.Event) -> None:
        with browser(tmp_path / "profile") as opened:
            opened.execute_cdp_cmd(
                "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(saved)}
            )
            opened.get(address)
            wait(lambda: "traced" in nodes(opened), "the tree")
            opened.find_element(By.CSS_SELECTOR, '#tree [data-name="traced"]').click()
            opened.find_element(By.ID, "record").click()
            assert opened.find_element(By.ID, "view-timeline").is_displayed()
            wait(lambda: "events" in opened.find_element(By.ID, "take-count").text, "it goes on")
            wait(is_over.is_set, "the calls")
            opened.find_element(By.ID, "take-stop").click()
            wait(opened.find_element(By.ID, "drawn").is_displayed, "the timeline")
            listed = [one.text for one in opened.find_elements(By.CSS_SELECTOR, "#slices button")]
            nap = f"{traced.__name__}:nap"
            assert sum(one.startswith(nap) for one in listed) == CALLS
            # What has failed is first, and has more than a colour.
            assert listed[0].startswith("▲ ")
            assert f"{fail.__module__}:fail" in listed[0]
            by_keys(opened, nap)
            colours(opened)
            opened.find_element(By.ID, "take-save").click()
            (path,) = wait(lambda: list(saved.glob("traced-*.json.gz")), "the file")
            records = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
            assert sum(one["name"] == nap and one["ph"] == "X" for one in records) == CALLS
            assert not opened.find_elements(By.ID, "cancel")
            narrow(opened)
            assert errors_of(opened) == []

    def by_keys(opened: Any, nap: str) -> None:
        """A slice of the list is led to, and told; the picture is zoomed and moved."""
        all_of_it = picture(opened)
        entry = opened.find_element(By.CSS_SELECTOR, "#slices button")
        entry.send_keys(Keys.ENTER)
        assert "outcome error" in opened.find_element(By.ID, "what").text
        assert picture(opened) != all_of_it
        lanes = opened.find_element(By.ID, "lanes")
        before = picture(opened)
        for key in ("+", "-", Keys.ARROW_RIGHT, Keys.ARROW_LEFT):
            lanes.send_keys(key)
        lanes.send_keys("+")
        assert picture(opened) != before
        lanes.send_keys("0")

    def colours(opened: Any) -> None:
        """An error has the danger colour, light and dark; the mouse says what is there."""
        for _ in range(2):
            assert opened.execute_script(HAS_COLOUR, "--bad")
            assert opened.execute_script(HAS_COLOUR, "--accent")
            opened.find_element(By.ID, "theme").click()
        tip = opened.execute_script(TIP)
        assert "m" in tip
        assert "traced[" in tip

    def narrow(opened: Any) -> None:
        opened.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True},
        )
        wide = "return document.documentElement.scrollWidth <= 360"
        for view in ("timeline", "tree"):
            opened.find_element(By.ID, f"tab-{view}").click()
            wait(lambda: opened.execute_script(wide), "it is as wide as a phone")
            assert not opened.find_element(By.ID, "tip").is_displayed()
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    run(main)


def picture(opened: Any) -> str:
    found: str = opened.execute_script("return document.getElementById('canvas').toDataURL()")
    return found


HAS_COLOUR = """
const wanted = getComputedStyle(document.documentElement).getPropertyValue(arguments[0]).trim();
const [r, g, b] = [1, 3, 5].map((i) => parseInt(wanted.slice(i, i + 2), 16));
const canvas = document.getElementById("canvas");
const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
for (let i = 0; i < data.length; i += 4) if (data[i] === r && data[i + 1] === g && data[i + 2] === b) return true;
return false;
"""

TIP = """
const canvas = document.getElementById("canvas"), box = canvas.getBoundingClientRect();
const tip = document.getElementById("tip");
for (let y = 20; y < box.height; y += 6) for (let x = 1; x < box.width; x += 3) {
  canvas.dispatchEvent(new MouseEvent("mousemove", {bubbles: true, clientX: box.left + x, clientY: box.top + y}));
  if (!tip.hidden) return tip.textContent;
}
return "";
"""


# -- what is drawn --


def recording(calls: int) -> Recording:
    """One whose calls take 1, 2, 3… µs, each after the other; the shortest is an error."""
    events: list[Any] = []
    time = 0
    for number in range(1, calls + 1):
        common: dict[str, Any] = {"actor": "a" * 32, "dialog": ("b" * 32, number)}
        common |= {"side": "callee", "function": f"m:f{number}"}
        peer: dict[str, Any] = {
            "peer": "b" * 32,
            "peer_name": "b",
            "transport": "uds",
            "kind": "call",
        }
        events.append(CallStarted(time=time, task=1 + number % 3, **common, **peer))
        time += 1000 * number
        outcome, error = ("error", "builtins:ValueError") if number == 1 else ("ok", None)
        more: dict[str, Any] = {"outcome": outcome, "error": error, "duration": 1000 * number}
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
