"""The one function of a one-shot actor, and what has become of it."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import trio

from tractor._util._caller import Caller
from tractor.runtime._portal import Portal
from tractor.runtime.dialog._caller import PendingCall, put_start, result_of
from tractor.runtime.dialog._targets import Target
from tractor.runtime.dialog._telling import ToldDialog, told_call
from tractor.runtime.seen._told import TOLD


class _Value(msgspec.Struct):
    value: Any


class MainCall:
    """A one-shot's call.  A fresh process may take the actor's place and run it again; the last run's outcome counts.

    Args:
        target: the function; its annotation says what the result is to be.
        kwargs: its arguments.
        caller: the code that has started the actor.
    """

    def __init__(self, target: Target, kwargs: dict[str, Any], caller: Caller | None) -> None:
        self._target = target
        self._kwargs = kwargs
        self._caller = caller
        # Whose actor runs it.
        self._portal: Portal | None = None
        # The run that counts; `None` while another process is started for it.
        self._run: PendingCall | None = None
        # The reply of that run; once it was looked at, the value or the error that it stands for.
        self._outcome: Any = None
        self._done = trio.Event()

    def begin(self, portal: Portal) -> PendingCall:
        """Have the actor at a portal run it; gives that run.

        Raises:
            MsgTypeError, MessagingError, TransportClosed: the request can't be sent.
        """
        target, chan = self._target, portal.chan
        run = PendingCall(chan, target.endpoint.name)
        told = told_call(chan, run.cid, target.ns, run.what) if TOLD.dialogs else None
        headers = None if told is None else told.headers
        put_start(
            chan,
            run.cid,
            target.ns,
            target.name,
            self._kwargs,
            endpoint=target.endpoint,
            headers=headers,
        )
        self._portal, self._run = portal, run
        portal.wait_main = self.wait_for_result
        # At the reply itself: who waits has it before a nursery learns that the actor has died, and cancels its block.
        run.on_end = partial(self._settle, run, told)
        if run.reply is not None:
            self._settle(run, told)
        return run

    def _settle(self, run: PendingCall, told: ToldDialog | None) -> None:
        if told is not None:
            told.replied(run.reply, run.chan.local_uid)
            told.end()
        if run is self._run:
            self._outcome = run.reply
            self._done.set()

    async def settle(self, run: PendingCall) -> bool:
        """Wait for the end of a run; ``False``: it does not count, as another one is to come."""
        await run.wait()
        return run is self._run

    def give_up(self) -> bool:
        """A fresh process is to run it once more; ``False``: there is no run that has not ended."""
        if self._run is None or self._run.reply is not None:
            return False
        self._run = None
        return True

    @property
    def reply(self) -> object:
        """What the latest run was answered by; ``None``: nothing yet, or nothing will be."""
        return None if self._run is None else self._run.reply

    @property
    def has_value(self) -> bool:
        """Whether it has ended well, as somebody has seen by :meth:`result`."""
        return isinstance(self._outcome, _Value)

    async def wait_for_result(self) -> Any:
        """Its value, once there is one, or its error raised."""
        await self._done.wait()
        return self.result()

    def result(self) -> Any:
        """The value, or the error raised; only after a run has ended that counts."""
        outcome = self._outcome
        if not isinstance(outcome, (_Value, BaseException)):
            assert self._portal is not None
            chan, actor = self._portal.chan, self._portal.actor
            try:
                outcome = _Value(
                    result_of(outcome, chan, actor, self._target.endpoint, self._caller)
                )
            except BaseException as exc:
                outcome = exc
            self._outcome = outcome
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome.value
