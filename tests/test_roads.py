"""Several transports in one actor, and the road that its peers take."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ep_peer
import ep_roads
import pytest
import trio

import tractor
from tractor.address._types import HAS_UDS
from tractor.discovery import UDSAddress, mk_maddr, wrap_address
from tractor.msg.types import Aid
from tractor.testing import get_rando_addr
from tractor.transport._addresses import random_addrs

LIMIT = 40.0

pytestmark = [
    pytest.mark.skipif(not HAS_UDS, reason="there is one transport only here"),
]

SETS: list[list[str]] = [["tcp"], ["uds"], ["tcp", "uds"], ["uds", "tcp"]]


@pytest.fixture
def unused_addrs() -> Any:
    """Gives an unused registry address of a transport."""

    def one(key: str) -> tuple[str, Any]:
        if key == "uds":
            root = UDSAddress.get_root()
            return str(root.bindspace), f"registry-{tractor.discovery.mk_uuid()[:8]}.sock"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            host, port = probe.getsockname()
            return host, port

    return one


def keys_of(addrs: list[Any]) -> list[str]:
    return [wrap_address(addr).proto_key for addr in addrs]


def best_of(listening: list[str]) -> str:
    return "uds" if "uds" in listening else "tcp"


@asynccontextmanager
async def open_root(*registry: Any, **kwargs: Any) -> AsyncIterator[tractor.ActorNursery]:
    async with tractor.open_nursery(registry_addrs=list(registry), **kwargs) as an:
        yield an
        await an.cancel()


# -- parent x child x looker --


@pytest.mark.parametrize("parent", SETS, ids="+".join)
def test_each_kind_of_child_under_each_kind_of_parent(parent: list[str], unused_addrs: Any) -> None:
    """Who listens on what, which road leads to the parent, and which from each to each."""

    async def main() -> None:
        async with open_root(*map(unused_addrs, parent)) as an:
            kinds = {"inherits": None, "tcp": ["tcp"], "uds": ["uds"], "both": ["uds", "tcp"]}
            children: dict[str, tractor.Portal] = {}

            async def start(name: str, transports: list[str] | None) -> None:
                children[name] = await an.start_actor(
                    name, enable_transports=transports, enable_modules=[ep_roads.__name__]
                )

            async with trio.open_nursery() as tn:
                for name, transports in kinds.items():
                    tn.start_soon(start, name, transports)

            for name, transports in kinds.items():
                wanted = parent if transports is None else transports
                child = children[name]
                listening = keys_of(await child.run(ep_roads.listens_on))
                assert sorted(listening) == sorted(wanted), name
                # A road that both have; where they share none, the one that the parent has.
                shared = [key for key in wanted if key in parent] or parent
                assert await child.run(ep_roads.parent_road) == best_of(shared), name
                assert await child.run(ep_roads.road_to_root) == best_of(parent), name
                for other, its in kinds.items():
                    if other == name:
                        continue
                    its = parent if its is None else its
                    key, addr = await child.run(ep_roads.road_to, name=other)
                    assert (name, other, key) == (name, other, best_of(its))
                    assert tuple(addr) in await children[other].run(ep_roads.listens_on)
                    for only in ("tcp", "uds"):
                        found = await child.run(ep_roads.road_to, name=other, only=[only])
                        assert (found and found[0]) == (only if only in its else None)

    ep_peer.run(main, limit=LIMIT)


@pytest.mark.parametrize(
    ("parent", "child", "grandchild", "road"),
    [
        (["tcp", "uds"], ["tcp"], ["uds"], "tcp"),
        (["tcp", "uds"], ["uds"], ["tcp"], "uds"),
        (["uds"], ["tcp", "uds"], ["tcp"], "tcp"),
        (["tcp"], ["tcp", "uds"], ["uds", "tcp"], "uds"),
    ],
)
def test_a_grandchild_of_its_own_kind(
    parent: list[str], child: list[str], grandchild: list[str], road: str, unused_addrs: Any
) -> None:
    async def main() -> None:
        async with open_root(*map(unused_addrs, parent)) as an:
            portal = await an.start_actor(
                "child", enable_transports=child, enable_modules=[ep_roads.__name__]
            )
            assert await portal.run(
                ep_roads.roads_below, name="grandchild", transports=grandchild
            ) == [*grandchild, road]

    ep_peer.run(main, limit=LIMIT)


def test_transports_that_nobody_has(unused_addrs: Any) -> None:
    async def main() -> None:
        async with open_root(unused_addrs("uds")) as an:
            with pytest.raises(ValueError, match="`enable_transports` is empty"):
                await an.start_actor("x", enable_transports=[])
            with pytest.raises(NotImplementedError, match="'pigeon'"):
                await an.start_actor("x", enable_transports=["uds", "pigeon"])
            with pytest.raises(
                ValueError, match=r"`bind_addrs` \[.*\] .*enable_transports=\['uds'\]"
            ):
                await an.start_actor("x", enable_transports=["uds"], bind_addrs=[("127.0.0.1", 0)])
            assert an.statistics().spawned == 0

    ep_peer.run(main, limit=LIMIT)


# -- addresses that are not what they seem --


async def start_ghost(an: tractor.ActorNursery) -> tuple[tractor.Portal, tuple[str, str]]:
    """An actor on TCP, for which a test then registers a socket file, too."""
    portal = await an.start_actor(
        "ghost", enable_transports=["tcp"], enable_modules=[ep_roads.__name__]
    )
    return portal, ep_peer.peer_uid(portal)


def registrar() -> tractor.Registrar:
    actor = tractor.current_actor()
    assert isinstance(actor, tractor.Registrar)
    return actor


def test_a_socket_file_of_another_host_is_passed_over(unused_addrs: Any) -> None:
    async def main() -> None:
        async with open_root(unused_addrs("uds"), unused_addrs("tcp")) as an:
            _, uid = await start_ghost(an)
            elsewhere = ("/nowhere/here", "ghost@7.sock")
            await registrar().register_actor(uid, elsewhere)
            looker = await an.start_actor("looker", enable_modules=[ep_roads.__name__])
            key, _ = await looker.run(ep_roads.road_to, name="ghost")
            assert key == "tcp"
            # It was not even tried, and nobody may say that nobody listens there.
            assert elsewhere in (await registrar().find_actor("ghost") or ())

    ep_peer.run(main, limit=LIMIT)


@pytest.mark.parametrize("other_host", [False, True], ids=["here", "on another host"])
def test_a_socket_file_that_is_another_actors_here(
    other_host: bool, unused_addrs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hosts may have the same path: what is at it here says nothing about the other host."""
    if other_host:
        monkeypatch.setattr(
            "tractor.discovery.registry._registry.host_of",
            lambda chan: "198.51.100.7" if chan.aid.name == "ghost" else None,
        )

    async def check_told(shared: Any) -> None:
        told = await registrar().find_actor("ghost")
        # Of another host's nothing leads there from here; it stays known.
        assert told == [] if other_host else shared not in (told or ())

    async def main() -> None:
        async with open_root(unused_addrs("uds"), unused_addrs("tcp")) as an:
            _, uid = await start_ghost(an)
            looker = await an.start_actor("looker", enable_modules=[ep_roads.__name__])
            # An address that is served here, but by an actor of another name.
            shared = unused_addrs("uds")
            await registrar().ipc_server.listen_on(accept_addrs=[shared])
            await registrar().register_actor(uid, shared)

            if not other_host:
                key, _ = await looker.run(ep_roads.road_to, name="ghost")
                assert key == "tcp"
            else:
                # Nor is loopback over there a road from here.
                with pytest.raises(tractor.RemoteActorError, match="of its own host alone"):
                    await looker.run(ep_roads.road_to, name="ghost")
            await check_told(shared)
            # With no other road: nobody is there on this host, and what may be another host's stays and is told of.
            await registrar().register_actor(uid, shared)
            if other_host:
                with pytest.raises(tractor.RemoteActorError, match="of its own host alone") as info:
                    await looker.run(ep_roads.road_to, name="ghost", only=["uds"])
                assert info.value.boxed_type is tractor.RuntimeFailure
            else:
                assert await looker.run(ep_roads.road_to, name="ghost", only=["uds"]) is None
            await check_told(shared)
            # Nor does the registrar know better when it looks for itself.
            await registrar().register_actor(uid, shared)
            found: list[object] = []
            try:
                async with tractor.find_actor("ghost", enable_transports=["uds"]) as portal:
                    found.append(portal)
            except tractor.RuntimeFailure as failure:
                found.append(type(failure))
            assert found == [tractor.RuntimeFailure if other_host else None]
            await check_told(shared)

    ep_peer.run(main, limit=LIMIT)


def test_a_stale_socket_file_is_no_road(unused_addrs: Any) -> None:
    async def main() -> None:
        async with open_root(unused_addrs("uds"), unused_addrs("tcp")) as an:
            _, uid = await start_ghost(an)
            looker = await an.start_actor("looker", enable_modules=[ep_roads.__name__])
            stale = unused_addrs("uds")
            path = UDSAddress(*stale).sockpath
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(str(path))
            try:
                await registrar().register_actor(uid, stale)
                key, _ = await looker.run(ep_roads.road_to, name="ghost")
                assert key == "tcp"
                assert stale not in (await registrar().find_actor("ghost") or ())
            finally:
                path.unlink()

    ep_peer.run(main, limit=LIMIT)


# -- hosts --


def test_children_of_a_root_that_listens_everywhere() -> None:
    async def main() -> None:
        async with open_root(tpt_bind_addrs=[("0.0.0.0", 0)], authkey=b"k" * 16) as an:
            everywhere = [a for a in registrar().accept_addrs if a[0] == "0.0.0.0"]
            assert len(everywhere) == 1
            child = await an.start_actor("child", enable_modules=[ep_roads.__name__])
            assert await child.run(ep_roads.parent_road) == "tcp"
            assert await child.run(ep_roads.road_to_root) == "tcp"
            # A wildcard is not an address of the table.
            table = await registrar().get_registry()
            assert not [a for addrs in table.values() for a in addrs if a[0] == "0.0.0.0"]

    ep_peer.run(main, limit=LIMIT)


def test_a_child_that_listens_everywhere() -> None:
    async def main() -> None:
        async with open_root(
            get_rando_addr("tcp"), enable_transports=["tcp"], authkey=b"k" * 16
        ) as an:
            child = await an.start_actor(
                "child", bind_addrs=["/ip4/0.0.0.0/tcp/0"], enable_modules=[ep_roads.__name__]
            )
            ((host, port),) = await child.run(ep_roads.listens_on)
            assert host == "0.0.0.0"
            async with tractor.query_actor("child") as (addr, _):
                assert addr == ("127.0.0.1", port)
            assert await child.run(ep_roads.roads_below, name="grandchild", transports=["tcp"]) == [
                "tcp",
                "tcp",
            ]

    ep_peer.run(main, limit=LIMIT)


def test_a_child_without_a_chosen_key_does_not_listen_everywhere(unused_addrs: Any) -> None:
    async def main() -> None:
        async with open_root(unused_addrs("tcp")) as an:
            with pytest.raises((tractor.RuntimeFailure, tractor.RemoteActorError)) as caught:
                await an.start_actor("child", bind_addrs=[("0.0.0.0", 0)])
            assert "refusing to listen on ('0.0.0.0', 0)" in str(caught.value)

    ep_peer.run(main, limit=LIMIT)


@pytest.mark.parametrize("host", ["localhost", "::1", "::ffff:127.0.0.1", "127.0.0.2"])
def test_a_registrar_at_a_host_of_another_spelling(host: str, unused_addrs: Any) -> None:
    _, port = unused_addrs("tcp")
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
    except OSError as exc:
        pytest.skip(f"this machine can't listen on {host}: {exc}")
    maddr = mk_maddr((host, port))

    async def main() -> None:
        async with open_root(maddr) as an:
            assert registrar().reg_addrs == [(host, port)]
            async with tractor.get_registry() as first, tractor.get_registry(maddr) as second:
                for portal in (first, second):
                    await portal.run_from_ns("self", "get_registry")
            children = [
                await an.start_actor(name, enable_modules=[ep_roads.__name__])
                for name in ("first", "second")
            ]
            key, _ = await children[0].run(ep_roads.road_to, name="second")
            assert key == "tcp"
            assert await children[0].run(ep_roads.road_to_root) == "tcp"
            async with tractor.find_actor("first", registry_addrs=[maddr]) as found:
                assert isinstance(found, tractor.Portal)

    ep_peer.run(main, limit=LIMIT)


def test_a_root_listens_on_its_own_host_wherever_the_registrar_is() -> None:
    aid = Aid("it", "a-uuid", 1)
    # 203.0.113.0/24 is for documentation: no interface has it.
    for host, own in (("203.0.113.9", "127.0.0.1"), ("::1", "::1"), ("localhost", "localhost")):
        (addr,) = random_addrs(["tcp"], aid, beside=[(host, 1616)])
        assert addr.unwrap() == (own, 0)


def test_two_programs_meet_over_any_of_the_registrars_addresses(unused_addrs: Any) -> None:
    """A registrar on two roads; a tree that knows only one of them still finds the best one to an actor."""
    uds, tcp = unused_addrs("uds"), unused_addrs("tcp")

    async def main() -> None:
        async with open_root(uds, tcp) as an:
            await an.start_actor("service", enable_modules=[ep_roads.__name__])
            other = await an.start_actor("other", enable_modules=[ep_roads.__name__])
            for addr in (uds, tcp):
                assert await other.run(ep_roads.best_at, registry=addr, name="service") == "uds"

    ep_peer.run(main, limit=LIMIT)
