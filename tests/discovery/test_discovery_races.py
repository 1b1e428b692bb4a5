"""Stale entries and the actors that take their addresses over, names shared by several, wildcards, hosts."""

from __future__ import annotations

import errno
import signal
from typing import Any

import ep_discovery
import pytest
import trio
import trio.testing
from ep_discovery_tools import (
    enter,
    free_addr,
    names,
    raw_peer,
    registrar,
    run,
    stop,
    table,
    until,
)

import tractor
from tractor.discovery import (
    _dead_addresses,
    _panel,
    _registrars,
    _registration,
    get_peer_by_name,
    wrap_address,
)
from tractor.discovery._registration import published
from tractor.discovery.registry import _registry
from tractor.ipc import _chan

pytestmark = pytest.mark.usefixtures("forked_actors")

HERE = ["ep_discovery"]


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> dict[Any, list[OSError]]:
    """Errors by address that connecting there meets with, each once."""
    errors: dict[Any, list[OSError]] = {}
    real = _chan.transport_from_addr

    async def connect(addr: Any) -> Any:
        left = errors.get(wrap_address(addr).unwrap())
        if left:
            raise left.pop(0)
        return await real(addr)

    monkeypatch.setattr("tractor.discovery._portals.transport_from_addr", connect)
    return errors


def test_an_actor_that_has_taken_an_address_over_meanwhile_is_not_deleted(
    reg_addr: Any, refusing: Any
) -> None:
    """Refused while the old one was dead; by the time of the deletion a new one listens there."""

    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            portal = await an.start_actor("svc", enable_modules=HERE)
            uid = await portal.run(ep_discovery.uid)
            (addr,) = (await table(reg_addr))[".".join(uid)]
            refusing[addr] = [ConnectionRefusedError("as if it was not there yet")]
            async with tractor.find_actor("svc", registry_addrs=[reg_addr]) as found:
                assert isinstance(found, tractor.Portal)
                assert await found.run(ep_discovery.uid) == uid
            assert refusing[addr] == []
            assert list((await table(reg_addr))[".".join(uid)]) == [addr]
            await an.cancel()

    run(main)


def test_a_deletion_that_comes_after_a_takeover_does_nothing(
    reg_addr: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new owner registers between the second try and the deletion."""
    dead = free_addr("uds")
    real = _registrars.ask

    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]) as actor:
            assert isinstance(actor, tractor.Registrar)
            await actor.register_actor(("svc", "old"), dead)
            asked: list[str] = []

            async def ask(registrar: Any, bound: Any, func: str, **kwargs: Any) -> Any:
                asked.append(func)
                if func == "delete_addr" and asked.count(func) == 1:
                    await actor.register_actor(("svc", "new"), dead)
                return await real(registrar, bound, func, **kwargs)

            monkeypatch.setattr(_panel, "ask", ask)
            async with tractor.find_actor("svc") as found:
                assert found is None
            # The first deletion was in vain; the new owner was found dead by itself.
            assert asked.count("delete_addr") == 2
            assert await names(reg_addr) == ["root"]

    run(main)


def test_a_registrar_that_gives_a_deleted_address_again_is_left_alone(
    reg_addr: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = free_addr("uds")

    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]) as actor:
            assert isinstance(actor, tractor.Registrar)
            await actor.register_actor(("svc", "x"), dead)

            async def lie(addr: Any, uid: Any = None) -> Any:
                await trio.lowlevel.checkpoint()
                return uid

            monkeypatch.setattr(actor, "delete_addr", lie)
            async with tractor.find_actor("svc") as found:
                assert found is None

    run(main)


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES])
def test_an_error_that_says_nothing_of_the_actor_deletes_nothing(
    number: int, reg_addr: Any, refusing: Any
) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]):
            addr = free_addr("tcp")
            await enter(reg_addr, ("svc", "x"), addr)
            refusing[addr] = [OSError(number, "away")]
            with pytest.raises(tractor.RuntimeFailure, match=r"'svc' is registered at .*away"):
                async with tractor.find_actor("svc"):
                    pytest.fail("found")
            assert await names(reg_addr) == ["root", "svc"]

    run(main)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_process_out_of_descriptors_says_so(number: int, reg_addr: Any, refusing: Any) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]):
            addr = free_addr("tcp")
            await enter(reg_addr, ("svc", "x"), addr)
            refusing[addr] = [OSError(number, "too many open files")]
            with pytest.raises(tractor.RuntimeFailure, match="too many open files"):
                async with tractor.find_actor("svc"):
                    pytest.fail("found")
            assert await names(reg_addr) == ["root", "svc"]

    run(main)


def test_what_a_registrar_gives_that_is_no_address_is_passed_over() -> None:
    assert _dead_addresses.addresses([["127.0.0.1", 1616], ["a"], 5, None, ["/tmp", "x.sock"]]) == [
        ("127.0.0.1", 1616),
        ("/tmp", "x.sock"),
    ]
    assert _dead_addresses.addresses(None) == []


def test_an_address_with_another_actor_behind_it_is_deleted(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            kid = await an.start_actor("kid", enable_modules=HERE)
            (addr,) = (await table(reg_addr))[".".join(await kid.run(ep_discovery.uid))]
            await enter(reg_addr, ("svc", "x"), addr)
            async with tractor.find_actor("svc") as found:
                assert found is None
            assert await names(reg_addr) == ["root"]
            await an.cancel()

    run(main)


def test_names_are_no_prefixes_of_others(reg_addr: Any) -> None:
    """The table's keys are ``name.uuid``, and names may have dots in them."""

    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]):
            for uid in (("svc", "b.x"), ("svc.b", "x"), ("svc", "x")):
                await enter(reg_addr, uid, free_addr("uds"))
            for name in ("svc.b", "svc"):
                async with tractor.find_actor(name) as found:
                    assert found is None
            assert await names(reg_addr) == ["root"]

    run(main)


# -- several actors of one name --


def test_all_of_a_name_and_the_newest(reg_addr: Any) -> None:
    async def main() -> None:
        with registrar("other", free_addr("tcp")) as other:
            async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
                actor = tractor.current_actor()
                twins = []
                for _ in range(2):
                    twins.append(await an.start_actor("twin", enable_modules=HERE))
                actor.reg_addrs = [reg_addr, other.addr]
                twins.append(await an.start_actor("twin", enable_modules=HERE))
                actor.reg_addrs = [reg_addr]
                twins.append(await an.start_actor("twin", enable_modules=HERE))
                uids = [await twin.run(ep_discovery.uid) for twin in twins]
                asked = [reg_addr, other.addr]
                async with tractor.find_actor(
                    "twin", registry_addrs=asked, only_first=False
                ) as found:
                    assert isinstance(found, list)
                    # In the order of the registrars that were asked; at each the newest first.
                    assert [await p.run(ep_discovery.uid) for p in found] == [
                        uids[i] for i in (3, 2, 1, 0)
                    ]
                    chans = [p.chan for p in found]
                    assert all(chan.connected() for chan in chans)
                assert not any(chan.connected() for chan in chans)
                # The newest connected peer; and not one that was asked to cancel.
                async with tractor.find_actor("twin") as newest:
                    assert isinstance(newest, tractor.Portal)
                    assert newest.chan is twins[3].chan
                await twins[3].cancel_actor()
                async with tractor.find_actor("twin") as newest:
                    assert isinstance(newest, tractor.Portal)
                    assert newest.chan is twins[2].chan
                assert len(get_peer_by_name("twin") or ()) >= 3
                await an.cancel()

    run(main)


def test_an_actor_that_is_found_at_two_registrars_is_given_once(reg_addr: Any) -> None:
    async def main() -> None:
        with registrar("other", free_addr("tcp")) as other:
            async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
                tractor.current_actor().reg_addrs = [reg_addr, other.addr]
                kid = await an.start_actor("kid", enable_modules=HERE)
                async with tractor.find_actor("kid", only_first=False) as found:
                    assert isinstance(found, list)
                    assert len(found) == 1
                    assert await found[0].run(ep_discovery.uid) == await kid.run(ep_discovery.uid)
                await an.cancel()

    run(main)


def test_what_is_registered_at_the_second_registrar_alone_is_found(tpt_proto: str) -> None:
    """By each look-up that asks this actor's own registrars."""
    one, two = free_addr(tpt_proto), free_addr(tpt_proto)

    async def main() -> None:
        with registrar("one", one), registrar("two", two) as second:
            async with tractor.open_root_actor(name="asker", registry_addrs=[one, two]):
                found: list[Any] = []

                async def wait() -> None:
                    async with tractor.wait_for_actor("svc") as portal:
                        found.append(await portal.run(ep_discovery.uid))

                async with trio.open_nursery() as tn:
                    tn.start_soon(wait)
                    await trio.testing.wait_all_tasks_blocked(0.05)
                    # An alias for an actor that is there: whoever has connected tells that it is none.
                    await enter(two, ("svc", "x"), one)

                    async def retired() -> bool:
                        return "svc" not in await names(two)

                    await until(retired)
                    assert not found
                    tn.cancel_scope.cancel()
                await enter(two, ("svc", "y"), one)
                async with tractor.query_actor("svc") as (addr, portal):
                    assert addr == one
                    assert isinstance(portal, tractor.Portal)
                    assert portal.chan.aid is not None
                    assert portal.chan.aid.uid == second.uid
                async with tractor.query_actor("nobody") as (addr, portal):
                    assert addr is None
                    assert portal is not None

    run(main)


def test_waiting_goes_on_while_one_of_the_own_registrars_is_there(tpt_proto: str) -> None:
    one, two = free_addr(tpt_proto), free_addr(tpt_proto)

    async def main() -> None:
        with registrar("one", one) as first, registrar("two", two):
            async with tractor.open_nursery(name="asker", registry_addrs=[one, two]) as an:
                found: list[Any] = []

                async def wait() -> None:
                    async with tractor.wait_for_actor("late") as portal:
                        found.append(await portal.run(ep_discovery.uid))

                async with trio.open_nursery() as tn:
                    tn.start_soon(wait)
                    await trio.testing.wait_all_tasks_blocked(0.05)
                    await trio.to_thread.run_sync(stop, first, signal.SIGKILL)
                    async with tractor.get_registry() as portal:
                        assert isinstance(portal, tractor.Portal)
                        assert portal.chan.aid is not None
                        assert portal.chan.aid.name == "two"
                    late = await an.start_actor("late", enable_modules=HERE)
                assert found == [await late.run(ep_discovery.uid)]
                await an.cancel()

    run(main)


def test_an_actor_that_is_no_registrar_is_none(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            kid = await an.start_actor("kid", enable_modules=HERE)
            (addr,) = (await table(reg_addr))[".".join(await kid.run(ep_discovery.uid))]
            for opener in (
                lambda: tractor.get_registry(addr),
                lambda: tractor.find_actor("kid", registry_addrs=[addr]),
                lambda: tractor.wait_for_actor("kid", registry_addr=addr),
                lambda: tractor.query_actor("kid", regaddr=addr),
            ):
                with pytest.raises(tractor.RuntimeFailure, match=r"no registrar answers.*kid"):
                    async with opener():
                        pytest.fail("answered")
            await an.cancel()

    run(main)


@pytest.mark.parametrize("bad", [5, "no address", ("127.0.0.1", "1", "2")])
def test_what_is_no_address_is_refused(bad: Any, reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]):
            for opener in (
                lambda: tractor.get_registry(bad),
                lambda: tractor.find_actor("kid", registry_addrs=[reg_addr, bad]),
                lambda: tractor.wait_for_actor("kid", registry_addr=bad),
                lambda: tractor.query_actor("kid", regaddr=bad),
            ):
                with pytest.raises((TypeError, ValueError), match="address"):
                    async with opener():
                        pytest.fail("answered")

    run(main)


def test_without_registrars_the_error_says_so(reg_addr: Any) -> None:
    async def main() -> None:
        with registrar("there", reg_addr):
            async with tractor.open_root_actor(registry_addrs=[reg_addr]) as actor:
                actor.reg_addrs = []
                for opener in (
                    tractor.get_registry,
                    lambda: tractor.find_actor("nobody"),
                    lambda: tractor.wait_for_actor("nobody"),
                    lambda: tractor.query_actor("nobody"),
                ):
                    with pytest.raises(tractor.RuntimeFailure, match="knows no registrar"):
                        async with opener():
                            pytest.fail("answered")

    run(main)


def test_transports_may_be_restricted(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery(
            registry_addrs=[reg_addr], enable_transports=["tcp", "uds"]
        ) as an:
            await an.start_actor("one", enable_modules=HERE, enable_transports=["tcp"])
            await an.start_actor("both", enable_modules=HERE)
            for name, keys, over in (
                ("one", ["uds"], None),
                ("one", ["tcp"], "tcp"),
                ("both", ["tcp"], "tcp"),
                ("both", ["uds"], "uds"),
                ("both", [], None),
            ):
                async with tractor.find_actor(
                    name, registry_addrs=[reg_addr], enable_transports=keys
                ) as found:
                    assert (found is None) == (over is None)
                    if isinstance(found, tractor.Portal):
                        assert found.chan.raddr.proto_key == over
            # What was not tried is not deleted.
            assert sorted(await names(reg_addr)) == ["both", "one", "root"]
            await an.cancel()

    run(main)


# -- wildcards and hosts --


class Way:
    """A channel, as far as registration needs one."""

    def __init__(self, laddr: Any) -> None:
        self.laddr = wrap_address(laddr)


@pytest.mark.parametrize(
    ("bound", "here", "registered"),
    [
        (("0.0.0.0", 7), ("10.1.2.3", 40000), ("10.1.2.3", 7)),
        (("0.0.0.0", 7), ("127.0.0.1", 40000), ("127.0.0.1", 7)),
        (("0.0.0.0", 7), ("/run/x", "r.sock"), ("127.0.0.1", 7)),
        (("0.0.0.0", 7), ("fd00::1", 40000), ("127.0.0.1", 7)),
        (("::", 7), ("fd00::1", 40000), ("fd00::1", 7)),
        (("::", 7), ("10.1.2.3", 40000), ("::1", 7)),
        (("10.0.0.1", 7), ("10.1.2.3", 40000), ("10.0.0.1", 7)),
        (("/run/x", "a.sock"), ("10.1.2.3", 40000), ("/run/x", "a.sock")),
    ],
)
def test_what_is_registered_for_a_bound_address(bound: Any, here: Any, registered: Any) -> None:
    assert published(bound, Way(here)) == registered  # type: ignore[arg-type]


def test_a_wildcard_without_a_way_is_this_hosts_own() -> None:
    assert published(("0.0.0.0", 7), None) == ("127.0.0.1", 7)
    assert published(("::", 7), None) == ("::1", 7)


@pytest.mark.parametrize(
    ("addr", "owner_at", "deleted"),
    [
        (("/run/x", "a.sock"), "here", True),
        (("/run/x", "a.sock"), "192.0.2.7", False),
        (("127.0.0.1", 7), "192.0.2.7", False),
        # Nothing answers from there: that is not a word that nobody is there.
        (("192.0.2.9", 7), "here", False),
    ],
)
def test_a_registrar_deletes_on_a_hint_only_where_it_can_look(
    addr: Any, owner_at: str, deleted: bool, reg_addr: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """192.0.2.0/24 is nobody's: a peer with such an address is not on this host."""

    def host(chan: Any) -> str | None:
        return owner_at if chan.aid.name == "kid" and owner_at != "here" else None

    monkeypatch.setattr(_registry, "host_of", host)

    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            actor: Any = tractor.current_actor()
            kid = await an.start_actor("kid", enable_modules=HERE)
            uid = tuple(await kid.run(ep_discovery.uid))
            await actor.register_actor(uid, addr)
            async with raw_peer(reg_addr) as peer:
                said = await peer.ask("delete_addr", addr=addr, uid=uid)
                assert said == (list(uid) if deleted else None)
                assert await peer.ask("delete_addr", addr=("/run/x", "unknown.sock")) is None
            left = [place.addr for place in actor.registry.table.addrs(uid)]
            assert (addr in left) is not deleted
            await an.cancel()

    run(main)


def test_the_root_is_reached_over_each_of_its_addresses(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr], enable_modules=HERE) as an:
            kid = await an.start_actor("kid", enable_modules=HERE)
            root = list(tractor.current_actor().aid.uid)
            proto = wrap_address(reg_addr).proto_key
            assert await kid.run(ep_discovery.root_over, proto=proto) == [root, True, False]
            await an.cancel()

    run(main)


# -- cancellation --


@pytest.mark.parametrize("look_up", ["find", "find all", "wait", "query"])
def test_a_look_up_that_is_cancelled_at_any_time_leaves_nothing(
    look_up: str, tpt_proto: str
) -> None:
    """Later and later, from before its first step until it is through."""
    one, two = free_addr(tpt_proto), free_addr(tpt_proto)

    async def main() -> None:
        with registrar("one", one) as first, registrar("two", two) as second:
            openers: dict[str, Any] = {
                "find": lambda: tractor.find_actor("two", registry_addrs=[one, two]),
                "find all": lambda: tractor.find_actor(
                    "two", registry_addrs=[one, two], only_first=False
                ),
                "wait": lambda: tractor.wait_for_actor("two", registry_addr=two),
                "query": lambda: tractor.query_actor("two", regaddr=two),
            }
            async with tractor.open_root_actor(registry_addrs=[one]) as actor:
                uid = (second.name, second.uid[1])
                await enter(one, uid, second.addr)
                before = len(actor.ipc_server.peer_channels())
                through = 0
                steps = 0
                while through < 3:
                    steps += 1
                    with trio.CancelScope() as scope:
                        async with trio.open_nursery() as tn:
                            tn.start_soon(cancel_after_steps, steps, scope)
                            async with openers[look_up]():
                                through += 1
                            tn.cancel_scope.cancel()
                assert first.process.poll() is None

                async def settled() -> bool:
                    await trio.lowlevel.checkpoint()
                    return len(actor.ipc_server.peer_channels()) == before

                await until(settled)

    run(main)


async def cancel_after_steps(steps: int, scope: trio.CancelScope) -> None:
    for _ in range(steps):
        await trio.lowlevel.checkpoint()
    scope.cancel()


def test_an_actor_cancelled_while_it_registers_leaves_no_entry(
    reg_addr: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each await of the registration in turn."""
    real = _registration.register

    async def main() -> None:
        with registrar("there", reg_addr):
            for late in (False, True):
                entered = trio.Event()

                async def slow(
                    *args: Any, late: bool = late, entered: trio.Event = entered
                ) -> None:
                    if late:
                        await real(*args)
                    entered.set()
                    await trio.sleep_forever()

                monkeypatch.setattr(_registration, "register", slow)
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as tn:
                        tn.start_soon(cancel_after, entered, scope)
                        async with tractor.open_root_actor(name="brief", registry_addrs=[reg_addr]):
                            pytest.fail("it was cancelled at its start")
                assert scope.cancelled_caught
            monkeypatch.setattr(_registration, "register", real)
            async with tractor.open_root_actor(name="observer", registry_addrs=[reg_addr]):
                assert await names(reg_addr) == ["there", "observer"]

    run(main)


async def cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def test_nothing_is_registered_after_the_end(reg_addr: Any) -> None:
    async def main() -> None:
        with registrar("there", reg_addr):
            async with tractor.open_root_actor(name="observer", registry_addrs=[reg_addr]) as actor:
                registration = actor.registration
                assert isinstance(registration, _registration.Registration)
                await registration.stop()
                assert registration.link(reg_addr) is None
                assert await names(reg_addr) == ["there"]
                actor.reg_addrs = [free_addr("tcp"), reg_addr]
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert await names(reg_addr) == ["there"]

    run(main)
