"""Every cell of the two tables at the end of supervision.md: a service's states, and the supervisor's."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from ep_play import SLOW, Play

from tractor._proto.machine import IllegalEvent
from tractor._proto.services.service_life import (
    AutoShutdown,
    RestartKind,
    ServiceEnd,
    Strategy,
    SupervisorPhase,
)

NORMAL, ABNORMAL = ServiceEnd.NORMAL, ServiceEnd.ABNORMAL

# -- a service --

STATES = (
    *("waiting", "starting", "ready", "backoff", "stopping for good", "stopping to begin anew"),
    *("stopped", "ended", "failed"),
)


def service_that_is(state: str) -> Play:
    """A supervisor with a service `s` that is so; from now on nothing of it starts or ends by itself.

    Behind it stands `z`, which a round takes along.
    """
    play = Play(Strategy.REST_FOR_ONE, max_restarts=None if state != "failed" else 0)
    if state in ("starting", "waiting"):
        play.slow_to_start.add("dep" if state == "waiting" else "s")
    play.slow_to_stop.add("s")
    play.add("dep", backoff=SLOW)
    kind = RestartKind.TRANSIENT if state == "ended" else RestartKind.PERMANENT
    play.add("s", backoff=SLOW, after=("dep",), restart=kind, own_intensity=state == "failed")
    if state == "backoff" or state == "failed":
        play.end("s")
    elif state == "ended":
        play.end("s", NORMAL)
    elif state.startswith("stop"):
        play.stop("s")
        if state == "stopped":
            play.end("s", NORMAL)
        elif state == "stopping to begin anew":
            play.restart("s")
    play.slow_to_start.add("s")
    assert play.state("s").value == state.split()[0]
    play.heard()
    return play


def by_a_round(play: Play) -> None:
    """Of `dep`, which is before it."""
    play.slow_to_start.add("dep")
    play.end("dep")
    assert play.machine.phase is SupervisorPhase.ROUND or play.state("s").value in DOWN


EVENTS: dict[str, Callable[[Play], None]] = {
    "after satisfied": lambda play: play.up("dep"),
    "up": lambda play: play.up("s"),
    "normal end": lambda play: play.end("s", NORMAL),
    "abnormal end": lambda play: play.end("s"),
    "delay over": lambda play: play.wait(1.0),
    "stop": lambda play: play.stop("s"),
    "restart": lambda play: play.restart("s"),
    "recycle": lambda play: play.do(play.machine.recycle(play["s"], play.now)),
    "round": by_a_round,
    "close": lambda play: play.close(),
}

DOWN = ("stopped", "ended", "failed", "stopping")
"""What no round takes: what is asked to go for good is as good as down."""

CANNOT = "cannot"
"""The event has no meaning there, and is refused."""

CELLS: dict[tuple[str, str], str] = {
    # What is not listed changes nothing.
    **{(state, "after satisfied"): CANNOT for state in STATES},
    ("waiting", "after satisfied"): "starting",
    **{(state, "up"): CANNOT for state in STATES},
    ("starting", "up"): "ready",
    # It was asked to go a moment before.
    ("stopping for good", "up"): "stopping for good",
    ("stopping to begin anew", "up"): "stopping to begin anew",
    **{(state, f"{how} end"): CANNOT for state in STATES for how in ("normal", "abnormal")},
    ("starting", "normal end"): "backoff",
    ("starting", "abnormal end"): "backoff",
    ("ready", "normal end"): "backoff",
    ("ready", "abnormal end"): "backoff",
    ("stopping for good", "normal end"): "stopped",
    ("stopping for good", "abnormal end"): "stopped",
    ("stopping to begin anew", "normal end"): "starting",
    ("stopping to begin anew", "abnormal end"): "starting",
    ("backoff", "delay over"): "starting",
    ("waiting", "stop"): "stopped",
    ("backoff", "stop"): "stopped",
    ("starting", "stop"): "stopping for good",
    ("ready", "stop"): "stopping for good",
    ("stopping to begin anew", "stop"): "stopping for good",
    # It waits for `dep` all the same.
    ("waiting", "restart"): "waiting",
    ("backoff", "restart"): "starting",
    ("starting", "restart"): "stopping to begin anew",
    ("ready", "restart"): "stopping to begin anew",
    ("stopping for good", "restart"): "stopping to begin anew",
    ("stopped", "restart"): "starting",
    ("ended", "restart"): "starting",
    ("failed", "restart"): "starting",
    ("ready", "recycle"): "stopping to begin anew",
    ("starting", "round"): "stopping to begin anew",
    ("ready", "round"): "stopping to begin anew",
    ("waiting", "close"): "stopped",
    ("backoff", "close"): "stopped",
    ("starting", "close"): "stopping for good",
    ("ready", "close"): "stopping for good",
    ("stopping to begin anew", "close"): "stopping for good",
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(STATES, EVENTS)))
def test_a_cell_of_a_services_states(state: str, event: str) -> None:
    play, expected = service_that_is(state), CELLS.get((state, event), state)
    if expected is CANNOT:
        with pytest.raises(IllegalEvent):
            EVENTS[event](play)
        return
    EVENTS[event](play)
    member = play["s"]
    found = member.state.value
    if found == "stopping":
        found += " for good" if member.goal.value == "stopped" else " to begin anew"
    assert found == expected
    if event == "restart":
        assert member.in_a_row == 0


@pytest.mark.parametrize(
    ("kind", "how", "delay", "state", "events"),
    [
        ("permanent", NORMAL, True, "backoff", ["ended s", "backoff s"]),
        ("permanent", NORMAL, False, "starting", ["ended s", "starting s"]),
        ("permanent", ABNORMAL, True, "backoff", ["crashed s", "backoff s"]),
        ("transient", NORMAL, True, "ended", ["ended s"]),
        ("transient", ABNORMAL, False, "starting", ["crashed s", "starting s"]),
        ("temporary", NORMAL, True, "ended", ["ended s"]),
        ("temporary", ABNORMAL, True, "failed", ["crashed s", "failed s"]),
    ],
)
def test_the_ends_of_a_ready_one(
    kind: str, how: ServiceEnd, delay: bool, state: str, events: list[str]
) -> None:
    play = Play()
    play.add("s", restart=RestartKind(kind), backoff=SLOW if delay else None)
    member = play["s"]
    play.slow_to_start.add("s")
    play.heard()
    play.end("s", how)
    assert (member.state.value, play.heard()) == (state, events)
    assert play.dropped == (["s"] if kind == "temporary" else [])


def test_one_too_many_is_failed() -> None:
    for apart in (False, True):
        play = Play(max_restarts=0)
        play.add("s", own_intensity=apart)
        play.heard()
        play.end("s")
        assert play.state("s").value == "failed"
        assert play.heard() == ["crashed s", "failed s" if apart else "gave-up s"]


@pytest.mark.parametrize("state", ["starting", "ready"])
def test_a_temporary_one_has_ended_by_a_round(state: str) -> None:
    play = Play(Strategy.ONE_FOR_ALL)
    if state == "starting":
        play.slow_to_start.add("t")
    play.add("a")
    play.add("t", restart=RestartKind.TEMPORARY)
    member = play["t"]
    play.end("a")
    assert (member.state.value, play.dropped) == ("ended", ["t"])


@pytest.mark.parametrize("how", [NORMAL, ABNORMAL])
@pytest.mark.parametrize("kind", RestartKind)
def test_whatever_ends_before_it_is_ready_has_failed(kind: RestartKind, how: ServiceEnd) -> None:
    play = Play()
    play.slow_to_start.add("s")
    play.add("s", restart=kind, backoff=SLOW)
    member = play["s"]
    play.end("s", how)
    assert member.state.value == ("failed" if kind is RestartKind.TEMPORARY else "backoff")


@pytest.mark.parametrize("how", [NORMAL, ABNORMAL])
def test_a_first_start_is_no_service_before_it_is_ready(how: ServiceEnd) -> None:
    """A normal end, by a cancel of somebody else, is one of a service that has been."""
    play = Play(max_restarts=0)
    play.slow_to_start.add("s")
    play.add("s", first=True)
    play.end("s", how)
    assert (play.machine.units, play.gave_up) == ([], 0)


# -- the supervisor --


def supervisor_in(phase: str, strategy: Strategy = Strategy.REST_FOR_ONE) -> Play:
    """With `a`, `b`, `c`, `d`: a round is one of `b`, that stops `d`, or starts `c` when `b` is up again."""
    play = Play(strategy, max_restarts=3, auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)
    play.add("a", "b", "c", "d")
    play.add("job", restart=RestartKind.TEMPORARY, significant=True)
    play.stop("job")
    if phase == "round, stopping":
        play.slow_to_stop.add("d")
        play.end("b")
    elif phase == "round, starting":
        play.slow_to_start.add("c")
        play.end("b")
    elif phase == "closing":
        play.slow_to_stop.update("abcd")
        play.close()
    elif phase == "closed":
        play.close()
    assert play.machine.phase.value.startswith("in a round" if "round" in phase else phase)
    play.heard()
    play.slow_to_start.clear()
    return play


def counted(play: Play) -> int:
    return len(play.machine._intensity.planned)


def states(play: Play) -> str:
    return " ".join(f"{m.name}:{m.state.value}" for u in play.machine.units for m in u.members)


ALL_READY = "a:ready b:ready c:ready d:ready"


def test_open_takes_an_end_that_others_go_with() -> None:
    play = supervisor_in("open")
    play.slow_to_stop.add("d")
    play.end("c")
    assert play.machine.phase is SupervisorPhase.ROUND
    assert (play.heard(), counted(play)) == (["crashed c", "stopping d"], 1)


@pytest.mark.parametrize("last", ["d"])
def test_open_takes_an_end_of_the_last_one(last: str) -> None:
    play = supervisor_in("open")
    play.slow_to_start.add(last)
    play.end(last)
    assert play.machine.phase is SupervisorPhase.OPEN
    assert play.heard() == ["crashed d", "starting d"]


@pytest.mark.parametrize(
    ("strategy", "again"),
    [
        (Strategy.REST_FOR_ONE, ["crashed c", "starting c", "ready c", "starting d", "ready d"]),
        (
            Strategy.ONE_FOR_ALL,
            [
                *("crashed c", "stopping b", "stopped b", "stopping a", "stopped a"),
                *("starting a", "ready a", "starting b", "ready b"),
                *("starting c", "ready c", "starting d", "ready d"),
            ],
        ),
    ],
)
def test_a_round_takes_a_start_that_fails(strategy: Strategy, again: list[str]) -> None:
    play = supervisor_in("round, starting", strategy)
    play.end("c")
    assert (play.heard(), counted(play), states(play)) == (again, 2, ALL_READY)


@pytest.mark.parametrize("phase", ["round, stopping", "round, starting"])
def test_a_round_takes_an_end_outside(phase: str) -> None:
    play = supervisor_in(phase)
    play.slow_to_stop.clear()
    play.end("a")
    if phase == "round, stopping":
        play.end("d", NORMAL)
    assert play.heard()[-8:] == [
        f"{kind} {name}" for name in "abcd" for kind in ("starting", "ready")
    ]
    assert (counted(play), play["a"].incarnation) == (2, 2)


def test_a_round_takes_an_end_of_one_that_is_up_again() -> None:
    play = supervisor_in("round, starting")
    play.end("b")
    assert play.heard() == [
        *("crashed b", "stopping c", "stopped c", "starting b", "ready b"),
        *("starting c", "ready c", "starting d", "ready d"),
    ]
    assert (counted(play), play["a"].incarnation) == (2, 1)


def test_a_round_that_stops_takes_an_end_of_one_of_its_own() -> None:
    play = supervisor_in("round, stopping")
    play.end("c")
    assert (play.heard(), counted(play)) == (["crashed c"], 1)
    play.end("d")
    assert states(play) == ALL_READY


def test_a_round_is_over_when_all_are_ready() -> None:
    play = supervisor_in("round, starting")
    play.up("c")
    assert play.machine.phase is SupervisorPhase.OPEN
    assert (play.heard(), states(play)) == (["ready c", "starting d", "ready d"], ALL_READY)


@pytest.mark.parametrize("phase", ["open", "round, stopping", "round, starting"])
@pytest.mark.parametrize("why", ["limit", "significant end", "close", "hard close"])
def test_what_closes(phase: str, why: str) -> None:
    play = supervisor_in(phase)
    if why == "significant end":
        # It comes before all members of the round.
        play.machine.units[0].rules = play.machine.units[0].rules.__class__(
            name="a", restart=RestartKind.TRANSIENT, significant=True
        )
        play.end("a", NORMAL)
    elif why == "limit":
        for _ in range(4):
            if play.machine.phase in (SupervisorPhase.OPEN, SupervisorPhase.ROUND):
                play.slow_to_stop.clear()
                play.end("a")
                if phase == "round, stopping" and play.state("d").value == "stopping":
                    play.end("d", NORMAL)
    else:
        play.close(hard=why == "hard close")
    play.slow_to_stop.clear()
    if play.machine.phase is SupervisorPhase.CLOSING:
        play.end("d", NORMAL)
    assert play.machine.phase is SupervisorPhase.CLOSED
    assert (play.closed, play.gave_up, play.alive) == (1, why == "limit", set())


def test_closing_counts_and_starts_nothing() -> None:
    play = supervisor_in("closing")
    assert play.heard() == []
    play.end("b")
    assert (play.heard(), play.state("b").value) == (["crashed b", "failed b"], "failed")
    play.end("d", NORMAL)
    play.end("c")
    play.end("a", NORMAL)
    assert play.heard() == [
        *("stopped d", "stopping c", "stopped c", "stopping a", "stopped a"),
    ]
    assert (play.machine.phase, counted(play)) == (SupervisorPhase.CLOSED, 0)


@pytest.mark.parametrize("phase", ["closing", "closed"])
def test_what_a_closing_one_refuses(phase: str) -> None:
    play = supervisor_in(phase)
    with pytest.raises(IllegalEvent):
        play.add("x")
    with pytest.raises(IllegalEvent):
        play.restart("a")
    play.stop("a")
    play.close()
    assert play.machine.phase.value == phase
