"""The jobs of a worker pool that nobody has yet, and the places that take them.

Theory of operation.  A job is WAITING (here), SENT (a worker has it) or OVER.  A place takes jobs of one call in
batches: as many as its worker does in about 10 ms, at most its share of what waits, so that a burst reaches every
worker.  A worker that has nothing makes the queue ask the one with the most jobs to give half of those back that it
has not begun.  A place that was asked is not asked again before it has answered; who then still has several is asked
by the next one that is idle, so a question that came too early is repeated, and no worker stays idle while another
has a queue.

Who withdraws a job that is WAITING is done at once.  One that is SENT is over when its outcome has come, or when its
worker has ended; it is never given to another worker, because it may have begun.

All methods but those that say so run between two awaits, in the actor's own thread: no state is seen half changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

import trio

from tractor.pool._items import ONCE, Handling
from tractor.pool._jobs import Call, Job, JobState, Sink, closed_error
from tractor.trionics._groups import collapse_eg


class Taker(Protocol):
    """What the queue needs of a place.

    Attributes:
        had: the jobs that its worker has, by number, in the order in which it runs them.
        wake: where its task waits for work.
        is_asked: it was asked to give jobs back, and has not answered.
        withdrawing: how many tasks have it end jobs.
    """

    had: dict[int, Job]
    wake: trio.lowlevel.ParkingLot
    is_asked: bool
    withdrawing: int

    def ask_back(self) -> None:
        """Have its worker give back half of what it has not begun."""

    async def withdraw(self, jobs: list[Job], /) -> None:
        """Have jobs of its worker end, and wait for that.  Shielded."""

    def close(self) -> None:
        """Have its worker end."""


class JobQueue:
    """Jobs in the order in which they were asked for.

    Attributes:
        nursery: of the pool's tasks.
        jobs: those that wait, and some that were withdrawn since.
        takers: one for each worker.
        feeding: scopes of the tasks that read async iterables for maps.
        is_closing: no more jobs are taken.
        done, failed, dropped: jobs that have returned, raised (or could not be run), were cancelled.
        retried: how often a job that had failed was made again.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.jobs: deque[Job] = deque()
        self.takers: list[Taker] = []
        self.feeding: set[trio.CancelScope] = set()
        self.is_closing = False
        self.done = self.failed = self.dropped = self.retried = 0
        self._numbers = 0

    def submit(
        self, call: Call, payload: Any, sink: Sink, index: int = 0, handling: Handling = ONCE
    ) -> Job:
        """Put a job into the queue.

        Raises:
            RuntimeFailure: the pool is closed.
            Exception: what the ``key`` of its map does.
        """
        self.refuse_if_closed()
        self._numbers += 1
        job = Job(self._numbers, call, payload, sink, index, handling)
        self.jobs.append(job)
        self.wake()
        return job

    def refuse_if_closed(self) -> None:
        """Raises RuntimeFailure: no more jobs are taken."""
        if self.is_closing:
            raise closed_error()

    def next_waiting(self) -> Job | None:
        """The first job that nobody has; those before it that were withdrawn are thrown away."""
        jobs = self.jobs
        while jobs:
            if jobs[0].state is JobState.WAITING:
                return jobs[0]
            jobs.popleft()
        return None

    def wake(self) -> None:
        """There is work: let those look that wait for it."""
        for taker in self.takers:
            taker.wake.unpark_all()

    def ask_back(self) -> None:
        """A worker has nothing to do: the one with the most jobs that wait is asked to give some back."""
        taker = max(self.takers, key=lambda taker: len(taker.had))
        if len(taker.had) > 1 and not taker.is_asked and not taker.withdrawing:
            taker.ask_back()

    def succeed(self, job: Job, value: Any) -> None:
        """A job has returned."""
        job.release()
        job.state = JobState.OVER
        self.done += 1
        job.sink.on_value(job, value)

    def end(self, job: Job, error: BaseException) -> None:
        """A job has failed, or can't be run any more: it is made again if it may be."""
        job.release()
        if not self.is_closing and job.failed(error):
            self.again(job)
            return
        job.state = JobState.OVER
        self.failed += 1
        job.sink.on_error(job, error)

    def again(self, job: Job) -> None:
        """Have a job that some worker had made again, behind those that wait."""
        self.retried += 1
        job.release()
        job.state = JobState.WAITING
        self.jobs.append(job)
        self.wake()

    def drop(self, job: Job) -> None:
        """A job was cancelled: it has taken too long, or nobody wants it."""
        job.release()
        if job.overdue and not job.withdrawn:
            self.end(job, job.too_late())
            return
        job.state = JobState.OVER
        self.dropped += 1
        job.sink.on_dropped(job)

    def drop_waiting(self, jobs: list[Job]) -> list[tuple[Taker, list[Job]]]:
        """Drop those of the jobs that wait; give the others, by who has them."""
        there = {id(job) for job in jobs}
        for job in jobs:
            if job.state is JobState.WAITING:
                self.drop(job)
        sent = ((t, [job for job in t.had.values() if id(job) in there]) for t in self.takers)
        return [(taker, had) for taker, had in sent if had]

    async def withdraw(self, jobs: Iterable[Job]) -> None:
        """Have jobs end and wait for that.  Shielded."""
        sent = self.drop_waiting(list(jobs))
        with trio.CancelScope(shield=True):
            async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
                for taker, had in sent:
                    tn.start_soon(taker.withdraw, had)

    def close(self) -> None:
        """Take no more jobs, and have the workers end."""
        self.is_closing = True
        for job in self.jobs:
            if job.state is JobState.WAITING:
                self.end(job, closed_error(job))
        self.jobs.clear()
        for scope in self.feeding:
            scope.cancel()
        for taker in self.takers:
            taker.close()
