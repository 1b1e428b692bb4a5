"""What the ladder of a child decides is carried out, each instruction of it; without a process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from tractor._errors import TransportClosed
from tractor._proto.children.ladder import ACTIONS, LadderDo, LadderEvent, Rung
from tractor.msg.types import Aid
from tractor.runtime.seen._kept import Recorder
from tractor.supervise import _ladder
from tractor.supervise._ladder import Descent


class FakeChild:
    """A child that notes what is done to it; it answers requests with ``reply``, if there is one."""

    def __init__(self, reply: Any = None) -> None:
        self.did: list[str] = []
        self.reply = reply
        # Whether somebody below it has the REPL.
        self.held = False
        hooks = SimpleNamespace(repl_below=lambda _uid: self.held)
        self.actor: Any = SimpleNamespace(hooks=hooks, recorder=Recorder())
        self.aid = Aid("it", "a-uuid", 1)
        self.ready = True
        self.drains = False
        self.chan: Any = SimpleNamespace(cancel_called=False, local_uid=("own", "own-uuid"))
        self.process: Any = SimpleNamespace(
            pid=1,
            cmdline="it",
            terminate=lambda: self.did.append("SIGTERM"),
            kill=lambda: self.did.append("SIGKILL"),
        )

    def on_kill(self) -> None:
        self.did.append("told")

    def request(self, _chan: Any, name: str) -> Any:
        self.did.append(name)
        if self.reply is None:
            raise TransportClosed("gone")

        async def wait() -> Any:
            await trio.lowlevel.checkpoint()
            return self.reply

        return SimpleNamespace(wait=wait)


Meanwhile = Callable[[Descent], Awaitable[None]]
Descend = Callable[..., Descent]


@pytest.fixture
def descend(monkeypatch: pytest.MonkeyPatch) -> Descend:
    """Has a child go, by a clock that needs no time; it ends when ``meanwhile`` has."""

    def descend(child: FakeChild, meanwhile: Meanwhile, hard_kill: bool = False) -> Descent:
        monkeypatch.setattr(_ladder, "request", child.request)

        async def main() -> Descent:
            descent = Descent(child, hard_kill)
            async with trio.open_nursery() as tn:
                tn.start_soon(descent.run, LadderEvent.CANCEL)
                await meanwhile(descent)
                descent.feed(LadderEvent.EXITED)
            assert descent.ladder.rung is Rung.GONE
            return descent

        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    return descend


def test_each_instruction_has_a_handler_and_is_given_on_some_rung() -> None:
    assert set(Descent.HANDLERS) == set(ACTIONS.values()) == set(LadderDo)


async def long(_descent: Descent) -> None:
    await trio.sleep(100)


def test_the_whole_way_down(descend: Descend, caplog: pytest.LogCaptureFixture) -> None:
    child = FakeChild()
    descent = descend(child, long)
    assert child.did == ["cancel", "SIGTERM", "told", "SIGKILL"]
    assert child.chan.cancel_called
    assert len(descent.ladder.escalations) == 3
    assert "#T-800" in caplog.text
    assert "its event loop does not run" in caplog.text


def test_at_once(descend: Descend, caplog: pytest.LogCaptureFixture) -> None:
    child = FakeChild()
    descend(child, long, hard_kill=True)
    assert child.did == ["SIGTERM", "told", "SIGKILL"]
    assert "killed at once" in caplog.text


def test_one_that_answers_is_waited_for(descend: Descend) -> None:
    async def meanwhile(descent: Descent) -> None:
        await trio.sleep(0.6)
        assert descent.ladder.rung is Rung.EXIT

    child = FakeChild(reply="yes")
    descent = descend(child, meanwhile)
    assert child.did == ["cancel"]
    assert descent.ladder.acked
    assert not descent.ladder.escalations


def test_an_error_is_no_answer(descend: Descend) -> None:
    child = FakeChild(reply=TransportClosed("gone"))
    assert not descend(child, long).ladder.acked
    assert child.did == ["cancel", "SIGTERM", "told", "SIGKILL"]


def test_nothing_is_signalled_while_somebody_has_the_repl(descend: Descend) -> None:
    async def meanwhile(descent: Descent) -> None:
        await trio.sleep(100)
        descent.feed(LadderEvent.HARD_KILL)
        await trio.sleep(100)
        assert child.did == ["cancel"]
        child.held = False
        descent.on_repl_change(restart=False)
        await trio.sleep(0.1)
        assert child.did == ["cancel", "SIGTERM"]

    child = FakeChild()
    child.held = True
    descend(child, meanwhile)
    assert child.did == ["cancel", "SIGTERM"]


def test_a_loop_that_stood_still_gives_the_whole_limit_again(descend: Descend) -> None:
    async def meanwhile(descent: Descent) -> None:
        await trio.sleep(0.4)
        descent.on_repl_change(restart=True)
        await trio.sleep(0.4)
        assert descent.ladder.rung is Rung.REQUEST

    child = FakeChild()
    descend(child, meanwhile)
    assert child.did == ["cancel"]
