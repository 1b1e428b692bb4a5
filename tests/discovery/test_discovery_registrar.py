# ruff: noqa: PT012
# A nursery raises at the end of its block, so the block belongs into `pytest.raises()`.
"""The registrar's table, asked through portals, and what becomes of stale entries."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import ep_supervise
import pytest
import trio
from ep_marks import gets_signals
from ep_supervise_tools import free_uds, one_daemon, run

import tractor

pytestmark = pytest.mark.usefixtures("forked_actors")

HERE = ["ep_supervise"]


async def table() -> dict[str, list[Any]]:
    """The table of this process, which is the registrar."""
    actor = tractor.current_actor()
    assert isinstance(actor, tractor.Registrar)
    return await actor.get_registry()


async def names() -> list[str]:
    return [key.rpartition(".")[0] for key in await table()]


def test_every_actor_registers_all_its_addresses_and_unregisters(reg_addr: Any) -> None:
    async def main() -> None:
        async with one_daemon(registry_addrs=[reg_addr]) as (an, portal):
            actor = tractor.current_actor()
            told = await portal.run(ep_supervise.describe)
            uid = await portal.run(ep_supervise.uid)
            found = await table()
            assert list(found) == [".".join(actor.aid.uid), ".".join(uid)]
            assert found[".".join(actor.aid.uid)] == [reg_addr]
            assert [list(a) for a in found[".".join(uid)]] == told["accept_addrs"]
            await portal.cancel_actor()
            while an.children:
                await trio.sleep(0.005)
            assert await names() == ["root"]

    run(main)


def test_a_deep_tree_registers_with_the_one_registrar() -> None:
    async def main() -> None:
        async with one_daemon() as (an, portal):
            async with portal.open_context(ep_supervise.hold_tree, depth=2) as (ctx, _):
                assert sorted(await names()) == ["1_0", "2_0", "daemon", "root"]
                await ctx.cancel()
            assert sorted(await names()) == ["daemon", "root"]
            await portal.cancel_actor()
        assert dict(an.children) == {}

    run(main)


@gets_signals
def test_the_entries_of_a_killed_child_vanish() -> None:
    async def main() -> None:
        async with tractor.open_root_actor():
            with pytest.raises(tractor.ActorFailure):
                async with one_daemon() as (_, portal):
                    assert await names() == ["root", "daemon"]
                    assert portal.chan.aid is not None
                    assert portal.chan.aid.pid is not None
                    os.kill(portal.chan.aid.pid, signal.SIGKILL)
            assert await names() == ["root"]

    run(main)


def test_the_six_requests_over_a_portal(reg_addr: Any) -> None:
    async def main() -> None:
        async with (
            tractor.open_root_actor(registry_addrs=[reg_addr]),
            tractor.get_registry() as portal,
        ):
            ask = portal.run_from_ns
            uid, addr = ("someone", "uuid-1"), ("127.0.0.1", 20999)
            assert await ask("self", "find_actor", name="someone") is None
            await ask("self", "register_actor", uid=uid, addr=addr)
            assert await ask("self", "find_actor", name="someone") == [addr]
            assert await ask("self", "wait_for_actor", name="someone") == [addr]
            assert (await ask("self", "get_registry"))["someone.uuid-1"] == [addr]
            assert await ask("self", "delete_addr", addr=addr) == uid
            assert await ask("self", "delete_addr", addr=addr) is None
            assert await ask("self", "find_actor", name="someone") is None
            await ask("self", "register_actor", uid=uid, addr=addr)
            await ask("self", "unregister_actor", uid=uid)
            assert await ask("self", "find_actor", name="someone") is None

    run(main)


def test_a_new_owner_takes_an_address() -> None:
    async def main() -> None:
        async with tractor.open_root_actor() as actor:
            assert isinstance(actor, tractor.Registrar)
            addr = ("127.0.0.1", 20999)
            await actor.register_actor(("old", "1"), addr)
            await actor.register_actor(("new", "2"), addr)
            assert await actor.find_actor("old") is None
            assert await actor.find_actor("new") == [addr]
            assert await names() == ["root", "new"], "an entry without addresses is removed"

    run(main)


@pytest.mark.parametrize(
    ("addr", "error"),
    [
        (("0.0.0.0", 20000), ValueError),
        (("127.0.0.1", 0), ValueError),
        (("224.0.0.1", 20000), ValueError),
        (17, TypeError),
    ],
)
def test_addresses_that_nobody_can_connect_to(addr: Any, error: type[Exception]) -> None:
    async def main() -> None:
        async with one_daemon() as (_, portal):
            actor = tractor.current_actor()
            assert isinstance(actor, tractor.Registrar)
            before = await table()
            with pytest.raises(error):
                await actor.register_actor(("x", "1"), addr)
            with pytest.raises(tractor.RemoteActorError) as info:
                await portal.run(ep_supervise.register_elsewhere, addr=addr)
            assert error.__name__ in str(info.value)
            assert await table() == before
            await portal.cancel_actor()

    run(main)


def test_stale_addresses_are_deleted_and_the_next_one_is_tried(tmp_path: Path) -> None:
    stale = (str(tmp_path), "stale.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.path.join(*stale))

    async def main() -> None:
        async with tractor.open_nursery() as an:
            asker = await an.start_actor("asker", enable_modules=HERE)
            liar = await an.start_actor("liar", enable_modules=HERE)
            uid = await liar.run(ep_supervise.uid)
            await liar.run(ep_supervise.register_elsewhere, addr=stale)
            key = ".".join(uid)
            assert len((await table())[key]) == 2
            assert await asker.run(ep_supervise.look_up, name="liar") == uid
            assert len((await table())[key]) == 1
            assert stale not in (await table())[key]
            await an.cancel()

    run(main)


def test_an_entry_of_nothing_but_stale_addresses() -> None:
    gone = free_uds()

    async def main() -> None:
        async with tractor.open_root_actor() as actor:
            assert isinstance(actor, tractor.Registrar)
            await actor.register_actor(("ghost", "1"), gone)
            async with tractor.query_actor("ghost") as (addr, _):
                assert addr == gone, "a query connects to nobody"
            async with tractor.find_actor("ghost") as found:
                assert found is None
            assert await names() == ["root"]

    run(main)


def test_an_older_registration_is_tried_when_the_newest_is_stale() -> None:
    gone = free_uds()

    async def main() -> None:
        async with tractor.open_nursery() as an:
            asker = await an.start_actor("asker", enable_modules=HERE)
            real = await an.start_actor("served", enable_modules=HERE)
            actor = tractor.current_actor()
            assert isinstance(actor, tractor.Registrar)
            await actor.register_actor(("served", "ghost"), gone)
            found = await asker.run(ep_supervise.look_up, name="served")
            assert found == await real.run(ep_supervise.uid)
            assert "served.ghost" not in await table()
            await an.cancel()

    run(main)


def test_a_registrar_is_not_asked_for_what_it_is_not() -> None:
    """The requests are a fixed list: nothing else of the actor can be reached."""

    async def main() -> None:
        async with one_daemon(enable_modules=HERE) as (_, portal):
            for name in ("part_from_peers", "__class__", "get_registry"):
                with pytest.raises(tractor.RemoteActorError):
                    await portal.run_from_ns("self", name)
            assert await portal.run(ep_supervise.add, one=1) == 11
            await portal.cancel_actor()

    run(main)


@pytest.mark.parametrize(
    "uid", [None, 5, "ab", ["a"], ["a", "b", "c"], [1, 2], [["a"], "b"], {"a": 1, "b": 2}, b"ab"]
)
def test_what_is_no_uid_is_an_error_of_its_sender_alone(uid: Any) -> None:
    addr = ("127.0.0.1", 20999)

    async def main() -> None:
        async with one_daemon() as (_, portal):
            await portal.run(ep_supervise.register_elsewhere, addr=addr)
            before = await table()
            for func, arguments in (
                ("register_actor", {"addr": ("127.0.0.1", 20998)}),
                ("unregister_actor", {}),
                ("delete_addr", {"addr": addr}),
            ):
                if uid is None and func == "delete_addr":
                    continue
                with pytest.raises(tractor.RemoteActorError, match="uid is a pair") as info:
                    await portal.run(ep_supervise.ask_registrar, func=func, uid=uid, **arguments)
                assert "'TypeError'" in str(info.value)
            assert await table() == before
            await portal.cancel_actor()

    run(main)


@pytest.mark.parametrize("name", [None, 5, ["a"], b"a"])
def test_a_name_that_is_no_string_is_an_error_of_its_sender_alone(name: Any) -> None:
    async def main() -> None:
        async with one_daemon() as (_, portal):
            for func in ("find_actor", "wait_for_actor"):
                with pytest.raises(tractor.RemoteActorError, match="name is a string") as info:
                    await portal.run(ep_supervise.ask_registrar, func=func, name=name)
                assert "'TypeError'" in str(info.value)
            for look_up in (tractor.find_actor, tractor.wait_for_actor, tractor.query_actor):
                with pytest.raises(TypeError, match="name is a string"):
                    async with look_up(name):
                        pass
            await portal.cancel_actor()

    run(main)
