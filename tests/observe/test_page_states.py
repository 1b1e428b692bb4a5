"""What the page of ``tractor dash`` shows, and whom it asks for that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import trio
from ep_observe import sample
from ep_page import MadeUp, ask, entered, served, viewing

for _name in ("starlette", "hypercorn"):
    pytest.importorskip(_name, reason=f"needs {_name}")

from tractor.observe.page import _collector, _serve  # noqa: E402
from tractor.observe.page._shown import (  # noqa: E402
    MAX_EVENTS,
    MAX_SHOWN,
    Events,
    Shown,
    folded_to,
    is_bad,
)
from tractor.runtime.seen._samples import Sample, TreeSample  # noqa: E402


def tree(*actors: Sample, time: float = 1.0) -> TreeSample:
    return TreeSample(time=time, host="h1", actors=actors)


# -- pure --


def test_who_does_not_answer_keeps_its_place_in_the_tree() -> None:
    shown = Shown()
    root, child = sample("root", "r", 1), sample("w", "u", 2, "r")
    shown.add(tree(root, child))
    # A stopped process tells neither its uuid nor its parent.
    shown.add(tree(root, sample("w", "", 2, state="stopped"), time=2.0))
    (_, one) = shown.state()["actors"]
    assert (one["uuid"], one["parent"], one["state"], one["since"]) == ("u", "r", "stopped", 2.0)
    shown.add(tree(root, sample("w", "", 2, state="stopped"), time=5.0))
    assert shown.state()["actors"][1]["since"] == 2.0
    # The root runs for longer than it was looked at.
    assert [one["since_at_least"] for one in shown.state()["actors"]] == [True, False]
    # Another process of the same name is another actor.
    shown.add(tree(root, sample("w", "", 3, state="stopped"), time=6.0))
    assert shown.state()["actors"][1]["uuid"] == ""


def test_a_program_that_has_ended_stays_with_its_last_state() -> None:
    shown = Shown()
    root, child = sample("root", "r", 1), sample("w", "u", 2, "r", cpu=3.0)
    other = sample("other", "o", 9)
    shown.add(tree(root, child, other))
    shown.add(tree(other, time=2.0))
    (ended,) = shown.state()["ended"]
    assert (ended["name"], ended["pid"], ended["time"], ended["status"]) == ("root", 1, 2.0, None)
    assert [one["name"] for one in ended["actors"]] == ["root", "w"]
    assert ended["actors"][1]["cpu"] == 3.0
    assert [one["name"] for one in shown.state()["actors"]] == ["other"]
    # Nobody has waited for it: its status is known.
    shown.add(tree(sample("other", "", 9, state="zombie"), time=3.0), {9: -9})
    assert shown.state()["ended"][-1]["status"] == -9
    for i in range(10):
        shown.add(tree(sample("x", f"x{i}", 100 + i), time=4.0 + i))
    assert [one["pid"] for one in shown.state()["ended"]] == [106, 107, 108]


def test_more_than_a_thousand_are_folded_into_those_above_them() -> None:
    root = sample("root", "r", 1)
    middle = [sample(f"m{i}", f"m{i}", 10 + i, "r") for i in range(3)]
    leaves = [
        sample(f"w{i}", f"w{i}", 100 + i, f"m{i % 3}", state="blocked" if i == 1499 else "run")
        for i in range(1500)
    ]
    actors = [root]
    for i, one in enumerate(middle):
        actors += [one, *leaves[i::3]]
    kept, folded, left_out = folded_to(actors, MAX_SHOWN)
    assert (len(kept), left_out, sum(folded.values())) == (MAX_SHOWN, 0, len(actors) - MAX_SHOWN)
    assert {name for name, _ in folded} <= {"m0", "m1", "m2"}
    # Whoever must be looked at is there, and in the order of the whole.
    assert "w1499" in {one.name for one in kept}
    assert kept == [one for one in actors if one in kept]
    shown = Shown()
    shown.add(tree(*actors))
    state = shown.state()
    assert (state["count"], len(state["actors"])) == (1504, MAX_SHOWN)
    assert sum(one["folded"] for one in state["actors"]) == 504
    # Roots alone are folded into nobody.
    _, folded, left_out = folded_to([sample("x", f"{i}", i + 1) for i in range(1200)], MAX_SHOWN)
    assert (folded, left_out) == ({}, 200)


def test_events_are_bounded_and_crashes_stay_longest() -> None:
    events = Events()
    one = sample("root", "r", 1)
    crash = {"number": 1, "time": 1.0, "kind": "actor_failed", "error": "E"}
    assert events.add(one, {"events": [crash], "count": 1})
    many = [{"number": i, "time": float(i), "kind": "child_ready"} for i in range(2, 900)]
    assert events.add(one, {"events": many, "count": 899})
    told = events.state(1.0, [])["events"]
    assert len(told) == MAX_EVENTS
    assert told[0]["kind"] == "actor_failed"
    assert told[-1]["number"] == 899
    assert not events.add(one, {"events": many[-3:], "count": 899})
    assert events.lost == 0
    # Three came since, of which the actor keeps one.
    events.add(one, {"events": [{"number": 902, "time": 1.0, "kind": "rung"}], "count": 902})
    assert events.lost == 2


@pytest.mark.parametrize(
    ("event", "bad"),
    [
        ({"kind": "child_gone", "status": -9, "cause": "died", "error": "ActorFailure"}, True),
        ({"kind": "child_gone", "status": 0, "cause": "ended"}, False),
        ({"kind": "service_event", "event": "crashed"}, True),
        ({"kind": "service_event", "event": "gave-up"}, True),
        ({"kind": "service_event", "event": "ready"}, False),
        ({"kind": "actor_failed"}, True),
        ({"kind": "cancel_requested"}, False),
    ],
)
def test_what_counts_as_a_crash(event: dict[str, Any], bad: bool) -> None:
    assert is_bad(event) is bad


def test_colours_can_be_read_in_both_themes() -> None:
    """WCAG AA: 4.5:1 for every text colour on every ground."""
    css = (Path(_serve.__file__).with_name("static") / "dash.css").read_text()
    themes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r"\{([^{}]*--ground:[^{}]*)\}", css)
    ]
    assert len(themes) == 3
    assert themes[1] == themes[2]
    for theme in themes:
        pairs = [(text, on) for text in TEXTS for on in ("ground", "panel", "raised")]
        pairs += [("bad", "bad-fill"), ("text", "bad-fill"), ("warn", "warn-fill")]
        pairs += [("text", "warn-fill"), ("ground", "text"), ("muted", "bad-fill")]
        for text, on in [*pairs, ("muted", "warn-fill")]:
            assert _contrast(theme[text], theme[on]) >= 4.5, (text, on, theme["ground"])


TEXTS = ("text", "muted", "accent", "bad", "warn", "good")


def _contrast(a: str, b: str) -> float:
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


# -- served --


def test_a_viewer_gets_states_whole_and_rates_of_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_collector, "TREE_INTERVAL", 0.0)

    async def main() -> None:
        looks = MadeUp(events=[{"number": 1, "time": 5.0, "kind": "actor_failed", "error": "E"}])
        async with served(looks) as (dash, _):
            secret = await entered(dash)
            async with viewing(dash, secret, "tree", "recent", "actor", actor="f") as states:
                kind, hello = await anext(states)
                assert (kind, hello["control"]) == ("hello", False)
                told: dict[str, Any] = {}
                async for kind, data in states:
                    told[kind] = data
                    if kind == "actor" and data["dialogs"][0]["sent_rate"] is not None:
                        break
                while "recent" not in told or "tree" not in told:
                    kind, told[kind] = await anext(states)
        assert [one["name"] for one in told["tree"]["actors"]] == ["root", "feed", "feed.0"]
        assert told["tree"]["viewers"] == 1
        (dialog,) = told["actor"]["dialogs"]
        assert (dialog["sent_rate"], dialog["fill"]) == (24.0, 98.0)
        assert told["actor"]["levels"] == {"tractor": "error"}
        assert [one["bad"] for one in told["recent"]["events"]] == [True]

    trio.run(main)


def test_nothing_is_asked_that_nobody_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """One collector for all viewers; another panel, another question."""
    for name in ("TREE_INTERVAL", "RECENT_INTERVAL"):
        monkeypatch.setattr(_collector, name, 0.05)
    monkeypatch.setattr(_collector, "SHORTEST_PAUSE", 0.01)

    async def main() -> None:
        looks = MadeUp()
        async with served(looks) as (dash, _):
            secret = await entered(dash)
            await trio.sleep(0.3)
            assert not looks.asked
            async with (
                viewing(dash, secret, "tree") as first,
                viewing(dash, secret, "tree") as second,
            ):
                name = (await anext(first))[1]["viewer"]
                seen = [await anext(first) for _ in range(3)]
                assert {kind for kind, _ in seen} == {"tree"}
                assert (await anext(second))[0] == "hello"
                assert set(looks.asked) == {"tree"}
                body = {"viewer": name, "panels": ["recent"], "actor": ""}
                got = await ask(dash, "/api/look", "POST", body=body, secret=secret)
                assert got.status == 204
                async for kind, _ in first:
                    if kind == "recent":
                        break
                assert looks.asked["actor"] == looks.asked["stacks"] == 0
            # The streams have ended.
            while True:
                before = looks.asked.total()
                await trio.sleep(0.3)
                if looks.asked.total() == before:
                    break
            body = {"viewer": name, "panels": ["tree"], "actor": ""}
            got = await ask(dash, "/api/look", "POST", body=body, secret=secret)
            assert got.status == 410
            for wrong in ({"panels": ["passwords"]}, {"panels": "tree"}, {}):
                got = await ask(dash, "/api/events", "POST", body=wrong, secret=secret)
                assert got.status == 400

    trio.run(main)


def test_a_viewer_without_a_sign_of_life_for_5_s_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stream is open still: a browser that was suspended, or a line that is dead."""
    assert _collector.ALIVE_LIMIT == 5.0
    monkeypatch.setattr(_collector, "ALIVE_LIMIT", 0.5)
    monkeypatch.setattr(_collector, "TREE_INTERVAL", 0.05)
    monkeypatch.setattr(_collector, "SHORTEST_PAUSE", 0.01)

    async def main() -> None:
        looks = MadeUp()
        async with served(looks) as (dash, _):
            secret = await entered(dash)
            async with viewing(dash, secret, "tree") as states:
                kinds = [kind async for kind, _ in states]
            assert kinds[0] == "hello"
            assert "tree" in kinds
            before = looks.asked["tree"]
            await trio.sleep(0.3)
            assert looks.asked["tree"] == before

    trio.run(main)


def test_a_look_that_fails_is_told_and_the_next_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_collector, "TREE_INTERVAL", 0.0)

    class Failing(MadeUp):
        def tree(self) -> dict[str, Any]:
            if not self.asked["tree"]:
                self.asked["tree"] += 1
                raise OSError("too many open files")
            state: dict[str, Any] = super().tree()
            return state

    async def main() -> None:
        async with served(Failing()) as (dash, _):
            secret = await entered(dash)
            async with viewing(dash, secret, "tree") as states:
                told = [await anext(states) for _ in range(3)]
        assert [kind for kind, _ in told] == ["hello", "problem", "tree"]
        assert "too many open files" in told[1][1]["why"]

    trio.run(main)
