"""Two sides whose TLS settings do not go together: each is told so, in words, and what to do."""

from __future__ import annotations

import json
import logging
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import ep_certs
import pytest
import trio
from ep_run import run

import tractor
from tractor import TLSConfig
from tractor._errors import TransportClosed
from tractor.address._types import TCPAddress
from tractor.ipc import open_ipc_server
from tractor.ipc._chan import Channel
from tractor.ipc._server import MAX_WARNINGS, Server
from tractor.msg.types import Aid
from tractor.transport._settings import WireSettings, reset_wire_settings, set_wire_settings
from tractor.transport._tcp import connect_tcp
from tractor.transport.tls._config import TLSContexts
from tractor.transport.tls._stream import connect_tls
from tractor.transport.tls._words import why_tls_failed

KEY = b"the key of this test's tree"
HOST = Aid("host", "2" * 36, 2)
GUEST = Aid("guest", "1" * 36, 1)


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    yield
    reset_wire_settings()


def use(tls: TLSConfig | None) -> None:
    set_wire_settings(WireSettings(authkey=KEY, tls=tls))


class Case(NamedTuple):
    """Settings of the side that accepts and of the one that dials, and what each is told."""

    accepts: TLSConfig | None
    dials: TLSConfig | None
    dialler: str
    acceptor: str
    has_certificate: bool = True


OURS = ep_certs.config()
CASES = {
    "only the acceptor has TLS": Case(
        OURS,
        None,
        r"without TLS, as this side does: give tls= on both sides, or on none",
        r"without TLS, and this side with it: give tls= on both sides, or on none",
    ),
    "only the dialler has TLS": Case(
        None,
        OURS,
        r"without TLS, and this side with it: give tls= on both sides, or on none",
        r"without TLS, as this side does: give tls= on both sides, or on none",
    ),
    "the dialler does not know the acceptor's authority": Case(
        OURS,
        ep_certs.config(trusts="theirs"),
        r"the peer's certificate was refused: .*none of cafile '.*-ca.pem' has issued it",
        r"refused this side's certificate: no authority of its cafile has issued it",
    ),
    "the acceptor does not know the dialler's authority": Case(
        OURS,
        ep_certs.config(signed_by="theirs", trusts="ours"),
        r"refused this side's certificate: no authority of its cafile has issued it",
        r"the peer's certificate was refused: .*none of cafile '.*ours-ca.pem' has issued it",
    ),
    "another host's certificate": Case(
        ep_certs.config(hosts=("example.org",)),
        OURS,
        r"the peer's certificate was refused: .*; '127.0.0.1' was dialled, so that must be among",
        r"refused this side's certificate, say because it is not for the name that was dialled",
    ),
    "no certificate of the dialler": Case(
        OURS,
        OURS,
        r"requires a certificate of this side, and got none",
        r"has shown no certificate, which this side requires \(require_client_cert\)",
        has_certificate=False,
    ),
    "the dialler's certificate has expired": Case(
        OURS,
        ep_certs.config(expired=True),
        r"refused this side's certificate: it has expired",
        r"the peer's certificate was refused: .*expired",
    ),
    "the acceptor's certificate has expired": Case(
        ep_certs.config(expired=True),
        OURS,
        r"the peer's certificate was refused: .*expired",
        r"refused this side's certificate: it has expired",
    ),
}


async def dial(addr: TCPAddress, case: Case, version: ssl.TLSVersion) -> None:
    # The process's settings are the acceptor's.
    if case.dials is None:
        transport: Any = await connect_tcp(addr, max_frame_size=10**6)
    else:
        context = TLSContexts(case.dials).connect
        if not case.has_certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(case.dials.cafile)
        context.maximum_version = version
        transport = await connect_tls(addr, context, max_frame_size=10**6)
    async with Channel(transport, "connect") as chan:
        await chan.handshake(GUEST, KEY)


async def serve(server: Server) -> TCPAddress:
    (endpoint,) = await server.listen_on(accept_addrs=[("127.0.0.1", 0)])
    assert isinstance(endpoint.addr, TCPAddress)
    return endpoint.addr


async def until_refused(server: Server, count: int) -> None:
    while server.statistics().refused < count:
        await trio.sleep(0.001)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", CASES)
def test_both_sides_are_told(
    name: str, version: ssl.TLSVersion, caplog: pytest.LogCaptureFixture
) -> None:
    case = CASES[name]
    caplog.set_level(1, "tractor")
    told: list[str] = []

    async def main() -> None:
        use(case.accepts)
        async with open_ipc_server(aid=lambda: HOST) as server:
            addr = await serve(server)
            for _ in range(5):
                with pytest.raises(TransportClosed) as caught:
                    await dial(addr, case, version)
                told.append(str(caught.value))
            await until_refused(server, 5)

    run(main)
    for text in told:
        assert re.search(case.dialler, text), text
    refusals = [r for r in caplog.records if "did not become a peer" in r.getMessage()]
    assert len(refusals) == 5
    for record in refusals:
        assert re.search(case.acceptor, record.getMessage()), record.getMessage()
    # A warning the first time; who tries again and again does not fill the log.
    assert [r.levelno == logging.WARNING for r in refusals] == [True] + [False] * 4


def test_strangers_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "tractor")

    async def main() -> None:
        use(OURS)
        async with open_ipc_server(aid=lambda: HOST) as server:
            addr = await serve(server)
            for number in range(MAX_WARNINGS + 4):
                async with await trio.open_tcp_stream(addr.host, addr.port) as stream:
                    await stream.send_all(b"GET /%d HTTP/1.1\r\n\r\n" % number)
                    await until_refused(server, number + 1)

    run(main)
    warnings = [r.getMessage() for r in caplog.records if "did not become a peer" in r.getMessage()]
    assert len(warnings) == MAX_WARNINGS
    assert "the peer does not speak TLS: it began with b'GET /0" in warnings[0]


def test_a_listener_that_hangs_up() -> None:
    """It says nothing at all, before or after it has read something."""
    for config, text in (
        (OURS, "one that does not speak TLS does so, or refuses this side's certificate"),
        (None, r"one whose TLS settings are not this side's does so \(see tls\)"),
    ):
        for reads in (0, 6):

            async def main(config: Any = config, text: str = text, reads: int = reads) -> None:
                with socket.create_server(("127.0.0.1", 0)) as listener:

                    def hang_up() -> None:
                        sock, _ = listener.accept()
                        with sock:
                            sock.recv(reads)

                    case = Case(None, config, "", "")
                    async with trio.open_nursery() as tn:
                        tn.start_soon(trio.to_thread.run_sync, hang_up)
                        with pytest.raises(TransportClosed, match=text):
                            await dial(
                                TCPAddress(*listener.getsockname()), case, ssl.TLSVersion.TLSv1_3
                            )

            run(main)


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "requires a certificate of this side"),
        ("TLSV1_ALERT_UNKNOWN_CA", "no authority of its cafile"),
        ("SSLV3_ALERT_CERTIFICATE_REVOKED", "revoked"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "not for the name"),
        ("SSLV3_ALERT_CERTIFICATE_UNKNOWN", "refused this side's certificate"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "requires a certificate"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "no version of TLS in common"),
        ("WRONG_VERSION_NUMBER", r"^\[SSL\] as OpenSSL says$"),
        (None, r"^\[SSL\] as OpenSSL says$"),
    ],
)
def test_words_for_what_openssl_says(reason: str | None, text: str) -> None:
    exc = ssl.SSLError(1, "[SSL] as OpenSSL says")
    exc.strerror = "[SSL] as OpenSSL says"
    exc.reason = reason  # type: ignore[assignment]
    words = why_tls_failed(exc, b"\x15\x03", None, None)
    assert re.search(text, words), words
    assert "as OpenSSL says" in words


# -- in a tree --


def free_port() -> tuple[str, int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host, port = probe.getsockname()
        return host, port


SERVICE = """
import json, sys, trio, tractor

async def main():
    addr, tls, key = json.loads(sys.argv[1])
    async with tractor.open_root_actor(
        name="svc", registry_addrs=[tuple(addr)], authkey=key.encode(), loglevel="warning",
        tls=tls and tractor.TLSConfig(*tls),
    ):
        print("up", flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@contextmanager
def service(addr: tuple[str, int], tls: TLSConfig | None) -> Iterator[subprocess.Popen[str]]:
    """A program that is a registrar, and an actor that can be looked up."""
    paths = None if tls is None else [tls.certfile, tls.keyfile, tls.cafile]
    arguments = json.dumps([addr, paths, KEY.decode()])
    with subprocess.Popen(
        [sys.executable, "-c", SERVICE, arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["only the acceptor has TLS", "only the dialler has TLS"])
def test_programs_and_look_ups_are_told(name: str) -> None:
    """A second program at a registrar of another setting, and an actor that is registered with it."""
    case = CASES[name]
    addr = free_port()

    async def main() -> None:
        with pytest.raises(RuntimeError, match=f"not a registrar.*{case.dialler}"):
            async with tractor.open_root_actor(registry_addrs=[addr], authkey=KEY, tls=case.dials):
                pytest.fail("opened")
        async with tractor.open_root_actor(
            registry_addrs=[free_port()], authkey=KEY, tls=case.dials
        ) as actor:
            assert isinstance(actor, tractor.Registrar)
            await actor.register_actor(("svc", "x"), addr)
            for opener, text in (
                (lambda: tractor.find_actor("svc"), "'svc' is registered at"),
                (lambda: tractor.get_registry(addr), "no registrar answers at"),
            ):
                with pytest.raises(tractor.RuntimeFailure, match=f"{text}.*{case.dialler}"):
                    async with opener():
                        pytest.fail("found")

    with service(addr, case.accepts) as process:
        run(main)
        process.terminate()
        _, err = process.communicate(timeout=20)
    assert re.search(case.acceptor, err), err
