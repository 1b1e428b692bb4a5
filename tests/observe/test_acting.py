"""``tractor log`` and ``tractor cancel`` do what they say, ``tractor doctor`` says what is wrong."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from ep_observe import answered, child, command, found, run, sample

import tractor
from tractor.observe._diagnosis import all_well, diagnose
from tractor.observe._ending import Ended, ended_text
from tractor.runtime.seen._samples import DialogSample

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets, signals")


async def level_of(name: str) -> int:
    return logging.getLogger(name).level


async def set_level(name: str, level: int) -> None:
    logging.getLogger(name).setLevel(level)


def name_of(portal: tractor.Portal) -> str:
    assert portal.chan.aid is not None
    return f"{portal.chan.aid.name}@{portal.chan.aid.pid}"


def test_a_level_is_set_shown_and_put_back(forked_actors: None) -> None:
    async def main(an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        other = await an.start_actor("logger", enable_modules=[__name__])
        who = name_of(other)
        await other.run(set_level, name="tractor.ipc", level=40)
        code, out, _ = await command("log", who, "ipc:debug", "--limit", "20")
        assert code == 0
        assert "tractor.ipc: debug" in out
        assert await other.run(level_of, name="tractor.ipc") == logging.DEBUG
        assert (await command("log", who, "ipc:info", "--for", "0.05"))[0] == 0
        while await other.run(level_of, name="tractor.ipc") != logging.DEBUG:
            await trio.sleep(0.01)
        code, out, _ = await command("log", who, "--json")
        assert code == 0
        (told,) = msgspec.json.decode(out)["actors"]
        assert told["levels"]["tractor.ipc"] == "debug"
        code, _, err = await command("log", who, "nonsense")
        assert code == 1
        assert "unknown log level 'nonsense'" in err
        code, _, err = await command("log", str(os.getpid()), "info", "--tree")
        assert (code, "only with --yes" in err) == (1, True)

    run(main)


def test_an_actor_is_cancelled_with_those_below_it(forked_actors: None) -> None:
    async def main(an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        who = name_of(portal)
        code, out, _ = await command("cancel", who, "--limit", "20", "--json")
        assert code == 0
        (ended,) = msgspec.json.decode(out)["ended"]
        assert (ended["name"], ended["rung"]) == ("worker", "exit awaited")
        assert ended["seconds"] is not None
        while an.children:
            await trio.sleep(0.01)
        other = await an.start_actor("other")
        code, out, _ = await command("cancel", name_of(other), "--kill", "--limit", "20")
        assert code == 0
        assert out.startswith(f"{name_of(other)} ended in ")
        assert out.endswith(", terminated\n")
        code, _, err = await command("cancel", "nobody-of-this-name")
        assert (code, "there is no actor" in err) == (1, True)

    run(main)


def test_who_may_only_read_ends_nothing(
    forked_actors: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACTOR_CONTROL", "read")

    async def main(an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        code, _, err = await command("log", name_of(portal), "info", "--limit", "20")
        assert code == 1
        assert "there is no op 'log'" in err
        code, out, _ = await command("ps", name_of(portal))
        assert (code, "worker" in out) == (0, True)

    run(main)


def test_several_are_ended_only_when_that_is_meant(forked_actors: None) -> None:
    async def main(an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        code, out, err = await command("cancel", str(os.getpid()), "--limit", "20")
        assert (code, out) == (1, "")
        assert "only with --yes" in err

    run(main)


def test_how_one_ended() -> None:
    one = sample("feed", "u", 5)
    assert ended_text(Ended(one, "exit awaited", 0.123)) == "feed@5 ended in 0.12 s, exit awaited"
    assert ended_text(Ended(one, "", 0.5)) == "feed@5 ended in 0.50 s, with the one above it"
    assert ended_text(Ended(one, "killed", None, "no")) == "feed@5 is still there, killed: no"


def crashed(service: str, time: float, number: int) -> dict[str, Any]:
    return {
        "number": number,
        "time": time,
        "kind": "service_event",
        "service": service,
        "event": "crashed",
        "error": "ValueError",
    }


def test_what_is_wrong() -> None:
    full = DialogSample(
        kind="context", side="caller", function="app:ticks", peer="feed@2", fill=98.0, sent=0
    )
    actors = [
        sample("root", "r", 1, lag=0.0012, children=(child("a", "a", 2),)),
        sample(
            "a", "a", 2, "r", state="blocked", why="its loop did not answer; it is at a.py:3 in f()"
        ),
        sample("b", "b", 3, "r", lag=0.4, dialogs=(full,)),
        sample("c", "c", 4, "r", state="stopped"),
        sample("d", "d", 5, "r", state="mute", why="no answer"),
    ]
    events = [crashed("api", 1000.0 - i, i) for i in range(3)] + [crashed("old", 10.0, 9)]
    root = answered(actors[0])._replace(more=[{"events": events, "count": 9}])
    look = found(root, answered(actors[2]))
    look.time = 1000.0
    look.answered[0] = root._replace(
        who=msgspec.structs.replace(root.who, versions={"python": "3.13"})
    )
    other = look.answered[1]
    look.answered[1] = other._replace(
        who=msgspec.structs.replace(other.who, versions={"python": "3.11"})
    )
    lines = [str(one) for one in diagnose(look, actors)]
    assert lines == [
        "✗ a@2  loop blocked: its loop did not answer; it is at a.py:3 in f()  -> tractor stacks a@2",
        "✗ b@3  the stream of app:ticks from feed@2 is 98 % full: it is read too slowly  -> tractor stacks b@3",
        "! b@3  its loop took 400.0ms to answer  -> tractor stacks b@3 --repeat 100",
        "! c@4  stopped (SIGSTOP)  -> kill -CONT 4",
        "! d@5  does not answer: no answer  -> tractor stacks --native d@5",
        "! api  3 crashes in 60 s, the last by ValueError  -> tractor recent root@1",
        "! all  versions of python differ: 3.13 (1), 3.11 (1)",
    ]
    assert all_well(actors) == "✓ 2 of 5 actors answer, in 1.2ms to 400.0ms"


def test_the_doctor_finds_what_is_stopped(forked_actors: None, tmp_path: Path) -> None:
    async def main(an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        code, out, _ = await command("doctor", str(os.getpid()), "--limit", "20", "--json")
        told = msgspec.json.decode(out)
        # On a busy machine a loop may be slow.
        assert [one for one in told["findings"] if "to answer" not in one["what"]] == []
        assert code == (1 if told["findings"] else 0)

    run(main)


async def warn(text: str) -> None:
    tractor.log.get_logger("some_part").warning(text)


def test_records_are_followed_until_the_actor_ends(forked_actors: None) -> None:
    async def main(an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        other = await an.start_actor("logger", enable_modules=[__name__])
        told: list[tuple[int, str, str]] = []

        async def follow() -> None:
            told.append(await command("log", name_of(other), "warning", "--follow", "--json"))

        async with trio.open_nursery() as tn:
            tn.start_soon(follow)
            while not await other.run(is_followed):
                await trio.sleep(0.01)
            await other.run(warn, text="hear, hear")
            while await other.run(waits_for_a_reader):
                await trio.sleep(0.01)
            await other.cancel_actor()
        ((code, out, err),) = told
        assert (code, "logger@" in err) == (1, True)
        texts = [msgspec.json.decode(line)["text"] for line in out.splitlines()]
        assert "hear, hear" in texts

    run(main)


def _taps() -> list[Any]:
    return [one for one in logging.getLogger("tractor").handlers if type(one).__name__ == "Tap"]


async def is_followed() -> bool:
    return bool(_taps())


async def waits_for_a_reader() -> bool:
    return any(one._kept for one in _taps())
