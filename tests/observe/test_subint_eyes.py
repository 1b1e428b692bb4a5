"""What commands say of actors in sub-interpreters: their process's socket passes on to them."""

from __future__ import annotations

import json
import os

import pytest
import trio
from ep_observe import add, block, command, listed

import tractor
from tractor.spawn.subint._thread import require_subints
from tractor.testing import get_rando_addr


def _why_not() -> str:
    try:
        require_subints()
    except RuntimeError as exc:
        return str(exc)
    return ""


pytestmark = pytest.mark.skipif(bool(_why_not()), reason=_why_not() or "it can")


def test_it_answers_by_its_parent_and_is_blocked_without_stacks(tmp_path: object) -> None:
    fifo = f"{tmp_path}/fifo"
    os.mkfifo(fifo)

    async def main() -> None:
        addrs = [get_rando_addr("tcp")]
        with trio.fail_after(60):
            async with tractor.open_nursery(start_method="subint", registry_addrs=addrs) as an:
                sub = await an.start_actor("sub", enable_modules=["ep_observe"])
                assert await sub.run(add, x=1) == 2
                (found,) = [one for one in await listed() if one["name"] == "sub"]
                assert (found["state"], found["pid"]) == ("run", os.getpid())
                assert found["calls_total"] >= 1
                code, out, err = await command("stacks", "sub", "--all", "--json", "--limit", "20")
                assert code == 0, err
                (told,) = json.loads(out)["actors"]
                assert any("question from outside" in task["name"] for task in told["tasks"])
                code, out, err = await command("log", "sub", "--limit", "20")
                assert code == 0, err
                code, out, err = await command("stacks", "sub", "--native", "--limit", "20")
                assert (code, "no process of its own" in err) == (1, True), err
                async with trio.open_nursery() as tn:
                    tn.start_soon(sub.run, block, fifo)
                    await trio.sleep(0.2)
                    code, out, err = await command("ps", "--json", "--limit", "4")
                    (found,) = [one for one in json.loads(out)["actors"] if one["name"] == "sub"]
                    assert (found["state"], found["tasks"]) == ("blocked", None)
                    code, out, err = await command("stacks", "sub", "--limit", "4")
                    assert (code, "can't be read from another" in err) == (1, True), err
                    with open(fifo, "wb"):
                        pass
                code, out, err = await command("cancel", "sub", "--limit", "20")
                assert (code, "ended in" in out) == (0, True), out + err
                await an.cancel()

    trio.run(main)
