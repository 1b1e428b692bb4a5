# ruff: noqa: PT012
# A nursery raises at the end of its block, so the block belongs into `pytest.raises()`.
"""Actors that say to be on another host: nothing of theirs is taken for this host's, nor the other way round.

They are processes of this host whose id is another one's by a seam that is for tests alone, so pids, paths and loopback
addresses that would be taken for local ones are there, and are somebody else's.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ep_hosts
import ep_rogue
import pytest
import trio
from ep_marks import gets_signals
from ep_supervise_tools import run

import tractor
from tractor.address._policy import is_within_host, reaches_further
from tractor.address._types import TCPAddress, UDSAddress
from tractor.discovery._bounds import bound_of
from tractor.discovery._places import Place, addrs_for, host_of, place_at
from tractor.discovery._portals import connect
from tractor.ipc import fd_share
from tractor.msg.types import Aid
from tractor.process._stat import ProcessId
from tractor.process.host._host_id import SEAM, host_id
from tractor.testing import get_rando_addr

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="who forked whom is Linux's to tell"
)

THERE = "feed.1"
"""The id of a host that there is not."""


def at(host: str, **more: Any) -> dict[str, Any]:
    """Arguments of a start of an actor that takes itself to be on a host."""
    env = {**os.environ, SEAM: host}
    return {"enable_modules": ["ep_hosts", "ep_rogue"], "proc_kwargs": {"env": env}, **more}


def tidy_up(private_dir: Path) -> None:
    """Remove what killed actors of another host have left: that is for their host to do."""
    for left in (private_dir / "r" / "tractor").rglob("far*.sock"):
        left.unlink()


def both_named(text: str, there: str = THERE) -> bool:
    return there in text and host_id() in text


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


# -- which addresses mean something on one host alone --


@pytest.mark.parametrize(
    ("addr", "within", "further"),
    [
        (TCPAddress("127.0.0.1", 1), True, False),
        (TCPAddress("::1", 1), True, False),
        (TCPAddress("localhost", 1), True, False),
        (TCPAddress("0.0.0.0", 1), False, False),
        (TCPAddress("10.0.0.1", 1), False, True),
        (TCPAddress("example.org", 1), False, True),
        (UDSAddress("/run/x", "a.sock"), True, False),
        (SimpleNamespace(proto_key="quic"), False, True),
        (SimpleNamespace(proto_key="quic", is_loopback=True), True, False),
    ],
)
def test_which_addresses_mean_something_on_one_host_alone(
    addr: Any, within: bool, further: bool
) -> None:
    assert is_within_host(addr) is within
    assert reaches_further(addr) is further


def peer(host: str | None, raddr: Any) -> Any:
    return SimpleNamespace(aid=Aid("a", "1", 1, host=host), raddr=raddr)


def test_a_peer_says_its_host_and_is_not_believed_to_be_here_from_afar() -> None:
    near, far = TCPAddress("127.0.0.1", 7), TCPAddress("192.0.2.7", 7)
    assert host_of(peer(host_id(), near)) is None
    assert host_of(peer(None, near)) is None
    assert host_of(peer(None, far)) == "192.0.2.7"
    assert host_of(peer(host_id(), far)) == "192.0.2.7"
    assert host_of(peer(THERE, near)) == THERE, "a tunnel"
    assert host_of(peer(THERE, far)) == THERE


def test_addresses_are_told_to_those_whom_they_lead() -> None:
    loop, lan, uds = TCPAddress("127.0.0.1", 1), TCPAddress("10.0.0.1", 1), UDSAddress("/r", "a")
    assert place_at(lan, THERE) == Place(None, lan.unwrap())
    theirs = [place_at(addr, THERE) for addr in (loop, lan, uds)]
    ours = [place_at(addr, None) for addr in (loop, lan, uds)]
    everything = [addr.unwrap() for addr in (loop, lan, uds)]
    assert addrs_for(theirs, THERE) == everything
    assert addrs_for(ours, None) == everything
    assert addrs_for(theirs, None) == addrs_for(theirs, "beef.1") == [lan.unwrap()]
    assert addrs_for(ours, THERE) == [lan.unwrap()]


# -- processes and files --


def test_an_actor_tells_its_host() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            near = await an.start_actor("near", enable_modules=["ep_hosts"])
            far = await an.start_actor("far", **at(THERE))
            assert near.chan.aid is not None
            assert far.chan.aid is not None
            assert near.chan.aid.host == tractor.current_actor().aid.host == host_id()
            assert far.chan.aid.host == await far.run(ep_hosts.own_host) == THERE
            infos = {info.aid.name: info for info in an.children.values()}
            assert infos["near"].aid.host == infos["near"].host == host_id()
            assert infos["far"].aid.host == THERE
            assert infos["far"].host == host_id(), "where its parent's process is one"
            await an.cancel()

    run(main)


@gets_signals
def test_no_process_is_signalled_for_another_host(
    bystander: subprocess.Popen[bytes], private_dir: Path
) -> None:
    own = ProcessId.of(bystander.pid)
    lies = [own, own._replace(host=THERE), ProcessId.of(os.getpid())]

    async def main() -> None:
        with pytest.raises(tractor.ActorFailure):
            async with tractor.open_nursery() as an:
                portal = await an.start_actor("far", **at(THERE))
                await portal.run(
                    ep_rogue.tell, requests=[("_descendants", {"up": lies, "gone": []})]
                )
                (child,) = tractor.current_actor().children.values()
                assert child.descendants == {}
                info = next(iter(an.children.values()))
                assert info.pid is not None
                os.kill(info.pid, signal.SIGKILL)
                await trio.sleep_forever()
        assert bystander.poll() is None

    run(main)
    tidy_up(private_dir)


@gets_signals
def test_no_file_is_removed_for_another_host(private_dir: Path) -> None:
    directory = private_dir / "r" / "tractor"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory

    async def main() -> None:
        with pytest.raises(tractor.ActorFailure):
            async with tractor.open_nursery() as an:
                portal = await an.start_actor("far", **at(THERE))
                info = next(iter(an.children.values()))
                nonlocal path
                # Of this host, with what a child's file would have: its name and its pid; and nobody answers.
                path = directory / f"precious@{info.pid}.sock"
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.bind(str(path))
                addrs = [[str(directory), path.name]]
                await portal.run(
                    ep_rogue.crash_after, requests=[("_ready", {"accept_addrs": addrs})]
                )
                await trio.sleep_forever()

    run(main)
    assert path.is_socket()
    path.unlink()
    tidy_up(private_dir)


def test_only_those_above_on_its_own_host_are_watched() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("far", **at(THERE))
            info = next(iter(an.children.values()))
            hosts, pids, found = await portal.run(ep_hosts.above_of_a_child)
            assert hosts == [host_id(), THERE, THERE]
            assert pids == [info.pid]
            assert both_named(found)
            assert "knows no registrar" in found
            await portal.cancel_actor()

    run(main)


# -- addresses --


def test_a_look_up_from_elsewhere_gets_no_address_of_this_host() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            near = await an.start_actor("near", enable_modules=["ep_hosts"])
            far = await an.start_actor("far", **at(THERE))
            also = await an.start_actor("also", **at(THERE))
            assert await near.run(ep_hosts.look_up, name="nobody's") == "nobody"
            for ask in (ep_hosts.look_up, ep_hosts.query):
                for asker, name in ((far, "near"), (near, "far")):
                    found = await asker.run(ask, name=name)
                    assert both_named(found), found
                    assert "addresses of its own host alone" in found
                    assert "`bind_addrs`" in found
            assert await also.run(ep_hosts.look_up, name="far") == THERE
            found = await far.run(ep_hosts.ask_root)
            assert both_named(found)
            assert "the root of the tree" in found
            assert await near.run(ep_hosts.ask_root) == host_id()
            await an.cancel()

    run(main)


def test_a_tcp_address_that_reaches_further_is_told_to_all() -> None:
    beyond = _an_address_of_this_machine()

    async def main() -> None:
        async with tractor.open_nursery(
            registry_addrs=[get_rando_addr("tcp")], authkey=b"k" * 32, enable_transports=["tcp"]
        ) as an:
            listens = [(beyond, int(get_rando_addr("tcp")[1]))]
            await an.start_actor("near", enable_modules=["ep_hosts"], bind_addrs=listens)
            far = await an.start_actor("far", **at(THERE))
            assert await far.run(ep_hosts.look_up, name="near") == host_id()
            await an.cancel()

    run(main)


def _an_address_of_this_machine() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network address beyond loopback")
        return str(probe.getsockname()[0])


def test_a_socket_file_leads_to_no_other_host() -> None:
    async def main() -> None:
        async with tractor.open_nursery(enable_transports=["uds"]) as an:
            await an.start_actor("far", **at(THERE))
            actor = tractor.current_actor()
            child: Any = next(iter(actor.children.values()))
            for addr in child.accept_addrs:
                with pytest.raises(tractor.TransportClosed, match="Connect over TCP") as info:
                    await connect(addr, actor, bound_of(5))
                assert both_named(str(info.value))
            await an.cancel()

    run(main)


def test_a_root_does_not_join_another_hosts_registrar() -> None:
    program = "import trio, tractor; trio.run(tractor.open_root_actor().__aenter__)"

    async def main() -> None:
        async with tractor.open_root_actor(enable_transports=["uds"]):
            done = await trio.run_process(
                [sys.executable, "-c", program],
                env={**os.environ, SEAM: THERE},
                capture_stderr=True,
                check=False,
            )
            assert done.returncode == 1
            text = done.stderr.decode()
            assert both_named(text), text
            assert "XDG_RUNTIME_DIR" in text

    run(main)


def test_shared_memory_is_of_one_host() -> None:
    pytest.importorskip("numpy")

    async def main() -> None:
        async with tractor.open_nursery() as an:
            near = await an.start_actor("near", enable_modules=["ep_hosts"])
            far = await an.start_actor("far", **at(THERE))
            array = tractor.ipc.open_shm_ndarray(8)
            try:
                token = array.token.as_msg()
                assert token["host"] == host_id()
                assert await near.run(ep_hosts.attach, token=token) == "attached"
                assert both_named(await far.run(ep_hosts.attach, token=token))
            finally:
                array.destroy()
            await an.cancel()

    run(main)


def test_descriptors_are_passed_on_one_host() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            modules = ["tractor.ipc.fd_share"]
            await an.start_actor("ringd", **at(THERE, enable_modules=modules))
            with pytest.raises(
                RuntimeError, match="descriptors are passed within one host"
            ) as info:
                async with fd_share.open_ringbuf("ring"):
                    pass
            assert both_named(str(info.value))
            await an.cancel()

    run(main)
