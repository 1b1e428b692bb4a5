"""Finding actors: `find_actor`, `wait_for_actor`, `query_actor`, `get_registry`, `get_root`."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ep_supervise
import pytest
import trio
from ep_supervise_tools import free_uds, one_daemon, run

import tractor
from tractor.discovery import get_peer_by_name, get_root, maybe_open_portal, wrap_address
from tractor.transport._settings import WireSettings, set_wire_settings, wire_settings

pytestmark = pytest.mark.usefixtures("forked_actors")

HERE = ["ep_supervise"]


def free_tcp() -> tuple[str, int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return "127.0.0.1", probe.getsockname()[1]


@asynccontextmanager
async def family(reg_addr: Any) -> AsyncIterator[tuple[Any, dict[str, tractor.Portal]]]:
    """A registrar with two daemons."""
    async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
        portals = {name: await an.start_actor(name, enable_modules=HERE) for name in ("ann", "ben")}
        yield an, portals
        await an.cancel()


def test_siblings_find_each_other(reg_addr: Any) -> None:
    async def main() -> None:
        async with family(reg_addr) as (_, portals):
            uids = {name: await p.run(ep_supervise.uid) for name, p in portals.items()}
            assert await portals["ann"].run(ep_supervise.look_up, name="ben") == uids["ben"]
            assert await portals["ann"].run(ep_supervise.wait_for, name="ben") == uids["ben"]
            assert await portals["ann"].run(ep_supervise.look_up, name="nobody") is None
            addr, by_peer = await portals["ann"].run(ep_supervise.query, name="ben")
            told = await portals["ben"].run(ep_supervise.describe)
            assert [addr] == told["accept_addrs"]
            assert by_peer is False

    run(main)


def test_the_root_finds_its_children_over_the_channels_it_has(reg_addr: Any) -> None:
    async def main() -> None:
        async with family(reg_addr) as (_, portals):
            async with tractor.find_actor("ann") as found:
                assert isinstance(found, tractor.Portal)
                assert found.chan is portals["ann"].chan
            assert portals["ann"].chan.connected(), "it lives as long as its actor"
            async with tractor.wait_for_actor("ann") as found:
                assert found.chan is portals["ann"].chan
            assert get_peer_by_name("ann") == [portals["ann"].chan]
            assert get_peer_by_name("nobody") is None
            async with tractor.query_actor("ann") as (addr, registrar):
                told = await portals["ann"].run(ep_supervise.describe)
                assert [list(addr or ())] == told["accept_addrs"]
                assert registrar is None

    run(main)


def test_nobody_of_that_name(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]):
            async with tractor.find_actor("nobody") as found:
                assert found is None
            with pytest.raises(RuntimeError, match="nobody") as info:
                async with tractor.find_actor("nobody", raise_on_none=True):
                    pytest.fail("found")
            assert str(reg_addr[1]) in str(info.value)
            async with tractor.query_actor("nobody") as (addr, registrar):
                assert addr is None
                assert registrar is not None

    run(main)


def test_uuids_are_not_matched(reg_addr: Any) -> None:
    async def main() -> None:
        async with family(reg_addr) as (_, portals):
            _, uuid = await portals["ben"].run(ep_supervise.uid)
            assert await portals["ann"].run(ep_supervise.look_up, name=uuid) is None

    run(main)


def test_the_newest_of_a_name_is_found() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            asker = await an.start_actor("asker", enable_modules=HERE)
            twins = [await an.start_actor("twin", enable_modules=HERE) for _ in range(3)]
            uids = [await portal.run(ep_supervise.uid) for portal in twins]
            assert await asker.run(ep_supervise.look_up, name="twin") == uids[2]
            await twins[2].cancel_actor()
            while len(an.children) > 3:
                await trio.sleep(0.005)
            assert await asker.run(ep_supervise.look_up, name="twin") == uids[1]
            await an.cancel()

    run(main)


def test_all_instead_of_the_first() -> None:
    async def main() -> None:
        async with one_daemon() as (_, portal):
            async with tractor.find_actor("daemon", only_first=False) as found:
                assert isinstance(found, list)
                (one,) = found
                assert await one.run(ep_supervise.uid) == await portal.run(ep_supervise.uid)
            await portal.cancel_actor()

    run(main)


def test_uds_is_preferred_to_tcp() -> None:
    async def main() -> None:
        async with tractor.open_nursery(
            enable_transports=["tcp", "uds"], registry_addrs=[free_uds()]
        ) as an:
            asker = await an.start_actor("asker", enable_modules=HERE)
            both = await an.start_actor("both", enable_modules=HERE)
            told = await both.run(ep_supervise.describe)
            assert len(told["accept_addrs"]) == 2
            addr, _ = await asker.run(ep_supervise.query, name="both")
            assert wrap_address(tuple(addr)).proto_key == "uds"
            await an.cancel()

    run(main)


def test_over_one_transport_only() -> None:
    async def main() -> None:
        async with tractor.open_nursery(
            enable_transports=["tcp", "uds"], registry_addrs=[free_uds()]
        ) as an:
            portal = await an.start_actor("both", enable_modules=HERE)
            for key in ("tcp", "uds"):
                async with tractor.find_actor("both", enable_transports=[key]) as found:
                    assert isinstance(found, tractor.Portal)
                    assert wrap_address(found.chan.raddr).proto_key == key
                    assert await found.run(ep_supervise.add, one=1) == 11
            await portal.cancel_actor()
            await an.cancel()

    run(main)


def test_a_portal_found_lives_as_long_as_the_block(reg_addr: Any) -> None:
    async def main() -> None:
        async with family(reg_addr) as (_, portals):
            addr = (await portals["ann"].run(ep_supervise.describe))["accept_addrs"][0]
            async with maybe_open_portal(tuple(addr), "ann") as portal:
                assert portal is not None
                assert portal.chan is not portals["ann"].chan
                assert await portal.run(ep_supervise.add, one=1) == 11
            assert not portal.chan.connected()
            with pytest.raises(tractor.TransportClosed):
                await portal.run(ep_supervise.add, one=1)
            assert await portals["ann"].run(ep_supervise.add, one=1) == 11
            async with maybe_open_portal(tuple(addr), "somebody else") as portal:
                assert portal is None

    run(main)


def test_waiting_for_an_actor_that_comes_later() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            asker = await an.start_actor("asker", enable_modules=HERE)
            found: list[Any] = []
            async with trio.open_nursery() as tn:

                async def wait() -> None:
                    found.append(await asker.run(ep_supervise.wait_for, name="late"))

                tn.start_soon(wait)
                late = await an.start_actor("late", enable_modules=HERE)
            assert found == [await late.run(ep_supervise.uid)]
            await an.cancel()

    run(main)


def test_a_wait_can_be_cancelled() -> None:
    async def main() -> None:
        async with one_daemon() as (_, portal):
            with trio.move_on_after(0.1) as scope:
                async with tractor.wait_for_actor("never"):
                    pytest.fail("found")
            assert scope.cancelled_caught
            with trio.move_on_after(0.1) as scope:
                await portal.run(ep_supervise.wait_for, name="never")
            assert scope.cancelled_caught
            await portal.cancel_actor()

    run(main)


# -- registrars and the root --


def test_the_own_registrar(reg_addr: Any) -> None:
    async def main() -> None:
        async with family(reg_addr) as (_, portals):
            for given in (None, reg_addr, wrap_address(reg_addr)):
                async with tractor.get_registry(given) as registrar:
                    assert isinstance(registrar, tractor.LocalPortal)
                    table = await registrar.run_from_ns("self", "get_registry")
                    assert len(table) == 3
            told = await portals["ann"].run(ep_supervise.describe)
            assert told["reg_addrs"] == [list(reg_addr)]

    run(main)


def test_no_registrar_there(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_root_actor():
            with pytest.raises(tractor.RuntimeFailure, match="registrar") as info:
                async with tractor.get_registry(reg_addr):
                    pytest.fail("there is one")
            assert str(reg_addr[1]) in str(info.value)

    run(main)


def test_the_root_of_the_tree(reg_addr: Any) -> None:
    async def main() -> None:
        async with one_daemon(registry_addrs=[reg_addr], enable_modules=HERE) as (_, portal):
            root = list(tractor.current_actor().aid.uid)
            assert await portal.run(ep_supervise.ask_root_of_tree) == root
            with pytest.raises(RuntimeError):
                async with get_root():
                    pytest.fail("the root's root")
            assert await portal.run(ep_supervise.look_up, name="root") == root
            await portal.cancel_actor()

    run(main)


def test_without_a_runtime() -> None:
    async def main() -> None:
        for opener in (
            lambda: tractor.find_actor("x"),
            lambda: tractor.wait_for_actor("x"),
            lambda: tractor.query_actor("x"),
            lambda: tractor.get_registry(),
        ):
            with pytest.raises(tractor.NoRuntime):
                async with opener():
                    pytest.fail("opened")

    run(main)


def test_several_registrars(tmp_path: Any) -> None:
    """One of the asked registrars does not answer: that is not an error while another does."""
    addr, dead = free_uds(), (str(tmp_path), "dead.sock")

    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[addr]) as an:
            portal = await an.start_actor("known", enable_modules=HERE)
            async with tractor.find_actor("known", registry_addrs=[dead, addr]) as found:
                assert isinstance(found, tractor.Portal)
                assert await found.run(ep_supervise.pid) == await portal.run(ep_supervise.pid)
            with pytest.raises(tractor.RuntimeFailure):
                async with tractor.find_actor("known", registry_addrs=[dead]):
                    pytest.fail("found")
            await portal.cancel_actor()

    run(main)


def test_one_registrar_with_two_addresses(tmp_path: Any) -> None:
    one, two = free_uds(), free_uds()

    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[one, two]) as an:
            assert set(tractor.current_actor().accept_addrs) == {one, two}
            portal = await an.start_actor("child", enable_modules=HERE)
            async with tractor.find_actor(
                "child", registry_addrs=[one, two], only_first=False
            ) as found:
                assert isinstance(found, list)
                assert len(found) == 1, "one actor, however many registrars know it"
            assert os.path.exists(os.path.join(*one))
            await portal.cancel_actor()

    run(main)


def test_an_own_certificate_that_is_gone_says_nothing_of_the_actor_that_is_looked_up() -> None:
    """Its address stays: that a file of ours is missing is not a sign that nobody listens there."""

    async def main() -> None:
        async with one_daemon(registry_addrs=[free_tcp()]) as (_, portal):
            actor = tractor.current_actor()
            assert isinstance(actor, tractor.Registrar)
            before = await actor.get_registry()
            settings = wire_settings()
            gone = tractor.TLSConfig("/no/cert", "/no/key", None)
            set_wire_settings(WireSettings(authkey=settings.authkey, tls=gone))
            with pytest.raises(tractor.RuntimeFailure, match="/no/cert"):
                async with tractor.find_actor("daemon", registry_addrs=list(actor.reg_addrs)):
                    pass
            set_wire_settings(settings)
            assert await actor.get_registry() == before
            await portal.cancel_actor()

    run(main)


@pytest.mark.parametrize("transports", [["zzz"], "zzz", ["tcp", "zzz"]])
def test_unknown_transports(transports: Any) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[free_uds()]):
            with pytest.raises(NotImplementedError, match="'zzz'"):
                async with tractor.find_actor("root", enable_transports=transports):
                    pass

    run(main)


def test_one_transport_may_be_given_by_its_name() -> None:
    async def main() -> None:
        async with one_daemon(registry_addrs=[free_tcp()]) as (_, portal):
            async with tractor.find_actor("daemon", enable_transports="tcp") as found:
                assert isinstance(found, tractor.Portal)
                assert found.chan.raddr.proto_key == "tcp"
            await portal.cancel_actor()

    run(main)
