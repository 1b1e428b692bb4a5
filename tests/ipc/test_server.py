"""The server: binding, peers that come and go, peers that do not become any, shutting down."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from ep_run import run

from tractor._errors import RuntimeFailure, TransportClosed
from tractor._proto.connection import auth
from tractor._proto.connection.framing import HEADER
from tractor.address._types import Address, TCPAddress, UDSAddress
from tractor.ipc import _endpoint, _server
from tractor.ipc._chan import Channel, transport_from_addr
from tractor.ipc._endpoint import Endpoint, bind_endpoints
from tractor.ipc._server import IPCServer, Server, open_ipc_server
from tractor.msg.types import Aid, Stop
from tractor.transport import _uds
from tractor.transport._settings import WireSettings, reset_wire_settings, set_wire_settings

KEY = b"the key of this tree"
LIMIT = 20.0


@pytest.fixture(autouse=True)
def _key() -> Iterator[None]:
    set_wire_settings(WireSettings(authkey=KEY))
    yield
    reset_wire_settings()


@pytest.fixture
def bind_addr(tpt_proto: str, private_dir: Path) -> Any:
    """Where to listen, unwrapped."""
    return ("127.0.0.1", 0) if tpt_proto == "tcp" else socket_file(private_dir)


def socket_file(directory: Path) -> tuple[str, str]:
    return str(directory), f"server-{secrets.token_hex(4)}.sock"


def mk_aid(name: str, *, is_probe: bool = False) -> Aid:
    return Aid(name, secrets.token_hex(8), os.getpid(), is_probe=is_probe)


@asynccontextmanager
async def peer_of(endpoint: Endpoint, name: str = "peer") -> AsyncIterator[Channel]:
    """A channel to a server, handshake done."""
    chan = Channel(await transport_from_addr(endpoint.addr), "connect")
    async with chan:
        await chan.handshake(mk_aid(name))
        yield chan


def own_uid(chan: Channel) -> tuple[str, str]:
    return chan.local_uid


# -- binding -------------------------------------------------------------------------------------------


def test_several_endpoints_of_both_transports(private_dir: Path) -> None:
    file = socket_file(private_dir)

    async def main() -> None:
        async with open_ipc_server() as server:
            assert server.repr_state == "idle"
            endpoints = await server.listen_on(
                accept_addrs=[("127.0.0.1", 0), file, f"/unix/{file[0]}/two-{file[1]}"]
            )
            assert [e.addr.proto_key for e in endpoints] == ["tcp", "uds", "uds"]
            assert server.endpoints == endpoints
            assert server.proto_keys == ["tcp", "uds", "uds"]
            assert server.addrs == [e.addr for e in endpoints]
            assert server.accept_addrs == [e.addr.unwrap() for e in endpoints]
            assert server.epsdict() == {e.addr: e for e in endpoints}
            assert server.repr_state == "listening"
            bound = endpoints[0].addr
            assert isinstance(bound, TCPAddress)
            assert bound.port > 0
            for endpoint in endpoints:
                async with peer_of(endpoint) as chan:
                    await server.wait_for_peer(own_uid(chan))
            assert server.statistics().accepted == 3

    run(main)


def test_without_addresses_it_listens_on_a_random_loopback_port() -> None:
    async def main() -> None:
        async with open_ipc_server() as server:
            (endpoint,) = await server.listen_on()
            assert isinstance(endpoint.addr, TCPAddress)
            assert endpoint.addr.is_loopback
            (second,) = await server.listen_on()
            assert second.addr != endpoint.addr

    run(main)


def test_a_busy_port_binds_none_of_the_addresses(private_dir: Path) -> None:
    file = socket_file(private_dir)

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            async with open_ipc_server() as server:
                with pytest.raises(OSError, match="in use") as info:
                    await server.listen_on(accept_addrs=[file, other.getsockname()])
                assert info.value.errno == errno.EADDRINUSE
                assert server.endpoints == []
                assert not Path(*file).exists()
                await server.listen_on(accept_addrs=[file])

    run(main)


def test_a_socket_file_in_use_is_a_connection_error_and_stays(private_dir: Path) -> None:
    file = socket_file(private_dir)

    async def main() -> None:
        async with open_ipc_server() as first, open_ipc_server() as second:
            (endpoint,) = await first.listen_on(accept_addrs=[file])
            with pytest.raises(ConnectionError, match="in use by another process"):
                await second.listen_on(accept_addrs=[("127.0.0.1", 0), file])
            assert second.endpoints == []
            async with peer_of(endpoint) as chan:
                await first.wait_for_peer(own_uid(chan))

    run(main)


def test_a_listener_whose_queue_is_full_is_in_use_too(private_dir: Path) -> None:
    file = socket_file(private_dir)

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as waiting:
            other.bind(str(Path(*file)))
            other.listen(0)
            waiting.connect(str(Path(*file)))
            with pytest.raises(ConnectionError, match="in use by another process"):
                await bind_endpoints([file])
        os.unlink(Path(*file))

    run(main)


def test_a_stale_socket_file_is_replaced(private_dir: Path) -> None:
    file = socket_file(private_dir)
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(Path(*file)))

    async def main() -> None:
        async with open_ipc_server() as server:
            (endpoint,) = await server.listen_on(accept_addrs=[file])
            async with peer_of(endpoint) as chan:
                await server.wait_for_peer(own_uid(chan))
        assert not Path(*file).exists()

    run(main)


def test_a_file_that_is_no_socket_is_left_alone(private_dir: Path) -> None:
    file = socket_file(private_dir)
    Path(*file).write_text("somebody's data")

    async def main() -> None:
        with pytest.raises(ConnectionError, match="not a socket file"):
            await bind_endpoints([file])

    run(main)
    assert Path(*file).read_text() == "somebody's data"
    Path(*file).unlink()


def test_a_socket_file_of_somebody_else_is_not_removed(private_dir: Path) -> None:
    """What took the place of our file is not ours to remove."""
    file = socket_file(private_dir)

    async def main() -> None:
        async with open_ipc_server() as server:
            await server.listen_on(accept_addrs=[file])
            Path(*file).unlink()
            other = socket.socket(socket.AF_UNIX)
            other.bind(str(Path(*file)))
        with other:
            assert Path(*file).is_socket()
        Path(*file).unlink()

    run(main)


def test_a_cancelled_server_removes_its_socket_file(private_dir: Path) -> None:
    file = socket_file(private_dir)

    async def main() -> None:
        async with open_ipc_server() as server:
            await server.listen_on(accept_addrs=[file])
            assert Path(*file).is_socket()
            server.cancel()
            await server.wait_for_shutdown()
            assert not Path(*file).exists()

    run(main)


def test_a_failed_block_removes_the_socket_file_and_raises_its_error_as_it_is(
    private_dir: Path,
) -> None:
    file = socket_file(private_dir)

    async def main() -> None:
        async with open_ipc_server() as server:
            await server.listen_on(accept_addrs=[file])
            raise LookupError("the block's own")

    with pytest.raises(LookupError, match="the block's own"):
        run(main)
    assert not Path(*file).exists()


def test_a_server_whose_nursery_is_cancelled_removes_its_socket_file(private_dir: Path) -> None:
    file = socket_file(private_dir)

    async def main() -> None:
        async with trio.open_nursery() as tn, open_ipc_server(tn) as server:
            await server.listen_on(accept_addrs=[file])
            tn.cancel_scope.cancel()
            await trio.sleep_forever()
        assert server.is_shutdown()

    run(main)
    assert not Path(*file).exists()


def test_one_of_two_processes_that_race_for_a_file_wins(private_dir: Path) -> None:
    """Whoever loses gets ConnectionError; nobody takes a file from a listener that is just born."""
    file = socket_file(private_dir)
    code = (
        "import sys\n"
        "from tractor.address._types import UDSAddress\n"
        "from tractor.transport._uds import bind_uds\n"
        "try: sock = bind_uds(UDSAddress(*sys.argv[1:]))\n"
        "except ConnectionError: print('lost', flush=True)\n"
        "else: print('won', flush=True); sys.stdin.read()\n"
    )
    procs = [
        subprocess.Popen(
            [sys.executable, "-c", code, *file],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    outcomes = []
    for proc in procs:
        assert proc.stdout is not None
        outcomes.append(proc.stdout.readline().strip())
    for proc in procs:
        proc.communicate(timeout=LIMIT)
    Path(*file).unlink()
    assert sorted(outcomes) == ["lost", "lost", "won"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_beyond_loopback_a_chosen_key_is_needed(host: str) -> None:
    async def main() -> None:
        async with open_ipc_server() as server:
            with pytest.raises(RuntimeFailure, match="authkey=") as info:
                await server.listen_on(accept_addrs=[("127.0.0.1", 0), (host, 0)])
            assert host in str(info.value)
            assert server.endpoints == []

    run(main)


def test_beyond_loopback_with_a_chosen_key() -> None:
    set_wire_settings(WireSettings(authkey=KEY, key_is_explicit=True))

    async def main() -> None:
        async with open_ipc_server() as server:
            (endpoint,) = await server.listen_on(accept_addrs=[("0.0.0.0", 0)])
            bound = endpoint.addr
            assert isinstance(bound, TCPAddress)
            chan = Channel(await transport_from_addr(("127.0.0.1", bound.port)), "connect")
            async with chan:
                await chan.handshake(mk_aid("near"))

    run(main)


@pytest.mark.parametrize("addr", [5, "nonsense", ("127.0.0.1", 70_000), ("relative", "x.sock")])
def test_what_can_not_be_listened_on(addr: Any) -> None:
    async def main() -> None:
        async with open_ipc_server() as server:
            with pytest.raises((TypeError, ValueError)):
                await server.listen_on(accept_addrs=[("127.0.0.1", 0), addr])
            assert server.endpoints == []

    run(main)


def test_an_endpoint_listens_once(bind_addr: Any) -> None:
    async def main() -> None:
        (endpoint,) = await bind_endpoints([bind_addr])
        with pytest.raises(RuntimeError, match="listens already"):
            await endpoint.start_listener()
        assert "listening" in repr(endpoint)
        endpoint.close_listener()
        endpoint.close_listener()
        assert "closed" in repr(endpoint)
        assert await endpoint.accept() is None

    run(main)


# -- peers ---------------------------------------------------------------------------------------------


def test_peers_are_counted_from_handshake_to_end(bind_addr: Any) -> None:
    async def main() -> None:
        async with open_ipc_server() as server:
            (endpoint,) = await server.listen_on(accept_addrs=[bind_addr])
            assert not server.has_peers()
            assert server.len_peers() == 0
            await server.wait_for_no_more_peers()
            async with peer_of(endpoint) as one, peer_of(endpoint) as two:
                _, chan = await server.wait_for_peer(own_uid(one))
                await server.wait_for_peer(own_uid(two))
                assert chan.aid is not None
                assert chan.aid.uid == own_uid(one)
                assert server.has_peers()
                assert server.has_peers(check_chans=True)
                assert server.len_peers() == server.statistics().peers == 2
                # On UDS the two connections of this process share an address.
                listed = 2 if isinstance(endpoint.addr, TCPAddress) else 1
                assert len(endpoint.peer_tpts) == listed
                chan.abort()
                assert server.has_peers(check_chans=True)
            await server.wait_for_no_more_peers()
            assert server.len_peers() == 0
            assert not server.has_peers()
            assert endpoint.peer_tpts == {}

    run(main)


def test_waiting_for_a_peer_that_comes_later(bind_addr: Any) -> None:
    aid = mk_aid("late")

    async def main() -> None:
        async with open_ipc_server() as server, trio.open_nursery() as tn:
            (endpoint,) = await server.listen_on(accept_addrs=[bind_addr])
            got: list[Channel] = []

            async def wait() -> None:
                event, chan = await server.wait_for_peer(aid.uid)
                assert event.is_set()
                got.append(chan)

            tn.start_soon(wait)
            tn.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert got == []
            async with peer_of(endpoint, "other"):
                chan = Channel(await transport_from_addr(endpoint.addr), "connect")
                async with chan:
                    await chan.handshake(aid)
                    while len(got) < 2:
                        await trio.lowlevel.checkpoint()
            assert {c.aid for c in got} == {aid}

    run(main)


def test_a_peer_with_two_channels_is_one_peer(bind_addr: Any) -> None:
    aid = mk_aid("twice")

    async def main() -> None:
        async with open_ipc_server() as server:
            (endpoint,) = await server.listen_on(accept_addrs=[bind_addr])
            chans = [Channel(await transport_from_addr(endpoint.addr), "connect") for _ in range(2)]
            for chan in chans:
                await chan.handshake(aid)
            while len(server.peer_channels()) < 2:
                await trio.lowlevel.checkpoint()
            assert server.len_peers() == 1
            await chans[0].aclose()
            while len(server.peer_channels()) > 1:
                await trio.lowlevel.checkpoint()
            assert server.has_peers()
            await chans[1].aclose()
            await server.wait_for_no_more_peers()

    run(main)


def test_a_probe_is_answered_and_is_no_peer(bind_addr: Any) -> None:
    async def main() -> None:
        server_aid = mk_aid("served")
        async with open_ipc_server(aid=lambda: server_aid) as server:
            (endpoint,) = await server.listen_on(accept_addrs=[bind_addr])
            chan = Channel(await transport_from_addr(endpoint.addr), "connect")
            async with chan:
                assert await chan.handshake(mk_aid("probe", is_probe=True)) == server_aid
                assert [msg async for msg in chan] == []
            assert server.statistics() == _server.ServerStatistics(1, 0, 1, 0)

    run(main)


def test_handlers_run_in_the_nursery_that_was_given(bind_addr: Any) -> None:
    async def main() -> None:
        async with trio.open_nursery() as tn, open_ipc_server(stream_handler_tn=tn) as server:
            (endpoint,) = await server.listen_on(
                accept_addrs=[bind_addr], stream_handler_nursery=tn
            )
            before = len(tn.child_tasks)
            async with peer_of(endpoint) as chan:
                await server.wait_for_peer(own_uid(chan))
                assert len(tn.child_tasks) == before + 1

    run(main)


# -- who does not become a peer ------------------------------------------------------------------------


def test_half_open_connections_cost_nothing_but_themselves(bind_addr: Any) -> None:
    """200 connections that say nothing keep no rightful peer out, before and after their deadline."""

    async def main() -> None:
        async with open_ipc_server() as server:
            (endpoint,) = await server.listen_on(accept_addrs=[bind_addr])
            silent = [await transport_from_addr(endpoint.addr) for _ in range(200)]
            async with peer_of(endpoint) as chan:
                await server.wait_for_peer(own_uid(chan))
                await chan.send(Stop(1))
                for transport in silent[::2]:
                    transport.abort()
                while server.statistics().refused < 100:
                    await trio.lowlevel.checkpoint()
                assert server.has_peers(check_chans=True)
            for transport in silent:
                transport.abort()
            while server.statistics().refused < 200:
                await trio.lowlevel.checkpoint()

    run(main)


@pytest.mark.parametrize("sent", ["nothing", "part of the opening", "no identity"])
def test_the_handshake_has_a_deadline(
    bind_addr: Any, sent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_server, "HANDSHAKE_TIMEOUT", 0.05)

    async def main() -> None:
        async with open_ipc_server() as server:
            (endpoint,) = await server.listen_on(accept_addrs=[bind_addr])
            transport = await transport_from_addr(endpoint.addr)
            keyed = isinstance(endpoint.addr, TCPAddress)
            machine = auth.Handshake("connect", KEY if keyed else None, os.urandom(32))
            if sent == "part of the opening":
                transport.io.send_nowait([machine.start()[:5]])
            elif sent == "no identity":
                await transport.authenticate(machine)
            while True:
                await transport.io.wait_readable()
                if transport.io.recv_nowait(1_000) == b"":
                    break
            transport.abort()
            assert server.statistics().refused == 1
            assert not server.has_peers()

    run(main)


@pytest.mark.parametrize(
    "body",
    [
        b"\xc1",
        b"\x97\x03\x01\xa2\xff\xfe\xa1f\x80\x92\xa1n\xa1u\xc0",
        b"\x97\x03\x01\xa1m\xa1f\x81\xa1x" + b"\x91" * 100_000 + b"\x00",
    ],
    ids=["no msgpack", "no text", "nested too deep"],
)
def test_a_bad_identity_costs_that_connection_only(bind_addr: Any, body: bytes) -> None:
    async def main() -> None:
        async with open_ipc_server() as server:
            (endpoint,) = await server.listen_on(accept_addrs=[bind_addr])
            async with peer_of(endpoint) as rightful:
                transport = await transport_from_addr(endpoint.addr)
                keyed = isinstance(endpoint.addr, TCPAddress)
                machine = auth.Handshake("connect", KEY if keyed else None, os.urandom(32))
                await transport.authenticate(machine)
                transport.io.send_nowait([HEADER.pack(len(body)), body])
                while server.statistics().refused < 1:
                    await trio.lowlevel.checkpoint()
                transport.abort()
                await server.wait_for_peer(own_uid(rightful))
                assert server.has_peers(check_chans=True)

    run(main)


def test_an_unexpected_error_of_one_handshake_costs_that_connection_only(
    bind_addr: Any, caplog: pytest.LogCaptureFixture
) -> None:
    failing = True

    def aid() -> Aid:
        if failing:
            raise LookupError("no identity today")
        return mk_aid("served")

    async def main() -> None:
        nonlocal failing
        async with open_ipc_server(aid=aid) as server:
            (endpoint,) = await server.listen_on(accept_addrs=[bind_addr])
            with pytest.raises(TransportClosed):
                async with peer_of(endpoint):
                    pass
            failing = False
            async with peer_of(endpoint) as chan:
                await server.wait_for_peer(own_uid(chan))

    run(main)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EPERM])
def test_the_accept_loop_outlives_a_lack_of_descriptors(
    bind_addr: Any, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_endpoint, "ACCEPT_RETRY", 0.001)

    class Poor(socket.socket):
        refusals = 3

        def accept(self) -> tuple[socket.socket, Any]:
            if self.refusals:
                self.refusals -= 1
                raise OSError(code, os.strerror(code))
            return super().accept()

    async def main() -> None:
        (endpoint,) = await bind_endpoints([bind_addr])
        assert endpoint._listener is not None
        poor = Poor(fileno=endpoint._listener.detach())
        poor.setblocking(False)
        endpoint._listener = poor
        async with open_ipc_server() as server:
            server.serve_endpoints([endpoint])
            async with peer_of(endpoint) as chan:
                await server.wait_for_peer(own_uid(chan))
            assert poor.refusals == 0

    run(main)


# -- shutting down -------------------------------------------------------------------------------------


def test_shutdown_stops_listening_and_keeps_peers(bind_addr: Any) -> None:
    async def main() -> None:
        async with open_ipc_server() as server:
            (endpoint,) = await server.listen_on(accept_addrs=[bind_addr])
            async with peer_of(endpoint) as chan:
                await server.wait_for_peer(own_uid(chan))
                assert not server.is_shutdown()
                assert server.cancel()
                assert server.repr_state == "shutting-down"
                await server.wait_for_shutdown()
                assert server.is_shutdown()
                assert server.repr_state == "shutdown"
                assert not server.cancel()
                assert server.addrs == []
                assert server.has_peers(check_chans=True)
                assert chan.connected()
                with pytest.raises(OSError, match=r"refused|No such file"):
                    await transport_from_addr(endpoint.addr)
                with pytest.raises(RuntimeError, match="shut down"):
                    await server.listen_on(accept_addrs=[bind_addr])
            await server.wait_for_no_more_peers()

    run(main)


def test_a_shutdown_while_addresses_are_bound(
    bind_addr: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was shut down meanwhile does not begin to listen behind its own back."""
    bound: list[Address] = []

    async def main() -> None:
        async with open_ipc_server() as server:
            real = bind_endpoints

            async def slow(addrs: Any) -> list[Endpoint]:
                endpoints = await real(addrs)
                bound.extend(e.addr for e in endpoints)
                server.cancel()
                return endpoints

            monkeypatch.setattr(_server, "bind_endpoints", slow)
            with pytest.raises(RuntimeError, match="shut down"):
                await server.listen_on(accept_addrs=[bind_addr])
            assert server.endpoints == []
            with pytest.raises(OSError, match=r"refused|No such file"):
                await transport_from_addr(bound[0])

    run(main)


def test_a_server_that_never_listened_shuts_down_at_once() -> None:
    async def main() -> None:
        async with open_ipc_server() as server:
            assert not server.cancel()
            await server.wait_for_shutdown()

    run(main)


def test_its_text_names_state_addresses_and_peers(private_dir: Path) -> None:
    file = socket_file(private_dir)

    async def main() -> None:
        async with open_ipc_server() as server:
            await server.listen_on(accept_addrs=[file])
            assert "listening" in repr(server)
            assert str(UDSAddress(*file)) in repr(server)
            assert "0 peers" in repr(server)

    run(main)


def test_the_alias() -> None:
    assert IPCServer is Server


# -- what is not the peer's fault ------------------------------------------------------------------------


def test_a_connection_that_can_not_be_wrapped_costs_that_connection_only(
    bind_addr: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrap = Endpoint.wrap
    failing = True

    def failing_wrap(self: Endpoint, sock: socket.socket) -> Any:
        if failing:
            raise LookupError("an interface with a strange name")
        return wrap(self, sock)

    monkeypatch.setattr(Endpoint, "wrap", failing_wrap)

    async def main() -> None:
        nonlocal failing
        async with open_ipc_server() as server:
            (endpoint,) = await server.listen_on(accept_addrs=[bind_addr])
            with pytest.raises(TransportClosed):
                async with peer_of(endpoint):
                    pass
            assert server.statistics().refused == 1
            failing = False
            async with peer_of(endpoint) as chan:
                await server.wait_for_peer(own_uid(chan))

    run(main)


@pytest.mark.skipif(sys.platform == "win32", reason="modes are for POSIX")
def test_a_key_file_of_the_environment_is_a_chosen_key(
    private_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = private_dir / f"{secrets.token_hex(4)}.key"
    file.write_bytes(KEY)
    file.chmod(0o600)
    monkeypatch.setenv("TRACTOR_AUTHKEY_FILE", str(file))
    set_wire_settings(WireSettings())

    async def main() -> None:
        async with open_ipc_server() as server:
            (endpoint,) = await server.listen_on(accept_addrs=[("0.0.0.0", 0)])
            assert isinstance(endpoint.addr, TCPAddress)

    run(main)
    file.chmod(0o644)
    set_wire_settings(WireSettings())

    async def too_open() -> None:
        async with open_ipc_server() as server:
            with pytest.raises(PermissionError, match="chmod 600"):
                await server.listen_on(accept_addrs=[("127.0.0.1", 0)])
            assert server.endpoints == []

    run(too_open)


def test_a_resolver_can_not_open_localhost_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = ("127.0.0.1", 0)
    answers = [("0.0.0.0", 0)]

    async def getaddrinfo(*_args: Any, **_options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", sockaddr) for sockaddr in answers]

    monkeypatch.setattr(trio.socket, "getaddrinfo", getaddrinfo)

    async def main() -> None:
        with pytest.raises(OSError, match="no address to listen on"):
            await bind_endpoints([("localhost", 0)])
        answers.append(inside)
        (endpoint,) = await bind_endpoints([("localhost", 0)])
        assert isinstance(endpoint.addr, TCPAddress)
        assert endpoint.addr.host == "127.0.0.1"
        endpoint.close_listener()

    run(main)


def test_a_socket_file_that_is_removed_while_it_is_judged(
    private_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its listener ends at that moment: the address is free."""
    judge = _uds._require_stale

    async def main() -> None:
        (first,) = await bind_endpoints([file])

        def judge_too_late(path: str) -> None:
            first.close_listener()
            judge(path)

        monkeypatch.setattr(_uds, "_require_stale", judge_too_late)
        (second,) = await bind_endpoints([file])
        assert Path(*file).is_socket()
        second.close_listener()
        assert not Path(*file).exists()

    file = socket_file(private_dir)
    run(main)
