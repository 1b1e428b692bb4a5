"""One place of a worker pool: the worker that is there, and the one that replaces it.

Theory of operation.  Each place has a nursery of actors of its own, so that the death of a worker is confined to it.
One task starts the worker, reads what comes from it and starts the next one when it has ended; a second task sends.
The jobs that a worker has stand in ``had`` from the moment before they are sent until their outcome was read.  So
when the worker is gone, what is left in ``had`` is all that it can have had: each of these jobs fails, once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import trio

from tractor import log as _log
from tractor._errors import (
    ActorFailure,
    ContextCancelled,
    HostLost,
    HostUnavailable,
    MessagingError,
    MsgTypeError,
    RemoteActorError,
    TransportClosed,
)
from tractor._proto.deadlines import CANCEL_TIMEOUT
from tractor.msg._conversion import result_error
from tractor.msg.types import Uid
from tractor.pool._jobs import Call, Job, JobState, WorkerDied, closed_error
from tractor.pool._messages import (
    Begun,
    Failed,
    GiveBack,
    Jobs,
    NotRun,
    PoolMsg,
    Spent,
    Taken,
    Values,
    Withdraw,
)
from tractor.pool._queue import JobQueue
from tractor.pool._rules import INITIALIZER, NO_RULES, Rules
from tractor.pool._values import Unpacker
from tractor.pool._worker import serve_pool
from tractor.runtime._actor import Actor
from tractor.runtime._portal import Portal
from tractor.runtime.dialog._caller import boxed
from tractor.runtime.dialog._context import MsgStream
from tractor.supervise._arguments import module_names
from tractor.supervise._nursery import ActorNursery, open_actor_nursery
from tractor.trionics._ki import ki_protected

log = _log.get_logger("trionics")

GRACE = 0.05
"""Seconds that a sync function which nobody wants any more may still take; then its worker is replaced."""

IDLE_DEATHS = 3
"""Workers in a row that may end at one place without having had a job."""


@ki_protected
class WorkerPlace:
    """A place for one worker at a time.

    ``had`` are the jobs that the worker has, in the order in which it runs them.  ``changed`` wakes who waits for
    the end of one of them, ``wake`` the task that sends.
    """

    def __init__(
        self,
        jobs: JobQueue,
        actor: Actor,
        name: str,
        options: Mapping[str, Any],
        rules: Rules = NO_RULES,
    ) -> None:
        self.jobs = jobs
        self.actor = actor
        self.name = name
        self.options = options
        self.rules = rules
        self.had: dict[int, Job] = {}
        self.wake = trio.lowlevel.ParkingLot()
        self.changed = trio.lowlevel.ParkingLot()
        self.withdrawing = 0
        self.is_asked = False
        self.is_serving = False
        self.started = 0
        self.has_served = False
        self._control: deque[PoolMsg] = deque()
        self._an: ActorNursery | None = None
        self._doomed = False
        self._given = 0
        self._is_spent = False
        self._unready: BaseException | None = None
        self._feed_scope = trio.CancelScope()
        self._took_any = False
        self._last_call: Call | None = None
        self._uid: Uid | None = None
        # Memory is shared within a host.
        self._share_above = None if "host" in options else rules.share_above
        self._unpacker = Unpacker(None, imports=False)

    # -- a worker's life ------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Have a worker here until the pool closes.

        Raises:
            ActorFailure and others: one could not be started, or several in a row died without having had a job.
        """
        idle_deaths = 0
        try:
            while not self.jobs.is_closing:
                error = await self._run_worker(None if self.has_served else task_status)
                if self.jobs.is_closing:
                    return
                if error is not None and not self.has_served:
                    raise error
                if isinstance(error, (HostLost, HostUnavailable)) and len(self.jobs.takers) > 1:
                    log.warning("a worker is lost with its host, the others go on: %s", error)
                    self.jobs.takers.remove(self)
                    self._settle(error)
                    self.jobs.wake()
                    return
                idle_deaths = 0 if self._took_any or self._doomed else idle_deaths + 1
                if error is not None:
                    if idle_deaths >= IDLE_DEATHS:
                        raise error
                    log.warning("a worker has ended and will be replaced: %s", error)
                self._settle(error)
                while self.jobs.next_waiting() is None and not self.jobs.is_closing:
                    await self.wake.park()
        finally:
            self._settle(None)

    async def _run_worker(
        self, task_status: trio.TaskStatus[None] | None
    ) -> ActorFailure | HostUnavailable | RemoteActorError | None:
        """One worker, from its start to its end; gives the reason of an end that the pool did not want."""
        lost: TransportClosed | ContextCancelled | None = None
        self._doomed = self._took_any = self.is_asked = self._is_spent = False
        self._given = 0
        self._unready = None
        self._control.clear()
        try:
            async with open_actor_nursery(self.actor) as self._an:
                an = self._an
                modules = module_names(self.options.get("enable_modules") or ())
                options = {**self.options, "enable_modules": [*modules, serve_pool.__module__]}
                portal = await an.start_actor(self.name, **options)
                self.started += 1
                aid = portal.chan.aid
                self._uid = aid.uid if aid else None
                self._unpacker = Unpacker(aid.pid if aid else None, imports=False)
                try:
                    await self._serve(portal, task_status)
                except (TransportClosed, ContextCancelled) as exc:
                    lost = exc
                await an.cancel(hard_kill=lost is not None)
        except (ActorFailure, HostUnavailable, RemoteActorError) as exc:
            # Of the latter kind: its lifespan or a background task has failed.
            if task_status is not None and not self.has_served:
                raise
            await trio.lowlevel.checkpoint()
            return exc
        finally:
            self._an = None
            self.is_serving = False
        if isinstance(lost, ContextCancelled) and not self._doomed:
            return lost
        return ActorFailure(self._uid, None) if lost is not None and not self._doomed else None

    async def _serve(self, portal: Portal, task_status: trio.TaskStatus[None] | None) -> None:
        async with (
            portal.open_context(
                serve_pool, max_rss=self.rules.max_rss, share_above=self._share_above
            ) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            if self.rules.initializer is None:
                self.now_ready(task_status)
            else:
                ready = _Readying(self, task_status)
                first = Job(INITIALIZER, self.rules.initializer, self.rules.arguments, ready)
                self.had[first.id] = first
                await self._send_jobs(stream, [first])
            with trio.CancelScope() as self._feed_scope:
                if self.jobs.is_closing:
                    return
                try:
                    async with trio.open_nursery() as tn:
                        tn.start_soon(self._send, stream)
                        # Caught right here: with the cancellation that a death brings it would make a group.
                        lost = await self._read(stream, portal)
                        tn.cancel_scope.cancel()
                except trio.Cancelled:
                    if any(not job.call.is_async for job in self.had.values()):
                        # It can't be asked to stop, so nothing is asked.
                        await self._kill()
                    raise
                raise lost
            if self._unready is not None:
                raise self._unready

    async def _read(
        self, stream: MsgStream[Any, Any], portal: Portal
    ) -> TransportClosed | ContextCancelled:
        try:
            async for msg in stream:
                self._on(msg, portal)
        except (TransportClosed, ContextCancelled) as exc:
            return exc
        return TransportClosed(f"worker {self.name} of a pool has closed its stream")

    def now_ready(self, task_status: trio.TaskStatus[None] | None) -> None:
        """The worker takes jobs."""
        self.is_serving = self.has_served = True
        self.wake.unpark_all()
        if task_status is not None:
            task_status.started()

    def not_ready(self, error: BaseException) -> None:
        """The initializer has failed there."""
        self._unready = error
        self._feed_scope.cancel()

    def _retire(self) -> None:
        """Have the worker end, which has no job: it was given as many as it may be, or has grown too large."""
        self._doomed = True
        self._feed_scope.cancel()

    def close(self) -> None:
        """The pool closes."""
        self._feed_scope.cancel()
        self.wake.unpark_all()

    async def _kill(self) -> None:
        """End the worker's process and wait for that.  Shielded."""
        self._doomed = True
        if self._an is not None:
            await self._an.cancel(hard_kill=True)

    def _settle(self, error: ActorFailure | HostUnavailable | RemoteActorError | None) -> None:
        """The worker is gone: tell those that wait for the jobs that it had."""
        self.had.pop(INITIALIZER, None)
        had, self.had = list(self.had.values()), {}
        among = sum(not job.withdrawn for job in had)
        if isinstance(error, ContextCancelled) and had:
            error.add_note(f"{self.name} was cancelled; it had {had[0].what()}")
        for job in had:
            if job.withdrawn or (job.overdue and not self.jobs.is_closing):
                self.jobs.drop(job)
            elif self.jobs.is_closing:
                self.jobs.end(job, closed_error(job))
            elif among > 1 and job.may_go_alone and not isinstance(error, ContextCancelled):
                # Which of them has killed it is not known.  Each goes alone from now on, so this costs it no try.
                job.is_suspect = True
                self.jobs.again(job)
            elif isinstance(error, ContextCancelled):
                self.jobs.end(job, error)
            else:
                code, tail = None, ""
                if isinstance(error, ActorFailure):
                    code, tail = error.returncode, error.stderr_tail
                death = WorkerDied(self._uid, code, tail, what=job.what(), among=among)
                death.__cause__ = None if type(error) is ActorFailure else error
                self.jobs.end(job, death)
        self.changed.unpark_all()

    # -- what goes to the worker ----------------------------------------------------------------------

    async def _send(self, stream: MsgStream[Any, Any]) -> None:
        try:
            while True:
                while self._control:
                    await stream.send(self._control.popleft())
                if jobs := self._take():
                    await self._send_jobs(stream, jobs)
                elif self._is_spent and not self.had:
                    self._retire()
                    return
                elif not self._control:
                    await self.wake.park()
        except (
            TransportClosed,
            RemoteActorError,
            trio.EndOfChannel,
            trio.ClosedResourceError,
        ) as exc:
            log.cancel("worker %s takes no more jobs: %r", self.name, exc)

    def _take(self) -> list[Job]:
        """The next jobs for this worker: few if they take long, and never so many that others have none."""
        left = self.rules.left(self._given)
        self._is_spent = self._is_spent or left == 0
        if self.withdrawing or self._is_spent or not self.is_serving:
            return []
        queue = self.jobs.jobs
        first = self.jobs.next_waiting()
        if first is None:
            if not self.had:
                self.jobs.ask_back()
            return []
        if self.had and (first.is_alone or next(iter(self.had.values())).is_alone):
            return []
        call = first.call
        window = 1 if first.is_alone else call.pace.window
        if self.had and self._last_call is not None:
            window = min(window, self._last_call.pace.window)
        if self.had and len(self.had) > window // 2:
            return []
        room = min(window - len(self.had), math.ceil(len(queue) / len(self.jobs.takers)))
        if left is not None:
            room = min(room, left)
        jobs: list[Job] = []
        while queue and len(jobs) < room and queue[0].call is call:
            if queue[0].is_alone and jobs:
                break
            job = queue.popleft()
            if job.state is JobState.WAITING and not job.sink.on_taken(job):
                self.jobs.drop(job)
            elif job.state is JobState.WAITING:
                job.state = JobState.SENT
                self.had[job.id] = job
                jobs.append(job)
        self._given += len(jobs)
        self._last_call = call
        self._took_any = True
        return jobs

    async def _send_jobs(self, stream: MsgStream[Any, Any], jobs: list[Job]) -> None:
        call = jobs[0].call
        try:
            pairs = [(job.id, job.pack(self._share_above)) for job in jobs]
            common = call.pack_common()
            tells = jobs[0].handling.timeout is not None
            await stream.send(Jobs(call.path, call.is_async, call.given, tells, common, pairs))
        except (MsgTypeError, MessagingError, TypeError) as exc:
            if len(jobs) == 1:
                self.had.pop(jobs[0].id, None)
                self.jobs.end(jobs[0], jobs[0].unsendable(exc))
                self.changed.unpark_all()
                return
            # One of them can't be sent, or only not all at once: nothing was.
            for job in jobs:
                await self._send_jobs(stream, [job])

    def ask_back(self) -> None:
        """Another worker has nothing to do: have this one give back half of what it has not begun."""
        self.is_asked = True
        self._control.append(GiveBack(len(self.had) // 2))
        self.wake.unpark_all()

    # -- what comes from the worker -------------------------------------------------------------------

    def _on(self, msg: PoolMsg, portal: Portal) -> None:
        if isinstance(msg, Values):
            self._on_values(msg)
        elif isinstance(msg, Failed):
            job = self.had.pop(msg.id)
            error = boxed(msg.error, portal.chan, portal.actor)
            error.add_note(f"in {self.name}: {job.what()}")
            if job.id == INITIALIZER:
                job.sink.on_error(job, error)
            else:
                self.jobs.end(job, error)
        elif isinstance(msg, Spent):
            self._is_spent = True
        elif isinstance(msg, Begun):
            if (begun := self.had.get(msg.id)) is not None:
                # Not a task of this worker's: it has to outlive that.
                self.jobs.nursery.start_soon(self._end_when_late, begun, begun.tries)
        elif isinstance(msg, NotRun):
            for number in msg.dropped:
                self.jobs.drop(self.had.pop(number))
            for number in reversed(msg.returned):
                self._returned(self.had.pop(number))
            if msg.answers:
                self.is_asked = False
            if msg.returned or (msg.answers and len(self.had) > 1):
                # Who has nothing may have met a question that came too early to give it anything.
                self.jobs.wake()
        self.changed.unpark_all()
        self.wake.unpark_all()

    def _on_values(self, msg: Values) -> None:
        seconds = msg.busy / len(msg.values)
        if msg.lent:
            # Sent when all were decoded, right below.
            self._control.append(Taken(msg.lent))
        noted: Call | None = None
        for number, raw in msg.values:
            job = self.had.pop(number)
            if number == INITIALIZER:
                job.sink.on_value(job, None)
                continue
            if job.call is not noted:
                noted = job.call
                noted.pace.note(seconds)
            try:
                value = self._unpacker.decode(noted.decode, raw)
            except Exception as exc:
                error = result_error(raw, noted.conversions.result, noted.path, exc)
                self.jobs.end(job, error)
                continue
            self.jobs.succeed(job, value)

    def _returned(self, job: Job) -> None:
        self._given -= 1
        job.release()
        if job.withdrawn:
            self.jobs.drop(job)
        else:
            job.state = JobState.WAITING
            self.jobs.jobs.appendleft(job)

    # -- withdrawing ----------------------------------------------------------------------------------

    async def withdraw(self, jobs: list[Job]) -> None:
        """Have jobs of this worker's end, and wait for that; a worker that goes on with one is replaced.  Shielded."""
        for job in jobs:
            job.withdrawn = True
        await self._stop(jobs)

    async def _stop(self, jobs: list[Job]) -> None:
        self._control.append(Withdraw([job.id for job in jobs]))
        self.withdrawing += 1
        self.wake.unpark_all()
        limit = CANCEL_TIMEOUT if all(job.call.is_async for job in jobs) else GRACE
        try:
            with trio.CancelScope(shield=True):
                with trio.move_on_after(limit):
                    await self._until_over(jobs)
                if left := [job for job in jobs if self._has(job)]:
                    log.cancel("worker %s is ended: it goes on with %s", self.name, left[0].what())
                    await self._kill()
                    await self._until_over(jobs)
        finally:
            self.withdrawing -= 1
            self.wake.unpark_all()

    async def _end_when_late(self, job: Job, tries: int) -> None:
        """End a job that takes longer than it may."""
        with trio.move_on_after(job.handling.timeout or 0.0):
            while self._has(job) and job.tries == tries:
                await self.changed.park()
        if self._has(job) and job.tries == tries and not job.withdrawn:
            job.overdue = True
            await self._stop([job])

    async def _until_over(self, jobs: list[Job]) -> None:
        while any(map(self._has, jobs)):
            await self.changed.park()

    def _has(self, job: Job) -> bool:
        return self.had.get(job.id) is job


class _Readying:
    """Who waits for a worker's initializer."""

    def __init__(self, place: WorkerPlace, task_status: trio.TaskStatus[None] | None) -> None:
        self.place = place
        self.task_status = task_status

    def on_taken(self, job: Job) -> bool:
        return True

    def on_value(self, job: Job, value: Any) -> None:
        self.place.now_ready(self.task_status)

    def on_error(self, job: Job, error: BaseException) -> None:
        self.place.not_ready(error)

    def on_dropped(self, job: Job) -> None:
        pass
