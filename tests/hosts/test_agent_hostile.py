"""Bad input, and a place that is no good: an agent says what is wrong and goes on, or ends in order."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ep_near_side import SLEEPS, WAITS_FOR_LIFELINE, Near

from tractor.hosts._bundle import boot_command
from tractor.hosts._frames import encode
from tractor.process._stat import pid_alive

pytestmark = pytest.mark.skipif(os.name != "posix", reason="an agent needs POSIX")


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (b"\0\0\0\5hello", "no JSON"),
        (b"\0\0\0\2[]", "'t'"),
        (b"\0\0\0\2{}", "'t'"),
        (encode({"t": "dance"}), "'dance'"),
        (encode({"t": "pong"}), "'n'"),
        (encode({"t": "pong", "n": "1"}), "'n'"),
        (encode({"t": "kill"}), "'id'"),
        (encode({"t": "kill", "id": []}), "'id'"),
        (encode({"t": "spawn"}), "'id'"),
        (encode({"t": "release", "id": None}), "'id'"),
        (encode({"t": "hello", "deadline": 5}), "before"),
        (encode({"t": "have", "hashes": 7}), "'hashes'"),
        (encode({"t": "have", "hashes": ["x"]}), "'x'"),
        (encode({"t": "ship", "hash": 7, "name": "x"}), "'hash'"),
        (encode({"t": "ship", "hash": "x"}, b"data"), "'name'"),
    ],
)
def test_a_frame_that_makes_no_sense_is_told_of_and_passed_over(frame: bytes, text: str) -> None:
    with Near() as near:
        near.spawn(1, WAITS_FOR_LIFELINE, "{boot_fd}")
        near.write(frame)
        assert text in near.wait_for("warn")["text"]
        near.send("release", id=1)
        near.wait_for("exit", id=1, status=7)


@pytest.mark.parametrize("deadline", [None, 0, -1, "10", True, [], 10**99])
def test_a_hello_without_a_deadline_is_none(deadline: object) -> None:
    with Near(deadline=None) as near:
        near.send("spawn", id=1, argv=["{python}"])
        assert "hello" in near.wait_for("failed", id=1)["error"]
        near.send("hello", deadline=deadline)
        assert "deadline" in near.wait_for("warn")["text"]
        near.send("hello", deadline=10)
        near.spawn(1, "pass")
        near.wait_for("exit", id=1, status=0)


@pytest.mark.parametrize(
    "garbage", [b"Last login: today\r\n", b"\xff" * 100, encode({"t": "a"})[:3]]
)
def test_garbage_within_the_link_ends_it_in_order(garbage: bytes) -> None:
    with Near() as near:
        up = near.spawn(1, WAITS_FOR_LIFELINE, "{boot_fd}")
        near.wait_for_output(1, b"up")
        near.write(garbage)
        near.to_agent.close()
        assert near.wait_until_ended() == 1
        assert near.wait_for("exit", id=1)["status"] == 7
        assert near.kinds()[-1] == "gone"
        assert near.wait_for("warn")["text"]
        assert not pid_alive(up["pid"], up["start"])
        assert near.stderr() == b""


VALUES: list[Any] = [None, 1, -1, "x", [], {}, [None], ["x"], 1.5, "a\0", "\udcff", "eA==", True]


def test_fields_of_any_kind_never_crash_it(repeats: Callable[[int, int], int]) -> None:
    for seed in range(repeats(5, 200)):
        rng = random.Random(seed)
        with Near() as near:
            assert near.hello
            for _ in range(rng.randrange(1, 30)):
                kind = rng.choice(["kill", "ship", "spawn", "have", "pong", "release", "term", "?"])
                keys = ["id", "argv", "env", "cwd", "path", "boot", "hash", "name", "n", "hashes"]
                near.send(kind, **{key: rng.choice(VALUES) for key in rng.sample(keys, 4)})
            near.write(b"\0\0\0\x0a" + rng.randbytes(10))
            near.spawn("sane", "print('here')")
            near.wait_for("exit", id="sane", status=0)
            near.send("end")
            assert near.wait_until_ended() == 0
            assert near.stderr() == b""


# -- shipped code --

MODULE = b"def f():\n    return 'shipped'\n"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def with_home(folder: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")}
    return {**kept, "HOME": str(folder), "TMPDIR": str(folder)}


def test_shipped_code_is_imported_and_kept(tmp_path: Path) -> None:
    name = f"sha256:{digest(MODULE)}"
    for known in (False, True):
        with Near(env=with_home(tmp_path)) as near:
            near.send("have", hashes=[digest(MODULE)])
            missing = near.wait_for("has")["missing"]
            assert missing == ([] if known else [digest(MODULE)])
            if not known:
                near.send("ship", hash=digest(MODULE), name="mod_x.py", raw=MODULE)
                assert near.wait_for("shipped") == {"t": "shipped", "hash": digest(MODULE)}
            near.spawn(1, "import mod_x; print(mod_x.f())", path=[name])
            near.wait_for("exit", id=1, status=0)
            assert near.output(1) == b"shipped\n"


def test_a_large_archive_comes_in_parts_with_pongs_between_them(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(20_000_000)
    part = 256 * 1024
    with Near(env=with_home(tmp_path)) as near:
        for start in range(0, len(content), part):
            more = start + part < len(content)
            data = content[start : start + part]
            near.send("ship", hash=digest(content), name="a.zip", more=more, raw=data)
            near.read(0)
        near.wait_for("shipped", hash=digest(content))
        assert [f["size"] for f in near.frames if f["t"] == "part"][-1] > 19_000_000
        near.send("have", hashes=[f"{digest(content)}/a.zip"])
        assert near.wait_for("has")["missing"] == []


def test_code_that_is_not_what_it_is_said_to_be_is_refused(tmp_path: Path) -> None:
    with Near(env=with_home(tmp_path)) as near:
        near.send("ship", hash=digest(MODULE), name="m.py", raw=MODULE + b"#")
        assert "sha256" in near.wait_for("shipped")["error"]
        near.send("ship", hash=digest(MODULE), name="m.py")
        assert "content" in near.wait_for("shipped")["error"]
        near.send("ship", hash=digest(MODULE), name="../../m.py", raw=MODULE)
        assert "named by" in near.wait_for("shipped")["error"]
        near.send("spawn", id=1, argv=["{python}"], path=[f"sha256:{digest(MODULE)}"])
        assert "ship it first" in near.wait_for("failed")["error"]


def test_without_a_home_code_is_kept_for_the_time_of_the_agent(tmp_path: Path) -> None:
    env = {"TMPDIR": str(tmp_path), "PATH": os.environ["PATH"]}
    with Near(env=env) as near:
        near.send("ship", hash=digest(MODULE), name="mod_x.py", raw=MODULE)
        assert "error" not in near.wait_for("shipped")
        near.spawn(1, "import mod_x; print(mod_x.f())", path=[f"sha256:{digest(MODULE)}"])
        near.wait_for_output(1, b"shipped")
        near.send("end")
        near.wait_until_ended()
    assert list(tmp_path.iterdir()) == []


def test_agents_that_ship_the_same_at_once_do_not_harm_each_other(tmp_path: Path) -> None:
    def run(_: int) -> bytes:
        with Near(env=with_home(tmp_path)) as near:
            for _ in range(5):
                near.send("ship", hash=digest(MODULE), name="mod_x.py", raw=MODULE)
                assert "error" not in near.wait_for("shipped")
            near.spawn(1, "import mod_x; print(mod_x.f())", path=[f"sha256:{digest(MODULE)}"])
            near.wait_for("exit", id=1, status=0)
            return near.output(1)

    with ThreadPoolExecutor(4) as threads:
        assert [*threads.map(run, range(4))] == [b"shipped\n"] * 4


@pytest.mark.skipif(sys.platform != "linux", reason="a full device is Linux's")
def test_a_full_disk_is_told_of(tmp_path: Path) -> None:
    """By a limit of a file's size: it fails in the middle of a write as a full disk does."""
    content = bytes(1_000_000)
    limited = "import os, resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); os.execvp(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", limited, *boot_command(sys.executable)]
    with Near(command=command, env=with_home(tmp_path)) as near:
        near.send("ship", hash=digest(content), name="a.zip", raw=content)
        assert "File too large" in near.wait_for("shipped")["error"]
        near.send("have", hashes=[digest(content)])
        assert near.wait_for("has")["missing"] == [digest(content)]
        near.send("end")
        near.wait_until_ended()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# -- out of something --


def test_out_of_descriptors_is_told_and_is_over_when_some_are_free() -> None:
    limited = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32));"
    limited += "os.execvp(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", limited, *boot_command(sys.executable)]
    with Near(command=command) as near:
        up = []
        for ident in range(40):
            near.send("spawn", id=ident, argv=["{python}", "-c", SLEEPS, "{boot_fd}"])
            near.until(lambda n=ident: any(f.get("id") == n for f in near.frames))  # type: ignore[misc]
            if any(f["t"] == "failed" for f in near.frames):
                break
            up.append(ident)
        assert "Too many open files" in near.wait_for("failed")["error"]
        assert len(up) > 5
        near.send("kill", id=up[0])
        near.wait_for("exit", id=up[0], status=-signal.SIGKILL)
        near.send("spawn", id="again", argv=["{python}", "-c", "pass"])
        near.wait_for("exit", id="again", status=0)
        near.send("end")
        assert near.wait_until_ended() == 0
        assert near.stderr() == b""
