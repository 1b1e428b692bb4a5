"""A seed gives one plan, errors are told apart, and a few rounds of what `make chaos` runs for long."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

import tractor
from tractor.testing.hangs import _snapshot

sys.path.insert(0, str(Path(__file__).parent))

import chaos
import chaos_outcomes
import chaos_tally
from chaos_outcomes import Figures, outcome_of
from chaos_plan import (
    FAULTS,
    HARMLESS_TO_PARENT,
    LINKS,
    MOST_ACTORS,
    MOST_DEEP,
    MOST_WIDE,
    OPERATIONS,
    Branch,
    Node,
    Operation,
    Plan,
    plan_round,
)
from chaos_tally import Tally

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="what is left is read from /proc")


def plans() -> list[Plan]:
    return [plan_round(f"test/{number}") for number in range(200)]


def test_a_seed_gives_the_same_plan() -> None:
    assert plans() == plans()


def test_another_seed_gives_another_plan() -> None:
    assert len({(plan.branches, plan.operations, plan.faults) for plan in plans()}) == 200


def test_a_plan_is_known_in_detail() -> None:
    # Another Python must not make another plan of a seed that a report names.
    plan = plan_round("known")
    nodes = [Branch(Node(path), "cancel nursery", proxied=False) for path in ("0", "1")]
    assert plan.branches == tuple(nodes)
    first = Operation(0.086, "slow call", "1", 105, "portal", inside=False, breaks=None)
    assert plan.operations[0] == first


def test_plans_keep_to_their_bounds() -> None:
    for plan in plans():
        assert 1 <= plan.actors <= MOST_ACTORS
        assert len(plan.branches) <= MOST_WIDE
        everyone = [node for branch in plan.branches for node in branch.node.walk()]
        assert all(len(node.children) <= MOST_WIDE for node in everyone)
        assert max(node.path.count(".") + 1 for node in everyone) <= MOST_DEEP
        paths = {node.path for node in everyone}
        assert {one.path for one in plan.operations} <= paths
        assert {one.path for one in plan.faults} <= paths


def test_only_connections_that_can_be_broken_are() -> None:
    for plan in plans():
        proxied = {branch.node.path for branch in plan.branches if branch.proxied}
        assert {fault.path for fault in plan.faults if fault.kind in LINKS} <= proxied


def test_all_kinds_of_everything_are_planned() -> None:
    assert {one.kind for plan in plans() for one in plan.faults} == {*FAULTS}
    assert {one.kind for plan in plans() for one in plan.operations} == {*OPERATIONS}
    breaks = {one.breaks.kind for plan in plans() for one in plan.operations if one.breaks}
    assert breaks == {*LINKS}


def test_actors_within_one_process_are_not_killed() -> None:
    for number in range(200):
        plan = plan_round(f"test/{number}", own_processes=False)
        assert {fault.kind for fault in plan.faults} <= {*HARMLESS_TO_PARENT}


@pytest.mark.parametrize(
    ("exc", "outcome"),
    [
        (tractor.TransportClosed("gone"), "TransportClosed"),
        (tractor.ActorFailure(), "ActorFailure"),
        (tractor.RuntimeFailure("what?"), None),
        (tractor.InternalError("broken"), None),
        (trio.EndOfChannel(), None),
        (ExceptionGroup("two", [tractor.TransportClosed("gone")]), None),
    ],
)
def test_outcomes_are_told_apart(exc: BaseException, outcome: str | None) -> None:
    assert outcome_of(exc) == outcome


class TestWhatARoundNotes:
    """A suite that can't fail would be worth nothing."""

    def note(self, end: Callable[[], Awaitable[None]], out_dir: Path) -> Figures:
        """What is noted of an operation on a branch to which nothing bad happens."""
        plan = Plan("one", (Branch(Node("0"), "error", proxied=False),), (), ())
        one = Tally(plan, out_dir)

        async def main() -> None:
            operation = Operation(0.0, "call", "0", 1, "portal", inside=False, breaks=None)
            async with one.counted("call", operation):
                await end()

        trio.run(main)
        return one.figures

    def test_a_hang(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(chaos_tally, "DEADLINE", 0.01)
        # It is none that the session should report.
        monkeypatch.setattr(_snapshot, "_written", [])
        figures = self.note(trio.sleep_forever, tmp_path)
        assert (len(figures.hangs), figures.outcomes) == (1, {"hang": 1})
        assert list(tmp_path.glob("chaos__*/trace.txt"))

    @pytest.mark.parametrize(
        "exc",
        [
            chaos_outcomes.WrongAnswerError("2 instead of 1"),
            chaos_outcomes.NotThereError("0"),
            tractor.InternalError("broken"),
            # It would be well with an actor that was killed.
            tractor.TransportClosed("gone"),
        ],
        ids=repr,
    )
    def test_a_wrong_end(self, exc: Exception, tmp_path: Path) -> None:
        async def end() -> None:
            await trio.lowlevel.checkpoint()
            raise exc

        assert len(self.note(end, tmp_path).wrong) == 1

    def test_a_value(self, tmp_path: Path) -> None:
        figures = self.note(trio.lowlevel.checkpoint, tmp_path)
        assert figures.outcomes == {"value": 1}
        assert not figures.failed


@on_linux
@pytest.mark.parametrize("tpt", ["uds", "tcp"])
def test_a_round_of_chaos(tpt: str, spawn_backend: str, tmp_path: Path) -> None:
    # Two of the seed's rounds, in which actors are killed and connections are broken; of both kinds of actors.
    forks = (tpt, spawn_backend) == ("tcp", "trio") and hasattr(os, "fork")
    backend = "main_thread_forkserver" if forks else spawn_backend
    figures = chaos.run(f"short-{tpt}", backend, tpt, tmp_path, rounds=2)
    assert (figures.hangs, figures.wrong, figures.leaks) == ([], [], [])
    assert sum(figures.outcomes.values()) == sum(figures.operations.values()) > 20
    assert figures.outcomes["value"]
    assert figures.faults
    assert "hangs: 0, leaks: 0, wrong ends: 0" in chaos.text_of(figures)
