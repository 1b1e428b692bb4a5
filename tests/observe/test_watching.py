"""Commands that watch go on through what becomes of those that they watch, and say so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from ep_observe import crash_soon, wait_here
from ep_services_tools import QUICK

import tractor
from tractor.testing import get_rando_addr

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc")

LIMIT = 40.0


class Watcher:
    """A command that runs, and what it has printed so far."""

    def __init__(self, tmp_path: Path, *argv: str) -> None:
        self._path = tmp_path / f"{argv[0]}.txt"
        with open(self._path, "wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tractor", *argv],
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    def text(self) -> str:
        return self._path.read_text()

    async def shows(self, what: Callable[[str], bool]) -> None:
        with trio.fail_after(LIMIT):
            while not what(self.text()):
                assert self.process.poll() is None, self.text()
                await trio.sleep(0.1)


@contextmanager
def watchers(tmp_path: Path, *commands: tuple[str, ...]) -> Iterator[list[Watcher]]:
    made: list[Watcher] = []
    try:
        for argv in commands:
            made.append(Watcher(tmp_path, *argv))
        yield made
    finally:
        for one in made:
            one.process.kill()
            one.process.wait()


def test_they_go_on_through_kills_stops_crashes_and_restarts(tmp_path: Path) -> None:
    async def main() -> None:
        me = str(os.getpid())
        async with tractor.open_supervisor(
            registry_addrs=[get_rando_addr("tcp")], backoff=QUICK
        ) as sup:
            shop = await sup.start_service("shop", wait_here)
            await sup.start_service("bomb", crash_soon)
            commands = (
                ("ps", me, "--watch", "0.3", "--json", "--limit", "5"),
                ("recent", me, "--tree", "--follow", "--json"),
                ("log", "shop", "debug", "--follow", "--limit", "1"),
            )
            with watchers(tmp_path, *commands) as (ps, recent, log):
                await ps.shows(lambda text: '"shop"' in text)
                await recent.shows(lambda text: "child_ready" in text)
                first = shop.pid
                os.kill(first, signal.SIGKILL)
                # Restarted: another process, and nobody has stopped watching.
                await ps.shows(lambda text: _pids(text, "shop") >= {first, shop.pid} != {first})
                await recent.shows(lambda text: f'"pid":{first},"status":-9' in text)
                os.kill(shop.pid, signal.SIGSTOP)
                try:
                    await ps.shows(lambda text: ("shop", "stopped") in _states(text))
                    await log.shows(lambda text: f"shop@{shop.pid}: " in text)
                finally:
                    os.kill(shop.pid, signal.SIGCONT)
                await ps.shows(lambda text: _states(text.splitlines()[-2]) >= {("shop", "run")})
                await log.shows(lambda text: f"shop@{shop.pid} answers again" in text)
                await recent.shows(lambda text: "ValueError: boom" in text)
                assert [one.process.poll() for one in (ps, recent, log)] == [None] * 3

    with_limit(main)


def with_limit(main: Callable[[], object]) -> None:
    async def limited() -> None:
        with trio.fail_after(120):
            await main()  # type: ignore[misc]

    trio.run(limited)


def _looks(text: str) -> list[dict[str, object]]:
    """The whole lines."""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}") and line[0] == "{"]


def _states(text: str) -> set[tuple[str, str]]:
    return {(one["name"], one["state"]) for look in _looks(text) for one in look["actors"]}  # type: ignore[attr-defined]


def _pids(text: str, name: str) -> set[int]:
    return {
        one["pid"]
        for look in _looks(text)
        for one in look["actors"]  # type: ignore[attr-defined]
        if one["name"] == name and one["pid"] is not None
    }


def test_a_closed_pipe_ends_a_command_silently() -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[get_rando_addr("tcp")]):
            for argv in (["ps", "--watch", "0.2"], ["recent", str(os.getpid()), "--follow"]):
                with subprocess.Popen(
                    [sys.executable, "-u", "-m", "tractor", *argv],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                ) as process:
                    assert process.stdout is not None
                    assert process.stderr is not None
                    tractor.current_actor().recorder.note("refused", why="a test")
                    await trio.to_thread.run_sync(process.stdout.readline)
                    process.stdout.close()
                    # What is written next has no reader.
                    tractor.current_actor().recorder.note("refused", why="a test")
                    said = await trio.to_thread.run_sync(process.stderr.read)
                    assert (said, process.wait(LIMIT)) == (b"", 0)

    with_limit(main)


def test_ctrl_c_ends_it_with_130_and_colour_is_where_it_is_wanted() -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[get_rando_addr("tcp")]) as an:
            # Those above one that is looked for are dimmed.
            await an.start_actor("x1")
            ps = [sys.executable, "-m", "tractor", "ps", str(os.getpid()), "--limit", "20"]
            with subprocess.Popen([*ps, "--watch", "0.2"], stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                await trio.to_thread.run_sync(process.stdout.readline)
                process.send_signal(signal.SIGINT)
                assert await trio.to_thread.run_sync(process.wait) == 130
            for more, env, coloured in (
                (["--filter", "x*"], {}, False),
                (["--filter", "x*", "--color", "always"], {"NO_COLOR": "1"}, True),
                (["--filter", "x*", "--color", "never"], {}, False),
            ):
                done = await trio.run_process(
                    [*ps, *more], capture_stdout=True, env={**os.environ, **env}
                )
                assert (b"\x1b[" in done.stdout) == coloured
            await an.cancel()

    with_limit(main)
