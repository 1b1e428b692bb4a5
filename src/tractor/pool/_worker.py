"""A worker of a pool: the endpoint that runs its jobs, one at a time."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import trio

from tractor import log as _log
from tractor._errors import MessagingError, MsgTypeError, RemoteActorError
from tractor.msg._boxing import pack_error
from tractor.msg._conversion import (
    NOTHING_KNOWN,
    Conversions,
    any_arguments,
    any_value,
    argument_error,
    conversions_of,
    decode_argument,
    decode_arguments,
)
from tractor.msg._nspath import NamespacePath
from tractor.pool._messages import (
    Begun,
    Failed,
    GiveBack,
    Given,
    Jobs,
    NotRun,
    PoolMsg,
    Spent,
    Taken,
    Values,
    Withdraw,
    own_error,
)
from tractor.pool._rules import INITIALIZER
from tractor.pool._values import Packer, Unpacker, is_plain
from tractor.process._proc import resident_bytes
from tractor.runtime._actor import Actor
from tractor.runtime._state import current_actor
from tractor.runtime.dialog._context import Context, MsgStream
from tractor.runtime.dialog._endpoints import context
from tractor.trionics._groups import is_multi_cancelled, the_one_error
from tractor.trionics._masking import unmasked

log = _log.get_logger("trionics")

SWITCH_INTERVAL = 0.0005
"""Seconds that a computing thread may keep the loop's thread waiting (Python's own: 0.005), at each of its steps."""

TURN = 0.001
"""Seconds after which async functions that never wait let the worker's other tasks run."""


class _Batch:
    """Jobs that came together.

    What they have in common, their function and keywords, is looked up for the first that runs.
    """

    __slots__ = (
        "_raw",
        "common",
        "decode",
        "fn",
        "given",
        "is_async",
        "known",
        "path",
        "tells",
    )

    def __init__(self, msg: Jobs) -> None:
        self.path = msg.path
        self.is_async = msg.is_async
        self.given = msg.given
        self.tells = msg.tells
        self._raw = msg.common
        self.fn: Any = None
        self.known: Conversions = NOTHING_KNOWN
        self.common: dict[str, Any] = {}
        self.decode: Callable[[Any], Any] = any_value

    def prepare(self, functions: dict[str, tuple[Any, Conversions]], unpacker: Unpacker) -> None:
        """Be ready for a call.

        Raises:
            MsgTypeError: a common keyword is not what it is annotated with.
            ImportError, AttributeError: there is no such function here.
        """
        found = functions.get(self.path)
        if found is None:
            fn = NamespacePath(self.path).load_ref()
            found = functions[self.path] = fn, conversions_of(fn)
        fn, self.known = found
        known = self.known
        self.common = {
            name: unpacker.decode(
                partial(
                    decode_argument,
                    to=known.arguments.get(name, known.rest),
                    what=f"the argument {name!r}",
                    name=self.path,
                ),
                raw,
            )
            for name, raw in self._raw.items()
        }
        if self.given is Given.ITEM:
            self.decode = any_value if known.first is None else known.first.decode
        elif self.given is Given.POSITIONS:
            self.decode = any_value
        elif known.takes_anything:
            self.decode = any_arguments
        else:
            self.decode = partial(decode_arguments, known=known, name=self.path, cid=None)
        self.fn = fn

    def decode_payload(self, payload: msgspec.Raw, unpacker: Unpacker) -> Any:
        """The item or the arguments of a job.

        Raises:
            MsgTypeError: it is not what it is annotated with, or can't be decoded.
        """
        try:
            return unpacker.decode(self.decode, payload)
        except MsgTypeError:
            raise
        except Exception as exc:
            first = self.known.first if self.given is Given.ITEM else None
            raise argument_error(payload, first, "the item", self.path, exc) from exc


class _Job(msgspec.Struct, frozen=True, eq=False):
    id: int
    batch: _Batch
    payload: msgspec.Raw


class _Worker:
    """Jobs that wait, the one that runs, and what is to be told.

    Everything under ``lock`` is shared by the loop's thread and the one that runs sync functions.  That thread takes
    its jobs by itself, from the front, for as long as they are sync functions; ``its_turn`` says that it may.
    """

    def __init__(
        self,
        actor: Actor,
        stream: MsgStream[Any, Any],
        max_rss: int | None = None,
        share_above: int | None = None,
    ) -> None:
        self.actor = actor
        peer = stream.chan.aid
        self.unpacker = Unpacker(peer.pid if peer else None, imports=True)
        self.share_above = share_above
        # What values lend, until the pool has taken them; by job.
        self.lent: dict[int, Packer] = {}
        self.max_rss = max_rss
        self.stream = stream
        self.lock = threading.Condition(threading.Lock())
        self.waiting: deque[_Job] = deque()
        self.running: _Job | None = None
        self.scope: trio.CancelScope | None = None
        self.values: list[tuple[int, Any]] = []
        self.failures: list[tuple[int, BaseException]] = []
        self.not_run: list[NotRun] = []
        self.busy = 0.0
        # This process has grown too large; what waits is given back, in `left`.
        self.is_spent = False
        self.left: list[int] | None = None
        self.its_turn = False
        self.stopping = False
        self._told = False
        self._functions: dict[str, tuple[Any, Conversions]] = {}
        self._token = trio.lowlevel.current_trio_token()
        self._has_jobs = trio.Event()
        self._has_news = trio.Event()
        self._turn_over = trio.Event()

    # -- what the pool says ---------------------------------------------------------------------------

    def take(self, msg: PoolMsg) -> None:
        """Take one message of the pool's."""
        if isinstance(msg, Jobs):
            batch = _Batch(msg)
            with self.lock:
                too_late = self.is_spent
                if not too_late:
                    self.waiting.extend(_Job(number, batch, raw) for number, raw in msg.jobs)
            if too_late:
                # Sent before the pool knew.
                self._tell_not_run(NotRun([], [number for number, _ in msg.jobs]))
            self._has_jobs.set()
        elif isinstance(msg, Taken):
            self._lend_no_more(msg.ids)
        elif isinstance(msg, Withdraw):
            self._withdraw(set(msg.ids))
        elif isinstance(msg, GiveBack):
            with self.lock:
                most = min(msg.most, len(self.waiting))
                returned = [self.waiting.pop().id for _ in range(most)]
            self._tell_not_run(NotRun([], returned[::-1], answers=True))

    def _lend_no_more(self, ids: list[int]) -> None:
        for number in ids:
            if (packer := self.lent.pop(number, None)) is not None:
                packer.close()

    def _withdraw(self, ids: set[int]) -> None:
        with self.lock:
            dropped = [job.id for job in self.waiting if job.id in ids]
            kept = [job for job in self.waiting if job.id not in ids]
            running = self.running
            is_stuck = running is not None and running.id in ids and not running.batch.is_async
            returned = [job.id for job in kept] if is_stuck else []
            self.waiting = deque([] if is_stuck else kept)
        if running is not None and running.id in ids and self.scope is not None:
            self.scope.cancel()
        self._tell_not_run(NotRun(dropped, returned))

    def _tell_not_run(self, told: NotRun) -> None:
        self.not_run.append(told)
        self._has_news.set()

    # -- what the pool is told ------------------------------------------------------------------------

    async def report(self) -> None:
        """Send what there is to tell, for ever."""
        while True:
            await self._has_news.wait()
            self._has_news = trio.Event()
            with self.lock:
                self._told = False
                values, self.values = self.values, []
                failures, self.failures = self.failures, []
                busy, self.busy = self.busy, 0.0
                returned, self.left = self.left, None
            if returned is not None:
                # First: when the values have come it gets no further job.
                await self.stream.send(Spent())
                self.not_run.append(NotRun([], returned))
            if values:
                await self._send_values(values, busy)
            for number, error in failures:
                await self.actor.hooks.on_crash(error)
                await self._send_failure(number, error)
            # Last: what was dropped or given back is settled only when all that ran is told.
            not_run, self.not_run = self.not_run, []
            for told in not_run:
                await self.stream.send(told)

    async def _send_values(self, values: list[tuple[int, Any]], busy: float) -> None:
        try:
            lent = [number for number, _ in values if number in self.lent] if self.lent else []
            await self.stream.send(Values(values, busy, lent))
        except (MsgTypeError, MessagingError) as exc:
            if len(values) == 1:
                number, value = values[0]
                self._lend_no_more([number])
                await self._send_failure(number, own_error(value, "Return", exc))
                return
            # One of them can't be sent, or only not all at once: nothing was.
            for one in values:
                await self._send_values([one], busy / len(values))

    async def _send_failure(self, number: int, error: BaseException) -> None:
        uid = self.actor.aid.uid
        try:
            await self.stream.send(Failed(number, pack_error(error, src_uid=uid)))
        except (MsgTypeError, MessagingError):
            text = f"{type(error).__name__}, whose text can't be sent"
            short = RemoteActorError(text) if isinstance(error, RemoteActorError) else error
            told = pack_error(short, src_uid=uid, tb_str="(left out)", message=text)
            await self.stream.send(Failed(number, told))

    def _note(self, job: _Job, began: float, value: Any, error: BaseException | None) -> bool:
        """Keep a job's outcome; whether the reporter must be told of it."""
        took = time.perf_counter() - began
        if job.id == INITIALIZER and error is None:
            self.actor.life.share(value)
            value = None
        with self.lock:
            self.running = None
            self.busy += took
            if error is None:
                self.values.append((job.id, value))
            else:
                self.failures.append((job.id, the_one_error(error)))
            if self._is_too_large():
                self.is_spent = True
                self.left = [waiting.id for waiting in self.waiting]
                self.waiting.clear()
            first, self._told = not self._told, True
        return first

    def _is_too_large(self) -> bool:
        if self.max_rss is None or self.is_spent:
            return False
        return (resident_bytes(os.getpid()) or 0) > self.max_rss

    # -- running --------------------------------------------------------------------------------------

    def _prepare(self, job: _Job) -> Any:
        """What a job is given; its function is at hand from now on."""
        if job.batch.fn is None:
            job.batch.prepare(self._functions, self.unpacker)
        return job.batch.decode_payload(job.payload, self.unpacker)

    def _call(self, job: _Job, payload: Any) -> Any:
        batch = job.batch
        if batch.given is Given.KEYWORDS:
            return batch.fn(**payload)
        if batch.given is Given.POSITIONS:
            args, kwargs = payload
            return batch.fn(*args, **kwargs)
        return batch.fn(payload, **batch.common) if batch.common else batch.fn(payload)

    def _packed(self, job: _Job, value: Any) -> Any:
        """What to send of a value.  Raises MsgTypeError: it can't be encoded."""
        if job.id == INITIALIZER or is_plain(value):
            return value
        packer = Packer(self.share_above)
        raw = packer.pack(value, "Return", is_known=job.batch.known.result is not None)
        if packer.lent:
            self.lent[job.id] = packer
        return raw

    async def run(self, tn: trio.Nursery) -> None:
        """Run jobs, one at a time, for ever; the thread is started with the first sync function."""
        has_thread = False
        while True:
            with self.lock:
                front = self.waiting[0] if self.waiting else None
                if front is not None and front.batch.is_async:
                    self.running = self.waiting.popleft()
            if front is None:
                self._has_jobs = trio.Event()
                await self._has_jobs.wait()
            elif front.batch.is_async:
                await self._run_async_ones(front)
            else:
                if not has_thread:
                    has_thread = True
                    tn.start_soon(self._host_thread)
                await self._give_turn()

    async def _run_async_ones(self, job: _Job) -> None:
        """Run ``job`` and the async functions behind it until some time has passed."""
        turn_ends = time.perf_counter() + TURN
        while True:
            await self._run_async(job)
            if time.perf_counter() > turn_ends:
                await trio.lowlevel.checkpoint()
                return
            with self.lock:
                if not self.waiting or not self.waiting[0].batch.is_async:
                    return
                job = self.running = self.waiting.popleft()

    async def _run_async(self, job: _Job) -> None:
        began = time.perf_counter()
        value: Any = None
        error: BaseException | None = None
        try:
            with trio.CancelScope() as self.scope:
                try:
                    payload = self._prepare(job)
                    if job.batch.tells:
                        await self.stream.send(Begun(job.id))
                    value = await self._call(job, payload)
                    value = self._packed(job, value)
                except trio.Cancelled as exc:
                    hidden = unmasked(exc)
                    if hidden is None:
                        raise
                    raise hidden from None
        except BaseException as exc:
            if is_multi_cancelled(exc):
                raise
            error = exc
        scope, self.scope = self.scope, None
        if scope is not None and scope.cancelled_caught and error is None:
            with self.lock:
                self.running = None
            self._tell_not_run(NotRun([job.id], []))
        elif self._note(job, began, value, error):
            self._has_news.set()

    async def _give_turn(self) -> None:
        """Let the thread run the sync functions at the front."""
        self._turn_over = trio.Event()
        with self.lock:
            self.its_turn = True
            self.lock.notify()
        await self._turn_over.wait()

    async def _host_thread(self) -> None:
        peer = self.stream.chan.aid
        if peer is None or peer.pid != os.getpid():
            # Not in a sub-interpreter, whose parent's threads it would hit as well.
            sys.setswitchinterval(SWITCH_INTERVAL)
        # Abandoned when the worker is cancelled: nobody can stop it, and the process goes all the same.
        await trio.to_thread.run_sync(
            self._run_in_thread, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1)
        )

    def stop_thread(self) -> None:
        """Have the thread end, once the function that it runs has returned."""
        with self.lock:
            self.stopping = True
            self.waiting.clear()
            self.lock.notify()

    def _run_in_thread(self) -> None:
        """The thread: the worker's one thread for sync functions."""
        while True:
            with self.lock:
                while not self.its_turn and not self.stopping:
                    self.lock.wait()
                if self.stopping:
                    return
            self._run_sync_ones()
            with self.lock:
                self.its_turn = False
            self._in_loop(self._end_turn)

    def _run_sync_ones(self) -> None:
        while True:
            with self.lock:
                if not self.waiting or self.waiting[0].batch.is_async:
                    return
                job = self.running = self.waiting.popleft()
            value, error = None, None
            began = time.perf_counter()
            try:
                payload = self._prepare(job)
                if job.batch.tells:
                    # Said before the function may hold the interpreter for ever.
                    trio.from_thread.run(self.stream.send, Begun(job.id))
                value = self._call(job, payload)
                del payload
                value = self._packed(job, value)
            except BaseException as exc:
                # Also SystemExit: it is the call's, not the worker's.
                error = exc
            if self._note(job, began, value, error):
                self._in_loop(self._wake_reporter)

    def _in_loop(self, fn: Any) -> None:
        # An abandoned thread may outlive the loop.
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(fn)

    def _end_turn(self) -> None:
        self._turn_over.set()

    def _wake_reporter(self) -> None:
        self._has_news.set()


@context(pld_spec=PoolMsg | None)
async def serve_pool(
    ctx: Context[Any, Any, Any, Any], max_rss: int | None = None, share_above: int | None = None
) -> None:
    """Run the jobs of the pool that started this actor, until it closes the stream.

    The functions are imported by name, whatever modules are enabled: the parent may run anything here as it is, and
    nobody else gets in.

    Args:
        ctx: the dialog.
        max_rss, share_above: see ``Rules``.

    Raises:
        PermissionError: it was not opened by this actor's parent.
    """
    actor = current_actor()
    if ctx.chan is not actor.parent_chan:
        raise PermissionError(
            f"the jobs of worker {actor.aid.reprol()} come from its parent alone, not from {ctx.chan.peer}"
        )
    await ctx.started()
    async with ctx.open_stream() as stream:
        worker = _Worker(actor, stream, max_rss, share_above)
        try:
            async with trio.open_nursery() as tn:
                tn.start_soon(worker.report)
                tn.start_soon(worker.run, tn)
                async for msg in stream:
                    worker.take(msg)
                tn.cancel_scope.cancel()
        finally:
            worker.stop_thread()
