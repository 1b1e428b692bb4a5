"""The files of the guide for systemd, docker and kubernetes: the commands in them are run as those would do it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ep_manager_tools import LIMIT, Run, notify_socket, running
from ep_manager_tools import run_dir as run_dir

SHOP = Path(__file__).parents[2] / "examples" / "services" / "shop"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd and containers")


@pytest.fixture
def shop(tmp_path: Path) -> tuple[Path, str, int]:
    """A directory with the example, the text of its file, and the port that it listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    shutil.copy(SHOP / "shop.py", tmp_path)
    text = (SHOP / "shop.toml").read_text().replace("8080", str(port))
    return tmp_path, text.replace("/unix/tmp", f"/unix{tmp_path}"), port


def _visit(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with sock.makefile("rb") as file:
            return file.read().decode().splitlines()[-1]


def _is_bound(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _settings(unit: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def _as_here(command: list[str]) -> list[str]:
    """A command of the files, for this interpreter."""
    assert Path(command[0]).name == "tractor"
    return [sys.executable, "-m", "tractor", *command[1:]]


def test_the_unit_of_systemd(shop: tuple[Path, str, int], run_dir: Path) -> None:
    directory, text, port = shop
    settings = _settings((SHOP / "shop.service").read_text())
    (start,), (kind,) = settings["ExecStart"], settings["Type"]
    assert (shlex.split(start)[1:], kind) == (["run", "shop.toml"], "notify")
    assert settings["ExecReload"] == ["kill -HUP $MAINPID"]
    env = dict(one.split("=", 1) for one in settings["Environment"])
    env["XDG_RUNTIME_DIR"] = str(run_dir)
    env["WATCHDOG_USEC"] = str(int(settings["WatchdogSec"][0]) * 1_000_000)
    with notify_socket(directory / "n") as (path, told):
        env["NOTIFY_SOCKET"] = path
        with running(directory, text, env=env) as run:
            run.wait_until(lambda: any("READY" in one for one in told), "READY=1")
            assert _visit(port) == "welcome to the-corner-shop: 6 apples"
            (directory / "x.toml").write_text(text.replace("welcome", "hello"))
            run.send(signal.SIGHUP)
            run.wait_until(lambda: sum("READY" in one for one in told) > 1, "READY=1 again")
            words = [word for one in told for word in one if word in ("READY", "RELOADING")]
            assert words == ["READY", "RELOADING", "READY"]
            assert _visit(port) == "hello to the-corner-shop: 6 apples"
            assert run.end() == 0
        assert "STOPPING" in told[-1] or any("STOPPING" in one for one in told)


def _docker() -> dict[str, str]:
    return dict(re.findall(r"^(\w+) (.*)$", (SHOP / "Dockerfile").read_text(), re.MULTILINE))


@pytest.mark.skipif(
    shutil.which("unshare") is None or os.geteuid() != 0, reason="needs a pid namespace"
)
def test_the_image_of_docker_and_the_probes_of_kubernetes(
    shop: tuple[Path, str, int], run_dir: Path
) -> None:
    directory, text, port = shop
    before = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no pid namespaces here")
    docker = _docker()
    assert json.loads(docker["CMD"]) == ["tractor", "run", "shop.toml"]
    assert docker["STOPSIGNAL"] == "SIGTERM"
    health = json.loads(docker["HEALTHCHECK"].partition("CMD ")[2])
    pod = (SHOP / "kubernetes.yaml").read_text()
    assert re.findall(r"args: (\[.*\])", pod) == [docker["CMD"]]
    probes = [json.loads(found) for found in re.findall(r"exec: \{ command: (\[.*\]) \}", pod)]
    assert probes == [health, health, ["tractor", "services"]]
    name, _, value = docker["ENV"].partition("=")
    env = {name: value, "XDG_RUNTIME_DIR": str(run_dir)}
    with running(directory, text, before=before, env=env) as run:
        run.wait_until(lambda: _is_bound(port), "the socket")
        assert _visit(port) == "welcome to the-corner-shop: 6 apples"
        first = _only_child(run)
        run.wait_until(lambda: _probe(first, health, env) == 0, "the probe")
        assert _probe(first, probes[2], env) == 0
        assert _probe(first, ["tractor", "stop", "web"], env) == 0
        assert _probe(first, health, env) == 1
        assert _probe(first, probes[2], env) == 0
        os.kill(first, signal.SIGTERM)
        assert run.status() == 0


def _only_child(run: Run) -> int:
    pid = run.process.pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def _probe(pid: int, command: list[str], env: dict[str, str]) -> int:
    """Run a command in the namespaces of a process, as `docker exec` does."""
    inside = ["nsenter", "--target", str(pid), "--pid", "--mount", *_as_here(command)]
    return subprocess.run(
        inside,
        env={**os.environ, **env},
        capture_output=True,
        timeout=LIMIT,
        check=False,
    ).returncode
