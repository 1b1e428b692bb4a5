"""One function for each row of the translation tables of asyncio.md; runs in any infected actor.

Each appends to `log` what the two sides saw, and lets out what leaves its block.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import trio

import tractor
from tractor.to_asyncio import LinkedTaskChannel, open_channel_from, run_task

Log = list[Any]
ROWS: dict[str, Callable[[Log], Awaitable[Any]]] = {}


def row(fn: Callable[[Log], Awaitable[Any]]) -> Callable[[Log], Awaitable[Any]]:
    ROWS[fn.__name__] = fn
    return fn


class TrioSideError(Exception):
    pass


class AioSideError(Exception):
    pass


tractor.reg_err_types([TrioSideError, AioSideError])


async def run_row(name: str) -> Log:
    """For a peer: run one row, and give its log."""
    log: Log = []
    await ROWS[name](log)
    return log


@tractor.context
async def row_in_context(ctx: tractor.Context, name: str) -> Log:
    log: Log = []
    await ctx.started()
    await ROWS[name](log)
    return log


# -- asyncio sides --


async def send_two(chan: LinkedTaskChannel) -> str:
    chan.started_nowait("first")
    chan.send_nowait(1)
    chan.send_nowait(2)
    return "value"


async def fail(chan: LinkedTaskChannel) -> None:
    chan.started_nowait()
    await asyncio.sleep(0.01)
    raise AioSideError("asyncio's")


async def wait(chan: LinkedTaskChannel, log: Log) -> None:
    """Waits, notes what it gets there, and lets it out."""
    chan.started_nowait()
    await noting(asyncio.sleep(60), log)


async def noting(wait: Awaitable[Any], log: Log) -> Any:
    try:
        return await wait
    except BaseException as exc:
        log.append(type(exc).__name__)
        if exc.__cause__ is not None:
            log.append(f"cause {type(exc.__cause__).__name__}")
        raise


async def catch_and_return(chan: LinkedTaskChannel, log: Log) -> str:
    try:
        await wait(chan, log)
    except Exception:
        return "caught"
    return "?"


async def cancel_oneself(chan: LinkedTaskChannel) -> None:
    chan.started_nowait()
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(60)


async def be_cancelled_by_another(chan: LinkedTaskChannel) -> None:
    chan.started_nowait()
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_later(0.01, task.cancel)
    await asyncio.sleep(60)


async def turn_into_another(chan: LinkedTaskChannel, log: Log) -> None:
    try:
        await wait(chan, log)
    except Exception as exc:
        raise AioSideError("made of it") from exc


async def fail_on_its_own(chan: LinkedTaskChannel, log: Log) -> None:
    """Fails after it was told, and not because of it."""
    own = AioSideError("its own")
    try:
        await wait(chan, log)
    except Exception:
        log.append("goes on")
    raise own


# -- trio sides --


async def sleep_noting(log: Log) -> None:
    try:
        await trio.sleep_forever()
    except trio.Cancelled:
        log.append("trio cancelled")
        raise


# -- what the trio side sees --


@row
async def returns_and_trio_reads_on(log: Log) -> None:
    async with open_channel_from(send_two) as (chan, first):
        log.append(first)
        async for value in chan:
            log.append(value)
        log.append("end")
        # Each time.
        try:
            await chan.receive()
        except trio.EndOfChannel:
            log.append("end")
    log.append(await chan.wait_for_result())


@row
async def returns_and_trio_reads_on_strictly(log: Log) -> None:
    async with open_channel_from(send_two, suppress_graceful_exits=False) as (chan, _):
        async for value in chan:
            log.append(value)


@row
async def returns_and_the_end_escapes(log: Log) -> None:
    async with open_channel_from(send_two) as (chan, _):
        while True:
            log.append(await chan.receive())


@row
async def returns_and_the_end_escapes_a_nursery(log: Log) -> None:
    async with open_channel_from(send_two) as (chan, _), trio.open_nursery() as tn:

        async def read_all() -> None:
            while True:
                log.append(await chan.receive())

        tn.start_soon(read_all)
        tn.start_soon(trio.sleep_forever)


@row
async def returns_and_the_end_escapes_strictly(log: Log) -> None:
    async with open_channel_from(send_two, suppress_graceful_exits=False) as (chan, _):
        while True:
            log.append(await chan.receive())


@row
async def returns_and_trio_is_busy(log: Log) -> None:
    async with open_channel_from(send_two) as (chan, _):
        await trio.sleep(0.02)
        log.append("not cancelled")
        log.append(await chan.receive())


@row
async def returns_and_trio_is_busy_strictly(log: Log) -> None:
    async with open_channel_from(send_two, suppress_graceful_exits=False):
        await trio.sleep(0.02)


@row
async def raises(log: Log) -> None:
    async with open_channel_from(fail):
        await sleep_noting(log)


@row
async def raises_and_the_result_is_awaited(log: Log) -> None:
    async with open_channel_from(fail) as (chan, _):
        try:
            await chan.wait_for_result()
        except AioSideError:
            log.append("seen in the block")


@row
async def cancels_itself(log: Log) -> None:
    async with open_channel_from(cancel_oneself):
        await sleep_noting(log)


@row
async def is_cancelled_by_third_code(log: Log) -> None:
    async with open_channel_from(be_cancelled_by_another):
        await sleep_noting(log)


@row
async def is_cancelled_as_asked(log: Log) -> None:
    async with open_channel_from(wait, log=log) as (chan, _):
        await trio.sleep(0.01)
        chan.cancel_asyncio_task("please")
        for _ in range(2):
            try:
                await chan.wait_for_result()
            except tractor.AsyncioCancelled:
                log.append("AsyncioCancelled")
        await trio.sleep(0.01)
        log.append("not cancelled")
        async for _ in chan:
            log.append("?")


@row
async def turns_the_word_into_an_error(log: Log) -> None:
    async with open_channel_from(turn_into_another, log=log):
        await trio.sleep(0.01)


@row
async def turns_a_cancel_into_an_error(log: Log) -> None:
    with trio.CancelScope() as scope:
        async with open_channel_from(turn_into_another, log=log):
            scope.cancel()
            await sleep_noting(log)


# -- what the asyncio side sees --


@row
async def trio_leaves(log: Log) -> None:
    async with open_channel_from(wait, log=log):
        await trio.sleep(0.01)
    log.append("left")


@row
async def trio_leaves_strictly(log: Log) -> None:
    async with open_channel_from(wait, suppress_graceful_exits=False, log=log):
        await trio.sleep(0.01)


@row
async def trio_leaves_and_the_task_returns(log: Log) -> None:
    # Graceful, also where strictness is asked for.
    async with open_channel_from(catch_and_return, suppress_graceful_exits=False, log=log) as (
        chan,
        _,
    ):
        await trio.sleep(0.01)
    log.append(await chan.wait_for_result())


@row
async def trio_is_cancelled(log: Log) -> None:
    with trio.CancelScope() as scope:
        async with open_channel_from(wait, log=log):
            await trio.sleep(0.01)
            scope.cancel()
            await sleep_noting(log)
    log.append(f"caught {scope.cancelled_caught}")


@row
async def trio_runs_into_a_deadline(log: Log) -> None:
    with trio.fail_after(60) as scope:
        async with open_channel_from(wait, log=log):
            scope.deadline = trio.current_time() + 0.01
            await sleep_noting(log)


@row
async def trio_raises(log: Log) -> None:
    async with open_channel_from(wait, log=log):
        await trio.sleep(0.01)
        raise TrioSideError("trio's")


# -- both --


@row
async def both_fail(log: Log) -> None:
    async with open_channel_from(fail_on_its_own, log=log):
        await trio.sleep(0.01)
        raise TrioSideError("trio's")


@row
async def trios_error_causes_asyncios(log: Log) -> None:
    async with open_channel_from(turn_into_another, log=log):
        await trio.sleep(0.01)
        raise TrioSideError("trio's")


@row
async def asyncios_error_causes_trios(log: Log) -> None:
    async with open_channel_from(fail) as (chan, _):
        try:
            await chan.wait_for_result()
        except AioSideError as exc:
            raise TrioSideError("made of it") from exc


@row
async def trio_cancelled_and_asyncio_fails(log: Log) -> None:
    with trio.CancelScope() as scope:
        async with open_channel_from(fail_on_its_own, log=log):
            scope.cancel()
            await sleep_noting(log)


@row
async def asyncio_cancelled_and_trio_fails(log: Log) -> None:
    async with open_channel_from(cancel_oneself):
        try:
            await sleep_noting(log)
        finally:
            raise TrioSideError("trio's")


@row
async def both_are_cancelled(log: Log) -> None:
    with trio.CancelScope() as scope:
        async with open_channel_from(be_cancelled_by_another):
            # Until asyncio has cancelled its side; then this side is cancelled before it can see that.
            with trio.CancelScope(shield=True):
                await trio.sleep(0.03)
            scope.cancel()
            await sleep_noting(log)
    log.append(f"caught {scope.cancelled_caught}")


# -- entry --


async def return_early(chan: LinkedTaskChannel) -> int:
    return 1


async def fail_early(chan: LinkedTaskChannel) -> None:
    raise AioSideError("before it has started")


async def cancel_early(chan: LinkedTaskChannel) -> None:
    raise asyncio.CancelledError


async def never_start(chan: LinkedTaskChannel, log: Log, begun: Callable[[], object]) -> None:
    asyncio.get_running_loop().call_soon(begun)
    await noting(asyncio.sleep(60), log)


async def enter(target: Any, log: Log) -> None:
    async with open_channel_from(target):
        log.append("entered")


@row
async def ends_before_it_has_started(log: Log) -> None:
    await enter(return_early, log)


@row
async def fails_before_it_has_started(log: Log) -> None:
    await enter(fail_early, log)


@row
async def cancelled_before_it_has_started(log: Log) -> None:
    await enter(cancel_early, log)


@row
async def cancelled_while_entering(log: Log) -> None:
    with trio.CancelScope() as scope:
        async with open_channel_from(never_start, log=log, begun=scope.cancel):
            log.append("entered")
    log.append(f"caught {scope.cancelled_caught}")


# -- run_task --


async def give(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


async def die() -> None:
    await asyncio.sleep(0)
    raise AioSideError("asyncio's")


async def be_cancelled() -> None:
    raise asyncio.CancelledError


async def sleep_long(log: Log, begun: Callable[[], object] = bool) -> None:
    asyncio.get_running_loop().call_soon(begun)
    await noting(asyncio.sleep(60), log)


@row
async def run_task_gives_values(log: Log) -> None:
    log.append(await run_task(give, value=None))
    log.append(await run_task(give, value=3))


@row
async def run_task_raises(log: Log) -> None:
    await run_task(die)


@row
async def run_task_is_cancelled_over_there(log: Log) -> None:
    await run_task(be_cancelled)


@row
async def run_task_is_cancelled_here(log: Log) -> None:
    with trio.CancelScope() as scope:
        await run_task(sleep_long, log=log, begun=scope.cancel)
    log.append(f"caught {scope.cancelled_caught}")


# -- groups: raised once, as they are --


async def fail_in_group(chan: LinkedTaskChannel | None = None) -> None:
    if chan is not None:
        chan.started_nowait()
    async with asyncio.TaskGroup() as tg:
        for _ in range(2):
            tg.create_task(die())


@row
async def a_task_group_fails(log: Log) -> None:
    async with open_channel_from(fail_in_group):
        await trio.sleep_forever()


@row
async def a_task_group_fails_and_the_result_is_awaited(log: Log) -> None:
    async with open_channel_from(fail_in_group) as (chan, _):
        await chan.wait_for_result()


@row
async def a_task_group_fails_and_several_tasks_of_a_nursery_see_it(log: Log) -> None:
    async with open_channel_from(fail_in_group) as (chan, _), trio.open_nursery() as tn:
        for _ in range(2):
            tn.start_soon(chan.wait_for_result)


@row
async def a_task_group_fails_and_an_error_comes_of_it(log: Log) -> None:
    async with open_channel_from(fail_in_group) as (chan, _):
        try:
            await chan.wait_for_result()
        except* AioSideError as group:
            raise TrioSideError from group


@row
async def a_task_group_of_run_task_fails(log: Log) -> None:
    await run_task(fail_in_group)


@row
async def a_task_group_fails_beside_trio(log: Log) -> None:
    async with open_channel_from(fail_in_group) as (chan, _), trio.open_nursery() as tn:

        async def fail_too() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise TrioSideError

        tn.start_soon(fail_too)
        await chan.wait_for_result()


GROUPS = [name for name in ROWS if name.startswith("a_task_group")]


# -- several links --


@row
async def one_of_several_fails(log: Log) -> None:
    async with trio.open_nursery() as tn:
        tn.start_soon(run_task_noting, log)
        tn.start_soon(raises, log)
        tn.start_soon(enter_and_sleep, log)


async def run_task_noting(log: Log) -> None:
    await run_task(sleep_long, log=log)


async def enter_and_sleep(log: Log) -> None:
    async with open_channel_from(wait, log=log):
        await trio.sleep_forever()


@row
async def one_task_of_a_nursery_is_cancelled_alone(log: Log) -> None:
    scope = trio.CancelScope()

    async def inner() -> None:
        with scope:
            await enter_and_sleep(log)

    async with trio.open_nursery() as tn:
        tn.start_soon(inner)
        await trio.sleep(0.01)
        scope.cancel()
        log.append(await run_task(give, value="the other goes on"))


@row
async def links_within_a_link(log: Log) -> None:
    async with open_channel_from(wait, log=log), open_channel_from(fail):
        await trio.sleep_forever()
