"""The rules of supervisors, played without processes: the cases of supervision-cases.md that need none, and more."""

from __future__ import annotations

from typing import Any

import pytest
from ep_play import SLOW, Play
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tractor._proto.machine import IllegalEvent
from tractor._proto.services.restarts import Backoff
from tractor._proto.services.service_life import (
    DOWN,
    UP,
    AutoShutdown,
    EventKind,
    Member,
    RestartKind,
    ServiceEnd,
    ServiceRules,
    ServiceState,
    Strategy,
    SupervisorPhase,
)
from tractor._proto.services.supervision import Supervision

NORMAL, ABNORMAL = ServiceEnd.NORMAL, ServiceEnd.ABNORMAL
S = ServiceState


def three(strategy: Strategy, **kwargs: Any) -> Play:
    play = Play(strategy, **kwargs)
    play.add("a", "b", "c")
    play.heard()
    return play


# -- ends and kinds --


@pytest.mark.parametrize(
    ("kind", "how", "state"),
    [
        ("permanent", NORMAL, S.READY),
        ("permanent", ABNORMAL, S.READY),
        ("transient", NORMAL, S.ENDED),
        ("transient", ABNORMAL, S.READY),
    ],
)
def test_after_which_end_it_comes_again(kind: str, how: ServiceEnd, state: ServiceState) -> None:
    play = Play()
    play.add("a", restart=RestartKind(kind))
    play.end("a", how)
    assert play.state("a") is state
    again = state is S.READY
    assert (play["a"].incarnation, play["a"].restarts) == ((2, 1) if again else (1, 0))


@pytest.mark.parametrize("how", [NORMAL, ABNORMAL])
def test_a_temporary_one_is_dropped(how: ServiceEnd) -> None:
    play = Play()
    play.add("a", restart=RestartKind.TEMPORARY)
    play.heard()
    play.end("a", how)
    assert play.machine.units == []
    assert play.dropped == ["a"]
    assert play.heard() == (["ended a"] if how is NORMAL else ["crashed a", "failed a"])


def test_two_thousand_temporary_ones_leave_nothing() -> None:
    play = Play()
    for number in range(2000):
        play.add(f"t{number}", restart=RestartKind.TEMPORARY)
        play.end(f"t{number}", NORMAL)
    assert play.machine.units == []
    assert len(play.machine.history) <= Supervision.HISTORY


# -- the first start --


def test_a_first_start_that_fails_is_dropped_and_not_counted() -> None:
    play = Play(max_restarts=0)
    play.fails_to_start["a"] = 1
    play.add("a", first=True)
    assert play.dropped == ["a"]
    assert play.gave_up == 0
    play.add("a", first=True)
    assert play.state("a") is S.READY


def test_a_first_start_of_replicas_fails_as_a_whole() -> None:
    play = Play()
    play.fails_to_start["a.1"] = 1
    play.add("a", first=True, replicas=3)
    assert play.dropped == ["a"]
    assert not play.alive


def test_a_later_start_that_fails_counts() -> None:
    play = Play(max_restarts=1)
    play.fails_to_start["a"] = 2
    play.add("a")
    assert play.gave_up == 1
    assert play["a"].incarnation == 2


# -- strategies --


def test_one_for_one_leaves_the_others() -> None:
    play = three(Strategy.ONE_FOR_ONE)
    play.end("b")
    assert play.heard() == ["crashed b", "starting b", "ready b"]


def test_one_for_one_waits_for_nobody() -> None:
    play = three(Strategy.ONE_FOR_ONE)
    play.slow_to_start.add("a")
    play.end("a")
    play.end("b")
    assert play.state("a") is S.STARTING
    assert play.state("b") is S.READY


def test_rest_for_one_takes_those_after_it() -> None:
    play = Play(Strategy.REST_FOR_ONE)
    play.add("a", "b", "c", "d")
    play.heard()
    play.end("b")
    assert play.heard() == [
        "crashed b",
        *("stopping d", "stopped d", "stopping c", "stopped c"),
        *("starting b", "ready b", "starting c", "ready c", "starting d", "ready d"),
    ]
    assert play["a"].incarnation == 1
    assert len(play.machine._intensity.planned) == 1


def test_each_is_gone_before_the_next_is_stopped() -> None:
    play = three(Strategy.ONE_FOR_ALL)
    play.slow_to_stop.add("c")
    play.end("a")
    assert play.heard() == ["crashed a", "stopping c"]
    play.slow_to_stop.clear()
    play.end("c")
    assert play.heard()[:3] == ["stopped c", "stopping b", "stopped b"]


def test_one_for_all_takes_all() -> None:
    play = three(Strategy.ONE_FOR_ALL)
    play.end("b")
    assert play.heard() == [
        "crashed b",
        *("stopping c", "stopped c", "stopping a", "stopped a"),
        *("starting a", "ready a", "starting b", "ready b", "starting c", "ready c"),
    ]
    assert len(play.machine._intensity.planned) == 1


def test_one_for_all_begins_anew_where_a_start_fails() -> None:
    play = three(Strategy.ONE_FOR_ALL)
    play.fails_to_start["b"] = 1
    play.end("c")
    assert play.heard() == [
        "crashed c",
        *("stopping b", "stopped b", "stopping a", "stopped a"),
        *("starting a", "ready a", "starting b", "crashed b", "stopping a", "stopped a"),
        *("starting a", "ready a", "starting b", "ready b", "starting c", "ready c"),
    ]
    assert len(play.machine._intensity.planned) == 2


def test_rest_for_one_goes_on_from_where_a_start_fails() -> None:
    play = Play(Strategy.REST_FOR_ONE)
    play.add("a", "b", "c", "d")
    play.fails_to_start["c"] = 1
    play.heard()
    play.end("b")
    assert play.heard()[-8:] == [
        *("starting b", "ready b", "starting c", "crashed c"),
        *("starting c", "ready c", "starting d", "ready d"),
    ]
    assert play["b"].incarnation == 2
    assert len(play.machine._intensity.planned) == 2


def test_what_is_down_stays_down_in_a_round() -> None:
    play = Play(Strategy.ONE_FOR_ALL)
    play.add("job", restart=RestartKind.TRANSIENT)
    play.add("a", "b")
    play.end("job", NORMAL)
    play.stop("b")
    play.end("a")
    assert (play.state("job"), play.state("b")) == (S.ENDED, S.STOPPED)
    assert play["a"].incarnation == 2


def test_a_temporary_one_does_not_survive_a_round() -> None:
    play = Play(Strategy.ONE_FOR_ALL)
    play.add("t", restart=RestartKind.TEMPORARY)
    play.add("a")
    play.end("a")
    assert play.dropped == ["t"]
    assert [unit.rules.name for unit in play.machine.units] == ["a"]


def test_an_end_while_the_round_stops_is_not_counted() -> None:
    play = three(Strategy.ONE_FOR_ALL)
    play.slow_to_stop.add("c")
    play.end("a")
    play.end("b")
    play.end("c")
    assert len(play.machine._intensity.planned) == 1
    assert all(m.state is S.READY for unit in play.machine.units for m in unit.members)


def test_an_end_outside_widens_the_round() -> None:
    play = Play(Strategy.REST_FOR_ONE)
    play.add("a", "b", "c")
    play.slow_to_start.add("c")
    play.end("c")
    play.heard()
    play.slow_to_start.clear()
    play.end("a")
    assert play.heard() == [
        "crashed a",
        *("stopping c", "stopped c", "stopping b", "stopped b"),
        *("starting a", "ready a", "starting b", "ready b", "starting c", "ready c"),
    ]
    assert len(play.machine._intensity.planned) == 2


def test_a_member_that_has_begun_anew_and_ends_is_counted() -> None:
    play = three(Strategy.ONE_FOR_ALL)
    play.slow_to_start.add("c")
    play.end("b")
    play.end("a")
    assert len(play.machine._intensity.planned) == 2
    play.up("c")
    assert play.machine.phase is SupervisorPhase.OPEN


def test_stop_takes_a_member_out_of_a_round_at_once() -> None:
    play = three(Strategy.ONE_FOR_ALL)
    play.unit("b").rules = ServiceRules(name="b", backoff=SLOW)
    play.end("b")
    assert play.state("b") is S.BACKOFF
    play.stop("c")
    assert play.state("c") is S.STOPPED
    play.wait(1.0)
    assert [play.state(name) for name in "abc"] == [S.READY, S.READY, S.STOPPED]


def test_a_service_that_is_added_waits_for_the_end_of_the_round() -> None:
    play = three(Strategy.ONE_FOR_ALL)
    play.slow_to_start.add("c")
    play.end("a")
    play.heard()
    play.add("e")
    assert play.state("e") is S.WAITING
    play.up("c")
    assert play.heard() == ["ready c", "starting e", "ready e"]


def test_what_stands_before_a_round_is_not_held_up() -> None:
    play = Play(Strategy.REST_FOR_ONE)
    play.add("a", backoff=SLOW)
    play.add("b", "c")
    play.end("a")
    play.wait(0.5)
    play.slow_to_start.add("c")
    assert play.state("a") is S.BACKOFF
    play.wait(0.5)
    assert play.state("a") is S.READY


def test_a_delay_is_waited_at_its_turn_in_the_round() -> None:
    play = Play(Strategy.ONE_FOR_ALL)
    play.add("a", "b", backoff=SLOW)
    play.end("b")
    assert play.heard()[-1] == "ready a"
    assert play.state("b") is S.BACKOFF
    play.wait(1.0)
    assert play.state("b") is S.READY


# -- after --


def test_after_waits_until_it_is_ready() -> None:
    play = Play()
    play.slow_to_start.add("db")
    play.add("db")
    play.add("api", after=("db",))
    assert play.state("api") is S.WAITING
    play.up("db")
    assert play.state("api") is S.READY


def test_after_waits_through_restarts_of_a_job() -> None:
    play = Play()
    play.add("migrate", restart=RestartKind.TRANSIENT, backoff=SLOW)
    play.slow_to_start.add("migrate")
    play.end("migrate")
    play.add("api", after=("migrate",))
    assert play.state("api") is S.WAITING
    play.wait(1.0)
    play.up("migrate")
    play.end("migrate", NORMAL)
    assert play.state("migrate") is S.ENDED
    assert play.state("api") is S.READY


def test_blocked_by_what_does_not_come() -> None:
    play = Play()
    play.add("db", "web")
    play.add("api", after=("db",))
    play.add("front", after=("api",))
    play.stop("db")
    play.end("api")
    play.end("front")
    assert play.machine.is_blocked(play.unit("api"))
    assert play.machine.is_blocked(play.unit("front"))
    assert not play.machine.is_blocked(play.unit("web"))
    play.restart("db")
    assert play.state("front") is S.READY


def test_a_round_passes_over_what_is_blocked() -> None:
    play = Play(Strategy.ONE_FOR_ALL)
    play.add("db", "a")
    play.add("api", after=("db",))
    play.add("z")
    play.stop("db")
    play.end("a")
    assert [play.state(name) for name in ("a", "api", "z")] == [S.READY, S.WAITING, S.READY]
    assert play.machine.phase is SupervisorPhase.OPEN


# -- intensity and backoff --


def test_one_too_many_gives_up() -> None:
    play = Play(max_restarts=3, within=5.0)
    play.fails_to_start["a"] = 100
    play.add("b", "a")
    assert play.gave_up == 1
    assert play["a"].incarnation == 4
    member, errors = play.machine.gave_up or (None, [])
    assert member is play["a"]
    assert len(errors) == 4
    assert play.closed == 1
    assert play.state("b") is S.STOPPED


def test_the_first_end_is_too_many() -> None:
    play = Play(max_restarts=0)
    play.add("a")
    play.end("a")
    assert play.gave_up == 1
    assert play["a"].incarnation == 1


def test_without_a_limit_it_never_gives_up() -> None:
    play = Play(max_restarts=None)
    play.add("a")
    for _ in range(30):
        play.end("a")
    assert play["a"].incarnation == 31


def test_restarts_by_plan_are_not_counted() -> None:
    play = Play(max_restarts=1)
    play.add("a", backoff=SLOW)
    play.end("a")
    play.wait(1.0)
    for _ in range(10):
        play.restart("a")
    assert play.gave_up == 0
    assert play["a"].in_a_row == 0
    assert play["a"].incarnation == 12


def test_one_count_for_all_and_one_apart() -> None:
    play = Play(max_restarts=3)
    play.add("a", "b")
    play.add("own", own_intensity=True)
    for name in ("own", "a", "b", "own", "a", "own", "own"):
        play.end(name)
    assert play.gave_up == 0
    assert play.state("own") is S.FAILED
    play.end("b")
    assert play.gave_up == 1


def test_delays_grow_and_a_long_life_resets_them() -> None:
    play = Play(max_restarts=None)
    play.add("a", backoff=SLOW)
    delays = []
    for life in (0.0, 1.0, 1.0, 10.0, 9.9):
        play.wait(life)
        play.end("a")
        delays.append(play.machine.deadline - play.now)
        play.wait(delays[-1])
    assert delays == pytest.approx([1.0, 2.0, 4.0, 1.0, 2.0])


def test_a_slow_start_does_not_reset_the_delays() -> None:
    play = Play(max_restarts=None)
    play.slow_to_start.add("a")
    play.add("a", backoff=SLOW)
    delays = []
    for _ in range(3):
        play.wait(100.0)
        play.end("a")
        delays.append(play.machine.deadline - play.now)
        play.wait(delays[-1])
    assert delays == pytest.approx([1.0, 2.0, 4.0])


def test_normal_ends_keep_the_delay_and_are_counted() -> None:
    play = Play(max_restarts=None)
    play.add("a", backoff=SLOW)
    for _ in range(5):
        play.end("a", NORMAL)
        assert play.machine.deadline - play.now == pytest.approx(1.0)
        play.wait(1.0)
    counted = Play(max_restarts=1)
    counted.add("a")
    counted.end("a", NORMAL)
    counted.end("a", NORMAL)
    assert counted.gave_up == 1


def test_a_restart_that_stop_prevents_is_taken_out() -> None:
    play = Play(max_restarts=1)
    play.add("a", "b", backoff=SLOW)
    play.end("a")
    play.stop("a")
    assert play.state("a") is S.STOPPED
    play.end("b")
    assert play.gave_up == 0


def test_giving_up_comes_before_any_delay() -> None:
    play = Play(max_restarts=0)
    play.add("a", backoff=SLOW)
    play.end("a")
    assert (play.gave_up, play.closed) == (1, 1)


# -- asked for --


def test_stop_and_restart_of_what_is_up_and_down() -> None:
    play = three(Strategy.ONE_FOR_ONE)
    play.stop("a")
    assert play.heard() == ["stopping a", "stopped a"]
    play.restart("a")
    assert play.heard() == ["starting a", "ready a"]
    play.restart("b")
    assert play.heard() == ["stopping b", "stopped b", "starting b", "ready b"]


def test_the_later_of_stop_and_restart_counts() -> None:
    play = three(Strategy.ONE_FOR_ONE)
    play.slow_to_stop.add("a")
    play.restart("a")
    play.stop("a")
    play.end("a")
    assert play.state("a") is S.STOPPED
    play.restart("a")
    play.stop("a")
    play.restart("a")
    play.end("a")
    assert play.state("a") is S.READY


def test_two_restarts_are_one() -> None:
    play = three(Strategy.ONE_FOR_ONE)
    play.slow_to_stop.add("a")
    play.restart("a")
    play.restart("a")
    play.end("a")
    assert play["a"].incarnation == 2


def test_restart_takes_along_what_the_strategy_does() -> None:
    play = three(Strategy.REST_FOR_ONE)
    play.restart("b")
    assert play.heard() == [
        *("stopping c", "stopped c", "stopping b", "stopped b"),
        *("starting b", "ready b", "starting c", "ready c"),
    ]
    assert play.machine._intensity.planned == []


def test_restart_cuts_a_delay_short() -> None:
    play = Play()
    play.add("a", backoff=SLOW)
    play.end("a")
    play.restart("a")
    assert play.state("a") is S.READY
    assert play.machine.deadline == float("inf")


def test_restart_waits_for_the_end_of_a_round() -> None:
    play = three(Strategy.REST_FOR_ONE)
    play.slow_to_start.add("c")
    play.end("b")
    play.heard()
    play.slow_to_start.clear()
    play.restart("a")
    assert play.heard() == []
    play.up("c")
    assert play.heard()[1:3] == ["stopping c", "stopped c"]
    assert [play[name].incarnation for name in "abc"] == [2, 3, 3]


# -- replicas --


def test_replicas_are_restarted_alone() -> None:
    play = Play()
    play.add("r", replicas=3)
    play.heard()
    play.end("r.1")
    assert play.heard() == ["crashed r.1", "starting r.1", "ready r.1"]


def test_rest_for_one_takes_what_comes_after_the_unit() -> None:
    play = Play(Strategy.REST_FOR_ONE)
    play.add("r", replicas=2)
    play.add("z")
    play.heard()
    play.end("r.0")
    assert play.heard() == [
        *("crashed r.0", "stopping z", "stopped z"),
        *("starting r.0", "ready r.0", "starting z", "ready z"),
    ]


def test_a_restart_of_replicas_rolls() -> None:
    play = Play()
    play.add("r", replicas=3)
    play.heard()
    play.slow_to_start.update(("r.0", "r.1"))
    play.restart("r")
    assert play.heard() == ["stopping r.0", "stopped r.0", "starting r.0"]
    play.up("r.0")
    assert play.heard() == ["ready r.0", "stopping r.1", "stopped r.1", "starting r.1"]
    play.up("r.1")
    assert play["r.2"].incarnation == 2


def test_a_replica_that_fails_ends_the_rolling() -> None:
    play = Play()
    play.add("r", replicas=3, backoff=SLOW)
    play.slow_to_start.add("r.0")
    play.restart("r")
    play.end("r.0")
    play.slow_to_start.clear()
    play.wait(1.0)
    assert [play[f"r.{i}"].incarnation for i in range(3)] == [3, 1, 1]


def test_one_replica_is_recycled_at_a_time() -> None:
    play = Play()
    play.add("r", replicas=2)
    play.slow_to_start.update(("r.0", "r.1"))
    play.do(play.machine.recycle(play["r.0"], play.now))
    play.do(play.machine.recycle(play["r.1"], play.now))
    assert [play.state("r.0"), play.state("r.1")] == [S.STARTING, S.READY]
    play.up("r.0")
    assert [play.state("r.0"), play.state("r.1")] == [S.READY, S.STARTING]
    assert play.machine._intensity.planned == []


# -- the end --


def test_closing_stops_in_reverse_order() -> None:
    play = three(Strategy.ONE_FOR_ONE)
    play.slow_to_stop.add("b")
    play.close()
    assert play.heard() == ["stopping c", "stopped c", "stopping b"]
    play.end("b")
    assert play.heard() == ["stopped b", "stopping a", "stopped a"]
    assert play.closed == 1


def test_a_hard_end_stops_all_at_once() -> None:
    play = three(Strategy.ONE_FOR_ONE)
    play.slow_to_stop.update("abc")
    play.close()
    play.close(hard=True)
    assert sorted(set(play.stopped_now)) == ["a", "b", "c"]
    play.close(hard=True)
    assert len(play.stopped_now) == 3
    for name in "abc":
        play.end(name)
    assert play.closed == 1


def test_closing_breaks_a_round_and_delays_off() -> None:
    play = three(Strategy.ONE_FOR_ALL)
    play.slow_to_start.add("a")
    play.end("b")
    play.close()
    assert play.closed == 1
    assert all(m.state is S.STOPPED for unit in play.machine.units for m in unit.members)


def test_an_end_while_closing_is_not_counted() -> None:
    play = Play(max_restarts=0)
    play.add("a", "b", "c")
    play.slow_to_stop.add("c")
    play.close()
    play.end("a")
    play.end("c")
    assert (play.gave_up, play.closed) == (0, 1)
    assert play.state("a") is S.FAILED


def test_nothing_is_added_to_one_that_closes() -> None:
    play = three(Strategy.ONE_FOR_ONE)
    play.close()
    with pytest.raises(IllegalEvent, match="'add' can't happen to d of a supervisor"):
        play.add("d")
    with pytest.raises(IllegalEvent, match="restart"):
        play.restart("a")
    play.close()
    assert play.closed == 1


@pytest.mark.parametrize(
    ("auto", "ends", "closed"),
    [
        (AutoShutdown.ANY_SIGNIFICANT, ["s"], 1),
        (AutoShutdown.ANY_SIGNIFICANT, ["other"], 0),
        (AutoShutdown.ALL_SIGNIFICANT, ["s"], 0),
        (AutoShutdown.ALL_SIGNIFICANT, ["s", "t"], 1),
        (AutoShutdown.NEVER, ["other"], 0),
    ],
)
def test_significant_ends(auto: AutoShutdown, ends: list[str], closed: int) -> None:
    significant = auto is not AutoShutdown.NEVER
    play = Play(auto_shutdown=auto)
    play.add("s", "t", restart=RestartKind.TRANSIENT, significant=significant)
    play.add("other", restart=RestartKind.TRANSIENT)
    for name in ends:
        play.end(name, NORMAL)
    assert play.closed == closed


def test_a_significant_crash_is_a_restart_and_a_stop_is_no_end() -> None:
    play = Play(auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)
    play.add("s", restart=RestartKind.TRANSIENT, significant=True)
    play.add("a")
    play.end("s")
    assert play.state("s") is S.READY
    play.stop("s")
    assert play.closed == 0


@pytest.mark.parametrize("kind", [RestartKind.TRANSIENT, RestartKind.TEMPORARY])
def test_a_significant_one_that_a_round_stops(kind: RestartKind) -> None:
    """That is no end by itself."""
    play = Play(Strategy.ONE_FOR_ALL, auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)
    play.add("a")
    play.add("s", restart=kind, significant=True)
    play.end("a")
    assert (play.closed, play.state("a")) == (0, S.READY)
    assert [u.rules.name for u in play.machine.units] == (
        ["a", "s"] if kind is RestartKind.TRANSIENT else ["a"]
    )


def test_what_cannot_happen() -> None:
    play = three(Strategy.ONE_FOR_ONE)
    with pytest.raises(IllegalEvent, match="'up' can't happen to <a ready> of"):
        play.up("a")
    play.stop("a")
    with pytest.raises(IllegalEvent, match=r"'gone' can't happen to <a stopped>.*stop a"):
        play.end("a")


# -- any order of events --


class AnyOrder(RuleBasedStateMachine):
    """Services that start, end and stop when they like."""

    def __init__(self) -> None:
        super().__init__()
        self.play: Play | None = None
        self.names = 0
        self.closing = False

    @precondition(lambda self: self.play is None)
    @rule(
        strategy=st.sampled_from(Strategy),
        limit=st.sampled_from([None, 3, 20]),
        auto=st.sampled_from(AutoShutdown),
    )
    def begin(self, strategy: Strategy, limit: int | None, auto: AutoShutdown) -> None:
        self.play = Play(strategy, max_restarts=limit, auto_shutdown=auto)

    @property
    def members(self) -> list[Member]:
        assert self.play is not None
        return [m for unit in self.play.machine.units for m in unit.members]

    def open(self) -> bool:
        return self.play is not None and self.play.machine.phase in (
            SupervisorPhase.OPEN,
            SupervisorPhase.ROUND,
        )

    @precondition(lambda self: self.open() and len(self.members) < 8)
    @rule(
        kind=st.sampled_from(RestartKind),
        backoff=st.sampled_from([None, SLOW]),
        apart=st.booleans(),
        replicas=st.sampled_from([1, 1, 2]),
        slow=st.booleans(),
        first=st.booleans(),
        data=st.data(),
    )
    def add(
        self,
        kind: RestartKind,
        backoff: Backoff | None,
        apart: bool,
        replicas: int,
        slow: bool,
        first: bool,
        data: st.DataObject,
    ) -> None:
        play = self.play
        assert play is not None
        self.names += 1
        name = f"s{self.names}"
        known = [unit.rules.name for unit in play.machine.units]
        after = (
            data.draw(st.lists(st.sampled_from(known), unique=True, max_size=2)) if known else []
        )
        if slow:
            for one in (name, f"{name}.0", f"{name}.1"):
                play.slow_to_start.add(one)
                play.slow_to_stop.add(one)
        play.add(
            name,
            restart=kind,
            backoff=backoff,
            own_intensity=apart,
            replicas=replicas,
            first=first,
            after=tuple(after),
        )

    def pick(self, data: st.DataObject, *states: ServiceState) -> Member | None:
        found = [m for m in self.members if m.state in states]
        return data.draw(st.sampled_from(found)) if found else None

    @precondition(lambda self: self.play is not None)
    @rule(data=st.data(), how=st.sampled_from(ServiceEnd))
    def ends(self, data: st.DataObject, how: ServiceEnd) -> None:
        assert self.play is not None
        member = self.pick(data, *UP)
        if member is not None:
            self.play.end(member.name, how)

    @precondition(lambda self: self.play is not None)
    @rule(data=st.data())
    def comes_up(self, data: st.DataObject) -> None:
        assert self.play is not None
        member = self.pick(data, S.STARTING)
        if member is not None:
            self.play.up(member.name)

    @precondition(lambda self: self.play is not None)
    @rule(seconds=st.sampled_from([0.1, 1.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        assert self.play is not None
        self.play.wait(seconds)

    @precondition(lambda self: self.open() and bool(self.members))
    @rule(data=st.data(), what=st.sampled_from(["stop", "restart", "recycle"]))
    def is_asked(self, data: st.DataObject, what: str) -> None:
        play = self.play
        assert play is not None
        member = data.draw(st.sampled_from(self.members))
        if what == "recycle":
            play.do(play.machine.recycle(member, play.now))
        else:
            getattr(play, what)(member.unit.rules.name)

    @precondition(lambda self: self.open() and self.names > 4)
    @rule(hard=st.booleans())
    def close(self, hard: bool) -> None:
        assert self.play is not None
        self.play.close(hard=hard)

    @invariant()
    def an_incarnation_exists_where_the_state_says_so(self) -> None:
        if self.play is not None:
            assert self.play.alive == {m.name for m in self.members if m.state in UP}

    @invariant()
    def nothing_is_started_after_closing_began(self) -> None:
        if self.play is None:
            return
        if self.closing:
            assert not any(event.startswith("starting") for event in self.play.events)
        self.closing = not self.open()
        self.play.events.clear()

    @invariant()
    def a_delay_ends(self) -> None:
        if self.play is not None:
            assert self.play.machine.deadline > self.play.now - 1e-9

    def teardown(self) -> None:
        """With no more trouble everything comes to rest."""
        play = self.play
        if play is None:
            return
        play.slow_to_start.clear()
        play.slow_to_stop.clear()
        for _ in range(100):
            slow = [m for m in self.members if m.state in (S.STARTING, S.STOPPING)]
            if not slow and play.machine.deadline == float("inf"):
                break
            for member in slow:
                if member.state is S.STARTING:
                    play.up(member.name)
                elif member.state is S.STOPPING:
                    play.end(member.name, NORMAL)
            play.wait(100.0)
        machine = play.machine
        assert machine.phase in (SupervisorPhase.OPEN, SupervisorPhase.CLOSED)
        for member in self.members:
            at_rest = member.state in (S.READY, *DOWN)
            assert at_rest or machine.is_blocked(member.unit), (member, machine.history)
            if machine.phase is SupervisorPhase.OPEN and not machine.is_blocked(member.unit):
                # Whoever waits for a restart by plan waits no more.
                assert not member.is_wanted, (member, machine.history)
                assert not member.unit.rolling
        if machine.phase is SupervisorPhase.OPEN:
            play.close()
        assert machine.phase is SupervisorPhase.CLOSED
        assert play.closed == 1
        assert not play.alive


def test_any_order_of_events() -> None:
    run_state_machine_as_test(
        AnyOrder, settings=settings(max_examples=150, stateful_step_count=40, deadline=None)
    )


def test_events_name_what_they_are() -> None:
    assert [kind.value for kind in EventKind] == [
        *("starting", "ready", "ended", "crashed", "backoff", "stopping", "stopped", "failed"),
        "gave-up",
    ]


# -- a file that is read anew --


def test_other_rules_hold_from_the_next_event_on() -> None:
    play = Play()
    play.add("a", restart=RestartKind.TRANSIENT)
    play.machine.respecify(play.unit("a"), ServiceRules(name="a", restart=RestartKind.PERMANENT))
    assert play.state("a") is S.READY
    assert play["a"].incarnation == 1
    play.end("a", NORMAL)
    assert (play.state("a"), play["a"].incarnation) == (S.READY, 2)
    for rules in (ServiceRules(name="b"), ServiceRules(name="a", replicas=2)):
        with pytest.raises(IllegalEvent):
            play.machine.respecify(play.unit("a"), rules)


def test_a_count_of_its_own_is_made_and_given_up_with_the_rules() -> None:
    play = Play(max_restarts=1)
    play.add("a", "b")
    play.machine.respecify(play.unit("a"), ServiceRules(name="a", own_intensity=True))
    play.end("a")
    play.end("b")
    assert play.gave_up == 0
    play.end("a")
    assert (play.state("a"), play.gave_up) == (S.FAILED, 0)
    play.machine.respecify(play.unit("a"), ServiceRules(name="a"))
    play.restart("a")
    play.end("a")
    assert play.gave_up == 1


def test_other_settings_hold_for_what_follows_and_restarts_go_on_to_count() -> None:
    play = three(Strategy.ONE_FOR_ONE, max_restarts=5)
    play.end("a")
    play.machine.reconfigure(Strategy.REST_FOR_ONE, 2, 60.0, AutoShutdown.NEVER)
    play.end("b")
    assert [play[name].incarnation for name in "abc"] == [2, 2, 2]
    play.end("c")
    assert play.gave_up == 1


def test_another_order_is_that_of_stops() -> None:
    play = three(Strategy.ONE_FOR_ONE)
    play.machine.reorder(["c", "a"])
    play.close()
    assert play.heard() == [f"{what} {name}" for name in "abc" for what in ("stopping", "stopped")]
