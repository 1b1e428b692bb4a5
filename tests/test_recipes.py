"""The programs of the how-to pages, as a user would run them."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tractor.testing import get_rando_addr

RECIPES = Path(__file__).resolve().parent.parent / "examples" / "recipes"
LIMIT = 50
"""Seconds that a program may take for anything; on a free machine it is less than two."""


def needs(*modules: str) -> pytest.MarkDecorator:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def get(port: int, path: str) -> tuple[int, str]:
    """What a browser gets: status and text."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=LIMIT) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def takes_connections(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def wait_until(port: int, *, open: bool) -> None:
    deadline = time.monotonic() + LIMIT
    while takes_connections(port) is not open:
        assert time.monotonic() < deadline, f"port {port} is not {'open' if open else 'closed'}"
        time.sleep(0.02)


def free_port() -> int:
    _, port = get_rando_addr("tcp")
    assert isinstance(port, int)
    return port


@contextlib.contextmanager
def served(*argv: str, port: int, cwd: Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    """A server that runs in the block, and takes connections when that begins."""
    with subprocess.Popen(
        argv,
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            wait_until(port, open=True)
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def ends(process: subprocess.Popen[str], pid: int) -> str:
    """Ask a server to end; what it has printed."""
    os.kill(pid, signal.SIGTERM)
    assert process.stdout is not None
    out = process.stdout.read()
    assert process.wait(LIMIT) == 0, out
    return out


def hypercorn(app: str, port: int) -> list[str]:
    bind = f"127.0.0.1:{port}"
    return [sys.executable, "-m", "hypercorn", "--worker-class", "trio", "--bind", bind, app]


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@needs("starlette", "hypercorn")
def test_a_web_service_with_starlette(tmp_path: Path) -> None:
    shutil.copy(RECIPES / "web_starlette.py", tmp_path)
    port = free_port()
    with served(*hypercorn("web_starlette:app", port), port=port, cwd=tmp_path) as process:
        status, text = get(port, "/primes/1000")
        assert (status, json.loads(text)["primes"]) == (200, 168), text
        worker = json.loads(text)["pid"]
        assert worker != process.pid
        ends(process, process.pid)
    assert is_gone(worker)


@needs("fastapi", "hypercorn")
def test_a_web_service_with_fastapi(tmp_path: Path) -> None:
    shutil.copy(RECIPES / "web_fastapi.py", tmp_path)
    port = free_port()
    with served(*hypercorn("web_fastapi:app", port), port=port, cwd=tmp_path) as process:
        answers = [json.loads(get(port, f"/visit/{name}")[1]) for name in ("ann", "ann", "bob")]
        assert [answer["visits"] for answer in answers] == [1, 2, 1]
        (counter,) = {answer["pid"] for answer in answers}
        # The state goes with the process; the service is back at once.
        os.kill(counter, signal.SIGKILL)
        deadline = time.monotonic() + LIMIT
        while (answer := get(port, "/visit/ann"))[0] != 200:
            assert time.monotonic() < deadline, answer
        assert json.loads(answer[1])["visits"] == 1
        ends(process, process.pid)
    assert is_gone(json.loads(answer[1])["pid"])


def as_first_process() -> list[str]:
    """What runs a command as the first process of a container is run; skips where that can't be."""
    before = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if shutil.which("unshare") is None or os.geteuid() != 0:
        pytest.skip("needs a pid namespace")
    if subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no pid namespaces here")
    return before


@needs("starlette", "hypercorn")
@pytest.mark.parametrize("contained", [False, True])
def test_a_drain_on_sigterm(contained: bool, tmp_path: Path) -> None:
    before = as_first_process() if contained else []
    port = free_port()
    command = [*before, sys.executable, str(RECIPES / "web_drain.py")]
    bind = f"127.0.0.1:{port}"
    with served(*command, port=port, cwd=tmp_path, BIND=bind) as process:
        answers: list[tuple[int, str]] = []
        slow = threading.Thread(target=lambda: answers.append(get(port, "/report/tea")))
        slow.start()
        assert process.stdout is not None
        lines = iter(process.stdout)
        while next(lines) != "a report on tea is asked for\n":
            pass
        pid = process.pid
        if contained:
            pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())
        out = ends(process, pid)
        slow.join(LIMIT)
    ((status, text),) = answers
    assert status == 200, out
    assert re.fullmatch(r"the report on tea, by process \d+", text)
    assert out.splitlines() == [
        "asked to end by SIGTERM",
        "all requests are answered",
        "all services have ended",
    ]
    assert not takes_connections(port)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("unit", ["recipes/web.service", "services/shop/shop.service"])
def test_systemd_finds_nothing_wrong_with_the_units(unit: str, tmp_path: Path) -> None:
    text = (RECIPES.parent / unit).read_text()
    # It looks whether the program is there.
    there, count = re.subn(r"/srv/\w+/venv/bin/\w+", sys.executable, text)
    assert count == 1
    file = tmp_path / Path(unit).name
    file.write_text(there)
    found = subprocess.run(
        ["systemd-analyze", "verify", str(file)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    if "Failed to" in found.stderr and file.name not in found.stderr:
        pytest.skip(f"it does not work here: {found.stderr}")
    assert (found.returncode, found.stderr) == (0, "")


def test_images_install_this_package_and_start_without_a_shell() -> None:
    for file in (RECIPES / "Dockerfile", RECIPES.parent / "services" / "shop" / "Dockerfile"):
        lines = dict(re.findall(r"^(\w+) (.*)$", file.read_text(), re.MULTILINE))
        assert " trio-tractor" in lines["RUN"]
        command = json.loads(lines["CMD"])
        for name in command[1:]:
            assert "." not in name or (file.parent / name).exists(), name


def test_the_tests_of_a_users_own_actors(tmp_path: Path) -> None:
    for file in (RECIPES / "testing").glob("*.py"):
        shutil.copy(file, tmp_path)
    options = ["-p", "tractor.testing.pytest", "-p", "no:cacheprovider", "-q"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    count = (RECIPES / "testing" / "test_stock.py").read_text().count("\ndef test_")
    count += (RECIPES / "testing" / "test_stock.py").read_text().count("\nasync def test_")
    assert f"{count} passed" in run.stdout


# In a process of its own: the client leaves sockets to the collector.
NOTEBOOK = """
import json, sys
import nbclient, nbformat

book = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(book, timeout=50, kernel_name="python3").execute()
print(json.dumps([
    out.get("text") or out["data"]["text/plain"]
    for cell in book.cells for out in cell.get("outputs", [])
]))
"""


@needs("nbclient", "ipykernel")
def test_the_notebook(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", NOTEBOOK, str(RECIPES / "notebook.ipynb")],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    assert json.loads(run.stdout) == ["[4, 168, 1229]", "tea 1\nrice 1\ntea 2\n"]


def test_the_page_of_notebooks_shows_its_cells() -> None:
    page = (RECIPES.parents[1] / "docs" / "guide" / "notebooks.rst").read_text()
    shown = [
        textwrap.dedent(block).strip()
        for block in re.findall(r"^::\n\n((?: {3}.*\n|\n)+)", page, re.MULTILINE)
    ]
    book = json.loads((RECIPES / "notebook.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
    assert shown == cells
