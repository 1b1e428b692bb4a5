"""What a type checker knows of shared arrays, pools' options and feeds' options; it is checked, and never run."""

from __future__ import annotations

import math
from typing import Any, assert_type

import tractor
from tractor import ipc, topics
from tractor.trionics import (
    PoolExecutor,
    PoolMap,
    WorkerPool,
    WorkerPoolStatistics,
    open_worker_pool,
)


def halve(n: int) -> float:
    return n / 2


def arrays() -> None:
    """An array is numpy's, which need not be there; its token is ours."""
    array = ipc.open_shm((2, 3), "f4", key="prices", fill=0.0)
    assert_type(array, Any)
    token = ipc.shm_token(array)
    assert_type(token, ipc.ShmToken)
    assert_type(ipc.attach_shm(token), Any)
    ipc.attach_shm(token, readonly=False)
    ipc.destroy_shm(array)
    ipc.open_shm(3)
    ipc.open_shm("three")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ipc.open_shm((2, "3"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ipc.open_shm(3, float, "prices")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ipc.open_shm(3, key=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ipc.attach_shm("prices")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ipc.attach_shm(token, readonly="no")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def options(pool: WorkerPool) -> None:
    """What a map may be given."""
    assert_type(pool.map(halve, [1], timeout=0.5, ordered=False), PoolMap[float])
    assert_type(pool.as_executor(), PoolExecutor)
    assert_type(pool.statistics(), WorkerPoolStatistics)
    pool.map(halve, [1], retries="2")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    pool.map(halve, [1], timeout="1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    pool.map(halve, [1], key=7)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    pool.starmap(halve, [1])  # type: ignore[arg-type, list-item]  # pyright: ignore[reportArgumentType, reportCallIssue]
    pool.as_executor().submit(halve, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def scripts() -> None:
    assert_type(tractor.run_pool(halve, range(3), timeout=1.0, key=str), list[float])
    tractor.run_pool(halve, range(3), workers="2")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    tractor.run_pool(halve, range(3), timeout="1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


async def pools() -> None:
    async with open_worker_pool(2, max_tasks=9, max_rss=10**9, share_above=None) as pool:
        assert_type(pool, WorkerPool)
    open_worker_pool(max_tasks="9")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    open_worker_pool(share_above="1M")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@topics.publisher(pld_spec=int, keep_last=True, linger=math.inf)
async def numbers(pub: topics.Publisher[int]) -> None:
    await pub.send(1)


async def listens(portal: tractor.Portal) -> None:
    async with topics.subscribe(portal, numbers, slow="drop_oldest", size=8) as sub:
        assert_type(sub, topics.Subscription[int])
    topics.subscribe(portal, numbers, size="8")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    topics.subscribe(portal, numbers, 7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    topics.publisher(keep_lst=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    topics.publisher(linger="1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
