"""Actors on other hosts, by each engine that starts them, with a look at what really runs there."""

from __future__ import annotations

import re
import signal
from typing import Any

import ep_elsewhere
import pytest
import trio
from bed import Bed
from bed_ways import LIMIT, MODULES, Way, open_tree, until

import tractor

# -- the same as here --


def test_calls_streams_and_errors(way: Way) -> None:
    async def main() -> None:
        async with open_tree(way, "h1") as (an, [h1]):
            far = await an.start_actor("far", host=h1, enable_modules=MODULES)
            pid = await far.run(ep_elsewhere.pid)
            assert pid in {process.pid for process in way.there("h1")}
            assert h1.statistics().hostname == "h1"
            (info,) = [info for info in an.children.values() if info.aid.name == "far"]
            assert (info.pid, info.host) == (pid, h1.statistics().host_id)
            with pytest.raises(tractor.RemoteActorError, match="far away") as caught:
                await far.run(ep_elsewhere.boom, text="far away")
            assert caught.value.boxed_type is ValueError
            async with far.open_context(ep_elsewhere.echo) as (ctx, first):
                assert first == pid
                async with ctx.open_stream() as stream:
                    for item in (1, "two", b"3" * 300_000):
                        await stream.send(item)
                        assert await stream.receive() == item
            assert await ctx.wait_for_result() == "done"
            async with far.open_stream_from(ep_elsewhere.count, upto=3) as counted:
                assert [number async for number in counted] == [0, 1, 2]
            await an.cancel()
        way.nothing_is_left("h1")

    trio.run(main)


def test_peers_find_each_other(way: Way) -> None:
    async def main() -> None:
        async with open_tree(way, "h1", "h2") as (an, [h1, h2]):
            one = await an.start_actor("one", host=h1, enable_modules=MODULES)
            two = await an.start_actor("two", host=h2, enable_modules=MODULES)
            near = await an.start_actor(
                "near", enable_modules=MODULES, bind_addrs=[(way.bed.address, 0)]
            )
            # It has chosen to be reachable by other hosts; they have not, on loopback.
            assert await one.run(ep_elsewhere.call_peer, name="near") == await near.run(
                ep_elsewhere.pid
            )
            for frm, to, name in ((one, two, "two"), (near, one, "one")):
                if way.road == "direct":
                    assert await frm.run(ep_elsewhere.call_peer, name=name) == await to.run(
                        ep_elsewhere.pid
                    )
                else:
                    with pytest.raises(tractor.RemoteActorError, match="of its own host alone"):
                        await frm.run(ep_elsewhere.call_peer, name=name)
            await an.cancel()

    trio.run(main)


def test_an_actor_below_one_that_is_no_registrar_finds_its_peers(way: Way) -> None:
    """Its registrar listens on loopback of the root's host: the tunnel leads there, too; another road does not."""
    if way.engine != "ssh":
        pytest.skip("one engine of each road will do")

    async def main() -> None:
        async with open_tree(way, "h1") as (an, [h1]):
            one = await an.start_actor("one", host=h1, enable_modules=MODULES)
            near = await an.start_actor("near", enable_modules=MODULES)
            order: Any = {"url": way.url("h1"), "options": way.options(), "name": "one"}

            async def found() -> object:
                async with near.open_context(ep_elsewhere.call_from, **order) as (ctx, _):
                    value = await ctx.wait_for_result()
                return value

            if way.road == "tunnel":
                assert await found() == await one.run(ep_elsewhere.pid)
            else:
                with pytest.raises(tractor.RemoteActorError) as caught:
                    await found()
                assert caught.value.boxed_type is tractor.HostUnavailable
                assert "no actor there could reach the registrar at" in str(caught.value)
            await an.cancel()

    trio.run(main)


@pytest.mark.long
def test_peers_are_told_the_address_that_is_advertised(way: Way) -> None:
    if (way.engine, way.road) != ("ssh", "direct"):
        pytest.skip("one way where peers of two hosts reach each other will do")
    shown = way.bed.run("h1", ["ip", "-o", "-4", "addr", "show", "scope", "global"]).stdout
    found = re.search(r": (\S+) +inet (\d+\.\d+\.\d+)\.\d+/(\d+)", shown)
    assert found is not None, shown
    device, public = found[1], f"{found[2]}.99"
    # The registrar, to which it comes from its own address, looks whether it is there.
    way.bed.run("h1", ["ip", "addr", "add", f"{public}/{found[3]}", "dev", device])

    async def main() -> None:
        known = {"listen": "0.0.0.0", "advertise": public}
        async with (
            open_tree(way, "h2") as (an, [h2]),
            tractor.hosts.open_host(way.url("h1"), **way.options(**known)) as h1,
        ):
            one = await an.start_actor("one", host=h1, enable_modules=MODULES)
            two = await an.start_actor("two", host=h2, enable_modules=MODULES)
            async with tractor.get_registry() as registry:
                table = await registry.run_from_ns("self", "get_registry")
            (addrs,) = [addrs for name, addrs in table.items() if name.startswith("one.")]
            assert [addr[0] for addr in addrs] == [public]
            pid = await one.run(ep_elsewhere.pid)
            assert await two.run(ep_elsewhere.call_peer, name="one") == pid
            await an.cancel()

    try:
        trio.run(main)
    finally:
        way.bed.run("h1", ["ip", "addr", "del", f"{public}/{found[3]}", "dev", device])


def test_nothing_listens_beyond_loopback_with_a_tunnel(bed: Bed) -> None:
    way = Way(bed, "ssh", "tunnel")

    async def main() -> None:
        async with open_tree(way, "h1") as (an, [h1]):
            await an.start_actor("far", host=h1, enable_modules=MODULES)
            pids = "|".join(f"pid={process.pid}," for process in way.there("h1"))
            lines = bed.run("h1", ["ss", "-Hltnp"]).stdout.splitlines()
            ours = {line.split()[3] for line in lines if re.search(pids, line)}
            assert ours
            assert all(addr.startswith("127.0.0.1:") for addr in ours)
            await an.cancel()

    trio.run(main)


# -- the end of one --


def test_one_that_does_not_go_is_killed(way: Way) -> None:
    async def main() -> None:
        async with open_tree(way, "h1") as (an, [h1]):
            async with trio.open_nursery() as tn:
                for name, what in (
                    ("shielded", ep_elsewhere.shielded),
                    ("stopped", ep_elsewhere.stop),
                ):
                    far = await an.start_actor(name, host=h1, enable_modules=MODULES)
                    tn.start_soon(far.run, what)
                await until(lambda: "T" in {process.state for process in way.there("h1")}, LIMIT)
                tn.cancel_scope.cancel()
            await an.cancel()
            assert not way.actors("h1")
        way.nothing_is_left("h1")

    trio.run(main)


@pytest.mark.parametrize("number", [0, signal.SIGKILL])
def test_its_end_and_its_last_words_are_told(usual_way: Way, number: int) -> None:
    async def main() -> None:
        async with open_tree(usual_way, "h1") as (an, [h1]):
            far = await an.start_actor("far", host=h1, enable_modules=MODULES)
            if number:
                usual_way.bed.kill("h1", await far.run(ep_elsewhere.pid), number)
                await trio.sleep_forever()
            await far.run(ep_elsewhere.leave, status=3)

    with pytest.raises(tractor.ActorFailure) as caught:
        trio.run(main)
    assert not isinstance(caught.value, tractor.HostLost)
    assert caught.value.returncode == (-number if number else 3)
    assert number or "these are my last words" in caught.value.stderr_tail
    usual_way.nothing_is_left("h1")
