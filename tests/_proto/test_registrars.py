"""What is made of the answers of several registrars: by example, and in a world where they die and come back."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tractor._proto.answers import merged, nobody_in
from tractor._proto.registrars import RETRY_LIMIT, TICK, Down, start_time
from tractor._proto.registry import SETTLING_TIME, STALL, Entry, RegistryTable, Uid

A1, A2, A3 = ("a", "1"), ("a", "2"), ("a", "3")


# -- which are asked --


def test_one_that_is_silent_is_not_asked_until_it_is_heard() -> None:
    down: Down[str] = Down()
    assert down.to_ask(["x", "y", "z"]) == ["x", "y", "z"]
    assert down.silent("y")
    assert not down.silent("y"), "somebody asks it already"
    assert "y" in down
    assert down.to_ask(["x", "y", "z"]) == ["x", "z"]
    down.heard("y")
    assert "y" not in down
    assert down.to_ask(["x", "y", "z"]) == ["x", "y", "z"]
    down.heard("y")


def test_where_all_are_silent_all_are_asked() -> None:
    down: Down[str] = Down()
    for key in ("x", "y"):
        assert down.silent(key)
    assert down.to_ask(["x", "y"]) == ["x", "y"]
    assert down.to_ask(["x"]) == ["x"]
    assert down.to_ask(["x", "new"]) == ["new"]
    assert down.to_ask([]) == []


# -- what they know --


def test_each_actor_is_given_once_newest_first() -> None:
    one = [Entry(A2, 1.0, ["y"], 20.0), Entry(A1, 5.0, ["x"], 10.0)]
    two = [Entry(A1, 7.0, ["w", "x"], 10.0), Entry(A3, 3.0, ["z"], 5.0)]
    assert merged({"one": one, "two": two}) == [
        Entry(A2, 1.0, ["y"], 20.0),
        Entry(A1, 7.0, ["x", "w"], 10.0),
        Entry(A3, 3.0, ["z"], 5.0),
    ]
    assert merged({"one": one, "two": []}) == one
    assert merged({}) == []


def test_the_newest_is_the_one_that_was_started_last_whatever_each_has_seen_first() -> None:
    """One of them has come back, and the older incarnation was the last to register with it again."""
    old, new = Entry(A1, 0.1, ["x"], 10.0), Entry(A2, 0.4, ["y"], 11.0)
    back: RegistryTable[str, int] = RegistryTable()
    back.register(A2, "y", started=11.0)
    back.register(A1, "x", started=10.0)
    assert back.find("a") == ["y"]
    assert [entry.uid for entry in back.find_all("a")] == [A2, A1]
    assert [e.uid for e in merged({"back": [new, old], "other": [old]})] == [A2, A1]


def test_of_those_started_at_once_the_last_one_registered_is_the_newest() -> None:
    table: RegistryTable[str, int] = RegistryTable()
    for uid, addr in ((A1, "x"), (A2, "y"), (A3, "z")):
        table.register(uid, addr)
    assert [entry.uid for entry in table.find_all("a")] == [A3, A2, A1]
    assert table.find("a") == ["z"]


def test_what_an_actor_first_says_of_its_start_counts() -> None:
    table: RegistryTable[str, int] = RegistryTable()
    table.register(A1, "x", started=10.0)
    table.register(A2, "y", started=11.0)
    table.register(A1, "w", started=99.0)
    assert table.find("a") == ["y"]
    table.unregister(A1)
    table.register(A1, "x", started=99.0)
    assert table.find("a") == ["x"], "it was out of the table"


def test_keepers_are_those_that_still_keep_something() -> None:
    table: RegistryTable[str, int] = RegistryTable()
    table.register(A1, "x", keeper="one")
    table.register(A2, "y", keeper="two")
    assert table.keepers() == ["one", "two"]
    table.release("one")
    assert table.keepers() == ["two"]


# -- nobody --


def test_nobody_is_believed_of_one_that_knows_everybody() -> None:
    assert nobody_in({}) is None
    assert nobody_in({"x": 0.0}) == 0.0
    assert nobody_in({"x": 1.5, "y": 0.5}) == 0.5
    assert nobody_in({"x": 1.5, "y": 0.0}) == 0.0


@pytest.mark.parametrize(("now", "left"), [(10.0, 2.0), (11.5, 0.5), (12.0, 0.0), (99.0, 0.0)])
def test_a_registrar_settles(now: float, left: float) -> None:
    table: RegistryTable[str, int] = RegistryTable(10.0 + SETTLING_TIME)
    assert table.settles_in(now) == left
    assert RegistryTable[str, int]().settles_in(now) == 0.0


def test_one_that_was_stopped_settles_again() -> None:
    table: RegistryTable[str, int] = RegistryTable()
    assert table.settles_in(1e6) == 0.0, "one that gives no word is not taken for stopped"
    table.note_running(10.0)
    table.note_running(11.0)
    assert table.settles_in(11.0 + STALL) == 0.0
    # Asked before it has said that it runs again; and the other way round.
    assert table.settles_in(20.0) == SETTLING_TIME
    table.note_running(20.1)
    assert table.settles_in(21.5) == pytest.approx(SETTLING_TIME - 1.5)
    table.note_running(21.5)
    assert table.settles_in(22.0) == 0.0
    table.note_running(30.0)
    assert table.settles_in(30.5) == SETTLING_TIME - 0.5


def test_waiters_that_are_dropped_are_told_once() -> None:
    table: RegistryTable[str, int] = RegistryTable()
    for name, token in (("a", 1), ("b", 2), ("a", 3)):
        assert table.add_waiter(name, token) is None
    assert sorted(table.drop_waiters()) == [1, 2, 3]
    assert table.drop_waiters() == []
    assert not table.drop_waiter("a", 1)
    assert table.register(A1, "x") == []


def test_every_actor_has_tried_again_when_a_registrar_is_settled() -> None:
    """And has had as long again to connect and to register."""
    assert SETTLING_TIME >= 2 * RETRY_LIMIT


# -- the time of a start --


@given(st.lists(st.floats(0, 2e9), max_size=30))
def test_starts_of_one_parent_are_later_and_later_whatever_the_clock_does(
    clock: list[float],
) -> None:
    last, given_out = 0.0, []
    for now in clock:
        last = start_time(now, last)
        assert last >= now
        given_out.append(last)
    assert given_out == sorted(set(given_out))


def test_a_clock_that_goes_right_is_believed() -> None:
    assert start_time(1_700_000_000.0, 1_699_999_999.0) == 1_700_000_000.0
    assert start_time(1.0, 1_700_000_000.0) > 1_700_000_000.0
    assert start_time(1.0, 5.0) == 5.0 + TICK


# -- registrars that die and come back --


class Living(NamedTuple):
    """An actor, and when it tries to register next with each registrar that does not have it."""

    uid: Uid
    started: float
    tries: dict[int, float]


class World(RuleBasedStateMachine):
    """Three registrars and the actors of two names; everything is ready the moment that it is tried."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.tables: dict[int, RegistryTable[str, int]] = {}
        self.actors: list[Living] = []
        self.began = 0
        self.last_start = 0.0

    @rule(number=st.integers(0, 2), forerunner=st.booleans())
    def start_registrar(self, number: int, forerunner: bool) -> None:
        if number not in self.tables:
            # One that nobody has known before needs no time to settle; the first is one.
            new = not self.actors and not forerunner
            self.tables[number] = RegistryTable(self.now + (0 if new else SETTLING_TIME))

    @rule(number=st.integers(0, 2))
    def kill_registrar(self, number: int) -> None:
        if self.tables.pop(number, None) is not None:
            for actor in self.actors:
                actor.tries.setdefault(number, self.now)

    @rule(name=st.sampled_from("ab"), clock=st.floats(-3, 3))
    def start_actor(self, name: str, clock: float) -> None:
        self.began += 1
        self.last_start = start_time(self.now + clock, self.last_start)
        tries = dict.fromkeys(range(3), self.now)
        self.actors.append(Living((name, str(self.began)), self.last_start, tries))
        self.try_to_register(0.0)

    @rule(data=st.data())
    def kill_actor(self, data: st.DataObject) -> None:
        if self.actors:
            dead = self.actors.pop(data.draw(st.integers(0, len(self.actors) - 1)))
            for table in self.tables.values():
                table.release(dead.uid)

    @rule(
        pause=st.sampled_from([RETRY_LIMIT / 10, RETRY_LIMIT]),
        steps=st.sampled_from([1, 7, 25, 60]),
    )
    def wait(self, pause: float, steps: int) -> None:
        """All the while each actor tries again and again, with that pause."""
        for _ in range(steps):
            self.now += 0.05
            self.try_to_register(pause)
            self.look_ups_tell_the_truth()

    def try_to_register(self, pause: float) -> None:
        for actor in self.actors:
            for number, when in list(actor.tries.items()):
                if when > self.now:
                    continue
                table = self.tables.get(number)
                if table is None:
                    actor.tries[number] = self.now + pause
                else:
                    addr = f"of {actor.uid}"
                    table.register(actor.uid, addr, self.now, actor.uid, actor.started)
                    del actor.tries[number]

    @invariant()
    def look_ups_tell_the_truth(self) -> None:
        for name in "ab":
            answers = {n: t.find_all(name, self.now) for n, t in self.tables.items()}
            settling = nobody_in({n: t.settles_in(self.now) for n, t in self.tables.items()})
            known = [entry.uid for entry in merged(answers)]
            living = sorted((a for a in self.actors if a.uid[0] == name), key=lambda a: a.started)
            assert set(known) <= {actor.uid for actor in living}
            if settling is None:
                assert not known
            elif settling == 0:
                # Of several the newest comes first, though each was registered in another order.
                assert known == [actor.uid for actor in reversed(living)]


World.TestCase.settings = settings(max_examples=80, stateful_step_count=30)
TestWorld = World.TestCase
