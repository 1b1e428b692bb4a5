"""Attacks on a listening server in this process: who does not pass, what that costs, what it tells."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import ep_attacks as ep
import pytest
import trio
import trio.testing
from ep_run import run

import tractor
from tractor._errors import TransportClosed
from tractor._proto.connection.half_open import SPARED
from tractor.address._types import UDSAddress
from tractor.cli import main as tractor_command
from tractor.ipc import Channel, TLSConfig, _server
from tractor.ipc._chan import transport_from_addr
from tractor.ipc._doorstep import half_open_limit
from tractor.ipc._endpoint import Endpoint
from tractor.ipc._server import Server, open_ipc_server
from tractor.msg.types import Aid, Stop
from tractor.transport import _uds
from tractor.transport._settings import (
    WireSettings,
    reset_wire_settings,
    set_wire_settings,
    wire_settings,
)
from tractor.transport._stream import MsgpackTransport

KEY = b"the key of this tree"
OTHER_KEY = b"the key of another tree"
LIMIT = 20.0

linux_root_only = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can become another user"
)


@pytest.fixture(autouse=True)
def _key() -> Iterator[None]:
    set_wire_settings(WireSettings(authkey=KEY, key_is_explicit=True))
    yield
    reset_wire_settings()


@pytest.fixture
def accepted(monkeypatch: pytest.MonkeyPatch) -> list[MsgpackTransport]:
    """The transports of every connection that a server of this process accepts, in order."""
    transports: list[MsgpackTransport] = []
    wrap = Endpoint.wrap

    def note(self: Endpoint, sock: socket.socket) -> MsgpackTransport:
        transports.append(wrap(self, sock))
        return transports[-1]

    monkeypatch.setattr(Endpoint, "wrap", note)
    return transports


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Server, ep.Address]]:
    """A server at a loopback port."""
    async with open_ipc_server() as server:
        (endpoint,) = await server.listen_on(accept_addrs=[("127.0.0.1", 0)])
        host, port = endpoint.addr.unwrap()
        yield server, (host, int(port))


@asynccontextmanager
async def rightful_peer(addr: ep.Address, server: Server) -> AsyncIterator[Channel]:
    """A peer that has passed, and that is served before and after the block."""
    chan = Channel(await transport_from_addr(addr), "connect")
    async with chan:
        await chan.handshake(Aid("rightful", secrets.token_hex(8), os.getpid()))
        _, far = await server.wait_for_peer(chan.local_uid)
        yield chan
        before = far.statistics().received
        await chan.send(Stop(1))
        while far.statistics().received == before:
            await trio.lowlevel.checkpoint()


async def refused(server: Server, count: int = 1) -> None:
    while server.statistics().refused < count:
        await trio.lowlevel.checkpoint()


# -- who does not pass -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(ep.ATTACKS))
def test_an_attack_is_refused_learns_nothing_and_disturbs_nobody(
    name: str, accepted: list[MsgpackTransport]
) -> None:
    key = KEY if name in ep.TRUE_KEY else OTHER_KEY

    async def main() -> None:
        async with serving() as (server, addr), rightful_peer(addr, server):
            async with ep.stranger(addr) as it:
                await ep.ATTACKS[name](it, key)
                got = await it.read_to_the_end()
            await refused(server)
            # Hello and nonce, which everybody gets at once, and then a close without a reason.
            assert len(got) <= ep.OPENING
            assert got[:6] == ep.HELLO[: len(got)]
            stats = server.statistics()
            assert (stats.accepted, stats.refused, stats.peers, stats.half_open) == (2, 1, 1, 0)
            # Nothing of it has been taken for a message, nor kept for later.
            transport = accepted[1]
            assert transport.received == 0
            assert transport.drain() == []
            assert not transport.connected()

    run(main)


def test_a_recorded_peer_is_not_let_in_again(accepted: list[MsgpackTransport]) -> None:
    async def main() -> None:
        async with serving() as (server, addr), rightful_peer(addr, server):
            recorded = await ep.recorded_peer(addr)
            assert len(recorded) > ep.OPENING + 32
            assert accepted[1].received == 1
            for cut in (len(recorded), ep.OPENING + 32):
                async with ep.stranger(addr) as it:
                    await it.send(recorded[:cut])
                    assert len(await it.read_to_the_end()) <= ep.OPENING
            await refused(server, 2)
            assert [t.received for t in accepted[2:]] == [0, 0]

    run(main)


def test_two_recordings_do_not_make_a_third_connection() -> None:
    """The nonce of one connection with the proof of another."""

    async def main() -> None:
        async with serving() as (server, addr):
            one, two = [await ep.recorded_peer(addr) for _ in range(2)]
            assert one[: ep.OPENING] != two[: ep.OPENING]
            async with ep.stranger(addr) as it:
                await it.send(one[: ep.OPENING] + two[ep.OPENING :])
                assert len(await it.read_to_the_end()) <= ep.OPENING
            await refused(server)

    run(main)


def test_every_connection_has_a_nonce_of_its_own() -> None:
    async def main() -> None:
        async with serving() as (_, addr):
            nonces = set()
            for _ in range(50):
                async with ep.stranger(addr) as it:
                    nonces.add((await it.read(ep.OPENING))[6:])
            assert len(nonces) == 50

    run(main)


def test_the_failure_looks_the_same_whatever_was_wrong() -> None:
    """From outside a wrong key can't be told from any other wrong proof."""

    async def main() -> None:
        seen = set()
        async with serving() as (_, addr):
            for name in ("wrong key", "no key, all zeros", "the actor's own role"):
                async with ep.stranger(addr) as it:
                    await ep.ATTACKS[name](it, KEY if name in ep.TRUE_KEY else OTHER_KEY)
                    seen.add(len(await it.read_to_the_end()))
        assert len(seen) == 1

    run(main)


def test_the_reason_is_in_the_local_log_and_the_key_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with serving() as (server, addr), ep.stranger(addr) as it:
            await ep.ATTACKS["wrong key"](it, OTHER_KEY)
            await it.read_to_the_end()
            await refused(server)

    with caplog.at_level(1, logger="tractor"):
        run(main)
    assert "does not hold this tree's key" in caplog.text
    assert "127.0.0.1" in caplog.text
    for text in (KEY, OTHER_KEY):
        assert text.decode() not in caplog.text


def test_the_key_is_in_no_representation() -> None:
    assert KEY.decode() not in repr(wire_settings())


@pytest.mark.parametrize("answer", ["nothing", "rubbish", "its own hello", "a wrong proof"])
def test_an_impostor_gets_a_connector_to_send_no_message(answer: str) -> None:
    """Somebody else listens where an actor was: the identity stays here."""
    sends = {
        "nothing": b"",
        "rubbish": b"HTTP/1.1 400 Bad Request\r\n\r\n",
        "its own hello": ep.HELLO + ep.NONCE,
        "a wrong proof": ep.HELLO + ep.NONCE + bytes(32) + ep.pipelined(),
    }

    async def main() -> None:
        async with trio.open_nursery() as tn:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            got = b""

            async def serve() -> None:
                nonlocal got
                async with await listener.accept() as stream:
                    await stream.send_all(sends[answer])
                    await stream.send_eof()
                    try:
                        async for data in stream:
                            got += data
                    except trio.BrokenResourceError:
                        pass

            tn.start_soon(serve)
            addr = listener.socket.getsockname()
            chan = Channel(await transport_from_addr(addr), "connect")
            async with chan:
                with pytest.raises(TransportClosed):
                    await chan.handshake(ep.mk_aid("the caller"))
            assert chan.aid is None
        await listener.aclose()
        # Hello, nonce and, to whom has sent a nonce, the proof.
        assert len(got) <= ep.OPENING + 32
        assert b"the caller" not in got

    run(main)


# -- slowly ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drip", ["silence", "byte by byte", "all but one byte"])
def test_a_slow_handshake_costs_its_deadline_and_no_more(drip: str) -> None:
    """On a clock of the test's own, which goes on when nothing else can."""

    async def main() -> None:
        async with serving() as (server, addr), ep.stranger(addr) as it:
            await it.read(ep.OPENING)
            began = trio.current_time()
            opening = ep.HELLO + ep.NONCE + bytes(32)
            if drip == "all but one byte":
                await it.send(opening[:-1])
            if drip == "byte by byte":
                for byte in opening:
                    await it.send(bytes([byte]))
                    await trio.sleep(1)
                    if server.statistics().refused:
                        break
            assert await it.read_to_the_end() == it.got
            await refused(server)
            took = trio.current_time() - began
            assert _server.HANDSHAKE_TIMEOUT - 0.5 <= took <= _server.HANDSHAKE_TIMEOUT + 1

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.05))


def test_a_proof_without_an_identity_costs_the_same_deadline() -> None:
    """One deadline for both: proving the key late leaves no more time."""

    async def main() -> None:
        async with serving() as (server, addr), ep.stranger(addr) as it:
            theirs = (await it.read(ep.OPENING))[6:]
            began = trio.current_time()
            await trio.sleep(6)
            await it.send(ep.HELLO + ep.NONCE + ep.proof(KEY, b"C", ep.NONCE, theirs))
            await it.read_to_the_end()
            await refused(server)
            assert trio.current_time() - began < _server.HANDSHAKE_TIMEOUT + 1
            # It had proven the key, so the actor has told its identity.
            assert len(it.got) > ep.OPENING + 32

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.05))


# -- many at once ------------------------------------------------------------------------------------------


def test_half_open_connections_are_bounded_and_the_newest_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire_settings(), "limits", tractor.Limits(max_half_open=20))

    async def main() -> None:
        async with serving() as (server, addr), rightful_peer(addr, server):
            async with ep.half_open(addr, 100) as socks:
                await refused(server, 80)
                assert server.statistics().half_open == 20
                # A peer comes through between them.
                await ep.visit(addr)
                await refused(server, 81)
                assert server.statistics().half_open == 19
                assert len(socks) == 100
            await refused(server, 100)
            assert server.statistics().half_open == 0

    run(main)


def test_who_has_shown_who_it_is_counts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_settings(), "limits", tractor.Limits(max_half_open=2))

    async def main() -> None:
        async with serving() as (server, addr), trio.open_nursery() as tn:
            done = trio.Event()
            here = 0

            async def stay() -> None:
                nonlocal here
                async with rightful_peer(addr, server):
                    here += 1
                    await done.wait()

            for number in range(1, 9):
                tn.start_soon(stay)
                while here < number:
                    await trio.lowlevel.checkpoint()
            assert (server.len_peers(), server.statistics().half_open) == (8, 0)
            done.set()

    run(main)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit on Windows")
@pytest.mark.parametrize(
    ("soft", "limit"), [(1024, 256), (100_000, 1024), (-1, 1024), (3, 1), (256, 64)]
)
def test_the_bound_leaves_most_descriptors_to_others(
    soft: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, -1))
    assert half_open_limit() == limit


def test_out_of_descriptors_the_unidentified_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says EMFILE once: at once half of the silent are gone, and the peer is in."""
    fail = False
    accept = socket.socket.accept

    def failing_accept(self: socket.socket) -> tuple[socket.socket, object]:
        nonlocal fail
        if fail:
            fail = False
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(self)

    count = 2 * SPARED

    async def main() -> None:
        nonlocal fail
        async with (
            serving() as (server, addr),
            rightful_peer(addr, server),
            ep.half_open(addr, count),
        ):
            while server.statistics().half_open < count:
                await trio.lowlevel.checkpoint()
            fail = True
            before = trio.current_time()
            await ep.visit(addr)
            assert not fail
            # As many as stayed are the limit now, and the peer took the place of one of them.
            assert server.statistics().half_open == count // 2 - 1
            # It did not wait for the next try, which time alone brings.
            assert trio.current_time() == before

    monkeypatch.setattr(socket.socket, "accept", failing_accept)
    run(main, clock=trio.testing.MockClock(rate=0))


# -- Unix sockets: users ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "peer", "connected", "allowed"),
    [
        (1000, 1000, False, True),
        (1000, 1000, True, True),
        (1000, 0, False, True),
        (1000, 0, True, True),
        (1000, 1001, False, False),
        (1000, 1001, True, False),
        (0, 0, False, True),
        (0, 1000, False, False),
        (0, 1000, True, True),
        (1000, None, False, True),
    ],
)
def test_which_users_may_talk(
    own: int, peer: int | None, connected: bool, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: own)
    monkeypatch.setattr(_uds, "peer_credentials", lambda sock: (1, peer))
    one, other = socket.socketpair()
    addr = UDSAddress("/run", "x.sock")
    with one, other:
        if allowed:
            _uds.uds_from_socket(one, addr, max_frame_size=1024, connected=connected)
        else:
            with pytest.raises(TransportClosed, match=f"uid {peer}, this actor as uid {own}"):
                _uds.uds_from_socket(one, addr, max_frame_size=1024, connected=connected)


@pytest.fixture
def shared_dir() -> Iterator[Path]:
    """A directory that every user may enter."""
    folder = Path("/tmp") / f"tractor-shared-{secrets.token_hex(4)}"
    folder.mkdir()
    folder.chmod(0o777)
    yield folder
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


NOBODY = 65534


@linux_root_only
def test_another_user_is_closed_on_without_a_byte(shared_dir: Path) -> None:
    code = (
        "import os, socket, sys\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "sock = socket.socket(socket.AF_UNIX); sock.settimeout(10); sock.connect(sys.argv[1])\n"
        "got = b''\n"
        "try:\n"
        "    sock.sendall(bytes.fromhex(sys.argv[2]))\n"
        "    while data := sock.recv(1000): got += data\n"
        "except (ConnectionResetError, BrokenPipeError): pass\n"
        "print(got.hex() or 'closed')\n"
    )
    file = shared_dir / "root.sock"

    async def main() -> None:
        async with open_ipc_server() as server:
            await server.listen_on(accept_addrs=[(str(shared_dir), "root.sock")])
            file.chmod(0o777)
            done = await trio.run_process(
                [sys.executable, "-c", code, str(file), (ep.HELLO + ep.pipelined()).hex()],
                capture_stdout=True,
            )
            assert done.stdout.strip() == b"closed"
            stats = server.statistics()
            assert (stats.accepted, stats.refused, stats.peers) == (1, 1, 0)

    run(main)


@linux_root_only
def test_root_may_connect_to_anyone(shared_dir: Path) -> None:
    code = (
        "import os, sys, trio\n"
        "from tractor.ipc._server import open_ipc_server\n"
        "async def main():\n"
        "    async with open_ipc_server() as server:\n"
        f"        os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "        await server.listen_on(accept_addrs=[(sys.argv[1], 'nobody.sock')])\n"
        "        print('ready', flush=True)\n"
        "        await trio.to_thread.run_sync(sys.stdin.read)\n"
        "trio.run(main)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(shared_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

        async def main() -> None:
            chan = Channel(await transport_from_addr((str(shared_dir), "nobody.sock")), "connect")
            async with chan:
                aid = await chan.handshake(ep.mk_aid("root"))
                assert aid.pid == process.pid

        run(main)
        process.communicate(timeout=LIMIT)
    assert process.returncode == 0


@pytest.mark.skipif(os.name != "posix", reason="no Unix sockets on this platform")
def test_a_lock_that_somebody_keeps_is_not_waited_for_for_ever(
    shared_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr(_uds, "BIND_LOCK_TIMEOUT", 0.02)
    addr = UDSAddress(str(shared_dir), "a.sock")
    holder = os.open(shared_dir, os.O_RDONLY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(ConnectionError, match=r"keeps the directory .* locked"):
            _uds.bind_uds(addr)
        assert list(shared_dir.iterdir()) == []
    finally:
        os.close(holder)
    _uds.bind_uds(addr).close()


@pytest.mark.skipif(sys.platform != "linux", reason="the place comes from XDG_RUNTIME_DIR")
@pytest.mark.parametrize("fault", ["open to others", "a link", "a file"])
def test_a_runtime_directory_that_others_could_enter_is_not_used(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    place = tmp_path / "tractor"
    if fault == "open to others":
        place.mkdir()
        place.chmod(0o755)
    elif fault == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.write_text("")

    async def main() -> None:
        async with open_ipc_server() as server:
            with pytest.raises(PermissionError, match="runtime directory"):
                await server.listen_on(accept_addrs=[(str(place), "a.sock")])
            assert server.endpoints == []

    run(main)


# -- inside TLS ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trees' certificates, each in a directory of its own."""
    pytest.importorskip("trustme", reason="the extra `certs` is not installed")
    folder = tmp_path_factory.mktemp("certs")
    for tree in ("own", "other"):
        assert tractor_command(["certs", str(folder / tree)]) == 0
    return folder


@pytest.fixture
def _tls(certs: Path) -> None:
    own = certs / "own"
    tls = TLSConfig(
        certfile=str(own / "actor.pem"), keyfile=str(own / "actor.key"), cafile=str(own / "ca.pem")
    )
    set_wire_settings(WireSettings(authkey=KEY, key_is_explicit=True, tls=tls))


def stranger_context(certs: Path, tree: str | None) -> ssl.SSLContext:
    """A stranger believes every listener, and shows that tree's certificate, if any."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if tree is not None:
        context.load_cert_chain(certs / tree / "actor.pem", certs / tree / "actor.key")
    return context


WITHOUT_A_READ = [
    name
    for name in ep.ATTACKS
    if name.startswith(("a ", "an older", "an SSH", "cut", "messages before"))
    and name not in ep.TRUE_KEY
]


@pytest.mark.usefixtures("_tls")
@pytest.mark.parametrize("name", WITHOUT_A_READ)
def test_who_speaks_no_tls_gets_not_even_a_hello(
    name: str, accepted: list[MsgpackTransport]
) -> None:
    async def main() -> None:
        async with serving() as (server, addr), rightful_peer(addr, server):
            async with ep.stranger(addr) as it:
                await ep.ATTACKS[name](it, KEY)
                await it.end()
                got = await it.read_to_the_end()
            await refused(server)
            # At most TLS's own alert.
            assert len(got) < 20
            assert ep.HELLO not in got
            assert accepted[1].received == 0

    run(main)


@pytest.mark.usefixtures("_tls")
@pytest.mark.parametrize("tree", [None, "other"])
def test_without_a_certificate_of_this_trees_ca_the_key_is_of_no_use(
    tree: str | None, certs: Path, accepted: list[MsgpackTransport]
) -> None:
    async def main() -> None:
        async with serving() as (server, addr), rightful_peer(addr, server):
            async with await trio.open_tcp_stream(*addr) as tcp:
                stream = trio.SSLStream(tcp, stranger_context(certs, tree), server_hostname="any")
                it = ep.Stranger(stream)
                await it.send(ep.HELLO + ep.NONCE)
                assert await it.read_to_the_end() == b""
            await refused(server)
            assert accepted[1].received == 0

    run(main)


@pytest.mark.usefixtures("_tls")
@pytest.mark.parametrize(
    "name",
    [
        "wrong key",
        "no key, all zeros",
        "no key, as on a Unix socket",
        "an empty key",
        "reflection: all that comes is sent back",
        "messages instead of the proof",
        "the actor's own role",
    ],
)
def test_a_good_certificate_does_not_make_up_for_the_key(
    name: str, certs: Path, accepted: list[MsgpackTransport]
) -> None:
    key = KEY if name in ep.TRUE_KEY else OTHER_KEY

    async def main() -> None:
        async with serving() as (server, addr), rightful_peer(addr, server):
            async with await trio.open_tcp_stream(*addr) as tcp:
                stream = trio.SSLStream(tcp, stranger_context(certs, "own"), server_hostname="any")
                it = ep.Stranger(stream)
                await ep.ATTACKS[name](it, key)
                got = await it.read_to_the_end()
            await refused(server)
            assert got[:6] == ep.HELLO
            assert len(got) == ep.OPENING
            assert accepted[1].received == 0

    run(main)


@pytest.mark.usefixtures("_tls")
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00"])
def test_a_slow_tls_handshake_costs_the_same_deadline(sent: bytes) -> None:
    async def main() -> None:
        async with serving() as (server, addr), ep.stranger(addr) as it:
            await it.send(sent)
            began = trio.current_time()
            assert await it.read_to_the_end() == b""
            await refused(server)
            took = trio.current_time() - began
            assert _server.HANDSHAKE_TIMEOUT - 0.5 <= took <= _server.HANDSHAKE_TIMEOUT + 1

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.05))
