"""Looks by strangers, by a flood, without /proc, at an actor in the REPL, and from outside of Python."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest
import trio
from ep_observe import add, block, command, listed, run

import tractor
from tractor.control._protocol import MAX_PEERS, MAX_REQUEST
from tractor.ipc._debug_sock import control_path
from tractor.observe import _processes
from tractor.testing import get_rando_addr

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc")

LONG = ("--limit", "20")


def path_of(portal: tractor.Portal) -> Path:
    aid = portal.chan.aid
    assert aid is not None
    found = control_path(aid.name, aid.pid)
    assert found is not None
    return found


def test_a_flood_is_refused_and_the_rightful_caller_is_served(forked_actors: None) -> None:
    async def main(an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        path = str(path_of(portal))
        with contextlib.ExitStack() as stack:
            flood = []
            for _ in range(MAX_PEERS):
                sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                sock.connect(path)
                flood.append(sock)
            # One takes nothing of its answer, one sends what is no request; the others are idle.
            flood[0].sendall(b'{"v":1,"op":"stacks"}\n')
            flood[1].sendall(b"\xff" * 64 + b"\n")
            assert await portal.run(add, x=1) == 2
            shown = {one["name"]: one for one in await listed()}
            worker = shown["worker"]
            assert worker["state"] == "mute"
            assert f"{MAX_PEERS} are connected already" in worker["why"]
            assert shown["root"]["state"] == "run"
            flood[2].sendall(b"x" * (MAX_REQUEST + 2))
            flood[2].settimeout(20)
            assert b"bad-request" in await trio.to_thread.run_sync(flood[2].recv, 4096)
            # It was hung up on: there is room for another one.
            while {one["name"]: one["state"] for one in await listed()}["worker"] != "run":
                await trio.sleep(0.05)
            assert await portal.run(add, x=2) == 3
        assert {one["name"]: one["state"] for one in await listed()}["worker"] == "run"

    run(main)


STRANGER = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(20)
try:
    sock.connect(sys.argv[1])
    sock.sendall(b'{"v":1,"op":"hello"}\\n')
    print("answered", sock.recv(100))
except PermissionError:
    print("no way in")
except ConnectionError:
    print("answered", b"")
"""


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be another user"
)
def test_another_user_is_refused_by_the_files_and_by_the_kernels_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A way that strangers can go, up to where the package's own guard begins.
    top = Path("/tmp") / f"tractor-eyes-{os.getpid()}"
    top.mkdir(mode=0o755)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(top))

    async def ask(path: str) -> str:
        argv = ["/usr/bin/env", "python3", "-c", STRANGER, path]
        done = await trio.run_process(argv, capture_stdout=True)
        return done.stdout.decode().strip()

    async def main(an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        path = path_of(portal)
        assert await ask(str(path)) == "no way in"
        # Somebody has opened what was closed.
        for one, mode in ((path, 0o666), (path.parent, 0o755), (path.parent.parent, 0o755)):
            one.chmod(mode)
        try:
            assert await ask(str(path)) == "answered b''"
        finally:
            for one in (path.parent.parent, path.parent):
                one.chmod(0o700)
        assert {one["name"]: one["state"] for one in await listed()}["worker"] == "run"

    try:
        run(main)
    finally:
        shutil.rmtree(top)


@pytest.mark.long
def test_without_proc_psutil_tells(
    tmp_path: Path, forked_actors: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psutil")
    monkeypatch.setattr(_processes, "has_proc", lambda: False)

    async def main(an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        other = await an.start_actor("other")
        pid = other.chan.aid.pid  # type: ignore[union-attr]
        assert pid is not None
        shown = {one["name"]: one for one in await listed()}
        assert {one["state"] for one in shown.values()} == {"run"}
        assert shown["other"]["rss"] > 2**20
        os.kill(pid, signal.SIGSTOP)
        try:
            while {one["name"]: one["state"] for one in await listed()}["other"] != "stopped":
                await trio.sleep(0.01)
        finally:
            os.kill(pid, signal.SIGCONT)

    run(main)


def test_without_proc_and_psutil_those_that_answer_are_shown(
    forked_actors: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_processes, "has_proc", lambda: False)
    monkeypatch.setitem(sys.modules, "psutil", None)

    async def main(an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        assert {one["name"]: one["state"] for one in await listed()} == {
            "root": "run",
            "worker": "run",
        }

    run(main)


def test_native_stacks_are_those_of_py_spy(tmp_path: Path) -> None:
    """Also while C code holds the GIL, or as here waits: nothing of the actor's own has to run."""
    if shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") is None:
        pytest.skip("no py-spy here; PyPI has it as: py-spy")
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)

    async def main(an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        async with trio.open_nursery() as tn:
            tn.start_soon(portal.run, block, fifo)
            while {one["name"]: one["state"] for one in await listed()}["worker"] == "run":
                pass
            aid = portal.chan.aid
            assert aid is not None
            env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            argv = [sys.executable, "-m", "tractor", "stacks", str(aid.pid), "--native", *LONG]
            done = await trio.run_process(
                argv, capture_stdout=True, capture_stderr=True, check=False, env=env
            )
            with open(fifo, "wb"):
                pass
        if done.returncode and b"ermission" in done.stdout + done.stderr:
            pytest.skip("py-spy may not look at processes here")
        assert done.returncode == 0, done.stderr
        assert b"block (" in done.stdout

    run(main)


def test_what_py_spy_says_no_to_is_told(forked_actors: None, tmp_path: Path) -> None:
    spy = tmp_path / "py-spy"
    spy.write_text("#!/bin/sh\nexit 1\n")
    spy.chmod(0o755)

    async def main(an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        aid = portal.chan.aid
        assert aid is not None
        argv = [sys.executable, "-m", "tractor", "stacks", str(aid.pid), "--native", *LONG]
        for path, said in ((str(tmp_path), b"ptrace_scope"), ("/nowhere", b"needs py-spy")):
            done = await trio.run_process(
                argv,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env={**os.environ, "PATH": path},
            )
            assert (done.returncode, said in done.stderr) == (1, True), done.stderr

    run(main)


REPL = """
import trio, tractor
async def main():
    async with tractor.open_nursery(debug_mode=True, registry_addrs=[("127.0.0.1", {port})]) as an:
        await tractor.pause()
if __name__ == "__main__":
    trio.run(main)
"""


def test_one_in_the_repl_says_so_and_since_when(tmp_path: Path) -> None:
    pexpect = pytest.importorskip("pexpect")
    pytest.importorskip("pdbp")

    program = tmp_path / "program.py"
    program.write_text(REPL.format(port=get_rando_addr("tcp")[1]))
    child = pexpect.spawn(sys.executable, [str(program)], timeout=50, encoding="utf-8")
    try:
        child.expect(r"\(Pdb\+?\+?\)")

        async def main() -> None:
            with trio.fail_after(50):
                code, out, err = await command("ps", str(child.pid), "--json", *LONG)
            assert code == 0, err

            (root,) = [one for one in json.loads(out)["actors"] if one["pid"] == child.pid]
            assert (root["state"], root["why"] is not None) == ("repl", True)
            assert root["time"] - root["uptime"] - 5 < root["since"] <= root["time"]

        trio.run(main)
        child.sendline("c")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)
