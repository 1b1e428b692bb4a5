"""What ``tractor ps`` says of actors is what they do."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from ep_observe import add, block, command, listed, run, wait_here
from ep_services_tools import LONG, QUICK

import tractor
from tractor.testing import get_rando_addr

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc")


def test_a_blocked_loop_a_stopped_process_and_counts(tmp_path: Path, forked_actors: None) -> None:
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)

    async def main(an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        begun = time.time()
        other = await an.start_actor("other", enable_modules=["ep_observe"])
        before: dict[str, Any] = {one["name"]: one for one in await listed()}
        assert {name: one["state"] for name, one in before.items()} == {
            "root": "run",
            "worker": "run",
            "other": "run",
        }
        for i in range(5):
            await portal.run(add, x=i)
        after = {one["name"]: one for one in await listed()}
        for name in ("root", "worker"):
            assert after[name]["calls_total"] - before[name]["calls_total"] == 5
        assert after["root"]["messages_out"] - before["root"]["messages_out"] == 5
        assert after["worker"]["rss"] > 2**20
        async with trio.open_nursery() as tn:
            tn.start_soon(portal.run, block, fifo)
            while (shown := {one["name"]: one for one in await listed()})["worker"][
                "state"
            ] == "run":
                pass
            worker = shown["worker"]
            assert (worker["state"], worker["stale"], worker["tasks"]) == ("blocked", True, None)
            later = {one["name"]: one for one in await listed()}["worker"]
            # Since before it was asked first.
            assert begun < later["since"] <= worker["time"]
            assert "ep_observe.py:" in worker["why"]
            assert "in block()" in worker["why"]
            with open(fifo, "wb"):
                pass
        pid = other.chan.aid.pid  # type: ignore[union-attr]
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            # Another of its threads may go on for a moment.
            while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
                await trio.sleep(0.001)
            shown = {one["name"]: one for one in await listed("root", "--depth", "1")}
        finally:
            os.kill(pid, signal.SIGCONT)
        assert (shown["other"]["state"], shown["other"]["since"]) == ("stopped", None)
        assert shown["root"]["since"] < time.time() - shown["root"]["uptime"] + 1
        assert shown["other"]["parent"] == shown["root"]["uuid"]
        assert (shown["worker"]["state"], shown["worker"]["stale"]) == ("run", False)

    run(main)


def test_restarts_of_a_service_and_its_delay(forked_actors: None) -> None:
    async def main() -> None:
        with trio.fail_after(60):
            addrs = [get_rando_addr("tcp")]
            async with tractor.open_supervisor(registry_addrs=addrs, backoff=LONG) as sup:
                service = await sup.start_service("shop", wait_here, backoff=QUICK)
                down = await sup.start_service("down", wait_here)
                for _ in range(2):
                    count = service.restarts
                    os.kill(service.pid, signal.SIGKILL)
                    while (service.restarts, service.state) != (count + 1, "ready"):
                        await trio.sleep(0.01)
                os.kill(down.pid, signal.SIGKILL)
                while down.state != "backoff":
                    await trio.sleep(0.01)
                shown = {one["name"]: one for one in await listed()}
                assert (shown["shop"]["restarts"], shown["shop"]["state"]) == (2, "run")
                assert shown["shop"]["last_error"].startswith("ActorFailure: ")
                assert (shown["down"]["state"], shown["down"]["pid"]) == ("backoff", None)
                assert shown["down"]["parent"] == shown["root"]["uuid"]
                tree = await tractor.tree_statistics()
                assert {one.name: one.state for one in tree.actors} == {
                    "root": "run",
                    "shop": "run",
                    "down": "backoff",
                }

    trio.run(main)


def test_the_command_line(forked_actors: None) -> None:
    async def main(an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        me = str(os.getpid())
        code, out, _ = await command("ps", me, "--limit", "20")
        lines = out.splitlines()
        assert code == 0
        assert lines[0].split()[:4] == ["NAME", "PID", "STATE", "UP"]
        assert lines[1].split()[:3] == ["root", me, "run"]
        assert lines[2].startswith("└─ worker")
        assert "\x1b" not in out
        assert lines[3] == "2 actors in 1 tree"
        code, out, _ = await command(
            "ps", me, "--columns", "name,cpu", "--pss", "--color", "always"
        )
        assert (code, out.split()[:2]) == (0, ["NAME", "CPU"])
        code, out, _ = await command("ps", me, "--openmetrics")
        assert code == 0
        assert out.endswith("# EOF\n")
        code, out, err = await command("ps", "nobody-of-this-name")
        assert (code, out) == (1, "")
        assert "there is no actor 'nobody-of-this-name'" in err

    run(main)


def test_wrong_usage_and_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    from tractor.cli._main import main as cli

    for argv in (["--sort", "x"], ["--watch", "0.1"], ["--columns", "a"], ["--limit", "0"]):
        with pytest.raises(SystemExit) as caught:
            cli(["ps", *argv])
        assert caught.value.code == 2
    capsys.readouterr()
    assert cli(["ps", "--schema"]) == 0
    schema = msgspec.json.decode(capsys.readouterr().out)
    assert "actors" in schema["$defs"]["TreeSample"]["properties"]
