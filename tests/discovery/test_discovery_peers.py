"""What a peer can say at a registrar: of itself, on its first channel; and what becomes of it when the peer is gone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import ep_discovery
import pytest
import trio
import trio.testing
from ep_discovery_tools import (
    RawPeer,
    Refused,
    free_addr,
    half_open,
    names,
    raw_peer,
    registrar,
    run,
    table,
    until,
)

import tractor
from tractor.discovery import _listeners
from tractor.discovery._places import end_of

pytestmark = pytest.mark.usefixtures("forked_actors")

HERE = ["ep_discovery"]


def own() -> Any:
    """This process's actor, which is the registrar."""
    actor = tractor.current_actor()
    assert isinstance(actor, tractor.Registrar)
    return actor


async def departed(count: int) -> None:
    async def gone() -> bool:
        await trio.lowlevel.checkpoint()
        return len(own().ipc_server.peer_channels()) == count

    await until(gone)


# -- itself alone --


def test_a_peer_speaks_of_itself_alone(reg_addr: Any, tpt_proto: str) -> None:
    where = free_addr(tpt_proto)

    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            kid = await an.start_actor("kid", enable_modules=HERE)
            uid = await kid.run(ep_discovery.uid)
            before = await table(reg_addr)
            async with raw_peer(reg_addr) as peer:
                for func, rest in (("register_actor", {"addr": where}), ("unregister_actor", {})):
                    for whose in (uid, ["nobody", "x"], list(own().aid.uid)):
                        said = await peer.ask(func, uid=whose, **rest)
                        assert isinstance(said, Refused), said
                        assert said.type == "PermissionError"
                        assert whose[1] in said.text
                # Its addresses are served: to say that they are not changes nothing.
                for addr in before[".".join(uid)]:
                    assert await peer.ask("delete_addr", addr=addr, uid=uid) is None
                    assert await peer.ask("delete_addr", addr=addr) is None
                assert await peer.ask("delete_addr", addr=reg_addr) is None
                assert await table(reg_addr) == before
                # It may do so for itself.
                assert await peer.register(where) is None
                assert await names(reg_addr) == ["root", "kid", "raw"]
                assert await peer.ask("delete_addr", addr=where) == list(peer.aid.uid)
                assert await peer.register(where) is None
                assert await peer.ask("unregister_actor", uid=peer.aid.uid) is None
                assert await table(reg_addr) == before
            await an.cancel()

    run(main)


def test_an_address_is_taken_over_only_from_one_who_has_left_it(
    reg_addr: Any, tpt_proto: str
) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            kid = await an.start_actor("kid", enable_modules=HERE)
            uid = await kid.run(ep_discovery.uid)
            before = await table(reg_addr)
            (served, *_) = before[".".join(uid)]
            left, silent = free_addr(tpt_proto), free_addr(tpt_proto)
            async with raw_peer(reg_addr) as one, raw_peer(reg_addr) as two:
                for addr in (served, reg_addr):
                    said = await two.register(addr)
                    assert isinstance(said, Refused)
                    assert said.type == "PermissionError"
                    assert "is registered by" in said.text
                assert await one.register(left) is None
                assert await two.register(left) is None
                assert list(await table(reg_addr)) == [*before, ".".join(two.aid.uid)]
                with half_open(silent):
                    assert await one.register(silent) is None
                    assert isinstance(await two.register(silent), Refused)
            await departed(1)
            assert await table(reg_addr) == before
            await an.cancel()

    run(main)


def test_an_address_of_another_host(reg_addr: Any) -> None:
    """192.0.2.0/24 is nobody's."""

    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]):
            async with raw_peer(reg_addr) as peer:
                for addr in (("192.0.2.7", 7), ("no-such-host.invalid", 7)):
                    said = await peer.register(addr)
                    assert isinstance(said, Refused)
                    assert said.type == "PermissionError"
                    assert "another host" in said.text
            assert await names(reg_addr) == ["root"]

    run(main)


@pytest.mark.parametrize("uid", [None, 5, "ab", ["a"], {"a": 1, "b": 2}])
@pytest.mark.parametrize("func", ["register_actor", "unregister_actor", "delete_addr", "_vouch"])
def test_what_makes_no_sense_is_refused(func: str, uid: Any, reg_addr: Any) -> None:
    async def main() -> None:
        async with (
            tractor.open_root_actor(registry_addrs=[reg_addr]),
            raw_peer(reg_addr) as peer,
        ):
            for rest in ({}, {"uid": uid}, {"uid": uid, "addr": uid}, {"more": 1}, {"end": uid}):
                said = await peer.ask(func, **rest)
                assert isinstance(said, Refused), (func, rest, said)
            assert await peer.register(free_addr("tcp")) is None

    run(main)


# -- hints --


def test_a_hint_is_tried(reg_addr: Any, tpt_proto: str) -> None:
    dead, silent, other = (free_addr(tpt_proto) for _ in range(3))

    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]) as actor:
            await actor.ipc_server.listen_on(accept_addrs=[other])
            async with raw_peer(reg_addr) as victim, raw_peer(reg_addr) as liar:
                uid = list(victim.aid.uid)
                for addr in (dead, silent, other):
                    assert await victim.register(addr) is None
                with half_open(silent):
                    assert await liar.ask("delete_addr", addr=silent, uid=uid) is None
                    # Somebody else's, as it is said: then it means nothing.
                    assert await liar.ask("delete_addr", addr=dead, uid=["raw", "x"]) is None
                    assert len((await table(reg_addr))[".".join(uid)]) == 3
                    # Nobody, and another one, listen there.
                    assert await liar.ask("delete_addr", addr=dead, uid=uid) == uid
                    assert await liar.ask("delete_addr", addr=other) == uid
                    assert (await table(reg_addr))[".".join(uid)] == [silent]

    run(main)


def test_hints_make_a_registrar_try_few_addresses_at_a_time_and_each_once(
    reg_addr: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Any] = []
    at_once = most = 0

    async def look(addr: Any) -> Any:
        nonlocal at_once, most
        tried.append(addr)
        at_once += 1
        most = max(most, at_once)
        try:
            await trio.sleep_forever()
        finally:
            at_once -= 1

    monkeypatch.setattr(_listeners, "_who_listens", look)
    monkeypatch.setattr(_listeners, "TRY_TIMEOUT", 0.2)

    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]):
            addrs = {free_addr("tcp") for _ in range(60)}
            async with raw_peer(reg_addr) as victim, raw_peer(reg_addr) as liar:
                for addr in addrs:
                    assert await victim.register(addr) is None
                for _ in range(100):
                    for addr in addrs:
                        await liar.send("delete_addr", addr=addr)
                # Who asks for something else is answered meanwhile.
                assert await victim.ask("find_actor", name="nobody") is None
                assert len(own().registry.looking) <= 1
                for _ in range(100 * len(addrs)):
                    assert (await liar.reply())[1] is None
                assert 0 < most <= _listeners.MAX_TRIES
                # At each address once for all who ask at a time, not once for each hint.
                assert len(tried) < 600
                # What nobody has registered is not connected to.
                tried.clear()
                assert await liar.ask("delete_addr", addr=free_addr("tcp")) is None
                assert tried == []
            assert not own().registry.looking

    run(main)


# -- channels of one uid --


def test_registrations_count_on_the_first_channel(tpt_proto: str) -> None:
    reg_addr = free_addr("tcp")

    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]):
            one, two = free_addr(tpt_proto), free_addr(tpt_proto)
            async with raw_peer(reg_addr) as victim:
                assert await victim.register(one) is None
                async with raw_peer(reg_addr, victim.aid.uid) as liar:
                    # It is served, but not as that actor.
                    assert await liar.ask("find_actor", name="raw") == [list(one)]
                    for func, rest in (
                        ("register_actor", {"uid": liar.aid.uid, "addr": two}),
                        ("unregister_actor", {"uid": liar.aid.uid}),
                        ("_vouch", {"end": end_of(liar.chan.laddr)}),
                    ):
                        said = await liar.ask(func, **rest)
                        assert isinstance(said, Refused)
                        assert said.type == "PermissionError"
                    with half_open(one):
                        # What it says of an address is a hint, as anybody's.
                        assert await liar.ask("delete_addr", addr=one) is None
                    assert (await table(reg_addr))[".".join(victim.aid.uid)] == [one]
                    # The first one may say that another one is its, too: of that one alone.
                    assert await victim.ask("_vouch", end=["127.0.0.1", 1]) is None
                    assert isinstance(await liar.register(two), Refused)
                    assert await victim.ask("_vouch", end=end_of(liar.chan.laddr)) is None
                    assert await liar.register(two) is None
                await departed(1)
                # What went over a channel goes with it, whoever else of the uid lives.
                assert (await table(reg_addr))[".".join(victim.aid.uid)] == [one]
                third = await RawPeer.connect(reg_addr, victim.aid.uid)
                assert isinstance(await third.register(two), Refused)
            await departed(1)
            assert await names(reg_addr) == ["root"]
            assert await third.register(two) is None, "it is the first now"
            third.close()
            await departed(0)
            assert await names(reg_addr) == ["root"]
            assert not own().registry._vouchers
            assert not own().registry.vouched

    run(main)


CLAIM = """
import json, os, sys, trio
from ep_discovery_tools import RawPeer
async def main():
    addr, uid, wait = json.loads(sys.argv[1])
    peer = await RawPeer.connect(tuple(addr), tuple(uid))
    print(json.dumps(await peer.gone() if wait else peer.aid.uuid), flush=True)
    if not wait:
        await trio.sleep_forever()
trio.run(main)
"""


@contextmanager
def claimer(addr: Any, uid: Any, wait: bool) -> Iterator[subprocess.Popen[str]]:
    """Another process that claims a uid over a channel of its own."""
    path = os.path.dirname(ep_discovery.__file__)
    process = subprocess.Popen(
        [sys.executable, "-c", CLAIM, json.dumps([addr, uid, wait])],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    with process:
        yield process
        process.kill()


def said_by(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def test_on_a_unix_socket_the_kernel_tells_who_claims(caplog: pytest.LogCaptureFixture) -> None:
    reg_addr = free_addr("uds")
    one, two = free_addr("uds"), free_addr("uds")

    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]) as actor:
            async with raw_peer(reg_addr) as victim:
                uid = victim.aid.uid
                assert await victim.register(one) is None
                refused = actor.ipc_server.statistics().refused
                with claimer(reg_addr, uid, wait=True) as liar:
                    assert await trio.to_thread.run_sync(said_by, liar) is True
                assert actor.ipc_server.statistics().refused == refused + 1
                # Another channel of that process is as good as the first.
                async with raw_peer(reg_addr, uid) as same:
                    assert await same.register(two) is None
                    assert set((await table(reg_addr))[".".join(uid)]) == {one, two}
            await departed(0)
            assert await names(reg_addr) == ["root"]
            # And a uid whose process has died is free, however soon.
            with claimer(reg_addr, uid, wait=False) as dead:
                assert await trio.to_thread.run_sync(said_by, dead) == uid[1]
                dead.kill()
                await trio.to_thread.run_sync(dead.wait)
                async with raw_peer(reg_addr, uid) as late:

                    async def taken() -> bool:
                        return await late.register(one) is None

                    await until(taken)

    run(main)


def test_a_channel_that_has_proven_itself_is_put_first() -> None:
    reg_addr = free_addr("tcp")

    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]) as actor:
            server = actor.ipc_server
            async with raw_peer(reg_addr) as one, raw_peer(reg_addr, one.aid.uid) as two:
                while len(server._peers.get(one.aid.uid, ())) < 2:
                    await trio.lowlevel.checkpoint()
                first, second = server._peers[one.aid.uid]
                assert (server.speaks_for(first), server.speaks_for(second)) == (True, False)
                assert server.first_of(one.aid.uid) is first
                server.put_first(second)
                assert (server.speaks_for(first), server.speaks_for(second)) == (False, True)
                server.put_first(second)
                assert server._peers[one.aid.uid] == [second, first]
                assert isinstance(await one.register(free_addr("tcp")), Refused)
                assert await two.register(free_addr("tcp")) is None
                two.close()
                await departed(1)
                assert server.speaks_for(first)
            await departed(0)
            assert server.first_of(one.aid.uid) is None
            assert not server.speaks_for(first)

    run(main)


def test_a_channel_that_this_side_has_opened_keeps_nobody_out() -> None:
    reg_addr = free_addr("tcp")

    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            kid = await an.start_actor("kid", enable_modules=HERE)
            uid = await kid.run(ep_discovery.uid)
            async with tractor.find_actor("kid", registry_addrs=[reg_addr]) as found:
                assert isinstance(found, tractor.Portal)
                server = own().ipc_server
                assert found.chan is not kid.chan
                assert not server.speaks_for(found.chan) or found.chan.role == "accept"
                assert server.speaks_for(kid.chan)
                assert server.first_of((uid[0], uid[1])) is kid.chan
            await an.cancel()

    run(main)


# -- those that are what they say --


@pytest.mark.parametrize("first", ["portal", "registration"])
def test_an_actor_with_a_portal_to_the_registrar_that_it_then_takes_for_its_own(
    first: str, tpt_proto: str
) -> None:
    at = free_addr(tpt_proto)

    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[at]) as an:
            await an.start_actor("kid")
            outer = own()
            told: list[str] = []

            async def there() -> bool:
                told[:] = await names(at)
                return "guest" in told

            with registrar_guest(at, first) as guest:
                await until(there)
                assert await trio.to_thread.run_sync(guest.stdout.readline) == "left\n"
                # The portal is closed: it stays registered all the same.
                assert "guest" in await names(at)
                guest.kill()
                await trio.to_thread.run_sync(guest.wait)

                async def gone() -> bool:
                    return await names(at) == ["root", "kid"]

                await until(gone)
            assert outer is own()
            await an.cancel()

    run(main)


GUEST = """
import json, sys, trio, tractor
from ep_discovery_tools import free_addr, names, until
async def main():
    at, first, *more = json.loads(sys.argv[1])
    at = tuple(at)
    more = [tuple(addr) for addr in more]
    async with tractor.open_root_actor(name="guest", registry_addrs=[free_addr("tcp")]) as actor:
        async def there():
            return "guest" in await names(at)
        if first == "registration":
            actor.reg_addrs = [*actor.reg_addrs, at]
            await until(there)
        async with tractor.get_registry(at) as portal:
            actor.reg_addrs = [*actor.reg_addrs[:1], at, *more]
            await until(there)
        print("left", flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


@contextmanager
def registrar_guest(at: Any, first: str, *more: Any) -> Iterator[Any]:
    """Another root, which also registers at ``at``, while it has a portal to it."""
    process = subprocess.Popen(
        [sys.executable, "-c", GUEST, json.dumps([at, first, *more])],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.path.dirname(ep_discovery.__file__)},
    )
    with process:
        yield process
        process.kill()


def test_an_actor_whose_first_channel_is_not_known_to_be_lost_registers_when_it_is(
    tpt_proto: str,
) -> None:
    at, other = free_addr(tpt_proto), free_addr(tpt_proto)

    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[at]) as an:
            kid = await an.start_actor("kid", enable_modules=HERE)
            uid = await kid.run(ep_discovery.uid)
            async with raw_peer(other, (uid[0], uid[1])) as before:
                assert await before.ask("find_actor", name="kid") is None
                await kid.run(ep_discovery.set_reg_addrs, addrs=[at, other])
                # More than a few tries.
                await trio.sleep(0.7)
                assert await names(other) == ["other"]

            async def there() -> bool:
                return await names(other) == ["other", "kid"]

            await until(there)
            assert await names(at) == ["root", "kid"]
            await an.cancel()

    with registrar("other", other):
        run(main)


@pytest.mark.parametrize("protos", [("tcp", "tcp"), ("uds", "tcp"), ("uds", "uds")])
def test_several_addresses_of_one_registrar(protos: tuple[str, str]) -> None:
    """The second registration is one over a second channel."""
    both = [free_addr(proto) for proto in protos]

    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=both) as an:
            with registrar_guest(both[0], "registration", both[1]) as guest:

                async def there() -> bool:
                    await trio.lowlevel.checkpoint()
                    chans = [c for c in own().ipc_server.peer_channels() if c.is_registration]
                    return len(chans) == 2 and all(own().registry.table._kept.get(c) for c in chans)

                await until(there)
                assert await names(both[0]) == ["root", "guest"]
                guest.kill()
                await trio.to_thread.run_sync(guest.wait)

                async def gone() -> bool:
                    return await names(both[0]) == ["root"]

                await until(gone)
            await an.cancel()

    run(main)


# -- limits --


def test_so_many_addresses_of_a_peer_and_no_more(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(
            registry_addrs=[reg_addr], limits=tractor.Limits(max_registrations=3)
        ) as actor:
            addrs = sorted({free_addr("tcp") for _ in range(12)})[:5]
            async with raw_peer(reg_addr) as peer, raw_peer(reg_addr) as other:
                for addr in addrs[:3]:
                    assert await peer.register(addr) is None
                said = await peer.register(addrs[3])
                assert isinstance(said, Refused)
                assert said.type == "RuntimeFailure"
                assert "max_registrations=3" in said.text
                assert actor.statistics().limits_reached == {"max_registrations": 1}
                assert await peer.register(addrs[0]) is None, "it has that one already"
                assert await other.register(addrs[4]) is None
                assert await peer.ask("delete_addr", addr=addrs[0]) == list(peer.aid.uid)
                assert await peer.register(addrs[3]) is None

    run(main)


def test_so_many_waiting_look_ups_of_a_peer_and_no_more(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(
            registry_addrs=[reg_addr], limits=tractor.Limits(max_waiters=5)
        ) as actor:
            async with raw_peer(reg_addr) as peer, raw_peer(reg_addr) as other:
                for bad in ({"name": "x" * 300}, {"name": "a\nb"}, {"name": 5}, {}, {"x": "late"}):
                    assert isinstance(await peer.ask("wait_for_actor", **bad), Refused)
                cids = [await peer.send("wait_for_actor", name="late") for _ in range(7)]
                for cid in cids[5:]:
                    answered, said = await peer.reply()
                    assert answered == cid
                    assert isinstance(said, Refused)
                    assert "max_waiters=5" in said.text
                assert actor.statistics().limits_reached == {"max_waiters": 2}
                waits = await other.send("wait_for_actor", name="late")
                where = free_addr("tcp")
                own_uid = ("late", "1")
                await own().register_actor(own_uid, where)
                assert sorted([(await peer.reply())[0] for _ in range(5)]) == cids[:5]
                assert await other.reply() == (waits, [list(where)])
                await own().unregister_actor(own_uid)
                assert not own().registry.waiting
                # Those that are cancelled count no more.
                cid = await peer.send("wait_for_actor", name="later")
                await peer.cancel(cid)
                assert not own().registry.waiting
                for _ in range(5):
                    await peer.send("wait_for_actor", name="later")
            await departed(0)

            async def none_waits() -> bool:
                await trio.lowlevel.checkpoint()
                return not own().registry.waiting and not own().registry.table._waiters

            await until(none_waits)

    run(main)


# -- a registrar that lies --


LIES: list[Any] = [
    None,
    5,
    "addresses",
    {"a": 1},
    [5],
    [0, 5],
    [float("nan"), []],
    ["soon", []],
    [1e300, [], []],
    [0, ["x", ["x"], [1, 2, 3], [1, 2, 3, 4]]],
    [0, [["u", "x", [], 0]]],
    [0, [["u", float("nan"), [], 0]]],
    [0, [["u", -1, [["127.0.0.1", 9]], 0]]],
    [0, [["u", 0, [["127.0.0.1", 9]], "now"]]],
    [0, [["u", 0, [["127.0.0.1", 9]], float("inf")]]],
    [0, [["u" * 300, 0, [["127.0.0.1", 9]], 0]]],
    [0, [["u", 0, 5, 0]]],
    [0, [["u", 0, [5, None, "/x", ["a"], ["no://x", 5], ["127.0.0.1", 2**70], ["\0", "\0"]], 0]]],
    [0, [["u", 0, [["127.0.0.1", 0], ["0.0.0.0", 9], ["/x", "y" * 300]], 0]]],
]


@pytest.mark.parametrize("lie", LIES, ids=range(len(LIES)))
def test_what_a_registrar_gives_is_checked(
    lie: Any, reg_addr: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]) as actor:

            async def find(*args: Any, **kwargs: Any) -> Any:
                await trio.lowlevel.checkpoint()
                return lie

            monkeypatch.setattr(actor, "find_actor", find)
            for only_first in (True, False):
                async with tractor.find_actor("x", only_first=only_first) as found:
                    assert found is None
            async with tractor.query_actor("x") as (addr, _):
                assert addr is None
            with pytest.raises(tractor.ActorTooSlowError):
                async with tractor.wait_for_actor("x", timeout=0.05):
                    pytest.fail("found")

    run(main)


# -- the dead --


@contextmanager
def full(count: int) -> Iterator[list[Any]]:
    """Addresses whose listeners' queues are full: a connection to them is neither made nor refused."""
    with ExitStack() as stack:
        addrs = []
        for _ in range(count):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            for _ in range(4):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            addrs.append(listener.getsockname())
        yield addrs


@pytest.mark.skipif(sys.platform != "linux", reason="a full queue is silence on Linux alone")
@pytest.mark.parametrize("look_up", ["find_actor", "find_actor of all", "wait_for_actor"])
def test_many_that_do_not_even_accept_hide_nobody(look_up: str, reg_addr: Any) -> None:
    async def main(addrs: list[Any]) -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            kid = await an.start_actor("svc", enable_modules=HERE)
            uid = await kid.run(ep_discovery.uid)
            for number, addr in enumerate(addrs):
                await own().register_actor(("svc", str(number)), addr)
            openers: dict[str, Any] = {
                # On a free machine this takes two of the three seconds that it has by default.
                "find_actor": lambda: tractor.find_actor(
                    "svc", registry_addrs=[reg_addr], timeout=8
                ),
                "find_actor of all": lambda: tractor.find_actor("svc", only_first=False, timeout=8),
                "wait_for_actor": lambda: tractor.wait_for_actor("svc", reg_addr),
            }
            began = trio.current_time()
            async with openers[look_up]() as found:
                (portal,) = found if isinstance(found, list) else (found,)
                assert await portal.run(ep_discovery.uid) == uid
            # One after the other they would take 150 s.
            assert trio.current_time() - began < 40
            # Nobody knows whether they are dead.
            assert len((await own().find_actor("svc", every=True))[1]) == 51
            await an.cancel()

    with full(50) as addrs:
        run(main, addrs)


def test_the_newest_that_accepts_is_waited_for(reg_addr: Any, tpt_proto: str) -> None:
    """It may be busy: an older actor of the name is not the one that is meant."""
    silent = free_addr(tpt_proto)

    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            await an.start_actor("svc", enable_modules=HERE)
            await own().register_actor(("svc", "silent"), silent)
            with pytest.raises(tractor.ActorTooSlowError, match=r"within 1\.5 s"):
                async with tractor.find_actor("svc", registry_addrs=[reg_addr], timeout=1.5):
                    pytest.fail("found")
            await an.cancel()

    with half_open(silent):
        run(main)
