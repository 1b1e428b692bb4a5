"""Every public function that takes an address takes each form of one, and names what is none."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import ep_peer
import ep_roads
import pytest
import trio

import tractor
from tractor import discovery
from tractor.discovery import TCPAddress, UDSAddress, mk_maddr, wrap_address
from tractor.ipc._chan import Channel, connect_chan, transport_from_addr
from tractor.transport._addresses import wrap_addresses

pytestmark = pytest.mark.usefixtures("forked_actors")

RegistryAddress = tuple[str, Any]

FORMS: dict[str, Callable[[RegistryAddress], Any]] = {
    "unwrapped": tuple,
    "list": list,
    "wrapped": wrap_address,
    "multiaddr": mk_maddr,
}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Callable[[RegistryAddress], Any]:
    """Makes one form of an unwrapped address."""
    return FORMS[request.param]


def other_addr(addr: RegistryAddress) -> RegistryAddress:
    """Another address in the same bindspace that can be bound."""
    if isinstance(addr[1], int):
        return addr[0], 0
    return addr[0], f"other-{secrets.token_hex(4)}.sock"


def at(addr: RegistryAddress, bound: RegistryAddress) -> bool:
    """Whether ``bound`` is what comes of listening on ``addr``."""
    return bound == addr or (addr[1] == 0 and bound[0] == addr[0])


@contextlib.asynccontextmanager
async def open_registrar(addr: RegistryAddress) -> AsyncIterator[tractor.Registrar]:
    async with tractor.open_root_actor(registry_addrs=[addr]) as actor:
        assert isinstance(actor, tractor.Registrar)
        yield actor


# -- what a running actor does with an address --


@dataclass
class Running:
    actor: tractor.Registrar
    raw: RegistryAddress
    given: Any


async def get_registry(run: Running) -> None:
    async with tractor.get_registry(run.given) as portal:
        assert f"root.{run.actor.aid.uuid}" in await portal.run_from_ns("self", "get_registry")


async def find_actor(run: Running) -> None:
    async with tractor.find_actor("root", registry_addrs=[run.given]) as portal:
        assert isinstance(portal, tractor.Portal)
        assert portal.chan.raddr.unwrap() == run.raw


async def find_all(run: Running) -> None:
    async with tractor.find_actor("root", registry_addrs=[run.given], only_first=False) as portals:
        assert isinstance(portals, list)
        assert [portal.chan.raddr.unwrap() for portal in portals] == [run.raw]


async def wait_for_actor(run: Running) -> None:
    async with tractor.wait_for_actor("root", run.given) as portal:
        assert portal.chan.raddr.unwrap() == run.raw


async def query_actor(run: Running) -> None:
    async with tractor.query_actor("root", run.given) as (addr, registrar):
        assert addr == run.raw
        assert registrar is not None


async def maybe_open_portal(run: Running) -> None:
    async with discovery.maybe_open_portal(run.given, "root") as portal:
        assert portal is not None
        assert portal.chan.raddr.unwrap() == run.raw


async def channel_from_addr(run: Running) -> None:
    async with await Channel.from_addr(run.given) as chan:
        assert chan.raddr.unwrap() == run.raw


async def connect(run: Running) -> None:
    async with connect_chan(run.given) as chan:
        assert chan.raddr.unwrap() == run.raw


async def transport(run: Running) -> None:
    found = await transport_from_addr(run.given)
    assert found.raddr.unwrap() == run.raw
    found.abort()


async def set_reg_addrs(run: Running) -> None:
    run.actor.reg_addrs = [run.given]
    assert run.actor.reg_addrs == [run.raw]
    assert run.actor.registry_addrs == [wrap_address(run.raw)]


async def register(run: Running) -> None:
    uid = ("somebody", "a-uuid")
    await run.actor.register_actor(uid, run.given)
    assert await run.actor.find_actor("somebody") == [run.raw]
    assert await run.actor.delete_addr(run.given) == uid
    assert await run.actor.delete_addr(run.given) is None


async def register_by_message(run: Running) -> None:
    async with connect_chan(run.raw) as chan, discovery.open_portal(chan) as portal:
        uid = run.actor.aid.uid
        plain = list(run.given.unwrap()) if discovery.is_wrapped_addr(run.given) else run.given
        await portal.run_from_ns("self", "register_actor", uid=uid, addr=plain)
        assert await run.actor.find_actor(run.actor.name) == [run.raw]
        # One at which somebody answers stays, whoever says what.
        assert await portal.run_from_ns("self", "delete_addr", addr=plain) is None


IN_A_REGISTRAR: list[Callable[[Running], Awaitable[None]]] = [
    get_registry,
    find_actor,
    find_all,
    wait_for_actor,
    query_actor,
    maybe_open_portal,
    channel_from_addr,
    connect,
    transport,
    set_reg_addrs,
    register,
    register_by_message,
]


@pytest.mark.parametrize("use", IN_A_REGISTRAR, ids=lambda use: use.__name__)
def test_in_a_running_actor(
    use: Callable[[Running], Awaitable[None]],
    reg_addr: RegistryAddress,
    form: Callable[[RegistryAddress], Any],
) -> None:
    async def main() -> None:
        async with open_registrar(reg_addr) as actor:
            await use(Running(actor, reg_addr, form(reg_addr)))

    ep_peer.run(main)


# -- where to listen, and where registrars are --


def test_root_and_registry(
    reg_addr: RegistryAddress, form: Callable[[RegistryAddress], Any]
) -> None:
    other = other_addr(reg_addr)

    async def main() -> None:
        async with tractor.open_root_actor(
            registry_addrs=[form(reg_addr)], tpt_bind_addrs=[form(other)]
        ) as actor:
            assert actor.is_registrar
            assert actor.reg_addrs == [reg_addr]
            first, second = actor.accept_addrs
            assert first == reg_addr
            assert at(other, second)

    ep_peer.run(main)


def test_listen_on(reg_addr: RegistryAddress, form: Callable[[RegistryAddress], Any]) -> None:
    other = other_addr(reg_addr)

    async def main() -> None:
        async with open_registrar(reg_addr) as actor:
            (endpoint,) = await actor.ipc_server.listen_on(accept_addrs=[form(other)])
            assert at(other, endpoint.addr.unwrap())

    ep_peer.run(main)


def test_children(reg_addr: RegistryAddress, form: Callable[[RegistryAddress], Any]) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[form(reg_addr)]) as an:
            first, second = other_addr(reg_addr), other_addr(reg_addr)
            daemon = await an.start_actor(
                "daemon", bind_addrs=[form(first)], enable_modules=[ep_roads.__name__]
            )
            (bound,) = await daemon.run(ep_roads.listens_on)
            assert at(first, tuple(bound))
            one_shot = await an.run_in_actor(ep_roads.listens_on, bind_addrs=[form(second)])
            (bound,) = await one_shot.wait_for_result()
            assert at(second, tuple(bound))
            await an.cancel()

    ep_peer.run(main)


def test_cluster(reg_addr: RegistryAddress, form: Callable[[RegistryAddress], Any]) -> None:
    async def main() -> None:
        async with tractor.open_actor_cluster(
            modules=[], count=1, registry_addrs=[form(reg_addr)]
        ) as portals:
            assert list(portals) == ["root.worker_0"]
            assert tractor.current_actor().reg_addrs == [reg_addr]

    ep_peer.run(main)


def test_daemon(
    reg_addr: RegistryAddress,
    form: Callable[[RegistryAddress], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []

    class Served(Exception):
        pass

    forever = trio.sleep_forever

    async def serve() -> None:
        actor = tractor.current_actor(err_on_no_runtime=False)
        # The runtime's own tasks sleep for ever, too.
        if actor is None or not trio.lowlevel.current_task().name.endswith("serve"):
            await forever()
        seen.extend(tractor.current_actor().accept_addrs)
        raise Served

    monkeypatch.setattr("tractor._root.trio.sleep_forever", serve)
    with pytest.raises(Served):
        tractor.run_daemon([], registry_addrs=[form(reg_addr)])
    assert seen == [reg_addr]


# -- values only --


def test_functions_on_values(
    reg_addr: RegistryAddress, form: Callable[[RegistryAddress], Any]
) -> None:
    given, wrapped = form(reg_addr), wrap_address(reg_addr)
    assert wrap_address(given) == wrapped
    assert type(wrapped).from_addr(given) == wrapped
    assert mk_maddr(given) == mk_maddr(wrapped)
    assert discovery.prefer_addr([given]) is given
    assert discovery.parse_endpoints({"it": [given]}) == {"it": [wrapped]}
    assert wrap_addresses([given], "it") == [wrapped]


# -- what is not an address --

NEVER: list[Any] = [
    None,
    5,
    "127.0.0.1:80",
    b"/unix/tmp/x",
    ("127.0.0.1",),
    ("127.0.0.1", 1, 2),
    ("127.0.0.1", "80", 1),
    ("127.0.0.1", True),
    ("not a host", 80),
    ("256.0.0.1", 80),
    ("127.0.0.1", 65536),
    ("127.0.0.1", -1),
    ("224.0.0.1", 80),
    ("/tmp", "a/b.sock"),
    ("/tmp", ".."),
    ("/tmp", "nul\0.sock"),
    ("relative", "a.sock"),
    ("/" + "x" * 120, "a.sock"),
    "/ip4/127.0.0.1",
    "/ip4/127.0.0.1/udp/80",
    "/ip4/127.0.0.1/tcp/65536",
    "/unix/",
    "/carrier/pigeon",
]
"""What can be neither connected to nor listened on."""

NOT_TO_CONNECT_TO: list[Any] = [
    ("127.0.0.1", 0),
    ("0.0.0.0", 80),
    TCPAddress("::", 80),
    "/ip4/0.0.0.0/tcp/80",
]

LISTS = [("127.0.0.1", 80), ("/tmp", "a.sock"), "/ip4/127.0.0.1/tcp/80", TCPAddress("::1", 1), 5]
"""What is not a list of addresses."""


def part_of(bad: Any) -> str:
    """What must be found in the text of an error about ``bad``."""
    if discovery.is_wrapped_addr(bad):
        return repr(bad)
    if isinstance(bad, tuple) and len(bad) == 2 and not isinstance(bad[1], bool):
        # The text may show the wrapped form.
        return max((repr(part) for part in bad), key=len).strip("'")
    if bad == "/ip4/0.0.0.0/tcp/80":
        return "0.0.0.0"
    if bad == "/ip4/127.0.0.1/tcp/65536":
        return "65536"
    return repr(bad)


async def refuses(bad: Any, use: Callable[[Any], Awaitable[Any]]) -> None:
    """Check that ``use`` refuses ``bad`` by an error that names it."""
    with pytest.raises((ValueError, TypeError)) as caught:
        await use(bad)
    assert not isinstance(caught.value, tractor.RemoteActorError)
    assert part_of(bad) in str(caught.value), f"{bad!r} is not named"


async def enter(acm: contextlib.AbstractAsyncContextManager[Any]) -> None:
    async with acm:
        pass


CONNECTS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "find_actor": lambda bad: enter(tractor.find_actor("x", registry_addrs=[bad])),
    "wait_for_actor": lambda bad: enter(tractor.wait_for_actor("x", bad)),
    "query_actor": lambda bad: enter(tractor.query_actor("x", bad)),
    "get_registry": lambda bad: enter(tractor.get_registry(bad)),
    "maybe_open_portal": lambda bad: enter(discovery.maybe_open_portal(bad, "x")),
    "Channel.from_addr": Channel.from_addr,
    "connect_chan": lambda bad: enter(connect_chan(bad)),
    "transport_from_addr": transport_from_addr,
    "register_actor": lambda bad: registrar().register_actor(("x", "y"), bad),
    "reg_addrs": lambda bad: set_attr(tractor.current_actor(), "reg_addrs", [bad]),
}

NONE_IS_A_DEFAULT = ("wait_for_actor", "query_actor", "get_registry")


def registrar() -> tractor.Registrar:
    actor = tractor.current_actor()
    assert isinstance(actor, tractor.Registrar)
    return actor


async def set_attr(obj: Any, name: str, value: Any) -> None:
    setattr(obj, name, value)


@pytest.mark.parametrize("name", CONNECTS)
def test_what_can_not_be_connected_to(name: str, reg_addr: RegistryAddress) -> None:
    async def main() -> None:
        async with open_registrar(reg_addr) as actor:
            before = await actor.get_registry()
            for bad in [*NEVER, *NOT_TO_CONNECT_TO]:
                if bad is not None or name not in NONE_IS_A_DEFAULT:
                    await refuses(bad, CONNECTS[name])
            assert actor.reg_addrs == [reg_addr]
            assert await actor.get_registry() == before

    ep_peer.run(main)


def test_where_can_not_be_listened(reg_addr: RegistryAddress) -> None:
    async def main() -> None:
        async with open_registrar(reg_addr) as actor, tractor.open_nursery() as an:
            good = other_addr(reg_addr)
            for bad in NEVER:
                await refuses(bad, lambda bad: actor.ipc_server.listen_on(accept_addrs=[good, bad]))
                await refuses(bad, lambda bad: an.start_actor("x", bind_addrs=[good, bad]))
                await refuses(
                    bad, lambda bad: an.run_in_actor(ep_roads.nothing, bind_addrs=[good, bad])
                )
            assert actor.accept_addrs == [reg_addr]
            assert an.statistics().spawned == 0

    ep_peer.run(main)


def test_where_no_root_can_be(reg_addr: RegistryAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_network(*_args: Any, **_kwargs: Any) -> Any:
        raise AssertionError("something was probed or bound")

    monkeypatch.setattr("tractor.discovery._election.probe_all", no_network)
    monkeypatch.setattr("tractor.discovery._election.bind_endpoints", no_network)

    async def main() -> None:
        for bad in NEVER:
            await refuses(
                bad,
                lambda bad: enter(
                    tractor.open_root_actor(registry_addrs=[reg_addr], tpt_bind_addrs=[bad])
                ),
            )
        for bad in [*NEVER, *NOT_TO_CONNECT_TO]:
            await refuses(
                bad, lambda bad: enter(tractor.open_root_actor(registry_addrs=[reg_addr, bad]))
            )
            await refuses(bad, lambda bad: enter(tractor.open_nursery(registry_addrs=[bad])))
            await refuses(
                bad, lambda bad: enter(tractor.open_actor_cluster([], registry_addrs=[bad]))
            )

    trio.run(main)
    for bad in NEVER:
        with pytest.raises((ValueError, TypeError)):
            tractor.run_daemon([], registry_addrs=[bad])


@pytest.mark.parametrize("single", LISTS, ids=repr)
def test_one_address_is_no_list_of_them(single: Any, reg_addr: RegistryAddress) -> None:
    async def main() -> None:
        for argument in ("registry_addrs", "tpt_bind_addrs"):
            with pytest.raises(TypeError, match=rf"`{argument}` is a list of addresses"):
                await enter(tractor.open_root_actor(**{argument: single}))
        async with open_registrar(reg_addr) as actor, tractor.open_nursery() as an:
            with pytest.raises(TypeError, match="`bind_addrs` is a list of addresses"):
                await an.start_actor("x", bind_addrs=single)
            with pytest.raises(TypeError, match="`accept_addrs` is a list of addresses"):
                await actor.ipc_server.listen_on(accept_addrs=single)
            with pytest.raises(TypeError, match="`registry_addrs` is a list of addresses"):
                await enter(tractor.find_actor("x", registry_addrs=single))
            with pytest.raises(TypeError, match="`reg_addrs` is a list of addresses"):
                actor.reg_addrs = single
            assert an.statistics().spawned == 0

    ep_peer.run(main)


def test_a_list_of_two_multiaddrs_is_a_list() -> None:
    given = ["/unix/tmp/a", "/unix/tmp/b"]
    assert wrap_addresses(given, "x") == [UDSAddress("/tmp", "a"), UDSAddress("/tmp", "b")]
    assert wrap_addresses(iter(given), "x") == wrap_addresses(tuple(given), "x")
    assert wrap_addresses(None, "x") == wrap_addresses([], "x") == []


@pytest.mark.parametrize("bad", NEVER, ids=lambda bad: repr(bad)[:30])
def test_values_that_are_none(bad: Any) -> None:
    try:
        wrapped = wrap_address(bad)
    except (ValueError, TypeError):
        uses: list[Callable[[Any], Any]] = [
            mk_maddr,
            TCPAddress.from_addr,
            UDSAddress.from_addr,
            lambda bad: discovery.parse_endpoints({"it": [bad]}),
            lambda bad: discovery.prefer_addr([bad]),
        ]
        for use in uses:
            with pytest.raises((ValueError, TypeError)):
                use(bad)
    else:
        assert not wrapped.is_valid
