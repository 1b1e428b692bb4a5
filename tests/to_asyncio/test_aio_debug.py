"""Debug mode in an infected actor: an error of the asyncio side opens the REPL once, on the trio side."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import ep_asyncio
import pytest
import trio
from repl_tree import tree
from repl_user import User

import tractor
from tractor.to_asyncio import (
    LinkedTaskChannel,
    TrioCancelled,
    open_channel_from,
    run_as_asyncio_guest,
    run_task,
)

pytestmark = pytest.mark.usefixtures("forked_actors")


async def deep() -> None:
    await asyncio.sleep(0.01)
    raise ValueError("asyncio's")


async def fails(chan: LinkedTaskChannel) -> None:
    chan.started_nowait()
    await deep()


async def idle(chan: LinkedTaskChannel) -> None:
    chan.started_nowait()
    await asyncio.sleep(60)


async def in_a_block() -> None:
    async with open_channel_from(fails):
        await trio.sleep_forever()


async def in_two_blocks() -> None:
    async with open_channel_from(idle):
        await in_a_block()


async def as_a_task() -> None:
    await run_task(deep)


async def at_the_entry() -> None:
    async with open_channel_from(lambda chan: deep()):
        pass


async def its_result_awaited() -> None:
    async with open_channel_from(fails) as (chan, _):
        await chan.wait_for_result()


CRASHES = [in_a_block, in_two_blocks, as_a_task, at_the_entry, its_result_awaited]


@pytest.mark.parametrize("crash", CRASHES, ids=lambda crash: crash.__name__)
def test_a_crash_opens_the_repl_once(user: User, crash: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(debug_mode=True, maybe_enable_greenback=False):
            await crash()

    with pytest.raises(ValueError, match="asyncio's"):
        run_as_asyncio_guest(main)
    assert [(one["kind"], one["error"], one["function"]) for one in user.prompts] == [
        ("crash", "ValueError", "deep")
    ]


def test_ends_that_are_no_crash_open_none(user: User) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(debug_mode=True, maybe_enable_greenback=False):
            async with open_channel_from(idle):
                pass
            with trio.move_on_after(0.01):
                async with open_channel_from(idle):
                    await trio.sleep_forever()
            async with open_channel_from(idle) as (chan, _):
                chan.cancel_asyncio_task()

    run_as_asyncio_guest(main)
    assert user.prompts == []


def test_both_sides_errors_are_shown_together(user: User) -> None:
    async def replaces(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()
        with contextlib.suppress(TrioCancelled):
            await chan.get()
        raise ValueError("asyncio's")

    async def main() -> None:
        async with (
            tractor.open_root_actor(debug_mode=True, maybe_enable_greenback=False),
            open_channel_from(replaces),
        ):
            raise KeyError("trio's")

    with pytest.raises(ExceptionGroup) as caught:
        run_as_asyncio_guest(main)
    assert {type(exc) for exc in caught.value.exceptions} == {KeyError, ValueError}
    assert [one["error"] for one in user.prompts] == ["ExceptionGroup"]


def test_in_an_infected_subactor_then_in_the_root(user: User) -> None:
    async def main() -> None:
        async with tree() as an:
            portal = await an.start_actor(
                "aio", enable_modules=["ep_repl", "ep_asyncio"], infect_asyncio=True
            )
            await portal.run(ep_asyncio.fail_main)

    with pytest.raises(tractor.RemoteActorError) as caught:
        trio.run(main)
    assert caught.value.boxed_type is ValueError
    assert user.actors == ["aio", "root"]
    assert user.prompts[0]["error"] == "ValueError"


def in_a_lock(greenback: Any) -> Awaitable[Any]:
    lock = asyncio.Lock()
    lock._locked = True  # type: ignore[attr-defined]
    return lock.acquire()


async def in_a_task_group(greenback: Any) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60))


async def in_a_wait_for(greenback: Any) -> None:
    await asyncio.wait_for(asyncio.sleep(60), 60)


async def in_sync_code(greenback: Any) -> None:
    def sync() -> None:
        greenback.await_(in_a_task_group(greenback))

    sync()


WAITS = [in_a_lock, in_a_task_group, in_a_wait_for, in_sync_code]


@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.__name__)
def test_with_greenback_a_task_is_told_with_the_same_care(
    user: User, wait: Callable[[Any], Awaitable[None]]
) -> None:
    """What it waits in is seen through greenback's portal: nothing is left behind."""
    greenback = pytest.importorskip("greenback")

    async def target(chan: LinkedTaskChannel) -> None:
        chan.started_nowait()
        await wait(greenback)

    async def main() -> int:
        async with tractor.open_root_actor(debug_mode=True, maybe_enable_greenback=True):
            before = len(asyncio.all_tasks())
            async with open_channel_from(target):
                await trio.sleep(0.02)
            return len(asyncio.all_tasks()) - before

    assert run_as_asyncio_guest(main) == 0
