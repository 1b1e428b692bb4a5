"""The page of ``tractor dash`` in a real browser."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from ep_browser import browser, errors_of, needs_browser, nodes, rows, wait
from ep_observe import listed, run, sample
from ep_page import MadeUp, served

import tractor

for _name in ("starlette", "hypercorn", "selenium"):
    pytest.importorskip(_name, reason=f"needs {_name}")

from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

from tractor.control._client import runtime_dirs  # noqa: E402
from tractor.observe._words import lag, per_cent, whole  # noqa: E402
from tractor.observe.page._serve import Dash  # noqa: E402

pytestmark = [
    needs_browser,
    pytest.mark.skipif(sys.platform != "linux", reason="/proc"),
    pytest.mark.timeout(180),
]


def status(opened: Any) -> str:
    text: str = opened.find_element(By.ID, "status").text
    return text


def test_what_is_shown_is_what_ps_says(tmp_path: Path, forked_actors: None) -> None:
    async def main(an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        others = [await an.start_actor(f"other{i}") for i in range(2)]
        pids: dict[str, Any] = {one.chan.aid.name: one.chan.aid.pid for one in others}  # type: ignore[union-attr]
        dash = Dash(runtime_dirs(), str(os.getpid()), limit=20.0)
        async with dash.serving():
            said = {one["name"]: one for one in await listed()}
            await trio.to_thread.run_sync(look, dash.new_address(), said, pids)

    def look(address: str, said: dict[str, Any], pids: dict[str, int]) -> None:
        with browser(tmp_path / "profile") as opened:
            opened.get(address)
            wait(lambda: len(nodes(opened)) == 4, "the tree")
            assert "#" not in opened.current_url
            shown = nodes(opened)
            assert {one: (n["pid"], n["state"]) for one, n in shown.items()} == {
                name: (str(one["pid"]), one["state"]) for name, one in said.items()
            }
            opened.find_element(By.ID, "tab-table").click()
            table = wait(lambda: rows(opened), "the table")
            for name in said.keys() - {"root"}:
                # The root serves the page here, and has more to do than before.
                one, row = said[name], table[name]
                assert row["PID"] == str(one["pid"])
                assert row["TASKS"] == whole(one["tasks"])
                assert row["CALL"] == whole(one["calls"])
                assert row["CTX"] == whole(one["contexts"])
                assert row["STR"] == whole(one["streams"])
                assert row["FILL"] == per_cent(one["fill"])
                assert row["RST"] == whole(one["restarts"]) == "-"
                assert row["LAG"] != lag(None)
            opened.find_element(By.ID, "tab-tree").click()
            os.kill(pids["other0"], signal.SIGSTOP)
            wait(lambda: nodes(opened)["other0"]["state"] == "stopped", "it is stopped")
            troubles = opened.find_element(By.ID, "list-of-troubles").text
            assert f"other0@{pids['other0']}" in troubles
            assert "SIGSTOP" in troubles
            os.kill(pids["other0"], signal.SIGCONT)
            wait(lambda: nodes(opened)["other0"]["state"] == "run", "it goes on")
            # A click says where its tasks are.
            node = opened.find_element(By.CSS_SELECTOR, '#tree [data-name="worker"]')
            node.click()
            opened.find_element(By.ID, "stacks").click()
            wait(
                lambda: "thread MainThread" in opened.find_element(By.ID, "text-body").text,
                "its stacks",
            )
            opened.find_element(By.ID, "text-body").send_keys(Keys.ESCAPE)
            assert not opened.find_elements(By.ID, "cancel")
            assert errors_of(opened) == []
            opened.refresh()
            # The tab keeps its secret.
            wait(lambda: len(nodes(opened)) == 4, "the tree again")
            opened.execute_script("sessionStorage.clear()")
            opened.get("about:blank")
            opened.get(address)
            door = wait(lambda: opened.find_element(By.ID, "door").text, "the door is shut")
            assert "press enter there for another" in door

    run(main)


def test_one_that_is_killed_goes_and_a_program_that_ends_stays_greyed(
    tmp_path: Path, forked_actors: None
) -> None:
    """A program of its own, since its nursery ends with the actor that is killed."""
    code = (
        "import trio, tractor\n"
        "async def main():\n"
        "    async with tractor.open_supervisor() as sup:\n"
        "        for name in ('one', 'two'):\n"
        "            await sup.start_service(name, enable_modules=['math'], restart='temporary')\n"
        "        print('up', flush=True)\n"
        "        await trio.sleep_forever()\n"
        "if __name__ == '__main__':\n"
        "    trio.run(main)\n"
    )
    program = tmp_path / "program.py"
    program.write_text(code)

    async def main() -> None:
        with trio.fail_after(150):
            async with trio.open_nursery() as tn:
                process = await tn.start(
                    lambda task_status: trio.run_process(
                        [sys.executable, str(program)],
                        stdout=subprocess.PIPE,
                        check=False,
                        task_status=task_status,
                    )
                )
                assert (await process.stdout.receive_some()) == b"up\n"
                dash = Dash(runtime_dirs(), str(process.pid), limit=20.0)
                async with dash.serving():
                    await trio.to_thread.run_sync(look, dash.new_address(), process.pid)

    def look(address: str, pid: int) -> None:
        with browser(tmp_path / "profile") as opened:
            opened.get(address)
            wait(lambda: len(nodes(opened)) == 3, "the tree")
            os.kill(int(nodes(opened)["one"]["pid"]), signal.SIGKILL)
            wait(lambda: set(nodes(opened)) == {"root", "two"}, "the killed one goes")
            # Its parent has told of it.
            wait(lambda: "one" in opened.find_element(By.ID, "latest").text, "the crash")
            os.kill(pid, signal.SIGTERM)
            banner = wait(lambda: opened.find_element(By.ID, "ended").text, "its end")
            assert f"the program root@{pid} has ended at" in banner
            assert {one["state"] for one in nodes(opened).values()} == {"ended"}
            assert {"root", "two"} <= set(nodes(opened))
            opened.find_element(By.CSS_SELECTOR, "#ended button").click()
            wait(lambda: not nodes(opened), "its last state is hidden")

    trio.run(main)


HOSTILE = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'


def test_names_are_texts_keys_lead_everywhere_and_a_hidden_tab_asks_nothing(
    tmp_path: Path,
) -> None:
    events = [
        {
            "number": 1,
            "time": 5.0,
            "kind": "child_gone",
            "child": HOSTILE,
            "error": "ValueError",
            "traceback": f"Traceback\n  {HOSTILE}\nValueError: {HOSTILE}",
            "status": 1,
        }
    ]
    looks = MadeUp(
        sample("root", "r", 1),
        sample("feed", "f", 2, "r", cpu=8.0, fill=98.0, restarts=2),
        sample("feed.0", "f0", 3, "f", state="blocked", why=HOSTILE),
        sample(HOSTILE, "h", 4, "r", host=HOSTILE, last_error=HOSTILE),
        sample("‮evil\x1b[31m", "e", 5, "r"),
        events=events,
    )

    async def main() -> None:
        async with served(looks, control=True) as (dash, _):
            await trio.to_thread.run_sync(look, dash.new_address())

    def look(address: str) -> None:
        with browser(tmp_path / "profile") as opened:
            opened.get(address)
            wait(lambda: len(nodes(opened)) == 5, "the tree")
            assert HOSTILE in nodes(opened)
            assert status(opened).startswith("live")
            use_keys(opened)
            for tab in ("table", "crashes", "tree"):
                opened.find_element(By.ID, f"tab-{tab}").click()
                wait(opened.find_element(By.ID, f"view-{tab}").is_displayed, tab)
            opened.find_element(By.ID, "tab-crashes").click()
            wait(lambda: opened.find_elements(By.CSS_SELECTOR, "#events summary"), "an event")
            opened.find_element(By.CSS_SELECTOR, "#events summary").click()
            assert HOSTILE in opened.find_element(By.CSS_SELECTOR, "#events pre").text
            assert opened.execute_script("return window.hit") is None
            assert opened.execute_script("return document.images.length") == 0
            assert "�" not in opened.page_source
            assert "‮" not in opened.execute_script("return document.body.innerText")
            narrow(opened)
            assert errors_of(opened) == []
            hide(opened)

    def focused(opened: Any) -> str:
        found: str = opened.execute_script(
            "const a = document.activeElement; return a.dataset.name ?? a.id ?? '';"
        )
        return found

    def press(opened: Any, *keys: str) -> None:
        for key in keys:
            opened.switch_to.active_element.send_keys(key)

    def use_keys(opened: Any) -> None:
        """From the first key on, without a mouse."""
        for _ in range(30):
            press(opened, Keys.TAB)
            if focused(opened) == "root":
                break
        assert focused(opened) == "root"
        press(opened, Keys.END)
        assert focused(opened) == "feed.0"
        press(opened, Keys.ARROW_LEFT)
        assert focused(opened) == "feed"
        press(opened, Keys.ENTER)
        wait(lambda: "feed@2" in opened.find_element(By.ID, "who").text, "details")
        assert focused(opened) == "who"
        wait(lambda: "app:ticks" in opened.find_element(By.ID, "dialogs").text, "dialogs")
        wait(lambda: "24/s out" in opened.find_element(By.ID, "dialogs").text, "a rate")
        # What acts asks, and names whom; escape leaves it.
        opened.find_element(By.ID, "cancel").send_keys(Keys.ENTER)
        assert opened.find_element(By.ID, "confirm-title").text == "end feed@2?"
        assert "1 actors below" in opened.find_element(By.ID, "confirm-body").text
        assert focused(opened) == "confirm-no"
        press(opened, Keys.ESCAPE)
        assert not opened.find_element(By.ID, "confirm").is_displayed()
        press(opened, Keys.ESCAPE)
        assert not opened.find_element(By.ID, "details").is_displayed()
        assert focused(opened) == "feed"
        press(opened, "/")
        assert focused(opened) == "filter"
        press(opened, "feed.*")
        wait(lambda: set(nodes(opened)) == {"root", "feed", "feed.0"}, "those above a match stay")
        opened.find_element(By.ID, "filter").clear()
        opened.find_element(By.ID, "filter").send_keys(" ", Keys.BACKSPACE)
        wait(lambda: len(nodes(opened)) == 5, "all of them")
        opened.find_element(By.ID, "tab-tree").send_keys(Keys.ARROW_RIGHT)
        assert focused(opened) == "tab-table"
        for element in opened.find_elements(By.CSS_SELECTOR, "button, input, [role=treeitem]"):
            if element.is_displayed():
                assert element.accessible_name, element.get_attribute("outerHTML")

    def narrow(opened: Any) -> None:
        """On a phone nothing is wider than it."""
        for width in (360, 390):
            opened.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True},
            )
            for tab in ("tree", "table", "crashes"):
                opened.find_element(By.ID, f"tab-{tab}").click()
                wide = f"return document.documentElement.scrollWidth <= {width}"
                wait(partial(opened.execute_script, wide), f"{tab} is {width} wide")
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def hide(opened: Any) -> None:
        first = opened.current_window_handle
        opened.switch_to.new_window("tab")
        opened.get("about:blank")
        end = time.monotonic() + 40
        while True:
            before = looks.asked.total()
            time.sleep(2.5)
            if looks.asked.total() == before:
                break
            assert time.monotonic() < end, "a hidden tab asks"
        opened.switch_to.window(first)
        wait(lambda: looks.asked.total() > before, "it asks again")

    trio.run(main)
