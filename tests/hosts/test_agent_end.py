"""However an agent ends, nothing that it has started is left: see G2 and the lease."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

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
    wait_until,
)

from tractor.hosts._bundle import boot_command
from tractor.process._stat import pid_alive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts on /proc")

LEFT_ITS_GROUP = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("up", child.pid)
os.read(int(sys.argv[1]), 1)
"""
"""Ends with its lifeline, and leaves behind what cares for none."""


def a_family(near: Near) -> list[Frame]:
    """Children of all kinds, and a grandchild that left their group; what is known of each."""
    programs = {
        "good": WAITS_FOR_LIFELINE,
        "deaf": IGNORES_SIGTERM,
        "stopped": WAITS_FOR_LIFELINE,
        "parent": LEFT_ITS_GROUP,
    }
    found = []
    for name, program in programs.items():
        found.append(near.spawn(name, program, "{boot_fd}"))
        near.wait_for_output(name, b"up")
    os.kill(found[2]["pid"], signal.SIGSTOP)
    near.wait_for_output("parent", b"\n")
    return [*found, {"pid": int(near.output("parent").split()[1]), "start": None}]


def test_asked_to_end_it_releases_waits_kills_and_says_so() -> None:
    with Near() as near:
        family = a_family(near)
        near.send("end")
        assert near.wait_until_ended() == 0
        assert near.kinds()[-1] == "gone"
        exits = {f["id"]: f["status"] for f in near.frames if f["t"] == "exit"}
        assert exits == {"good": 7, "deaf": -9, "stopped": -9, "parent": 0}
        assert near.output("good") == b"up\nreleased\n"
        assert not any(pid_alive(one["pid"]) for one in family)
        assert near.stderr() == b""


def test_with_nothing_below_it_ends_at_once() -> None:
    with Near() as near:
        assert near.hello
        near.send("end")
        assert near.wait_until_ended() == 0
        assert near.kinds() == ["hello", "gone"]


def test_the_end_of_the_link_ends_all() -> None:
    with Near() as near:
        family = a_family(near)
        near.to_agent.close()
        assert near.wait_until_ended() == 1
        assert "the link has ended" in near.wait_for("gone")["why"]
        assert not any(pid_alive(one["pid"]) for one in family)


def test_a_link_that_can_not_be_written_to_ends_all() -> None:
    with Near() as near:
        family = a_family(near)
        near.from_agent.close()
        assert near.popen.wait(30) == 1
        assert not any(pid_alive(one["pid"]) for one in family)
        assert near.stderr() == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_all_in_order(number: signal.Signals) -> None:
    with Near() as near:
        family = a_family(near)
        near.popen.send_signal(number)
        assert near.wait_until_ended() == 1
        assert near.wait_for("gone")["why"] == f"signal {int(number)}"
        assert near.wait_for("exit", id="good")["status"] == 7
        assert not any(pid_alive(one["pid"]) for one in family)


def test_a_signal_to_its_group_reaches_no_child() -> None:
    command = [
        sys.executable,
        "-c",
        "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])",
    ]
    with Near(command=[*command, *boot_command(sys.executable)]) as near:
        near.spawn(1, WAITS_FOR_LIFELINE, "{boot_fd}")
        near.wait_for_output(1, b"up")
        os.killpg(near.popen.pid, signal.SIGTERM)
        near.wait_until_ended()
        assert near.wait_for("exit", id=1)["status"] == 7, "its lifeline has ended it"


def test_the_end_of_the_process_above_ends_all() -> None:
    """An engine's, which was killed; others may hold the link open."""
    program = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"
    command = [sys.executable, "-c", program, *boot_command(sys.executable)]
    with Near(command=command) as near:
        hello = near.hello
        assert hello["pid"] != near.popen.pid
        family = a_family(near)
        near.popen.kill()
        near.wait_until_ended()
        assert "process above" in near.wait_for("gone")["why"]
        wait_gone(hello, *family)


# -- the lease --


def test_it_lives_while_its_pings_are_answered() -> None:
    with Near(deadline=1.0) as near:
        near.spawn(1, SLEEPS)
        near.serve(3.0)
        assert not near.ended
        assert [f["n"] for f in near.frames if f["t"] == "ping"][:3] == [1, 2, 3]
        near.send("end")
        assert near.wait_until_ended() == 0


def test_it_ends_by_itself_when_no_ping_is_answered() -> None:
    with Near(deadline=2.0) as near:
        family = a_family(near)
        near.answers = False
        near.wait_until_ended()
        assert "lease is over" in near.wait_for("gone")["why"]
        assert not any(pid_alive(one["pid"]) for one in family)


def test_nonsense_does_not_keep_it_alive() -> None:
    with Near(deadline=1.0) as near:
        assert near.hello
        near.answers = False
        while not near.ended:
            for number in (0, -1, 10**9):
                try:
                    near.send("pong", n=number)
                except BrokenPipeError:
                    break
            near.read(0.1)
        assert "lease is over" in near.wait_for("gone")["why"]


def test_a_cut_of_half_the_deadline_is_survived() -> None:
    deadline = 4.0
    with Near(deadline=deadline) as near:
        near.spawn(1, SLEEPS)
        for _ in range(2):
            # Neither read nor answered.
            time.sleep(deadline / 2)
            near.serve(deadline / 2)
        assert not near.ended
        near.send("end")
        assert near.wait_until_ended() == 0


def test_a_link_that_takes_no_bytes_does_not_keep_it_beyond_its_lease() -> None:
    program = "import os\nwhile True: os.write(1, b'x' * 65536)"
    with Near(deadline=2.0) as near:
        up = near.spawn(1, program)
        assert near.popen.wait(30) == 1
        assert not pid_alive(up["pid"], up["start"])


def test_a_stopped_agent_is_ended_with_all_below_when_its_lease_is_over() -> None:
    """It can't count its time, and holds the lifelines; its sentinel can."""
    with Near(deadline=2.0) as near:
        family = a_family(near)
        with stopped(near.popen.pid):
            assert near.popen.wait(30) == -signal.SIGKILL
            wait_gone(*family[:-1])
        os.kill(family[-1]["pid"], signal.SIGKILL)


def test_an_agent_that_was_stopped_for_less_goes_on() -> None:
    with Near(deadline=8.0) as near:
        near.spawn(1, SLEEPS)
        near.wait_for_output(1, b"up")
        with stopped(near.popen.pid):
            time.sleep(1.5)
        near.spawn(2, "print('here')")
        near.wait_for_output(2, b"here")


# -- the worst --


def test_a_killed_agent_takes_all_along() -> None:
    """What sees its lifeline ends by it, the stopped one by the sentinel."""
    with Near() as near:
        *family, grandchild = a_family(near)
        near.popen.kill()
        wait_gone(*family)
        os.kill(grandchild["pid"], signal.SIGKILL)


def test_an_agent_killed_with_its_sentinel_leaves_the_lifelines() -> None:
    with Near() as near:
        up = near.spawn(1, WAITS_FOR_LIFELINE, "{boot_fd}")
        near.wait_for_output(1, b"up")
        os.kill(sentinel_of(near), signal.SIGKILL)
        near.popen.kill()
        wait_gone(up)


def test_a_sentinel_that_was_killed_is_replaced() -> None:
    with Near() as near:
        up = near.spawn(1, IGNORES_SIGTERM)
        near.wait_for_output(1, b"up")
        first = sentinel_of(near)
        os.kill(first, signal.SIGKILL)
        assert "sentinel" in near.wait_for("warn")["text"]
        assert sentinel_of(near) != first
        near.popen.kill()
        wait_gone(up)


def test_a_sentinel_holds_nothing_open_and_is_out_of_reach() -> None:
    with Near() as near:
        near.spawn(1, SLEEPS)
        near.wait_for_output(1, b"up")
        pid = sentinel_of(near)
        # Its pipe, twice the null device, the link, and one for each process that it watches.
        wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= 6, "its descriptors' end")
        targets = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (1, 2)]
        assert targets == ["/dev/null", "/dev/null"]
        assert os.getsid(pid) == pid
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.kill(pid, number)
        near.send("kill", id=1)
        near.wait_for("exit", id=1)
        near.send("end")
        near.wait_until_ended()
        assert not pid_alive(pid)


def test_orphans_below_it_are_reaped() -> None:
    program = """
import os, sys
if os.fork() == 0:
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        os.read(int(sys.argv[1]), 1)
    os._exit(0)
os.wait()
"""
    with Near() as near:
        near.spawn(1, program, "{boot_fd}")
        near.wait_for("exit", id=1, status=0)
        pid = int(near.output(1))
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the end of the orphan")
        assert near.kinds().count("exit") == 1


def test_nothing_is_left_when_the_program_is_cut_off() -> None:
    popen = subprocess.Popen(
        boot_command(sys.executable), stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _, stderr = popen.communicate(b"1000\nabc", timeout=30)
    assert popen.returncode == 1
    assert b"cut off" in stderr
