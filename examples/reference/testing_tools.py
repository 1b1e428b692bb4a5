"""For tests, and for what a crash has left.

What to learn: a test with its own runtime, limits that show where it hangs, and a look for strays.
"""

import os

import trio

import tractor
from tractor import testing


@testing.tractor_test(timeout=20)
async def test_echo() -> None:
    """A test that runs in a root of its own."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("echo", enable_modules=[__name__])
        assert await portal.run(echo, text="hi") == "hi"
        await an.cancel()


async def echo(text: str) -> str:
    return text


def strays() -> None:
    """What is there that should not be."""
    print("orphans:", isinstance(testing.find_orphans(), list))
    print("zombies:", list(testing.find_zombies()))
    print("busy ones:", list(testing.find_runaway_subactors(os.getpid(), sample=0.05)))


def left_files() -> None:
    """Shared memory and socket files of dead actors; it removes none that is not found."""
    if os.path.isdir("/dev/shm"):
        print("segments:", isinstance(testing.find_orphaned_shm(), list))
    print("removed:", testing.reap_shm([]), testing.reap_uds([]))
    print("sockets:", isinstance(testing.find_orphaned_uds(), list))


def samples() -> None:
    """Messages to send about, and where the examples are."""
    messages, size = testing.generate_sample_messages(3, silent=True)
    print(len(messages), "messages of", size, "bytes")
    print("examples:", testing.examples_dir().relative_to(testing.repodir()))
    print(testing.mk_cmd("root_actor_error").split()[-1].endswith("root_actor_error.py"))


async def limits() -> None:
    """An alarm that gives a trace of all tasks."""
    try:
        with testing.afk_alarm_w_trace(20, label="example"):
            print("in time")
    except testing.AFKAlarmTimeout:
        print("too late")


async def main() -> None:
    await trio.to_thread.run_sync(test_echo)
    await trio.to_thread.run_sync(strays)
    left_files()
    samples()
    await limits()


if __name__ == "__main__":
    trio.run(main)
