"""An agent starts processes, passes on what they print, signals them when told to, and tells how they ended."""

from __future__ import annotations

import errno
import os
import signal
import struct
import sys
from importlib.metadata import version
from typing import Any

import pytest
from ep_near_side import (
    IGNORES_SIGTERM,
    SLEEPS,
    WAITS_FOR_LIFELINE,
    Near,
    is_of,
    stopped,
    wait_gone,
    wait_until,
)

from tractor._util.dist._name import NAME
from tractor.hosts._frames import to_text
from tractor.hosts.agent._children import RING_SIZE
from tractor.process._stat import process_start_time
from tractor.process.host._host_id import host_id

pytestmark = pytest.mark.skipif(os.name != "posix", reason="an agent needs POSIX")


def test_a_child_is_started_heard_and_told_of() -> None:
    with Near() as near:
        program = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
        up = near.spawn("a", program)
        assert up["start"] == process_start_time(up["pid"]) or not up["start"]
        assert near.wait_for("exit", id="a")["status"] == 3
        assert near.output("a") == b"out\nerr\n"
        assert near.kinds()[-1] == "exit", "behind all that it printed"


def test_how_it_was_killed_is_told() -> None:
    with Near() as near:
        near.spawn(1, "import os; os.kill(os.getpid(), 9)")
        assert near.wait_for("exit", id=1)["status"] == -signal.SIGKILL


def test_a_child_is_born_with_what_it_was_promised() -> None:
    program = """
import json, os, sys
fd = int(sys.argv[1])
boot = os.read(fd, 100)
fds = sorted(set(map(int, os.listdir("/proc/self/fd"))) & set(range(fd + 50)))
print(json.dumps({
    "boot": boot.hex(), "stdin": os.readlink("/proc/self/fd/0"), "fds": [n for n in fds if n > 2],
    "fd": fd, "group": os.getpgid(0) == os.getpid(), "cwd": os.getcwd(), "x": os.environ["X"],
    "home": os.environ["HOME"], "path": sys.path, "cafe": os.fsencode(os.environ["CAFE"]).hex(),
}))
"""
    if not os.path.exists("/proc/self/fd"):
        pytest.skip("no /proc")
    record = struct.pack("<I", 4) + b"boot"
    with Near() as near:
        near.spawn(
            1,
            program,
            "{boot_fd}",
            boot=to_text(record),
            env={"X": "y", "CAFE": b"caf\xe9".decode("utf-8", "surrogateescape")},
            cwd="~",
            path=["/one", "/two"],
        )
        near.wait_for("exit", id=1, status=0)
        import json

        found = json.loads(near.output(1))
    assert found["boot"] == record.hex()
    assert found["stdin"] == "/dev/null"
    # One more is that of the listing itself.
    assert found["fd"] in found["fds"]
    assert len(found["fds"]) == 2
    assert found["group"]
    assert found["cwd"] == os.path.realpath(os.environ["HOME"])
    assert found["x"] == "y"
    assert found["cafe"] == b"caf\xe9".hex()
    assert found["path"][1:3] == ["/one", "/two"]
    assert len(found["path"]) > 3, "nothing was replaced"


def test_what_pythonpath_had_stays_behind_what_is_added() -> None:
    with Near(env={**os.environ, "PYTHONPATH": "/before"}) as near:
        near.spawn(1, "import sys; print(sys.path[1:4])", path=["/one", "/two"])
        near.wait_for_output(1, b"['/one', '/two', '/before']")
        near.spawn(2, "import sys; print(sys.path[1:3])", path=["/x"], env={"PYTHONPATH": "/y"})
        near.wait_for_output(2, b"['/x', '/y']")


@pytest.mark.parametrize(
    ("fields", "number", "text"),
    [
        ({"argv": ["/no/such/program"]}, errno.ENOENT, "/no/such/program"),
        ({"argv": ["/"]}, errno.EACCES, "/"),
        ({"argv": ["{python}"], "cwd": "/no/such/folder"}, errno.ENOENT, "/no/such/folder"),
        ({"argv": ["x" * 1_000_000]}, errno.ENAMETOOLONG, "xxx"),
        ({"argv": []}, None, "'argv'"),
        ({}, None, "'argv'"),
        ({"argv": "ls"}, None, "'argv'"),
        ({"argv": ["a", 1]}, None, "'argv'"),
        ({"argv": ["a\0b"]}, None, "null"),
        ({"argv": ["{python}"], "env": {"A=B": "c"}}, None, "env"),
        ({"argv": ["{python}"], "env": {"A": 1}}, None, "'env'"),
        ({"argv": ["{python}"], "env": []}, None, None),
        ({"argv": ["{python}"], "path": ["a:b"]}, None, "a:b"),
        ({"argv": ["{python}"], "path": "a"}, None, "'path'"),
        ({"argv": ["{python}"], "cwd": 7}, None, "'cwd'"),
        ({"argv": ["{python}"], "boot": "no base64"}, None, "base64"),
        ({"argv": ["{python}"], "boot": to_text(bytes(1_000_000 // 2))}, None, "boot record"),
        ({"argv": ["{python}"], "path": ["sha256:" + "0" * 64]}, None, "ship it first"),
    ],
)
def test_what_can_not_be_started_is_told_and_costs_nothing(
    fields: dict[str, Any], number: int | None, text: str | None
) -> None:
    with Near() as near:
        near.send("spawn", id="x", **fields)
        if text is None:
            near.wait_for("up", id="x")
            return
        failed = near.wait_for("failed", id="x")
        assert failed["errno"] == number
        assert text in failed["error"]
        # Descriptors are as before.
        for ident in range(2):
            near.spawn(ident, "import sys; print(sys.argv[1])", "{boot_fd}")
            near.wait_for("exit", id=ident)
        assert near.output(0) == near.output(1)


def test_an_id_is_one_child_until_its_end_was_told() -> None:
    with Near() as near:
        near.spawn("a", SLEEPS)
        near.send("spawn", id="a", argv=["{python}"])
        assert "id" in near.wait_for("failed", id="a")["error"]
        near.send("kill", id="a")
        near.wait_for("exit", id="a", status=-signal.SIGKILL)
        near.spawn("a", "pass")
        near.wait_for("exit", id="a", status=0)


def test_ids_of_two_kinds_are_two() -> None:
    with Near() as near:
        near.spawn(1, "print('number')")
        near.spawn("1", "print('text')")
        near.wait_for("exit", id=1)
        near.wait_for("exit", id="1")
        assert (near.output(1), near.output("1")) == (b"number\n", b"text\n")


# -- signals, lifelines --


def test_term_and_kill_are_acknowledged() -> None:
    with Near() as near:
        near.spawn(1, IGNORES_SIGTERM)
        near.spawn(2, SLEEPS)
        near.wait_for_output(1, b"up")
        near.wait_for_output(2, b"up")
        near.send("term", id=1)
        near.send("term", id=2)
        assert near.wait_for("ack", id=1) == {"t": "ack", "id": 1, "sig": "term", "sent": True}
        assert near.wait_for("exit", id=2)["status"] == -signal.SIGTERM
        near.send("kill", id=1)
        assert near.wait_for("ack", id=1, sig="kill")["sent"]
        assert near.wait_for("exit", id=1)["status"] == -signal.SIGKILL
        for ident in (1, 2, "never"):
            near.send("kill", id=ident)
            assert not near.wait_for("ack", id=ident, sent=False)["sent"]


def test_a_stopped_child_is_killed() -> None:
    with Near() as near:
        up = near.spawn(1, WAITS_FOR_LIFELINE, "{boot_fd}")
        near.wait_for_output(1, b"up")
        with stopped(up["pid"]):
            near.send("kill", id=1)
            near.wait_for("exit", id=1, status=-signal.SIGKILL)


def test_a_released_lifeline_is_seen_and_only_that_one() -> None:
    with Near() as near:
        for ident in (1, 2):
            near.spawn(ident, WAITS_FOR_LIFELINE, "{boot_fd}")
            near.wait_for_output(ident, b"up")
        near.send("release", id=1)
        near.send("release", id=1)
        near.wait_for("exit", id=1, status=7)
        near.send("release", id=1)
        near.send("kill", id=2)
        near.wait_for("exit", id=2, status=-signal.SIGKILL)


def test_a_lifeline_is_seen_although_a_fork_of_the_child_holds_the_other_end() -> None:
    """It does not: both ends are this child's alone.  But what it forks off sees the byte, too."""
    program = """
import os, sys
fd = int(sys.argv[1])
if os.fork() == 0:
    os._exit(0)
os.wait()
print("up")
print(os.read(fd, 5))
"""
    with Near() as near:
        near.spawn(1, program, "{boot_fd}")
        near.wait_for_output(1, b"up")
        near.send("release", id=1)
        near.wait_for_output(1, b"b'\\x00'")


def test_children_do_not_hold_each_others_lifelines() -> None:
    with Near() as near:
        near.spawn(1, WAITS_FOR_LIFELINE, "{boot_fd}")
        near.wait_for_output(1, b"up")
        near.spawn(2, SLEEPS)
        near.wait_for_output(2, b"up")
        near.send("release", id=1)
        near.wait_for("exit", id=1, status=7)


# -- output --


def test_the_end_is_told_although_somebody_holds_the_output_open() -> None:
    program = """
import subprocess, sys
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid)
"""
    with Near() as near:
        near.spawn(1, program)
        near.wait_for("exit", id=1, status=0)
        pid = int(near.output(1))
        os.kill(pid, signal.SIGKILL)


MEGABYTES = 30


def test_much_output_comes_whole_while_the_link_is_read() -> None:
    program = f"""
import os
block = b"".join(b"%015d\\n" % n for n in range(65536))
for _ in range({MEGABYTES}):
    os.write(2, block)
"""
    with Near() as near:
        near.spawn(1, program)
        near.wait_for("exit", id=1, status=0)
        block = b"".join(b"%015d\n" % n for n in range(65536))
        assert near.output(1) == block * MEGABYTES
        assert not any("dropped" in frame for frame in near.frames)


def test_a_link_that_is_not_read_blocks_no_child_and_what_is_lost_is_counted() -> None:
    """The newest of it is kept, a bounded part, and the rest is told of by its number."""
    program = f"""
import os, sys
block = b"x" * 65536
for _ in range({MEGABYTES} * 16):
    os.write(2, block)
os.write(2, b"done")
os.close(1), os.close(2)
os.read(int(sys.argv[1]), 1)
"""
    with Near() as near:
        up = near.spawn(1, program, "{boot_fd}", env={"PYTHONUNBUFFERED": ""})
        # Nothing is read here; the child writes on.
        wait_until(lambda: _has_closed(up["pid"], 2), "the end of its output")
        near.wait_for_output(1, b"done")
        dropped = sum(f.get("dropped", 0) for f in near.frames if is_of(f, "err", 1))
        total = MEGABYTES * 16 * 65536 + 4
        assert len(near.output(1)) + dropped == total
        assert len(near.output(1)) < 4 * RING_SIZE
        near.send("release", id=1)
        near.wait_for("exit", id=1)


def _has_closed(pid: int, fd: int) -> bool:
    return not os.path.exists(f"/proc/{pid}/fd/{fd}")


def test_one_that_prints_without_end_keeps_nobody_from_being_heard() -> None:
    program = "import os\nwhile True: os.write(1, b'x' * 65536)"
    with Near() as near:
        for name in ("loud", "louder"):
            near.spawn(name, program)
            near.wait_for_output(name, b"x")
        near.spawn("quiet", "print('here'); import time; time.sleep(600)")
        near.wait_for_output("quiet", b"here\n")
        for name in ("loud", "quiet", "louder"):
            near.send("kill", id=name)
            near.wait_for("exit", id=name, status=-signal.SIGKILL)


def test_two_hundred_children() -> None:
    count = 200
    with Near(deadline=60.0) as near:
        # A shell starts in a tenth of an interpreter's time.
        script = 'echo "up $0"; read line <&"$1"; exit 5' if os.path.exists("/bin/bash") else None
        if script is None:
            pytest.skip("no bash")
        for n in range(count):
            near.send("spawn", id=n, argv=["/bin/bash", "-c", script, str(n), "{boot_fd}"])
        pids = [near.wait_for("up", id=n) for n in range(count)]
        for n in range(count):
            near.wait_for_output(n, b"up %d" % n)
        near.send("end")
        near.wait_for("gone")
        assert near.wait_until_ended() == 0
        assert {f["status"] for f in near.frames if f["t"] == "exit"} <= {5, 1}
        assert near.kinds().count("exit") == count
        wait_gone(*pids)


def test_it_says_what_its_host_is() -> None:
    with Near() as near:
        hello = near.hello
        assert hello["python"] == ".".join(map(str, sys.version_info[:3]))
        assert hello["pid"] == near.popen.pid
        assert hello["start"] == process_start_time(near.popen.pid)
        assert hello["cwd"] == os.getcwd()
        assert hello["cores"] >= 1
        assert hello["memory"] > hello["free_memory"] > 0
        assert hello["clock"] > 1.7e9
        assert hello["host"] == host_id()
        assert hello["hostname"] == os.uname().nodename
        assert hello["tractor"] == version(NAME)
        assert hello["msgspec"] == version("msgspec")
        near.send("end")
        assert near.wait_until_ended() == 0
        assert near.stderr() == b""
