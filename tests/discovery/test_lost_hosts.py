"""A registrar that is told of a lost host, and peers that are told by it: who may say so, and what it does."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from ep_discovery_tools import RawPeer, Refused, free_addr, names, raw_peer, run, until

import tractor
from tractor.msg.types import Start
from tractor.runtime import _doubts
from tractor.runtime._doubts import doubt


async def born(peer: RawPeer, parent: RawPeer | None) -> None:
    """Have a peer registered as the child of another."""
    above = None if parent is None else parent.aid.uid
    where = free_addr("tcp")
    assert await peer.ask("register_actor", uid=peer.aid.uid, addr=where, parent=above) is None


def test_a_lost_host_is_reported_by_the_parent_alone(reg_addr: Any) -> None:
    async def main() -> None:
        async with (
            tractor.open_root_actor(registry_addrs=[reg_addr]),
            raw_peer(reg_addr) as parent,
            raw_peer(reg_addr, ("child", "c")) as child,
            raw_peer(reg_addr, ("grandchild", "g")) as grandchild,
            raw_peer(reg_addr, ("other", "o")) as other,
        ):
            await born(parent, None)
            await born(child, parent)
            await born(grandchild, child)
            await born(other, None)
            for liar in (other, child):
                said = await liar.ask("_host_lost", uid=child.aid.uid)
                assert isinstance(said, Refused)
                assert said.type == "PermissionError"
            # Of one that is not registered nothing is known.
            assert await other.ask("_host_lost", uid=("nobody", "x")) is None
            assert await names(reg_addr) == ["root", "raw", "child", "grandchild", "other"]
            told = await parent.send("_host_lost", uid=child.aid.uid)
            # They would notice that they were dropped, and register again, if they lived.
            assert await child.gone()
            assert await grandchild.gone()
            assert await names(reg_addr) == ["root", "raw", "other"]
            for peer in (other, parent):
                msg = await peer.chan.recv()
                assert isinstance(msg, Start)
                assert (msg.ns, msg.func) == ("self", "_lost")
            assert (await parent.reply())[0] == told

    run(main)


@pytest.mark.parametrize("answers", [True, False])
def test_who_is_doubted_is_kept_as_long_as_its_host_answers(
    answers: bool, reg_addr: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_doubts, "is_here", lambda host: False)
    monkeypatch.setattr(_doubts, "SIGN_TIMEOUT", 0.1)

    async def main() -> None:
        # It reads nothing; its kernel does.
        async with (
            tractor.open_root_actor(registry_addrs=[reg_addr]) as actor,
            raw_peer(reg_addr) as peer,
        ):
            # From then on it is a peer's.
            await born(peer, None)
            (chan,) = actor.ipc_server.peer_channels()
            if not answers:
                monkeypatch.setattr(type(chan.transport), "is_unheard", lambda *args: True)
            doubt(actor, {("somebody", "else")})
            assert not chan.is_doubted
            doubt(actor, {peer.aid.uid})
            assert chan.is_doubted

            async def asked() -> bool:
                return not chan.is_doubted

            await until(asked)
            await trio.testing.wait_all_tasks_blocked()
            assert chan.connected() is answers

    run(main)


def test_nobody_but_a_registrar_of_its_own_is_heard(reg_addr: Any) -> None:
    async def main() -> None:
        async with (
            tractor.open_root_actor(registry_addrs=[reg_addr]),
            raw_peer(reg_addr) as peer,
        ):
            await born(peer, None)
            said = await peer.ask("_lost", uids=[["a", "b"]])
            assert isinstance(said, Refused)
            assert "is not a request" in said.text

    run(main)
