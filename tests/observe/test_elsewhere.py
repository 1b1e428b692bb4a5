"""Actors that no socket of this host leads to: each command finds them, and asks them over their parents' channels.

"Another host" is a pid namespace here: its pids, its /proc and its host id are others, and no socket of it is used.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from ep_observe import block, block_below, command, keep_below, listed

import tractor
from tractor.testing import get_rando_addr

sys.path.insert(0, str(Path(__file__).parents[1] / "hosts"))

from hosts_tools import CONT, ENDPOINTS, STOP, relayed, signal_relays

ENTER = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
LIMIT = ("--limit", "20")


@functools.cache
def _can_enter() -> bool:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    return subprocess.run([*ENTER, "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not _can_enter(), reason="no pid namespace can be made here")


def far_place(tmp_path: Path, **options: Any) -> dict[str, Any]:
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700, exist_ok=True)
    return {
        "python": sys.executable,
        "env": {"PYTHONPATH": ENDPOINTS, "XDG_RUNTIME_DIR": str(runtime)},
        "options": {"command": ENTER},
        **options,
    }


@asynccontextmanager
async def far_tree(
    tmp_path: Path, **options: Any
) -> AsyncIterator[tuple[tractor.ActorNursery, tractor.Portal]]:
    """A root here, an actor elsewhere, and one below that."""
    place = far_place(tmp_path, **options)
    addrs = [get_rando_addr("tcp")]
    with trio.fail_after(60):
        async with (
            tractor.open_nursery(registry_addrs=addrs) as an,
            tractor.hosts.open_host("command://there", **place) as host,
        ):
            far = await an.start_actor("far", host=host, enable_modules=["ep_observe"])
            yield an, far
            await an.cancel()


async def states() -> dict[str, str]:
    return {one["name"]: one["state"] for one in await listed()}


def test_each_command_reaches_them(tmp_path: Path) -> None:
    async def main() -> None:
        async with far_tree(tmp_path) as (_, far), far.open_context(keep_below) as (ctx, far_pid):
            found = {one["name"]: one for one in await listed()}
            assert {name: one["state"] for name, one in found.items()} == dict.fromkeys(
                ("root", "far", "below"), "run"
            )
            root, one = found["root"], found["far"]
            assert (one["parent"], found["below"]["parent"]) == (root["uuid"], one["uuid"])
            assert (one["pid"], one["lag"] is not None, one["rss"] > 2**20) == (far_pid, True, True)
            for who in ("far", "below"):
                code, out, err = await command("stacks", who, "--json", *LIMIT)
                assert code == 0, err
                (told,) = json.loads(out)["actors"]
                assert told["name"] == who
                ours = [task for task in told["tasks"] if "ep_observe" in task["name"]]
                assert ours
            code, out, err = await command("recent", "far", *LIMIT)
            assert (code, "child ready" in out) == (0, True), err
            code, out, err = await command("log", "below", "cancel", *LIMIT)
            assert (code, out.split()[-1]) == (0, "cancel"), err
            code, out, err = await command("cancel", "below", "--kill", "--wait", "1", *LIMIT)
            assert (code, "no process of another host" in out) == (1, True), out + err
            code, out, err = await command("cancel", "below", *LIMIT)
            assert (code, "ended in" in out) == (0, True), out + err
            assert (await states())["far"] == "run"
            await ctx.cancel()

    trio.run(main)


def test_a_blocked_loop_there_has_its_line_and_its_stacks(tmp_path: Path) -> None:
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)

    async def main() -> None:
        async with far_tree(tmp_path) as (_, far), trio.open_nursery() as tn:
            tn.start_soon(far.run, block, fifo)
            while (await states())["far"] == "run":
                pass
            # Its agent asks its socket.
            found = {one["name"]: one for one in await listed()}["far"]
            assert (found["state"], found["stale"]) == ("blocked", True)
            assert "in block()" in found["why"]
            code, out, err = await command("stacks", "far", *LIMIT)
            assert (code, "in block()" in out) == (0, True), err
            code, out, err = await command("log", "far", "--limit", "3")
            assert (code, "did not answer" in err) == (1, True)
            with open(fifo, "wb"):
                pass

    trio.run(main)


def test_a_blocked_loop_below_one_there(tmp_path: Path) -> None:
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)

    async def main() -> None:
        async with (
            far_tree(tmp_path) as (_, far),
            far.open_context(block_below, path=fifo) as (ctx, _),
        ):
            while (found := await states()).get("below", "run") == "run":
                pass
            assert found == {"root": "run", "far": "run", "below": "blocked"}
            code, out, err = await command("stacks", "below", *LIMIT)
            assert (code, "in block()" in out) == (0, True), err
            with open(fifo, "wb"):
                pass
            await ctx.wait_for_result()

    trio.run(main)


def test_one_on_a_host_that_is_lost_has_the_time_of_its_last_sign(tmp_path: Path) -> None:
    relay = relayed()["options"]["command"]
    options = {"options": {"command": [*relay, *ENTER]}, "deadline": 8.0}

    async def main() -> None:
        began = time.time()
        async with far_tree(tmp_path, **options):
            signal_relays(STOP)
            while (await states())["far"] != "lost":
                await trio.sleep(0.1)
            (found,) = [one for one in await listed() if one["name"] == "far"]
            assert (found["state"], found["host"]) == ("lost", "command://there")
            assert "no sign of life of its host for" in found["why"]
            assert began < found["since"] < time.time()
            code, _, err = await command("stacks", "far", *LIMIT)
            assert (code, "is lost" in err) == (1, True), err
            signal_relays(CONT)
            while (await states())["far"] == "lost":
                await trio.sleep(0.1)

    try:
        trio.run(main)
    finally:
        signal_relays(signal.SIGKILL)


def test_a_command_is_run_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = tmp_path / "hosts.toml"
    place = far_place(tmp_path)
    env = ", ".join(f"{name} = {json.dumps(value)}" for name, value in place["env"].items())
    hosts.write_text(
        f'[there]\nurl = "command://there"\npython = {json.dumps(sys.executable)}\n'
        f"env = {{ {env} }}\noptions = {{ command = {json.dumps(ENTER)} }}\n"
        '[pool]\nurl = "dask://127.0.0.1:8786/w"\n'
    )
    monkeypatch.setenv("TRACTOR_HOSTS", str(hosts))
    done = [
        subprocess.run(
            [sys.executable, "-m", "tractor", *argv], capture_output=True, text=True, check=False
        )
        for argv in (
            ["ps", "--host", "there", "--json"],
            ["ps", "--host=there", "nobody-of-this-name"],
            ["ps", "--host", "nowhere"],
            ["doctor", "--host", "pool"],
            ["top", "--host", "there"],
        )
    ]
    shown, nobody, nowhere, pool, top = done
    # There is nobody there: its runtime directory is its own.
    told = json.loads(shown.stdout)
    assert (told["actors"], shown.returncode) == ([], 1)
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert "no actor 'nobody-of-this-name'" in nobody.stderr
    assert (nowhere.returncode, "no host is named 'nowhere'" in nowhere.stderr) == (2, True)
    assert (pool.returncode, "runs no commands" in pool.stderr) == (2, True)
    assert (top.returncode, "ps --watch" in top.stderr) == (1, True)


def test_a_registrar_leads_to_its_actors_over_their_own_transport(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No socket is looked for: the whole tree is asked by messages, those that are not registered by way of others."""
    key = tmp_path / "key"
    key.write_text("0123456789abcdef" * 4)
    key.chmod(0o600)
    monkeypatch.setenv("TRACTOR_AUTHKEY_FILE", str(key))
    monkeypatch.setenv("TRACTOR_CONTROL", "on")
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)

    async def main() -> None:
        addr = get_rando_addr("tcp")
        host, port = addr
        at = ("--registry", f"/ip4/{host}/tcp/{port}")
        with trio.fail_after(60):
            async with tractor.open_nursery(registry_addrs=[addr]) as an:
                near = await an.start_actor("near", enable_modules=["ep_observe"])
                async with near.open_context(keep_below) as (ctx, near_pid):
                    code, out, err = await command("ps", "--json", *at, *LIMIT)
                    assert code == 0, err
                    found = {one["name"]: one for one in json.loads(out)["actors"]}
                    assert set(found) == {"root", "near", "below"}
                    assert found["near"]["pid"] == near_pid
                    assert found["below"]["parent"] == found["near"]["uuid"]
                    for who in ("root", "near", "below"):
                        code, out, err = await command("stacks", who, *at, *LIMIT)
                        assert (code, who in out) == (0, True), err
                    code, out, err = await command("log", "below", "cancel", *at, *LIMIT)
                    assert (code, out.split()[-1]) == (0, "cancel"), err
                    code, out, err = await command("cancel", "below", *at, *LIMIT)
                    assert (code, "ended in" in out) == (0, True), out + err
                    await ctx.cancel()
                async with trio.open_nursery() as tn:
                    tn.start_soon(near.run, block, fifo)
                    await trio.sleep(0.1)
                    code, out, err = await command("stacks", "near", *at, "--limit", "2")
                    assert (code, "near@" in err) == (1, True), err
                    with open(fifo, "wb"):
                        pass
                await an.cancel()
            code, out, err = await command("ps", *at, "--limit", "2")
        assert (code, "no registrar answers" in err) == (1, True)

    trio.run(main)
