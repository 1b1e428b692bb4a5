"""Takes the pictures of the guide, of a program that runs: ``make docs-pictures``.

    python tests/pictures/take_pictures.py [top] [dash] [trace] [pages]

``top``, ``dash`` and ``trace`` go into ``docs/pictures``; ``pages``, those of the documentation as ``make docs`` has
built it, into ``docs/_build/pictures``. Another picture is one more function in :data:`PICTURES`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent.parent / "docs"
PICTURED = DOCS / "pictures"
BUILT = DOCS / "_build"
PAGES = ("index.html", "guide/getting_started.html", "api/dialogs.html")
WIDTHS = {"wide": (1280, 800), "narrow": (390, 844)}
LARGEST = 200 * 1024
PATIENCE = 60.0
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def wait(met: Callable[[], Any], what: str) -> Any:
    """What ``met`` returns once that is true."""
    end = time.monotonic() + PATIENCE
    while not (found := met()):
        if time.monotonic() > end:
            raise SystemExit(f"not in {PATIENCE:g} s: {what}")
        time.sleep(0.1)
    return found


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium, driven."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        raise SystemExit(
            "this needs Chromium and its driver: apt-get install chromium chromium-driver"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        opened = webdriver.Chrome(options=options, service=Service(driver))
        try:
            yield opened
        finally:
            opened.quit()


@contextmanager
def program() -> Iterator[int]:
    """The program that is looked at, with a runtime directory of its own; its pid."""
    with tempfile.TemporaryDirectory() as space:
        os.environ["XDG_RUNTIME_DIR"] = space
        fifo = f"{space}/fifo"
        os.mkfifo(fifo)
        process = subprocess.Popen(
            [sys.executable, HERE / "pictured_program.py", fifo],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process.pid
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


@contextmanager
def dash(pid: int) -> Iterator[str]:
    """The page, served; its address."""
    command = [sys.executable, "-m", "tractor", "dash", "--control", str(pid)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def sized(opened: Any, width: int, height: int) -> None:
    """Have what is shown that size, whatever the window's frame takes."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def save(opened: Any, file: Path) -> None:
    """Write what is shown, within the bound."""
    file.parent.mkdir(parents=True, exist_ok=True)
    opened.save_screenshot(str(file))
    size = file.stat().st_size
    if size > LARGEST:
        raise SystemExit(f"{file} has {size} bytes; a picture has at most {LARGEST}")
    print(f"{file.relative_to(DOCS.parent)}: {size // 1024} KiB")


def take_dash(opened: Any, pid: int) -> None:
    """The page at both widths."""
    has = 'return !!document.querySelector(\'#tree [data-name="%s"][data-state="%s"]\')'
    for name, (width, height) in WIDTHS.items():
        with dash(pid) as address:
            sized(opened, width, height)
            opened.get(address)
            for actor, state in [
                ("feed.parse.0", "blocked"),
                ("report", "stopped"),
                ("feed", "run"),
            ]:
                is_so = partial(opened.execute_script, has % (actor, state))
                wait(is_so, f"{actor} is {state}")
            if name == "wide":
                opened.execute_script(
                    "document.querySelector('#tree [data-name=\"feed\"]')"
                    ".dispatchEvent(new MouseEvent('click', {bubbles: true}))"
                )
                wait(lambda: opened.find_element("id", "dialogs").text, "dialogs")
                # Two looks make a rate, and some make a line.
                time.sleep(5)
            save(opened, PICTURED / f"dash-{name}.png")


def take_top(opened: Any, pid: int) -> None:
    """The full screen, as its library draws it."""
    from tractor.cli.watch._top_app import Top
    from tractor.control._client import runtime_dirs
    from tractor.observe._assembling import assemble
    from tractor.observe._finding import Found, find
    from tractor.runtime.seen._samples import TreeSample

    def look() -> tuple[Found, TreeSample]:
        found = find(runtime_dirs())
        return found, assemble(found)

    async def drawn() -> str:
        app = Top(look, str(pid), interval=0.5)
        async with app.run_test(size=(112, 24)) as pilot:
            for _ in range(10):
                await pilot.pause(0.5)
            await pilot.press("down", "down", "down", "enter")
            for _ in range(4):
                await pilot.pause(0.5)
            return app.export_screenshot(title="tractor top")

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "top.svg")
        file.write_text(asyncio.run(drawn()))
        opened.get(file.as_uri())
        # As high as it is drawn.
        box = opened.execute_script(
            "return document.documentElement.viewBox.baseVal.height / document.documentElement.viewBox.baseVal.width"
        )
        sized(opened, 1280, round(1280 * box) + 4)
        save(opened, PICTURED / "top.png")


def take_trace(_opened: Any, pid: int) -> None:
    """What is recorded of the program, in Perfetto's viewer."""
    sys.path.insert(0, str(HERE.parent / "endpoints"))
    import ep_perfetto

    with tempfile.TemporaryDirectory() as folder, ep_perfetto.perfetto() as viewer:
        file = Path(folder, "trace.json.gz")
        command = [sys.executable, "-m", "tractor", "trace", str(pid), "--seconds", "6"]
        # It says by its status that one has told nothing: that which stands still as a whole.
        subprocess.run([*command, "-o", str(file)], check=False, stdout=subprocess.DEVNULL)
        opened = viewer.driver
        opened.set_window_size(1280, 800)
        sized(opened, 1280, 800)
        viewer.open(file)
        time.sleep(3)
        # It has looked for a trace at an address, too, and found none.
        opened.execute_script(
            "document.querySelectorAll('.modal-backdrop, .pf-modal-backdrop, dialog').forEach(e => e.remove());"
            "document.querySelector('.sidebar-button, .pf-sidebar__button, header button')?.click();"
            "for (let i = 0; i < 3; i++)"
            "  window.app.trace.workspaces.currentWorkspace.flatTracks.forEach(one => one.expand());"
            "window.app.raf?.scheduleFullRedraw();"
        )
        time.sleep(3)
        save(opened, PICTURED / "trace.png")


def take_pages(opened: Any, _pid: int) -> None:
    """The documentation's own."""
    if not (BUILT / "html").is_dir():
        print("the documentation is not built (`make docs`): no picture of its pages")
        return
    for page in PAGES:
        if not (BUILT / "html" / page).is_file():
            raise SystemExit(f"{page} is not there: `make docs` did not come to its end")
        for name, (width, height) in WIDTHS.items():
            sized(opened, width, height)
            opened.get((BUILT / "html" / page).as_uri())
            stem = page.removesuffix(".html").replace("/", "-")
            save(opened, BUILT / "pictures" / f"{stem}-{name}.png")


PICTURES: dict[str, Callable[[Any, int], None]] = {
    "top": take_top,
    "dash": take_dash,
    "trace": take_trace,
    "pages": take_pages,
}


def main(names: list[str]) -> None:
    """Take those, or all."""
    unknown = set(names) - PICTURES.keys()
    if unknown:
        raise SystemExit(f"there are no pictures {sorted(unknown)}, but {', '.join(PICTURES)}")
    with browser() as opened, program() as pid:
        for name in names or PICTURES:
            PICTURES[name](opened, pid)


if __name__ == "__main__":
    main(sys.argv[1:])
