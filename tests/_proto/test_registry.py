"""The registrar's table, by example and against a model that is too simple to be wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor._proto.registry import Entry, RegistryTable

A1, A2, B1 = ("a", "1"), ("a", "2"), ("b", "1")


def table() -> RegistryTable[str, int]:
    return RegistryTable()


def test_find_gives_all_addresses_of_the_newest_actor_of_the_name() -> None:
    t = table()
    t.register(A1, "x")
    t.register(A2, "y")
    t.register(A1, "z")
    assert t.find("a") == ["y"]
    t.unregister(A2)
    assert t.find("a") == ["x", "z"]


def test_names_are_no_uuids() -> None:
    t = table()
    t.register(A1, "x")
    assert t.find("1") is None
    assert t.find("a.1") is None


def test_a_new_uid_takes_an_address_from_its_former_owner() -> None:
    t = table()
    t.register(A1, "x")
    t.register(A1, "y")
    t.register(B1, "x")
    assert t.get_registry() == {"a.1": ["y"], "b.1": ["x"]}


def test_an_entry_without_addresses_is_removed() -> None:
    t = table()
    t.register(A1, "x")
    t.register(B1, "x")
    assert t.find("a") is None
    assert t.get_registry() == {"b.1": ["x"]}
    assert t.delete_addr("x") == B1
    assert t.get_registry() == {}
    assert t.delete_addr("x") is None


def test_an_address_is_deleted_only_while_it_is_the_given_actors() -> None:
    t = table()
    t.register(A1, "x")
    assert t.owner("x") == A1
    t.register(A2, "x")
    assert t.delete_addr("x", A1) is None, "it has changed hands"
    assert t.get_registry() == {"a.2": ["x"]}
    assert t.delete_addr("x", A2) == A2
    assert t.delete_addr("x", A2) is None
    assert t.owner("x") is None


def test_registering_again_changes_no_order() -> None:
    t = table()
    t.register(A1, "x")
    t.register(A1, "y")
    t.register(A2, "z")
    t.register(A1, "x")
    assert t.find("a") == ["z"]
    assert t.get_registry() == {"a.1": ["x", "y"], "a.2": ["z"]}


def test_coming_back_makes_an_actor_the_newest() -> None:
    t = table()
    t.register(A1, "x")
    t.register(A2, "y")
    assert t.unregister(A1) == ["x"]
    t.register(A1, "x")
    assert t.find("a") == ["x"]


def test_unregistering_a_stranger_does_nothing() -> None:
    t = table()
    t.register(A1, "x")
    assert t.unregister(B1) == []
    assert t.find("a") == ["x"]


def test_results_are_copies() -> None:
    t = table()
    t.register(A1, "x")
    found = t.find("a")
    assert found is not None
    found.clear()
    t.get_registry()["a.1"].clear()
    assert t.find("a") == ["x"]


def test_waiters_wake_once_on_the_first_registration_of_their_name() -> None:
    t = table()
    assert t.add_waiter("a", 1) is None
    assert t.add_waiter("a", 2) is None
    assert t.add_waiter("b", 3) is None
    assert t.register(A1, "x") == [1, 2]
    assert t.register(A2, "y") == []


def test_a_waiter_that_finds_its_name_is_not_kept() -> None:
    t = table()
    t.register(A1, "x")
    assert t.add_waiter("a", 1) == ["x"]
    assert t.register(A2, "y") == []


def test_a_dropped_waiter_is_not_woken() -> None:
    t = table()
    t.add_waiter("a", 1)
    t.add_waiter("a", 2)
    assert t.drop_waiter("a", 1)
    assert not t.drop_waiter("a", 1)
    assert not t.drop_waiter("nobody", 1)
    assert t.register(A1, "x") == [2]


def test_an_address_stays_as_long_as_one_of_its_keepers() -> None:
    t = table()
    t.register(A1, "x", keeper="one")
    t.register(A1, "y", keeper="one")
    t.register(A1, "x", keeper="two")
    t.register(A1, "z")
    assert t.release("nobody") == []
    assert t.release("one") == [(A1, "y")]
    assert t.release("one") == []
    assert t.addrs(A1) == ["x", "z"]
    assert t.release("two") == [(A1, "x")]
    assert t.addrs(A1) == ["z"]


def test_a_keeper_of_the_former_owner_keeps_nothing() -> None:
    t = table()
    t.register(A1, "x", keeper="one")
    t.register(B1, "x", keeper="two")
    assert t.release("one") == []
    assert t.owner("x") == B1
    t.register(A1, "y", keeper="one")
    assert t.delete_addr("y") == A1
    assert t.release("one") == []
    assert t.unregister(B1) == ["x"]
    assert t.release("two") == []
    assert t.get_registry() == {}


class Model:
    """A list of ``(uid, addr)`` in order of registration, and who keeps which address."""

    def __init__(self) -> None:
        self.rows: list[tuple[tuple[str, str], str]] = []
        self.keepers: set[tuple[str, int | None]] = set()
        self.order: list[tuple[str, str]] = []

    def settle(self) -> None:
        listed = {addr for _, addr in self.rows}
        self.keepers = {row for row in self.keepers if row[0] in listed}
        self.order = [uid for uid in self.order if any(row[0] == uid for row in self.rows)]

    def register(self, uid: tuple[str, str], addr: str, keeper: int | None) -> None:
        if (uid, addr) not in self.rows:
            self.rows = [row for row in self.rows if row[1] != addr]
            self.settle()
            self.rows.append((uid, addr))
        self.keepers.add((addr, keeper))
        if uid not in self.order:
            self.order.append(uid)

    def release(self, keeper: int) -> list[tuple[tuple[str, str], str]]:
        self.keepers = {row for row in self.keepers if row[1] != keeper}
        kept = {addr for addr, _ in self.keepers}
        gone = [row for row in self.rows if row[1] not in kept]
        self.rows = [row for row in self.rows if row not in gone]
        return gone

    def addrs(self, uid: tuple[str, str]) -> list[str]:
        return [addr for owner, addr in self.rows if owner == uid]


UIDS = st.tuples(st.sampled_from("ab"), st.sampled_from("12"))
ADDRS = st.sampled_from("wxyz")
OPS = st.lists(
    st.one_of(
        st.tuples(st.just("register"), UIDS, ADDRS, st.sampled_from([1, 2, None])),
        st.tuples(st.just("unregister"), UIDS, ADDRS, st.none()),
        st.tuples(st.just("delete_addr"), UIDS, ADDRS, st.none()),
        st.tuples(st.just("release"), UIDS, ADDRS, st.sampled_from([1, 2])),
    ),
    max_size=30,
)


@given(OPS)
def test_against_a_model(ops: list[tuple[str, tuple[str, str], str, int | None]]) -> None:
    t, model = table(), Model()
    for op, uid, addr, keeper in ops:
        if op == "register":
            t.register(uid, addr, keeper=keeper)
            model.register(uid, addr, keeper)
        elif op == "release":
            assert keeper is not None
            assert sorted(t.release(keeper)) == sorted(model.release(keeper))
        elif op == "unregister":
            assert t.unregister(uid) == model.addrs(uid)
            model.rows = [row for row in model.rows if row[0] != uid]
        else:
            owner = next((row[0] for row in model.rows if row[1] == addr), None)
            assert t.delete_addr(addr) == owner
            model.rows = [row for row in model.rows if row[1] != addr]
        model.settle()
        assert list(t.get_registry().items()) == [
            (".".join(u), model.addrs(u)) for u in model.order
        ]
        assert all(t.addrs(u) == model.addrs(u) for u in [A1, A2, B1])
        for name in "ab":
            newest = [u for u in model.order if u[0] == name][-1:]
            assert t.find(name) == (model.addrs(newest[0]) if newest else None)


@pytest.mark.parametrize("addr", [("127.0.0.1", 1616), ("/run/x", "a@1.sock")])
def test_takes_unwrapped_addresses(addr: tuple[str, object]) -> None:
    t: RegistryTable[tuple[str, object], int] = RegistryTable()
    t.register(A1, addr)
    assert t.find("a") == [addr]


def test_all_of_a_name_newest_first_with_their_ages() -> None:
    t = table()
    t.register(A1, "x", now=10)
    t.register(A2, "y", now=20)
    t.register(B1, "z", now=25)
    t.register(A1, "w", now=30)
    assert t.find_all("a", now=31) == [Entry(A2, 11, ["y"]), Entry(A1, 21, ["x", "w"])]
    assert t.find_all("b", now=31) == [Entry(B1, 6, ["z"])]
    assert t.find_all("a.1", now=31) == t.find_all("1", now=31) == []
    t.unregister(A1)
    t.register(A1, "x", now=40)
    assert t.find_all("a", now=41) == [Entry(A1, 1, ["x"]), Entry(A2, 21, ["y"])], (
        "its age starts anew"
    )


def test_who_has_started_whom_goes_with_the_actor() -> None:
    table: RegistryTable[str, object] = RegistryTable()
    table.register(("kid", "1"), "a", parent=("root", "0"))
    # What it first says counts.
    table.register(("kid", "1"), "b", parent=("other", "2"))
    table.register(("other", "2"), "c")
    assert table.parent(("kid", "1")) == ("root", "0")
    assert table.children(("root", "0")) == [("kid", "1")]
    assert table.children(("other", "2")) == []
    table.unregister(("kid", "1"))
    assert table.parent(("kid", "1")) is None
    assert table.children(("root", "0")) == []
