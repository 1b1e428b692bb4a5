"""The normal `WouldBlock` of a lock wait is not taken for a hidden error.  Plain `trio`.

What to learn:

- `Lock.acquire()` first tries without waiting. If that raises `WouldBlock` it waits, still inside
  the `except` block. So a task that is cancelled while it waits for a lock gets a `Cancelled` that
  has a `WouldBlock` as its `__context__`.
- That looks just like an error hidden by a cancellation, and is none.
  `maybe_raise_from_masking_exc()` knows the difference: what comes out is plain cancellation.
"""

import trio
import trio.testing

from tractor.trionics import maybe_raise_from_masking_exc


async def wait_for_lock(lock: trio.Lock) -> None:
    """Wait in vain, and look at what the wait ends with."""
    async with maybe_raise_from_masking_exc():
        try:
            async with lock:
                raise AssertionError("the lock was never free")
        except trio.Cancelled as cancelled:
            print(f"the wait ended with {type(cancelled).__name__}", end=", ")
            print(f"whose context is {type(cancelled.__context__).__name__}")
            raise


async def main() -> None:
    """Hold the lock, let another task wait for it, cancel that."""
    lock = trio.Lock()
    async with lock, trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_lock, lock)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert nursery.cancel_scope.cancelled_caught
    print("plain cancellation: nothing was raised")


if __name__ == "__main__":
    trio.run(main)
