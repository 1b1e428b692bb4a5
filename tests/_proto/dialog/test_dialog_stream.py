"""The stream inside a context: every cell of its table; then two dialogs against each other over a wire."""

from __future__ import annotations

import ast
from collections import deque
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tractor
from tractor._proto.dialog.context import (
    CHILD_TABLE,
    PARENT_TABLE,
    STREAM_TABLE,
    ContextState,
    Dialog,
    DialogDo,
    DialogEvent,
    DialogPhase,
    StreamState,
)
from tractor._proto.machine import IllegalEvent

E, P, D, C, S = DialogEvent, DialogPhase, DialogDo, ContextState, StreamState

# -- the table, transcribed from semantics.md §4 -----------------------------------------------------

Cell: TypeAlias = "tuple[StreamState, tuple[DialogDo, ...]] | None"

COLUMNS = (S.IDLE, S.OPEN, S.CLOSED_HERE, S.CLOSED_THERE, S.CLOSED)


def cells(*row: Any) -> tuple[Cell, ...]:
    return tuple(cell and (cell[0], cell[1:]) for cell in row)


# The stream is closed, or closed there, only once the peer's Stop has come: what comes behind it is out of grammar.
EXPECTED: dict[DialogEvent, tuple[Cell, ...]] = {
    E.OPEN: cells(
        (S.OPEN,),
        (S.OPEN, D.REFUSE),
        (S.CLOSED_HERE, D.REFUSE),
        (S.CLOSED_THERE, D.REFUSE),
        (S.CLOSED, D.REFUSE),
    ),
    E.YIELD: cells(
        (S.IDLE, D.BUFFER),
        (S.OPEN, D.BUFFER),
        (S.CLOSED_HERE, D.DISCARD),
        (S.CLOSED_THERE, D.VIOLATION),
        (S.CLOSED, D.VIOLATION),
    ),
    E.STOP: cells(
        (S.IDLE,),
        (S.CLOSED_THERE,),
        (S.CLOSED,),
        (S.CLOSED_THERE, D.VIOLATION),
        (S.CLOSED, D.VIOLATION),
    ),
    # Only an open stream's end is told to the peer: one that has sent its Stop has closed its side for good.
    E.CLOSE: cells(
        None,
        (S.CLOSED_HERE, D.SEND_STOP),
        (S.CLOSED_HERE,),
        (S.CLOSED,),
        (S.CLOSED,),
    ),
}

ROUTES: dict[StreamState, tuple[DialogEvent, ...]] = {
    S.IDLE: (),
    S.OPEN: (E.OPEN,),
    S.CLOSED_HERE: (E.OPEN, E.CLOSE),
    S.CLOSED_THERE: (E.OPEN, E.STOP),
    S.CLOSED: (E.OPEN, E.CLOSE, E.STOP),
}
CELLS = [(state, event) for state in COLUMNS for event in DialogEvent]


def at(state: StreamState, side: str = "parent") -> Dialog:
    dialog = Dialog(side)
    for event in ROUTES[state]:
        dialog.handle_stream(event)
    assert dialog.stream is state
    return dialog


def expected(state: StreamState, event: DialogEvent) -> Cell:
    row = EXPECTED.get(event)
    return None if row is None else row[COLUMNS.index(state)]


@pytest.mark.parametrize("side", ["parent", "child"])
@pytest.mark.parametrize(
    ("state", "event"), CELLS, ids=[f"{state.name}-{event.name}" for state, event in CELLS]
)
def test_cell(state: StreamState, event: DialogEvent, side: str) -> None:
    dialog = at(state, side)
    cell = expected(state, event)
    if cell is None:
        with pytest.raises(IllegalEvent) as caught:
            dialog.handle_stream(event)
        assert dialog.stream is state
        assert dialog.history == list(ROUTES[state])
        assert caught.value.event == event.value
        text = str(caught.value)
        assert repr(event.value) in text
        assert f"stream {state.value}" in text
        assert (" > ".join(e.value for e in ROUTES[state]) or "(nothing yet)") in text
        return
    assert dialog.handle_stream(event) == cell[1]
    assert dialog.stream is cell[0]


def test_both_ways_to_closed_are_the_same() -> None:
    dialog = at(S.CLOSED_THERE)
    dialog.handle_stream(E.CLOSE)
    assert dialog.stream is S.CLOSED
    for event in (E.YIELD, E.STOP):
        assert dialog.handle_stream(event) == (D.VIOLATION,)


def test_a_stop_before_the_opening_is_kept_for_it() -> None:
    dialog = Dialog("parent")
    dialog.handle_stream(E.YIELD)
    dialog.handle_stream(E.STOP)
    assert (dialog.stream, dialog.stop_came) == (S.IDLE, True)
    assert dialog.handle_stream(E.OPEN) == ()
    assert dialog.stream is S.CLOSED_THERE


@pytest.mark.parametrize("event", [E.YIELD, E.STOP])
def test_nothing_may_come_behind_a_stop_that_is_kept(event: DialogEvent) -> None:
    dialog = Dialog("parent")
    dialog.handle_stream(E.STOP)
    assert dialog.handle_stream(event) == (D.VIOLATION,)
    assert dialog.stream is S.IDLE


@given(st.lists(st.sampled_from([E.OPEN, E.YIELD, E.STOP, E.CLOSE]), max_size=30))
def test_any_sequence(events: list[DialogEvent]) -> None:
    dialog = Dialog("child")
    stops = opened = 0
    for event in events:
        before, stopped = dialog.stream, stops > 0
        cell = expected(before, event)
        if cell is None:
            with pytest.raises(IllegalEvent):
                dialog.handle_stream(event)
            assert dialog.stream is before
            continue
        todo = dialog.handle_stream(event)
        assert (D.VIOLATION in todo) is (stopped and event in (E.YIELD, E.STOP))
        opened += event is E.OPEN and D.REFUSE not in todo
        stops += event is E.STOP
        assert opened <= 1
        # Which half is closed follows from who has closed: no other memory is needed.
        assert (dialog.stream in (S.CLOSED_THERE, S.CLOSED)) is bool(opened and stops)


# -- the instructions --


def test_each_instruction_is_given_by_a_table_and_carried_out_by_a_driver() -> None:
    tables: tuple[Any, ...] = (PARENT_TABLE, CHILD_TABLE, STREAM_TABLE)
    given = {do for table in tables for cell in table.values() for do in cell[-1]}
    assert given == set(DialogDo)
    package = Path(tractor.__file__).parent
    drivers = [path.read_text() for path in (package / "runtime" / "dialog").glob("_context_*.py")]
    handled = {
        node.attr
        for text in drivers
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "DialogDo"
    }
    assert handled == {do.name for do in DialogDo}


def test_no_driver_moves_a_dialog_by_hand() -> None:
    package = Path(tractor.__file__).parent
    by_hand = [
        f"{path.name}:{target.lineno}"
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for target in (node.targets if isinstance(node, ast.Assign) else ())
        if isinstance(target, ast.Attribute)
        and ast.unparse(target.value).endswith("dialog")
        and target.attr in Dialog.__slots__
        and target.attr != "owner_waits"
    ]
    assert by_hand == []


# -- two dialogs and a wire ---------------------------------------------------------------------------
#
# A model of the drivers: it carries out the instructions as the runtime does, without a payload. Messages are
# (name, canceller) pairs; "p" is the opener's uid, "c" the child's, "x" a third actor's.

Msg: TypeAlias = "tuple[str, str]"
BUFFER = 2


class Side:
    def __init__(self, dialog: Dialog) -> None:
        self.dialog = dialog
        self.out: deque[Msg] = deque()
        self.unread = 0
        self.violations: list[str] = []
        self.seen = [dialog.state]

    def feed(self, event: DialogEvent) -> tuple[DialogDo, ...]:
        todo = self.dialog.handle(event)
        self.seen.append(self.dialog.state)
        return todo

    def send(self, name: str, canceller: str = "") -> None:
        self.out.append((name, canceller))

    def on_stream(self, name: str) -> None:
        """Yield or Stop."""
        event = E.YIELD if name == "Yield" else E.STOP
        dialog = self.dialog
        if self.feed(event) != (D.BUFFER,):
            return
        if event is E.YIELD and dialog.phase is P.CXL and dialog.stream is not S.OPEN:
            return
        todo = dialog.handle_stream(event)
        if todo == (D.VIOLATION,):
            self.violated(name)
        elif todo == (D.BUFFER,):
            self.unread += 1
            if self.unread > BUFFER:
                self.unread -= 1
                if D.SEND_ERROR in self.feed(E.OVERRUN):
                    self.send("Error")

    def violated(self, name: str) -> None:
        self.violations.append(name)

    def may_stream(self) -> bool:
        raise NotImplementedError

    def stream_action(self, action: str) -> None:
        stream = self.dialog.stream
        if action == "open" and stream is S.IDLE and self.may_stream():
            self.dialog.handle_stream(E.OPEN)
        elif action == "send" and stream in (S.OPEN, S.CLOSED_THERE) and not self.dialog.ended:
            self.send("Yield")
        elif action == "receive" and self.unread and stream is not S.IDLE:
            self.unread -= 1
        elif action == "bad" and self.unread and stream is not S.IDLE:
            self.unread -= 1
            if D.SEND_ERROR in self.feed(E.BAD_PAYLOAD):
                self.send("Error")
        elif action == "close" and stream not in (S.IDLE, S.CLOSED):
            self.close_stream()

    def close_stream(self) -> None:
        if D.SEND_STOP in self.dialog.handle_stream(E.CLOSE) and not self.dialog.ended:
            self.send("Stop")


class Opener(Side):
    """The parent side: waits for Started, runs its block, drains or stops the remote task, is gone."""

    def __init__(self) -> None:
        super().__init__(Dialog("parent"))
        self.at = "opening"

    def on_wire(self, msg: Msg) -> None:
        name, canceller = msg
        dialog = self.dialog
        if self.at == "gone":
            return
        if name in ("Yield", "Stop"):
            self.on_stream(name)
            return
        if name == "Ctxc":
            asked = dialog.phase in (P.CXL, P.FAIL, P.STOP)
            event = E.CTXC_OWN if asked and canceller == "p" else E.CTXC_OTHER
        else:
            event = {"Ack": E.ACK, "Started": E.STARTED, "Return": E.RETURN, "Error": E.ERROR}[name]
        todo = self.feed(event)
        if D.VIOLATION in todo:
            self.violated(name)
        if event is E.STARTED and dialog.phase is P.RUN and self.at == "opening":
            self.at = "block"
        elif dialog.ended and self.at == "opening":
            self.at = "gone"
        self.settle_down()

    def violated(self, name: str) -> None:
        super().violated(name)
        self.dialog.break_off()
        self.send("Cancel")

    def lose(self) -> None:
        if self.at != "gone":
            self.feed(E.LOST)
            if self.at == "opening":
                self.at = "gone"
            self.settle_down()

    def settle_down(self) -> None:
        """Who has left the block waits no longer than to the end of the dialog."""
        if self.at in ("draining", "stopping") and self.dialog.ended:
            self.at = "gone"

    def may_stream(self) -> bool:
        return self.at == "block" and self.dialog.phase is not P.CXL

    def stop_remote(self, event: DialogEvent) -> None:
        todo = self.feed(event)
        if D.SEND_CANCEL in todo:
            self.send("Cancel")
        self.at = "stopping" if D.WAIT_ACK in todo else "gone"

    def act(self, action: str) -> None:
        dialog = self.dialog
        inside = self.at == "block"
        if action == "cancel" and self.at in ("block", "draining"):
            if D.SEND_CANCEL in self.feed(E.CANCEL):
                self.send("Cancel")
        elif action == "interrupt" and self.at in ("opening", "block", "draining"):
            self.stop_remote(E.INTERRUPTED)
        elif action == "raise" and inside:
            self.stop_remote(E.RAISED)
        elif action == "timeout" and self.at == "stopping":
            self.feed(E.SETTLED)
            self.settle_down()
        elif action == "wait" and inside and dialog.phase is P.RUN:
            # `wait_for_result()` within the block.
            if dialog.stream is not S.OPEN:
                self.feed(E.LEFT)
                self.unread = 0
        elif action == "leave" and inside:
            if dialog.stream is not S.IDLE:
                self.close_stream()
            self.at = "draining"
            if not dialog.ended:
                self.feed(E.LEFT)
            self.settle_down()
        elif inside:
            self.stream_action(action)


class EndpointTask(Side):
    """The child side: its task runs until it returns, fails, or lets its cancellation out."""

    def __init__(self) -> None:
        super().__init__(Dialog("child"))
        self.cancelled = False
        self.canceller = ""
        self.started = False
        self.finals: list[str] = []
        self.send("Ack")

    @property
    def done(self) -> bool:
        return self.dialog.ended

    def unwind(self, event: DialogEvent, canceller: str) -> None:
        if D.CANCEL_BLOCK in self.feed(event):
            self.cancelled = True
            self.canceller = canceller

    def on_wire(self, msg: Msg) -> None:
        name, _ = msg
        if self.done:
            return
        if name in ("Yield", "Stop"):
            self.on_stream(name)
        elif name == "Cancel":
            self.unwind(E.CANCEL_REQUEST, "p")
        else:
            self.unwind(E.ERROR, "p")

    def violated(self, name: str) -> None:
        super().violated(name)
        self.unwind(E.ERROR, "p")

    def lose(self) -> None:
        if not self.done:
            self.unwind(E.LOST, "p")

    def may_stream(self) -> bool:
        return D.REFUSE not in self.feed(E.OPEN)

    def finish(self, event: DialogEvent) -> None:
        names = [{D.SEND_ERROR: "Error", D.SEND_CTXC: "Ctxc"}[do] for do in self.feed(event)]
        if self.dialog.end is C.RESULT_RETURNED:
            names.append("Return")
        for name in names:
            self.finals.append(name)
            self.send(name, self.canceller)

    def act(self, action: str) -> None:
        if self.done:
            return
        if action == "start":
            if D.REFUSE not in self.feed(E.START):
                self.started = True
                self.send("Started")
        elif action == "cancel":
            self.unwind(E.CANCEL, "c")
        elif action in ("actor-cancel by p", "actor-cancel by x"):
            self.unwind(E.ACTOR_CANCEL, action[-1])
        elif action == "return":
            self.finish(E.RETURNED)
        elif action == "fail":
            self.finish(E.FAILED)
        elif action == "cancelled" and self.cancelled:
            self.finish(E.CANCELLED)
        else:
            self.stream_action(action)


class World:
    def __init__(self) -> None:
        self.parent = Opener()
        self.child = EndpointTask()
        self.lost = False

    def deliver(self, source: Side, target: Opener | EndpointTask) -> None:
        if source.out:
            target.on_wire(source.out.popleft())

    def step(self, who: str, action: str) -> None:
        if who == "wire":
            if action == "to parent":
                self.deliver(self.child, self.parent)
            elif action == "to child":
                self.deliver(self.parent, self.child)
            elif not self.lost:
                self.lost = True
                self.parent.lose()
                self.child.lose()
        elif who == "parent":
            self.parent.act(action)
        else:
            self.child.act(action)
        if self.lost:
            self.parent.out.clear()
            self.child.out.clear()

    def run_out(self, swallow: bool) -> None:
        """Both tasks come to their ends, everything is delivered; no time runs out, nobody cancels any more."""
        for _ in range(1000):
            if self.parent.at == "gone" and self.child.done:
                return
            self.step("wire", "to parent")
            self.step("wire", "to child")
            self.step("parent", "leave")
            self.step("child", "start")
            self.step("child", "cancelled" if self.child.cancelled and not swallow else "return")
        raise AssertionError("no end was reached")


# What happens within an exchange is drawn more often than what ends it.
STREAMING = ("open", "receive", "bad", "close", *("send",) * 5)
PARENT_ACTIONS = (*STREAMING * 2, "cancel", "interrupt", "raise", "timeout", "wait", "leave")
CHILD_ACTIONS = (
    *STREAMING * 2,
    *("start", "start", "start", "cancel", "actor-cancel by p", "actor-cancel by x"),
    *("return", "fail", "cancelled"),
)
STEPS = st.one_of(
    st.tuples(st.just("wire"), st.sampled_from(["to parent", "to child"])),
    st.tuples(st.just("parent"), st.sampled_from(PARENT_ACTIONS)),
    st.tuples(st.just("child"), st.sampled_from(CHILD_ACTIONS)),
)
LOSS = ("wire", "lose")

# What the child side's end may be for an end of the parent side that its final message brought.
CAME_FROM = {
    C.RESULT_RETURNED: {C.RESULT_RETURNED},
    C.SELF_CANCELLED: {C.PEER_CANCELLED, C.ACTOR_CANCELLED},
    C.PEER_CANCELLED: {C.SELF_CANCELLED, C.ACTOR_CANCELLED},
}


def check_the_end(world: World) -> None:
    parent, child = world.parent, world.child
    assert parent.dialog.ended
    assert child.dialog.ended
    assert len(child.finals) == (child.dialog.state is not C.PEER_LOST)
    assert child.dialog.state is not C.PEER_LOST or world.lost
    assert parent.dialog.state is not C.PEER_LOST or world.lost
    for side in (parent, child):
        # An end is shown once it is reached, and no other after it.
        ends = [state for state in side.seen if state is side.dialog.end]
        assert side.seen[len(side.seen) - len(ends) :] == ends
    allowed = CAME_FROM.get(parent.dialog.state)
    assert allowed is None or child.dialog.state in allowed
    assert child.violations == []
    if parent.violations:
        # The one case that the specification has: a task that was never started is cancelled by its own side,
        # swallows it, and returns ("UNWIND: returns v: Return(v)"; "REQ: Return: ✗").
        assert parent.violations == ["Return"]
        assert not child.started
        assert child.finals == ["Return"]


@settings(max_examples=400, deadline=None)
@given(
    st.lists(STEPS, max_size=60),
    st.none() | st.integers(min_value=0, max_value=60),
    st.booleans(),
)
def test_two_sides_always_end(
    steps: list[tuple[str, str]], lost_after: int | None, swallow: bool
) -> None:
    world = World()
    for i, (who, action) in enumerate(steps):
        if i == lost_after:
            world.step(*LOSS)
        world.step(who, action)
    world.run_out(swallow)
    check_the_end(world)


@settings(max_examples=400, deadline=None)
@given(st.lists(STEPS, max_size=60), st.booleans(), st.booleans())
def test_a_started_exchange_has_no_violation(
    steps: list[tuple[str, str]], lost: bool, swallow: bool
) -> None:
    world = World()
    for step in (
        ("child", "start"),
        ("child", "open"),
        ("wire", "to parent"),
        ("wire", "to parent"),
        ("parent", "open"),
    ):
        world.step(*step)
    assert world.parent.dialog.stream is world.child.dialog.stream is S.OPEN
    for who, action in steps:
        world.step(who, action)
    if lost:
        world.step(*LOSS)
    world.run_out(swallow)
    check_the_end(world)
    assert world.parent.violations == []


def test_the_violation_that_an_unstarted_return_is() -> None:
    world = World()
    for action in ("cancel", "return"):
        world.step("child", action)
    world.run_out(swallow=True)
    assert world.parent.violations == ["Return"]
    assert (world.parent.dialog.state, world.child.dialog.state) == (C.ERRORED, C.RESULT_RETURNED)


def test_both_closing_at_once_meet_in_closed() -> None:
    world = World()
    for step in (
        ("child", "start"),
        ("wire", "to parent"),
        ("wire", "to parent"),
        ("parent", "open"),
        ("child", "open"),
        ("parent", "close"),
        ("child", "close"),
        ("wire", "to parent"),
        ("wire", "to child"),
    ):
        world.step(*step)
    assert world.parent.dialog.stream is world.child.dialog.stream is S.CLOSED
    assert not world.parent.out
    assert not world.child.out
    world.run_out(swallow=False)
    assert world.parent.dialog.state is world.child.dialog.state is C.RESULT_RETURNED


def test_a_cancel_request_that_crosses_the_result_changes_nothing() -> None:
    world = World()
    for step in (
        ("child", "start"),
        ("wire", "to parent"),
        ("wire", "to parent"),
        ("child", "return"),
        ("parent", "cancel"),
        ("wire", "to child"),
        ("wire", "to parent"),
    ):
        world.step(*step)
    assert world.parent.dialog.state is world.child.dialog.state is C.RESULT_RETURNED
