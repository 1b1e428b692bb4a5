"""Supervisors of programs as users at another terminal see them: `tractor services`, `stop`, `restart` and others."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import ep_services
import pytest
import trio
from ep_manager_tools import ask
from ep_marks import gets_signals
from ep_services_tools import start_all, supervised, told
from ep_supervise_tools import run

from tractor.control._protocol import Code, Refusal
from tractor.services import _commands

pytestmark = [
    pytest.mark.usefixtures("forked_actors"),
    pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets"),
    gets_signals,
]


async def command(*argv: str, own: bool = True) -> tuple[int, str]:
    """Its exit status, and what it prints."""
    told = [*argv, *(["--manager", str(os.getpid())] if own else [])]
    done = await trio.to_thread.run_sync(ask, told)
    return done.returncode, done.stdout + done.stderr


async def listed() -> dict[str, Any]:
    status, text = await command("services", "--json")
    assert status == 0, text
    (manager,) = json.loads(text)["managers"]
    assert (manager["pid"], manager["file"]) == (os.getpid(), None)
    return {one["name"]: one for one in manager["services"]}


def test_a_supervisor_in_a_program_is_listed_and_obeys() -> None:
    async def main() -> None:
        async with supervised("rest_for_one", name="program") as (sup, events):
            a, b, c = await start_all(sup, events, "a", "b", "c")
            assert {name: one["state"] for name, one in (await listed()).items()} == {
                "a": "ready",
                "b": "ready",
                "c": "ready",
            }
            assert await command("restart", "b") == (0, "restart b, and with it c\n")
            assert (a.incarnation, b.incarnation, c.incarnation) == (1, 2, 2)
            assert await command("stop", "a") == (0, "stop a\n")
            assert a.state == "stopped"
            status, text = await command("services", "--ready")
            assert status == 1
            assert "program@" in text
            assert "in a program" in text
            assert "not ready: a" in text
            assert (await command("start", "b"))[0] == 1
            assert (await command("start", "a"))[0] == 0
            assert a.state == "ready"
            status, text = await command("reload")
            assert status == 1
            assert "of no file" in text
            status, text = await command("restart", "nobody")
            assert status == 1
            assert "no service 'nobody'" in text
            await sup.cancel()
            assert {one["state"] for one in (await listed()).values()} == {"stopped"}
            status, text = await command("start", "a")
            assert status == 1
            assert "are being stopped" in text
        assert (await command("services"))[0] == 1

    run(main)


def test_what_is_blocked_is_said_to_be() -> None:
    """A command does not wait for it, and the list says why what it waits for is down."""

    async def main() -> None:
        async with supervised(max_restarts=0) as (sup, events):
            bad = sup.start_soon("bad", ep_services.do, what="raise ValueError", escalate=False)
            await told(events, "failed bad")
            sup.start_soon("behind", ep_services.obey, after=["bad"])
            assert bad.state == "failed"
            status, text = await command("restart", "behind")
            assert status == 1
            assert "behind is waiting, as one that it comes after is down" in text
            status, text = await command("services")
            assert status == 0
            assert "waiting, blocked" in text
            assert "ValueError: as ordered" in text

    run(main)


def test_several_supervisors_of_one_actor_answer_as_one() -> None:
    def asked(action: str, name: str | None = None) -> Any:
        return _commands._answer({"action": action, "name": name}, 1)

    async def main() -> None:
        async with supervised() as (outer, events), supervised() as (inner, more):
            await start_all(outer, events, "both", "one")
            (twin,) = await start_all(inner, more, "both")
            names = [one["name"] for one in asked("list")["services"]]
            assert names == ["both", "one", "both"]
            with pytest.raises(Refusal) as caught:
                asked("restart", "both")
            assert caught.value.code == Code.FAILED
            assert "2 supervisors" in caught.value.text
            with pytest.raises(Refusal):
                asked("explode", "one")
            assert asked("restart", "one")["taken"] == ["one"]
            await inner.stop("both")
            assert twin.state == "stopped"

    run(main)


def test_a_supervisor_below_is_listed_by_itself() -> None:
    async def main() -> None:
        async with supervised() as (sup, _events):
            service = await sup.start_service("tree", ep_services.supervise_calmly)
            status, text = await command("services", own=False)
            assert status == 0
            assert f"tree@{service.pid}: in a program" in text
            # What is in it is its own affair.
            assert (await command("restart", "leaf", own=False))[0] == 0
            await service.stop()

    run(main)
