"""The terminal's lock and an actor's REPL record: every cell, and random histories."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor._proto.machine import IllegalEvent
from tractor._proto.repl_lock import (
    RECORD_TABLE,
    TABLE,
    LockDo,
    LockEvent,
    Owner,
    RecordEvent,
    ReplRecord,
    ReplState,
    TerminalLock,
)

# The table of devx.md §3, row by row (reaping waits for the requests that it knows, outside of this table), and a row
# for who gives up waiting; `None`: can't happen.
CELLS: dict[LockEvent, tuple[LockDo | None, LockDo | None, LockDo | None]] = {
    LockEvent.ROOT_ASKS: (LockDo.GRANT, LockDo.WAIT, LockDo.WAIT),
    LockEvent.CHILD_ASKS: (LockDo.GRANT, LockDo.WAIT, LockDo.WAIT),
    LockEvent.RELEASED: (None, LockDo.FREE, LockDo.FREE),
    LockEvent.LOST: (None, None, LockDo.FREE),
    LockEvent.WITHDRAWN: (None, None, None),
    LockEvent.SIGINT: (LockDo.NORMAL, LockDo.REDRAW, LockDo.IGNORE),
}
ASKS = {Owner.ROOT: LockEvent.ROOT_ASKS, Owner.CHILD: LockEvent.CHILD_ASKS}


def lock_in(owner: Owner, *waiting: str) -> TerminalLock[str]:
    """A lock that `holder` has, of the kind, and for which children wait."""
    lock: TerminalLock[str] = TerminalLock()
    if owner is not Owner.FREE:
        lock.handle(ASKS[owner], "holder")
    for key in waiting:
        lock.handle(LockEvent.CHILD_ASKS, key)
    return lock


def key_for(event: LockEvent) -> str | None:
    if event is LockEvent.SIGINT:
        return None
    return "new" if event in ASKS.values() else "holder"


@pytest.mark.parametrize(
    ("event", "owner", "do"),
    [(e, o, do) for e, row in CELLS.items() for o, do in zip(Owner, row, strict=True)],
)
def test_cell(event: LockEvent, owner: Owner, do: LockDo | None) -> None:
    lock = lock_in(owner)
    if do is None:
        with pytest.raises(IllegalEvent, match=event.value):
            lock.handle(event, key_for(event))
        assert lock.owner is owner
        assert lock.waiting == []
        return
    assert lock.handle(event, key_for(event)).do is do
    after = {
        LockDo.GRANT: Owner.ROOT if event is LockEvent.ROOT_ASKS else Owner.CHILD,
        LockDo.FREE: Owner.FREE,
    }.get(do, owner)
    assert lock.owner is after
    assert lock.waiting == (["new"] if do is LockDo.WAIT and key_for(event) else [])


def test_all_cells_are_listed() -> None:
    assert set(CELLS) == set(LockEvent)
    assert {(o, e) for e, row in CELLS.items() for o, do in zip(Owner, row, strict=True) if do} == {
        cell for cell in TABLE if cell[1] is not LockEvent.WITHDRAWN
    }


@pytest.mark.parametrize(
    ("owner", "event"),
    [
        (Owner.ROOT, LockEvent.RELEASED),
        (Owner.CHILD, LockEvent.RELEASED),
        (Owner.CHILD, LockEvent.LOST),
    ],
)
def test_the_next_in_line_gets_it(owner: Owner, event: LockEvent) -> None:
    lock = lock_in(owner, "a", "b")
    assert lock.handle(event, "holder") == (LockDo.GRANT, "a")
    assert (lock.holder, lock.waiting, lock.owner) == ("a", ["b"], Owner.CHILD)
    assert lock.handle(LockEvent.LOST, "a") == (LockDo.GRANT, "b")
    assert lock.handle(LockEvent.RELEASED, "b").do is LockDo.FREE


@pytest.mark.parametrize("owner", [Owner.ROOT, Owner.CHILD])
def test_giving_up_leaves_the_queue(owner: Owner) -> None:
    lock = lock_in(owner, "a", "b", "c")
    assert lock.handle(LockEvent.WITHDRAWN, "b").do is LockDo.NOTHING
    assert lock.waiting == ["a", "c"]
    with pytest.raises(IllegalEvent):
        lock.handle(LockEvent.WITHDRAWN, "holder")


def test_a_root_task_that_waits_gets_its_turn_as_root() -> None:
    lock = lock_in(Owner.CHILD)
    lock.handle(LockEvent.ROOT_ASKS, "root")
    lock.handle(LockEvent.LOST, "holder")
    assert lock.owner is Owner.ROOT


@pytest.mark.parametrize("owner", list(Owner))
def test_a_closing_root_refuses_children_only(owner: Owner) -> None:
    lock = lock_in(owner)
    lock.closing = True
    assert lock.handle(LockEvent.CHILD_ASKS, "late") == (LockDo.REFUSE, "late")
    assert lock.waiting == []
    expected = LockDo.GRANT if owner is Owner.FREE else LockDo.WAIT
    assert lock.handle(LockEvent.ROOT_ASKS, "root").do is expected


def test_a_ctrl_c_cancels_a_holder_that_is_gone() -> None:
    assert lock_in(Owner.CHILD).handle(LockEvent.SIGINT, connected=False) == (
        LockDo.CANCEL_STALE,
        "holder",
    )
    assert lock_in(Owner.ROOT).handle(LockEvent.SIGINT, connected=False).do is LockDo.REDRAW


@pytest.mark.parametrize("key", ["holder", "a", None])
def test_asking_twice_is_a_bug(key: str | None) -> None:
    with pytest.raises(IllegalEvent):
        lock_in(Owner.CHILD, "a").handle(LockEvent.CHILD_ASKS, key)


@pytest.mark.parametrize("key", ["a", "stranger", None])
def test_only_the_holder_releases(key: str | None) -> None:
    lock = lock_in(Owner.CHILD, "a")
    with pytest.raises(IllegalEvent):
        lock.handle(LockEvent.RELEASED, key)
    assert (lock.holder, lock.waiting) == ("holder", ["a"])


@given(st.lists(st.tuples(st.sampled_from(["ask", "leave"]), st.integers(0, 5)), max_size=60))
def test_one_holder_first_come_first_served_nothing_lost(steps: list[tuple[str, int]]) -> None:
    """Against a plain queue: its head is the holder, the rest waits; 0 is the root."""
    lock: TerminalLock[int] = TerminalLock()
    model: deque[int] = deque()
    for what, key in steps:
        if what == "ask" and key not in model:
            step = lock.handle(LockEvent.ROOT_ASKS if key == 0 else LockEvent.CHILD_ASKS, key)
            assert step == (LockDo.WAIT if model else LockDo.GRANT, key)
            model.append(key)
        elif what == "leave" and key in model:
            held = model[0] == key
            lost = held and key % 2 == 1
            step = lock.handle(
                LockEvent.LOST if lost else LockEvent.RELEASED if held else LockEvent.WITHDRAWN, key
            )
            model.remove(key)
            if held:
                assert step == ((LockDo.GRANT, model[0]) if model else (LockDo.FREE, None))
        assert [k for k in (lock.holder, *lock.waiting) if k is not None] == list(model)
        kind = Owner.FREE if not model else Owner.ROOT if model[0] == 0 else Owner.CHILD
        assert lock.owner is kind


# -- one actor's record --


def record_in(state: ReplState) -> ReplRecord[str]:
    record: ReplRecord[str] = ReplRecord()
    if state is ReplState.NONE:
        return record
    record.ask("owner")
    if state is not ReplState.REQUESTING:
        record.granted("owner")
    if state is ReplState.RELEASED:
        record.left("owner", RecordEvent.RELEASE)
    assert record.state is state
    return record


def feed(record: ReplRecord[str], event: RecordEvent) -> None:
    if event is RecordEvent.ASK:
        record.ask("other" if record.active else "owner")
    elif event is RecordEvent.GRANTED:
        record.granted("owner")
    else:
        record.left("owner", event)


@pytest.mark.parametrize("state", list(ReplState))
@pytest.mark.parametrize("event", list(RecordEvent))
def test_record_cell(state: ReplState, event: RecordEvent) -> None:
    record = record_in(state)
    following = RECORD_TABLE.get((state, event))
    if following is None:
        with pytest.raises(IllegalEvent):
            feed(record, event)
        assert record.state is state
    else:
        feed(record, event)
        assert record.state is following


def test_another_task_queues_and_the_owner_may_ask_again() -> None:
    record = record_in(ReplState.HELD)
    assert record.ask("owner") is LockDo.NOTHING
    assert record.ask("a") is LockDo.WAIT
    assert record.ask("b") is LockDo.WAIT
    with pytest.raises(IllegalEvent):
        record.ask("a")
    assert record.left("owner", RecordEvent.RELEASE) == "a"
    assert (record.state, record.owner, record.queue) == (ReplState.REQUESTING, "a", ["b"])
    assert record.left("a", RecordEvent.FAILED) == "b"
    record.granted("b")
    assert record.left("b", RecordEvent.RELEASE) is None
    assert not record.active


def test_who_queues_may_give_up() -> None:
    record = record_in(ReplState.HELD)
    record.ask("a")
    record.withdraw("a")
    assert record.queue == []
    with pytest.raises(IllegalEvent):
        record.withdraw("a")
    with pytest.raises(IllegalEvent):
        record.left("a", RecordEvent.RELEASE)
