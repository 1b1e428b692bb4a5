"""Questions to an actor and all below it: who may ask, what is told, and within which bounds."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import tractor
from tractor import _tools
from tractor.control import _passing
from tractor.control._passing import Question, Told, ask_down, serve_look
from tractor.control._protocol import MAX_ANSWER
from tractor.testing import get_rando_addr

pytestmark = pytest.mark.usefixtures("forked_actors")

LONG = 30.0


async def _name(actor: Any, args: dict[str, Any]) -> Any:
    return [actor.name, args["word"]]


def _run(main: Any) -> Any:
    async def limited() -> Any:
        with trio.fail_after(60):
            return await main()

    return trio.run(limited)


def test_each_answers_below_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    # Forked actors have it, too.
    monkeypatch.setitem(_tools.LOOKS, "name", _name)

    async def main() -> Told:
        async with tractor.open_nursery(registry_addrs=[get_rando_addr("tcp")]) as an:
            await an.start_actor("ann")
            await an.start_actor("ben")
            told = await ask_down(
                tractor.current_actor(), Question("name", _name, {"word": 7}), LONG
            )
            await an.cancel()
            return told

    told = _run(main)
    assert told.value == ["root", 7]
    assert {child.name: child.value for child in told.below} == {
        "ann": ["ann", 7],
        "ben": ["ben", 7],
    }
    assert {child.state for child in told.below} == {"running"}
    assert {child.place for child in told.below} == {""}


async def ask_peer(name: str) -> None:
    async with tractor.find_actor(name) as portal:
        assert isinstance(portal, tractor.Portal)
        await portal.run_from_ns("self", "_look", op="tree", args={}, limit=1.0)


def test_nobody_but_the_parent_may_ask() -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[get_rando_addr("tcp")]) as an:
            await an.start_actor("ann")
            ben = await an.start_actor("ben", enable_modules=[__name__])
            with pytest.raises(tractor.RemoteActorError, match="'_look' is not a request"):
                await ben.run(ask_peer, name="ann")
            with pytest.raises(tractor.RemoteActorError, match="no look 'eyes', but"):
                await ben.run_from_ns("self", "_look", op="eyes", args={}, limit=1.0)
            await an.cancel()

    _run(main)


def test_what_is_too_long_or_fails_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(actor: Any, args: dict[str, Any]) -> Any:
        if actor.name == "ann":
            raise ValueError("I won't")
        return "x" * args["size"] if actor.name == "ben" else None

    monkeypatch.setitem(_tools.LOOKS, "long", look)

    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[get_rando_addr("tcp")]) as an:
            await an.start_actor("ann")
            await an.start_actor("ben")

            async def why(size: int) -> dict[str, str]:
                question = Question("long", look, {"size": size})
                told = await ask_down(tractor.current_actor(), question, LONG)
                return {child.name: child.why for child in told.below}

            found = await why(MAX_ANSWER)
            assert "I won't" in found["ann"]
            assert f"more than {MAX_ANSWER}" in found["ben"]
            monkeypatch.setattr(_passing, "MOST_BELOW", 2_000)
            assert "left out" in (await why(3_000))["ben"]
            assert (await why(100))["ben"] == ""
            await an.cancel()

    _run(main)


def test_a_question_that_is_none() -> None:
    actor: Any = None
    with pytest.raises(KeyError):
        serve_look(actor, actor, 1, {}, _tools.LOOKS)
    with pytest.raises(ValueError, match="no look 'x'"):
        serve_look(actor, actor, 1, {"op": "x"}, _tools.LOOKS)
