"""A real browser for a test, which leaves nothing behind; the mark `needs_browser` skips where there is none."""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

needs_browser = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None or importlib.util.find_spec("selenium") is None,
    reason="needs selenium, Chromium and its driver (`apt-get install chromium chromium-driver`)",
)
"""Of a test, before it opens anything else."""

PATIENCE = 40.0
"""Seconds that a busy machine may take for what is expected."""


@contextmanager
def browser(profile: Path, width: int = 1280, height: int = 900) -> Iterator[Any]:
    """One for the block.

    Args:
        profile: an empty directory.
        width, height: of its window.
    """
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    assert CHROMIUM is not None
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield opened
    finally:
        opened.quit()


def wait(met: Callable[[], Any], what: str) -> Any:
    """What ``met`` returns once that is true."""
    end = time.monotonic() + PATIENCE
    while True:
        found = met()
        if found:
            return found
        assert time.monotonic() < end, f"not in {PATIENCE:g} s: {what}"
        time.sleep(0.05)


def errors_of(opened: Any) -> list[str]:
    """What the console says is wrong."""
    return [one["message"] for one in opened.get_log("browser") if one["level"] == "SEVERE"]


NODES = """
return [...document.querySelectorAll('#tree .node')].map((n) =>
  ({name: n.dataset.name, pid: n.dataset.pid, state: n.dataset.state, y: n.getBoundingClientRect().top}));
"""


def nodes(opened: Any) -> dict[str, dict[str, Any]]:
    """What the tree shows, by name."""
    return {one["name"]: one for one in opened.execute_script(NODES)}


def rows(opened: Any) -> dict[str, dict[str, str]]:
    """What the table shows, by name and column."""
    found: list[dict[str, str]] = opened.execute_script(
        """
        const titles = [...document.querySelectorAll('#table th')].map((one) => one.textContent);
        return [...document.querySelectorAll('#table tbody tr')].map((row) =>
          Object.fromEntries([...row.cells].map((cell, i) => [titles[i], cell.textContent])));
        """
    )
    return {one["NAME"]: one for one in found}
