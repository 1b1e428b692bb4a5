"""Tasks that wait until somebody wakes them."""

from __future__ import annotations

import trio
import trio.testing

from tractor._util._waiters import Waiters


def test_they_are_woken_in_order_as_many_as_are_asked_for() -> None:
    woken: list[int] = []

    async def wait(waiters: Waiters, n: int) -> None:
        await waiters.park()
        woken.append(n)

    async def main() -> None:
        waiters = Waiters()
        assert not waiters
        async with trio.open_nursery() as tn:
            for n in range(4):
                tn.start_soon(wait, waiters, n)
                await trio.testing.wait_all_tasks_blocked()
            waiters.wake()
            await trio.testing.wait_all_tasks_blocked()
            assert woken == [0]
            assert len(waiters) == 3
            waiters.wake(2)
            await trio.testing.wait_all_tasks_blocked()
            assert sorted(woken) == [0, 1, 2]
            waiters.wake_all()
        assert not waiters
        assert sorted(woken) == [0, 1, 2, 3]
        waiters.wake(5)

    trio.run(main)


def test_one_that_is_cancelled_waits_no_more() -> None:
    async def main() -> None:
        waiters = Waiters()
        with trio.move_on_after(0) as scope:
            await waiters.park()
        assert scope.cancelled_caught
        assert not waiters
        waiters.wake_all()

    trio.run(main)
