"""A peer that claims to be somebody else's child, or registers for others, changes nothing."""

from __future__ import annotations

import functools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ep_peer
import ep_victim
import pytest
import trio
from ep_peer import run

import tractor
from tractor.process._stat import ProcessId
from tractor.testing import get_rando_addr

sys.path.insert(0, str(Path(__file__).parent))

from raw_peer import ERROR, RETURN, Message, RawPeer, error, start

pytestmark = [
    pytest.mark.usefixtures("forked_actors"),
    pytest.mark.skipif(sys.platform == "win32", reason="signals and socket files"),
]

Uid = tuple[str, str]

CHILDS_ALONE = ("_ready", "_progress", "_descendants", "_goodbye", "_debug_lock", "_respawn")


def claim(addr: Any, uid: Uid, work: Callable[[RawPeer], Any]) -> Any:
    """Run ``work`` with a connection under another's uid; ``None``: that was refused."""
    with RawPeer(addr) as peer:
        try:
            peer.open(uid)
            return work(peer)
        except (ConnectionError, TimeoutError):
            return None


def refused(answer: Message | None) -> bool:
    """Whether a request was refused, or the channel was closed."""
    return not answer or answer[0] == ERROR


ARGUMENTS: dict[str, dict[str, Any]] = {
    "_ready": {"accept_addrs": [["127.0.0.1", 1]]},
    "_progress": {},
    "_descendants": {"up": [ProcessId.of(1)], "gone": []},
    "_goodbye": {},
    "_debug_lock": {"uid": ["x", "y"], "task": "t", "pid": 1, "tty": None},
    "_respawn": {},
}


def _ask(name: str, peer: RawPeer) -> Message:
    return peer.call(1, "self", name, **ARGUMENTS[name])


@pytest.mark.parametrize("whose", ["the child's", "one that nobody has"])
def test_what_is_the_childs_to_say_is_refused(reg_addr: Any, whose: str) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr], loglevel="critical") as an:
            portal = await an.start_actor("child", enable_modules=["ep_victim", "ep_peer"])
            uid = ep_peer.peer_uid(portal) if whose == "the child's" else ("child", "f" * 32)
            root = tuple(tractor.current_actor().accept_addr)
            for name in CHILDS_ALONE:
                work = functools.partial(_ask, name)
                answer = await trio.to_thread.run_sync(claim, root, uid, work)
                assert refused(answer), (name, answer)
            assert await portal.run(ep_peer.ping) == "pong"
            await portal.cancel_actor()

    run(main)


def test_no_process_is_killed_on_the_word_of_another(reg_addr: Any) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        try:
            pid = bystander.pid

            async def main() -> None:
                with pytest.raises(tractor.ActorFailure):
                    await _say_and_kill(reg_addr, "_descendants", up=[ProcessId.of(pid)], gone=[])
                # Its process, and what it had reported, is gone by now.
                assert bystander.poll() is None

            run(main)
        finally:
            bystander.kill()


async def _say_and_kill(reg_addr: Any, request: str, **kwargs: Any) -> None:
    """Say something under a child's uid, and kill that child."""
    async with tractor.open_nursery(registry_addrs=[reg_addr], loglevel="critical") as an:
        portal = await an.start_actor("child", enable_modules=["ep_victim"])
        assert portal.chan.aid is not None
        root = tuple(tractor.current_actor().accept_addr)
        uid, pid = ep_peer.peer_uid(portal), portal.chan.aid.pid
        await trio.to_thread.run_sync(
            claim, root, uid, lambda peer: peer.call(1, "self", request, **kwargs)
        )
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        # Whoever believes that it ended well would wait here for ever.
        await trio.sleep(20)
        await an.cancel()


def test_a_childs_death_is_no_success_on_the_word_of_another(reg_addr: Any) -> None:
    async def main() -> None:
        with pytest.raises(tractor.ActorFailure):
            await _say_and_kill(reg_addr, "_goodbye")

    run(main)


@pytest.mark.parametrize("what", ["a regular file", "a link to one", "somebody's socket"])
def test_no_file_is_unlinked_on_the_word_of_another(
    reg_addr: Any, what: str, tmp_path: Path, private_dir: Path
) -> None:
    path = private_dir / "r" / f"precious-{os.getpid()}.sock"
    if what == "a regular file":
        path.write_text("precious")
    elif what == "a link to one":
        (tmp_path / "precious").write_text("precious")
        path.symlink_to(tmp_path / "precious")
    server = None
    if what == "somebody's socket":
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))

    async def main() -> None:
        addrs = [[str(path.parent), path.name]]
        with pytest.raises(tractor.ActorFailure):
            await _say_and_kill(reg_addr, "_ready", accept_addrs=addrs)

    try:
        run(main)
        assert path.is_symlink() or path.exists()
    finally:
        path.unlink(missing_ok=True)
        if server is not None:
            server.close()


@pytest.mark.parametrize("request_", ["_progress", "_debug_lock"])
def test_a_nursery_is_not_held_by_the_word_of_another(reg_addr: Any, request_: str) -> None:
    """The child is stopped, so that its ladder goes on to the end; meanwhile somebody speaks for it."""

    def go_on(peer: RawPeer, over: trio.Event) -> None:
        cid = 1
        while not over.is_set():
            peer.send(start(cid, "self", request_, ARGUMENTS[request_], uid=peer.uid))
            cid += 2
            trio.from_thread.run(trio.sleep, 0.05)

    async def main() -> None:
        over = trio.Event()
        async with tractor.open_root_actor(registry_addrs=[reg_addr], loglevel="critical") as actor:
            root = tuple(actor.accept_addr)
            async with trio.open_nursery() as tn:
                with trio.fail_after(30):
                    try:
                        async with tractor.open_nursery() as an:
                            portal = await an.start_actor("child")
                            assert portal.chan.aid is not None
                            uid, pid = ep_peer.peer_uid(portal), portal.chan.aid.pid
                            assert pid is not None
                            os.kill(pid, signal.SIGSTOP)
                            work = functools.partial(go_on, over=over)
                            tn.start_soon(trio.to_thread.run_sync, claim, root, uid, work)
                            await trio.sleep(0.2)
                            await an.cancel()
                    finally:
                        over.set()

    run(main)


def test_a_child_has_not_failed_on_the_word_of_another(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr], loglevel="critical") as an:
            portal = await an.start_actor("child", enable_modules=["ep_peer"])
            root = tuple(tractor.current_actor().accept_addr)
            await trio.to_thread.run_sync(
                claim, root, ep_peer.peer_uid(portal), lambda peer: peer.send(error(0))
            )
            assert await portal.run(ep_peer.ping) == "pong"
            await portal.cancel_actor()

    run(main)


def test_an_error_of_the_channel_costs_no_traceback(
    reg_addr: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def attack(addr: Any) -> None:
        with RawPeer(addr) as peer:
            peer.open()
            peer.send(error(0))
            peer.is_closed(0.5)

    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]) as actor:
            await trio.to_thread.run_sync(attack, tuple(actor.accept_addr))

    with caplog.at_level(1, logger="tractor"):
        run(main)
    assert [r for r in caplog.records if r.exc_info] == []


# -- at a registrar ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("proto", ["uds", "tcp"])
@pytest.mark.parametrize("what", ["unregister_actor", "register_actor", "delete_addr"])
def test_a_peer_registers_for_itself_alone(proto: str, what: str) -> None:
    async def main() -> None:
        async with tractor.open_nursery(
            registry_addrs=[get_rando_addr(proto)], loglevel="critical"
        ) as an:
            portal = await an.start_actor("child", enable_modules=["ep_victim", "ep_peer"])
            uid = ep_peer.peer_uid(portal)
            (addr,) = await portal.run(ep_victim.where)
            root = tuple(tractor.current_actor().accept_addr)
            elsewhere = ["127.0.0.1", 1]
            of: dict[str, dict[str, Any]] = {
                "unregister_actor": {"uid": uid},
                "register_actor": {"uid": uid, "addr": elsewhere},
                "delete_addr": {"addr": addr},
            }
            await trio.to_thread.run_sync(
                claim,
                root,
                ("intruder", "1" * 32),
                lambda peer: peer.call(1, "self", what, **of[what]),
            )
            async with tractor.find_actor("child") as found:
                assert isinstance(found, tractor.Portal)
                assert await found.run(ep_peer.ping) == "pong"
                assert ep_peer.peer_uid(found) == uid
            await portal.cancel_actor()

    run(main)


def test_a_peer_may_register_itself(reg_addr: Any) -> None:
    """What the others are refused for is who they are."""

    def register(peer: RawPeer) -> Message:
        addr = ["127.0.0.1", 1616]
        return peer.call(1, "self", "register_actor", uid=peer.uid, addr=addr)

    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]) as actor:
            root = tuple(actor.accept_addr)
            answer = await trio.to_thread.run_sync(claim, root, ("raw", "1" * 32), register)
            assert answer[:1] == [RETURN], answer

    run(main)
