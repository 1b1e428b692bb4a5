# ruff: noqa: PT012
# A nursery raises at the end of its block, so the block belongs into `pytest.raises()`.
"""What a child may say about itself, on the one channel on which it has proven who it is, and what is made of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ep_rogue
import pytest
import trio
from ep_marks import gets_signals
from ep_supervise_tools import alive, run, until_exists

import tractor
from tractor._proto.children import ladder
from tractor.ipc import Channel
from tractor.msg.types import Aid
from tractor.process._stat import ProcessId, is_below, kill_process, process_start_time
from tractor.process.host._host_id import host_id

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="who forked whom is Linux's to tell"
)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process of this user that is below this test, and below no actor."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_who_forked_whom(bystander: subprocess.Popen[bytes]) -> None:
    pid = bystander.pid
    start = process_start_time(pid)
    assert start is not None
    own = ProcessId.of(pid)
    assert own == ProcessId(host_id(), pid, start)
    assert is_below(own, os.getpid())
    assert not is_below(own._replace(host="feed.1"), os.getpid()), "it is another host's"
    assert not is_below(own._replace(start_time=None), os.getpid()), "it may be any process"
    assert not is_below(own._replace(start_time=start + 1), os.getpid()), "a later one"
    assert not is_below(own, pid), "nobody is below itself"
    assert not is_below(ProcessId.of(1), os.getpid())
    assert not is_below(own._replace(pid=-1), os.getpid())
    assert not is_below(own._replace(pid=0), os.getpid())


def test_only_the_process_that_is_meant_is_killed(bystander: subprocess.Popen[bytes]) -> None:
    start = process_start_time(bystander.pid)
    assert start is not None
    own = ProcessId.of(bystander.pid)
    kill_process(own._replace(start_time=start + 1))
    kill_process(own._replace(host="feed.1"))
    assert bystander.poll() is None
    kill_process(own)
    assert bystander.wait() == -signal.SIGKILL
    kill_process(own)


@gets_signals
def test_a_process_that_the_child_has_not_forked_is_not_its_descendant(
    bystander: subprocess.Popen[bytes],
) -> None:
    host = host_id()
    others = [bystander.pid, os.getpid()]
    nobody = [[host, pid, None] for pid in (1, -1, 0)]
    lies = [*map(ProcessId.of, others), *nobody]

    async def main() -> None:
        with pytest.raises(tractor.ActorFailure):
            async with tractor.open_nursery() as an:
                portal = await an.start_actor("rogue", enable_modules=["ep_rogue"])
                await portal.run(
                    ep_rogue.tell, requests=[("_descendants", {"up": lies, "gone": []})]
                )
                (child,) = tractor.current_actor().children.values()
                assert bystander.pid not in child.descendants
                assert os.getpid() not in child.descendants
                assert portal.chan.aid is not None
                assert portal.chan.aid.pid is not None
                os.kill(portal.chan.aid.pid, signal.SIGKILL)
                await trio.sleep_forever()
        assert bystander.poll() is None

    run(main)


@gets_signals
def test_a_process_that_it_has_forked_goes_with_it() -> None:
    async def main() -> None:
        with pytest.raises(tractor.ActorFailure):
            async with tractor.open_nursery() as an:
                portal = await an.start_actor("busy", enable_modules=["ep_rogue"])
                async with portal.open_context(ep_rogue.fork_helper) as (_, pid):
                    (child,) = tractor.current_actor().children.values()
                    assert pid in child.descendants
                    assert portal.chan.aid is not None
                    assert portal.chan.aid.pid is not None
                    os.kill(portal.chan.aid.pid, signal.SIGKILL)
                    await trio.sleep_forever()
        assert not alive(pid)

    run(main)


@gets_signals
@pytest.mark.parametrize("kind", ["file", "link", "socket", "sibling"])
def test_no_file_is_removed_that_is_not_the_childs(
    kind: str, tmp_path: Path, private_dir: Path
) -> None:
    directory = private_dir / "r" / "tractor"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f"precious@{os.getpid()}.sock"
    if kind == "file":
        path.write_text("precious")
    elif kind == "link":
        (tmp_path / "precious").write_text("precious")
        path.symlink_to(tmp_path / "precious")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))

    async def main() -> None:
        with pytest.raises((tractor.ActorFailure, BaseExceptionGroup)):
            async with tractor.open_nursery() as an:
                rogue = await an.start_actor("rogue", enable_modules=["ep_rogue"])
                nonlocal path
                if kind == "sibling":
                    other = await an.start_actor("other", enable_transports=["uds"])
                    assert other.chan.aid is not None
                    (path,) = directory.glob(f"other*@{other.chan.aid.pid}.sock")
                addrs = [[str(directory), path.name]]
                await rogue.run(
                    ep_rogue.crash_after, requests=[("_ready", {"accept_addrs": addrs})]
                )
                if kind != "sibling":
                    await trio.sleep_forever()

    if kind == "sibling":
        removed: list[str] = []
        real = os.unlink

        def noted(target: Any, **kwargs: Any) -> None:
            removed.append(os.fspath(target))
            real(target, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "unlink", noted)
            run(main)
        assert str(path) not in removed
    else:
        run(main)
        assert os.path.lexists(path)
        path.unlink()


@gets_signals
@pytest.mark.parametrize(
    ("request_", "kwargs"),
    [
        ("_progress", {"left": 10**9, "rung": 0}),
        ("_debug_lock", {"task": 1, "uid": ["x", "y"], "text": "x"}),
    ],
)
def test_no_word_keeps_a_child_for_ever(
    request_: str, kwargs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "PROGRESS_TIMEOUT", 2.0)
    marker = str(tmp_path / "begun")

    async def main() -> None:
        with trio.fail_after(20):
            async with tractor.open_nursery() as an:
                portal = await an.start_actor("rogue", enable_modules=["ep_rogue"])
                async with trio.open_nursery() as tn:
                    tn.start_soon(_call_and_lose, portal, request_, kwargs, marker)
                    await until_exists(marker)
                    await an.cancel()
                    tn.cancel_scope.cancel()

    run(main)


async def _call_and_lose(
    portal: tractor.Portal, request_: str, kwargs: dict[str, Any], marker: str
) -> None:
    with pytest.raises((tractor.TransportClosed, tractor.ContextCancelled)):
        await portal.run(ep_rogue.never_go, request_=request_, kwargs=kwargs, marker=marker)


@pytest.mark.parametrize("claim", [b"x" * 32, b"x", b"another's"])
def test_a_claim_that_is_not_the_secret_is_refused(claim: bytes, reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr], loglevel="critical") as an:
            portal = await an.start_actor("child", enable_modules=["ep_rogue"])
            assert portal.chan.aid is not None
            addr = tractor.current_actor().accept_addr
            # The child's uid, and one that nobody has.
            for uuid in (portal.chan.aid.uuid, "f" * 32):
                chan = await Channel.from_addr(addr)
                with pytest.raises(tractor.TransportClosed):
                    await chan.handshake(Aid("child", uuid, os.getpid()), claim=claim)
                    await chan.recv()
                chan.abort()
            await portal.run(ep_rogue.tell, requests=[])
            await portal.cancel_actor()

    run(main)


def test_the_secret_is_shown_once_and_kept_nowhere(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            portal = await an.start_actor("child", enable_modules=["ep_rogue"])
            child: Any
            (child,) = tractor.current_actor().children.values()
            assert portal.chan is child.chan
            assert portal.chan.claim is None
            assert portal.chan.aid is not None
            assert portal.chan.aid.claim is None
            assert child.claim is None
            await portal.cancel_actor()

    run(main)
