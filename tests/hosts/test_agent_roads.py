"""Slow and bad roads, and many ways to end at random: what holds of an agent whatever happens to it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from ep_near_side import (
    IGNORES_SIGTERM,
    SLEEPS,
    WAITS_FOR_LIFELINE,
    Frame,
    Near,
    sentinel_of,
    stopped,
    wait_gone,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts on /proc")

LOUD = "import os\nwhile True: os.write(1, b'x' * 65536)"


@contextlib.contextmanager
def slow_road(near: Near, rate: int, delay: float) -> Iterator[None]:
    """What comes from the agent passes buffers without end, at so many bytes a second, after a time."""
    source = near.from_agent.fileno()
    read_fd, write_fd = os.pipe()
    waiting: list[tuple[float, bytes]] = []
    over = threading.Event()

    def take() -> None:
        while data := os.read(source, 1 << 16):
            waiting.append((time.monotonic() + delay, data))
        over.set()

    def give() -> None:
        while not (over.is_set() and not waiting):
            if not waiting or waiting[0][0] > time.monotonic():
                time.sleep(0.005)
                continue
            _, data = waiting.pop(0)
            time.sleep(len(data) / rate)
            with contextlib.suppress(BrokenPipeError):
                os.write(write_fd, data)
        os.close(write_fd)

    threads = [threading.Thread(target=take), threading.Thread(target=give)]
    for thread in threads:
        thread.start()
    real = near.from_agent
    try:
        with open(read_fd, "rb", buffering=0) as near.from_agent:
            yield
    finally:
        near.from_agent = real
        near.popen.kill()
        for thread in threads:
            thread.join()


def test_output_on_a_slow_road_does_not_cost_the_lease() -> None:
    """Behind as much as the buffers of this road take, a ping would come minutes late."""
    with Near(deadline=5.0) as near, slow_road(near, rate=200_000, delay=0.2):
        near.spawn(1, LOUD)
        near.serve(8.0)
        assert not near.ended
        assert len(near.output(1)) > 200_000
        assert sum(f.get("dropped", 0) for f in near.frames) >= 0
        near.send("kill", id=1)
        near.wait_for("exit", id=1, status=-signal.SIGKILL)
        near.send("end")
        near.wait_for("gone")


def test_a_road_with_a_long_way_costs_no_output() -> None:
    count = 2_000_000
    with Near(deadline=10.0) as near, slow_road(near, rate=10**9, delay=0.3):
        near.spawn(1, f"import os; os.write(1, b'y' * {count}); print('done')")
        near.wait_for("exit", id=1)
        lost = sum(f.get("dropped", 0) for f in near.frames)
        # Its end is told a second later at the latest; what is left by then is lost but for its last words.
        assert len(near.output(1)) + lost == count + 5
        assert near.output(1).endswith(b"ydone\n")


# -- at random --

LEAVES_A_DAEMON = """
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        fd = int(sys.argv[1])
        os.close(fd)
        os.write(1, b"%d\\n" % os.getpid())
        import time; time.sleep(600)
    os._exit(0)
os.wait()
os.write(1, b"up\\n")
os.read(int(sys.argv[1]), 1)
"""

STOPS_ITSELF = 'import os, signal; print("up"); os.kill(0, signal.SIGSTOP)'

PROGRAMS = {
    "good": WAITS_FOR_LIFELINE,
    "deaf": IGNORES_SIGTERM,
    "sleeps": SLEEPS,
    "stopped": STOPS_ITSELF,
    "loud": "print('up')\n" + LOUD,
    "daemon": LEAVES_A_DAEMON,
    "short": "print('up')",
}


def cut_input(near: Near) -> None:
    near.to_agent.close()


def cut_output(near: Near) -> None:
    near.from_agent.close()
    near.ended = True


def kill(near: Near) -> None:
    near.popen.kill()


def terminate(near: Near) -> None:
    near.popen.send_signal(signal.SIGTERM)


def fall_silent(near: Near) -> None:
    near.answers = False


def ask(near: Near) -> None:
    near.send("end")


def stop(near: Near) -> None:
    with stopped(near.popen.pid):
        near.popen.wait(30)


def stop_and_cut(near: Near) -> None:
    with stopped(near.popen.pid):
        near.to_agent.close()
        near.popen.wait(30)


ENDS: list[Callable[[Near], None]] = [
    cut_input,
    cut_output,
    kill,
    terminate,
    fall_silent,
    ask,
    stop,
    stop_and_cut,
]

LEAVE_DAEMONS = (kill, stop, stop_and_cut)
"""After these nobody is left who knows what a child's child has become."""


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_whatever_runs_and_however_it_ends_nothing_is_left(
    end: Callable[[Near], None], repeats: Callable[[int, int], int]
) -> None:
    for seed in range(repeats(1, 30)):
        rng = random.Random(f"{end.__name__} {seed}")
        with Near(deadline=2.0) as near:
            known: list[Frame] = []
            kinds = rng.choices(sorted(PROGRAMS), k=rng.randrange(1, 6))
            for ident, kind in enumerate(kinds):
                known.append(near.spawn(ident, PROGRAMS[kind], "{boot_fd}"))
                if kind == "daemon":
                    # With the daemon's pid, by which the test can end it.
                    near.until(lambda ident=ident: near.output(ident).count(b"\n") == 2)  # type: ignore[misc]
                elif rng.random() < 0.7:
                    near.wait_for_output(ident, b"up")
                if rng.random() < 0.2:
                    near.send(rng.choice(["kill", "term", "release"]), id=ident)
            daemons = [
                int(word)
                for ident, kind in enumerate(kinds)
                if kind == "daemon"
                for word in near.output(ident).split()
                if word.isdigit()
            ]
            sentinel = {"pid": sentinel_of(near), "start": None}
            end(near)
            while not near.ended and near.popen.poll() is None:
                near.read(0.05)
            near.popen.wait(30)
            # One that has lost its agent has the last word, a while after that.
            wait_gone(*known, sentinel)
            if end not in LEAVE_DAEMONS:
                wait_gone(*({"pid": pid, "start": None} for pid in daemons))
            for pid in daemons:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
