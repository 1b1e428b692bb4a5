"""TLS for TCP: what it is set up from, who gets in, and what the others learn."""

from __future__ import annotations

import os
import re
import socket
import ssl
from pathlib import Path
from typing import Any

import ep_certs
import msgspec
import pytest
import trio
from ep_run import run

import tractor
from tractor import TLSConfig
from tractor._errors import RuntimeFailure, TransportClosed
from tractor.address._types import HAS_UDS, TCPAddress
from tractor.ipc import _server, open_ipc_server
from tractor.ipc._chan import Channel
from tractor.ipc._endpoint import bind_endpoints
from tractor.ipc._server import Server
from tractor.msg.types import Aid, Yield
from tractor.transport._settings import WireSettings, reset_wire_settings, set_wire_settings
from tractor.transport._stream import MsgpackTransport
from tractor.transport._table import transport_by_key
from tractor.transport.tls._config import TLSContexts
from tractor.transport.tls._stream import MsgpackTLSStream, _certified, connect_tls, tls_from_socket

KEY = b"the key of this test's tree"
ANY = "."
HOST = Aid("host", "2" * 36, 2)
GUEST = Aid("guest", "1" * 36, 1)


@pytest.fixture(autouse=True)
def _settings() -> Any:
    use(ep_certs.config())
    yield
    reset_wire_settings()


def use(tls: TLSConfig | None, key: bytes = KEY) -> None:
    set_wire_settings(WireSettings(authkey=key, tls=tls))


# -- what it is set up from ----------------------------------------------------------------------------


def test_paths_are_kept_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = TLSConfig("a.pem", Path("b.key"), cafile=None)  # type: ignore[arg-type]
    assert config.certfile == str(tmp_path / "a.pem")
    assert config.keyfile == str(tmp_path / "b.key")
    assert config.cafile is None
    assert config.require_client_cert
    monkeypatch.chdir("/")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(config), type=TLSConfig) == config
    assert hash(config) == hash(TLSConfig(config.certfile, config.keyfile, None))
    with pytest.raises(AttributeError):
        config.keyfile = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "arguments",
    [(None, "k", "c"), ("c", 5, "c"), ("c", "k", 5), ("c", "k", "c", "yes")],
)
def test_what_is_no_path_is_a_type_error(arguments: Any) -> None:
    with pytest.raises(TypeError, match=r"TLSConfig\.\w+ is a"):
        TLSConfig(*arguments)


def test_it_is_public_in_both_places() -> None:
    assert tractor.TLSConfig is tractor.ipc.TLSConfig is TLSConfig


def test_contexts_are_strict() -> None:
    made = TLSContexts(ep_certs.config())
    for context in (made.accept, made.connect):
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.verify_mode is ssl.CERT_REQUIRED
    assert made.connect.check_hostname
    assert made.accept.num_tickets == 0


def test_who_is_asked_for_a_certificate() -> None:
    assert TLSContexts(ep_certs.config(trusts=None)).accept.verify_mode is ssl.CERT_NONE
    lax = TLSContexts(ep_certs.config(require_client_cert=False))
    assert lax.accept.verify_mode is ssl.CERT_NONE
    assert lax.connect.verify_mode is ssl.CERT_REQUIRED
    system = TLSContexts(ep_certs.config(trusts=None)).connect
    assert system.verify_mode is ssl.CERT_REQUIRED
    assert system.check_hostname


def changed(tmp_path: Path, **contents: bytes | None) -> TLSConfig:
    """The configuration with other files; ``None``: one that is not there."""
    config = ep_certs.config()
    paths: dict[str, str] = {}
    for name, content in contents.items():
        path = tmp_path / f"the.{name}"
        if content is not None:
            path.write_bytes(content)
        paths[name] = str(path)
    replaced: TLSConfig = msgspec.structs.replace(config, **paths)
    return replaced


FILES = ["certfile", "keyfile", "cafile"]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=rf"TLSConfig.{name}.*the\.{name}"):
        TLSContexts(changed(tmp_path, **{name: None}))


@pytest.mark.parametrize("name", FILES)
def test_an_unreadable_file_is_named(tmp_path: Path, name: str) -> None:
    # Not by mode: root reads everything.
    (tmp_path / f"the.{name}").mkdir()
    config = msgspec.structs.replace(ep_certs.config(), **{name: str(tmp_path / f"the.{name}")})
    with pytest.raises(OSError, match=rf"TLSConfig.{name}.*the\.{name}"):
        TLSContexts(config)


@pytest.mark.parametrize(
    "content", [b"", b"no PEM\n", os.urandom(100)], ids=["empty", "text", "noise"]
)
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_something_else_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(ValueError, match=rf"the\.{name}.*PEM form"):
        TLSContexts(changed(tmp_path, **{name: content}))


def test_another_certificate_s_key_is_named(tmp_path: Path) -> None:
    other = ep_certs.authority("ours").issue_cert("elsewhere")
    with pytest.raises(ValueError, match=r"the\.keyfile' is not the key of .*\.pem'"):
        TLSContexts(changed(tmp_path, keyfile=other.private_key_pem.bytes()))


def test_an_encrypted_key_is_refused_without_asking_anybody(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as ser

    plain = ser.load_pem_private_key(Path(ep_certs.config().keyfile).read_bytes(), None)
    secret = plain.private_bytes(
        ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.BestAvailableEncryption(b"word")
    )
    with pytest.raises(ValueError, match=r"the\.keyfile' is encrypted"):
        TLSContexts(changed(tmp_path, keyfile=secret))


# -- who gets in ---------------------------------------------------------------------------------------


async def greet(addr: Any, tls: TLSConfig | None, key: bytes = KEY) -> Aid:
    """Connect as a peer with these certificates, in plain without."""
    assert isinstance(addr, TCPAddress)
    made = None if tls is None else TLSContexts(tls)
    if made is None:
        use(None)
        try:
            transport: MsgpackTransport = await transport_by_key("tcp").connect(addr, 10**6)
        finally:
            use(ep_certs.config())
    else:
        transport = await connect_tls(addr, made.connect, max_frame_size=10**6)
    async with Channel(transport, "connect") as chan:
        return await chan.handshake(GUEST, key)


async def raw_answer(addr: Any, first: bytes) -> bytes:
    """What somebody who sends these bytes learns."""
    stream = await trio.open_tcp_stream(addr.host, addr.port)
    async with stream:
        answer = b""
        try:
            await stream.send_all(first)
            async for part in stream:
                answer += part
        except trio.BrokenResourceError:
            pass
        return answer


async def serve(server: Server) -> Any:
    (endpoint,) = await server.listen_on(accept_addrs=[("127.0.0.1", 0)])
    return endpoint.addr


async def until_refused(server: Server, count: int) -> None:
    while server.statistics().refused < count:
        await trio.sleep(0.001)


def test_a_rightful_peer_and_its_messages() -> None:
    got: list[Any] = []

    async def handler(chan: Channel) -> None:
        assert isinstance(chan.transport, MsgpackTLSStream)
        assert chan.transport.key() == ("msgpack", "tcp")
        async for msg in chan:
            got.append(msg)
        await chan.aclose()

    async def main() -> None:
        async with open_ipc_server(aid=lambda: HOST, handler=handler) as server:
            addr = await serve(server)
            async with await Channel.from_addr(addr) as chan:
                assert await chan.handshake(GUEST) == HOST
                assert chan.maddr == f"/ip4/127.0.0.1/tcp/{addr.port}"
                large: Any = Yield(1, b"x" * 2_000_000)
                await chan.send(large)
                await chan.send_eof()
                with pytest.raises(TransportClosed):
                    await chan.recv()

    run(main)
    (msg,) = got
    assert len(msgspec.msgpack.decode(msg.pld)) == 2_000_000


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_peer_is_checked_by_the_name_that_was_dialled(host: str) -> None:
    async def main() -> None:
        async with open_ipc_server(aid=lambda: HOST) as server:
            addr = await serve(server)
            assert await greet(TCPAddress(host, addr.port), ep_certs.config()) == HOST
            use(ep_certs.config(hosts=("localhost", "example.org")))
            other = await serve(server)
            named = greet(TCPAddress(host, other.port), ep_certs.config())
            if host == "localhost":
                assert await named == HOST
            else:
                with pytest.raises(TransportClosed, match=r"certificate was refused.*127\.0\.0\.1"):
                    await named

    run(main)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost.", "localhost"),
        ("example.org", "example.org"),
        ("fe80::1%eth0", "fe80::1"),
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("0:0::1", "::1"),
    ],
)
def test_hosts_as_certificates_name_them(host: str, name: str) -> None:
    assert _certified(TCPAddress(host, 1).host) == name


def strangers() -> dict[str, tuple[TLSConfig | None, bytes, str, str]]:
    """A peer's certificates and key, what it is told, and what the local log says."""
    ours = ep_certs.config()
    return {
        "plain": (None, KEY, ANY, r"TLS handshake failed"),
        "an authority of its own": (
            ep_certs.config(signed_by="theirs", trusts="ours"),
            KEY,
            ANY,
            r"certificate was refused: .*(unable to get|self.signed|issuer)",
        ),
        "trusts another authority": (
            ep_certs.config(trusts="theirs"),
            KEY,
            r"certificate was refused",
            r"TLS handshake failed.*(?i:unknown.ca)",
        ),
        "expired": (
            ep_certs.config(expired=True),
            KEY,
            ANY,
            r"certificate was refused: .*expired",
        ),
        "another key": (ours, b"another tree's key", ANY, r"opening exchange failed"),
    }


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("who", [*strangers(), "no certificate"])
def test_a_stranger_is_closed_and_the_others_go_on(
    who: str,
    version: ssl.TLSVersion,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(1, "tractor")
    config: TLSConfig | None
    if who == "no certificate":
        config, key, told, why = ep_certs.config(), KEY, ANY, r"(?i)did not return a certificate"
    else:
        config, key, told, why = strangers()[who]
    real = TLSContexts.__init__

    def weaker(self: TLSContexts, made_of: TLSConfig) -> None:
        real(self, made_of)
        self.connect.maximum_version = version
        if who == "no certificate":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.maximum_version = version
            context.load_verify_locations(made_of.cafile)
            self.connect = context

    async def main() -> None:
        async with open_ipc_server(aid=lambda: HOST) as server:
            addr = await serve(server)
            async with await Channel.from_addr(addr) as chan:
                await chan.handshake(GUEST)
                with monkeypatch.context() as patch:
                    patch.setattr(TLSContexts, "__init__", weaker)
                    with pytest.raises(TransportClosed, match=told):
                        await greet(addr, config, key)
                await until_refused(server, 1)
                assert chan.connected()
                none: Any = Yield(1, None)
                await chan.send(none)
            assert await greet(addr, ep_certs.config()) == HOST

    run(main)
    assert any(_matches(why, record.getMessage()) for record in caplog.records), caplog.text
    assert KEY.decode() not in caplog.text


def _matches(pattern: str, text: str) -> bool:
    return "did not become a peer" in text and re.search(pattern, text) is not None


def test_an_expired_listener_is_refused_by_who_connects() -> None:
    async def main() -> None:
        use(ep_certs.config(expired=True))
        async with open_ipc_server(aid=lambda: HOST) as server:
            addr = await serve(server)
            with pytest.raises(TransportClosed, match=r"certificate was refused: .*expired"):
                await greet(addr, ep_certs.config())

    run(main)


def test_a_client_certificate_is_not_needed_where_it_is_not_asked_for() -> None:
    async def main() -> None:
        use(ep_certs.config(require_client_cert=False))
        async with open_ipc_server(aid=lambda: HOST) as server:
            addr = await serve(server)
            assert await greet(addr, ep_certs.config(signed_by="theirs", trusts="ours")) == HOST
            with pytest.raises(TransportClosed):
                await greet(addr, ep_certs.config(), b"another tree's key")

    run(main)


def test_a_tls_peer_at_a_plain_listener(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1, "tractor")

    async def main() -> None:
        use(None)
        async with open_ipc_server(aid=lambda: HOST) as server:
            addr = await serve(server)
            with pytest.raises(TransportClosed, match="TLS handshake failed"):
                await greet(addr, ep_certs.config())
            await until_refused(server, 1)
            use(None)
            async with await Channel.from_addr(addr) as chan:
                assert await chan.handshake(GUEST) == HOST

    run(main)
    assert "does not speak this protocol" in caplog.text


@pytest.mark.parametrize(
    "first", [b"\xb0TRC\x01\0" + b"n" * 32, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\0\x05hello"]
)
def test_who_speaks_no_tls_learns_one_alert(first: bytes) -> None:
    async def main() -> None:
        async with open_ipc_server(aid=lambda: HOST) as server:
            addr = await serve(server)
            answer = await raw_answer(addr, first)
            assert len(answer) == 7
            assert answer[:1] == b"\x15"
            await until_refused(server, 1)

    run(main)


def test_a_silent_peer_costs_its_deadline_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server, "HANDSHAKE_TIMEOUT", 0.2)

    async def main() -> None:
        async with open_ipc_server(aid=lambda: HOST) as server:
            addr = await serve(server)
            # One is silent from the beginning, one after the first byte of a ClientHello.
            async with trio.open_nursery() as tn:
                tn.start_soon(raw_answer, addr, b"")
                tn.start_soon(raw_answer, addr, b"\x16")
                await until_refused(server, 2)
            assert server.statistics().refused == 2

    run(main)


def test_peers_that_come_at_once() -> None:
    async def main() -> None:
        async with open_ipc_server(aid=lambda: HOST) as server:
            addr = await serve(server)
            async with trio.open_nursery() as tn:
                for _ in range(20):
                    tn.start_soon(greet, addr, ep_certs.config())

    run(main)


# -- what it changes -----------------------------------------------------------------------------------


def test_beyond_loopback_without_an_explicit_key() -> None:
    async def main() -> None:
        (endpoint,) = await bind_endpoints([("0.0.0.0", 0)])
        endpoint.close_listener()

    run(main)


@pytest.mark.skipif(not HAS_UDS, reason="no Unix sockets")
def test_unix_sockets_are_as_before(private_dir: Path) -> None:
    async def main() -> None:
        # Files that are not there: nobody looks.
        use(TLSConfig("/no/cert", "/no/key", "/no/ca"))
        async with open_ipc_server(aid=lambda: HOST) as server:
            addr = (str(private_dir), "plain.sock")
            await server.listen_on(accept_addrs=[addr])
            async with await Channel.from_addr(addr) as chan:
                assert await chan.handshake(GUEST) == HOST

    run(main)


def test_unusable_files_are_found_before_anything_is_bound() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def main() -> None:
        set_wire_settings(WireSettings(authkey=KEY, tls=TLSConfig("/no/cert", "/no/key", None)))
        with pytest.raises(FileNotFoundError, match="/no/cert"):
            await bind_endpoints([("127.0.0.1", port)])
        # No OSError: who looks an actor up would take the address for one where nobody listens.
        with pytest.raises(RuntimeFailure, match="/no/cert"):
            await Channel.from_addr(("127.0.0.1", port))
        socket.create_server(("127.0.0.1", port)).close()

    run(main)


# -- large payloads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1 << 20, 1 << 26])
def test_a_large_payload_arrives_whole(size: int) -> None:
    payload = os.urandom(1 << 20) * (size >> 20)

    async def main() -> None:
        made = TLSContexts(ep_certs.config())
        with socket.create_server(("127.0.0.1", 0)) as listener:
            addr = TCPAddress(*listener.getsockname()[:2])
            near = await connect_tls(addr, made.connect, max_frame_size=1 << 30)
            far = tls_from_socket(listener.accept()[0], made.accept, max_frame_size=1 << 30)
        async with trio.open_nursery() as tn:
            tn.start_soon(near.secure)
            tn.start_soon(far.secure)
        async with trio.open_nursery() as tn:
            await tn.start(near.run_flusher)
            near.put_bytes(1, payload)
            msg = await far.recv()
            assert isinstance(msg, Yield)
            assert msgspec.msgpack.decode(msg.pld) == payload
            assert near.unsent == 0
            tn.cancel_scope.cancel()
        near.abort()
        far.abort()

    run(main)
