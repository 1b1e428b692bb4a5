"""Who gets at the page of ``tractor dash``: each row of the paragraph on security, with a hostile mind."""

from __future__ import annotations

import os
import re
import socket
import stat
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from ep_page import MadeUp, ask, connected, entered, head_of, read_all, served, token_of, viewing

for _name in ("starlette", "hypercorn"):
    pytest.importorskip(_name, reason=f"needs {_name}")

from tractor.observe.page import _serve  # noqa: E402
from tractor.observe.page._doors import BYTES, MOST_TOKENS, Doors  # noqa: E402
from tractor.observe.page._gate import MAX_HEAD  # noqa: E402
from tractor.observe.page._serve import Dash  # noqa: E402

PATHS = [("GET", "/"), ("GET", "/static/main.js"), ("POST", "/api/session"), ("POST", "/api/look")]
ALL = [*PATHS, ("PUT", "/"), ("OPTIONS", "/api/events"), ("DELETE", "/nothing"), ("HEAD", "/")]


def run(test: Callable[[Dash], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with served(**options) as (dash, _):
            await test(dash)

    trio.run(main)


def test_it_listens_on_127_0_0_1_alone() -> None:
    async def test(dash: Dash) -> None:
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("127.0.0.2", dash.port)
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("::1", dash.port)
        assert (await ask(dash)).status == 200

    run(test)


def test_a_token_is_good_once_and_its_secret_for_the_session() -> None:
    async def test(dash: Dash) -> None:
        token = token_of(dash)
        assert len(token) * 6 // 8 == BYTES == 32
        first = await ask(dash, "/api/session", "POST", body={"token": token})
        again = await ask(dash, "/api/session", "POST", body={"token": token})
        assert (first.status, again.status) == (200, 401)
        assert "secret" not in again.json
        secret = first.json["secret"]
        assert secret != token
        for _ in range(2):
            known = await ask(dash, "/api/stacks", "POST", body={"uuid": "x"}, secret=secret)
            assert known.status == 409
        # Neither the token nor a part of the secret is one.
        for wrong in (token, secret[:-1], secret + "A", "", "é"):
            got = await ask(dash, "/api/stacks", "POST", body={"uuid": "x"}, secret=wrong)
            assert got.status == 401

    run(test)


@pytest.mark.parametrize("token", ["", "A" * 43, "é", "\ud800", "A" * 3000], ids=range(5))
def test_a_guessed_token_opens_nothing_and_uses_nothing_up(token: str) -> None:
    async def test(dash: Dash) -> None:
        right = token_of(dash)
        got = await ask(dash, "/api/session", "POST", body={"token": token})
        assert got.status in (400, 401)
        assert (await ask(dash, "/api/session", "POST", body={"token": right})).status == 200

    run(test)


def test_tokens_and_secrets_are_compared_whole_and_kept_within_a_bound() -> None:
    doors = Doors()
    tokens = [doors.new_token() for _ in range(MOST_TOKENS + 1)]
    assert len(set(tokens)) == MOST_TOKENS + 1
    assert doors.exchange(tokens[0]) is None
    secret = doors.exchange(tokens[-1])
    assert secret is not None
    assert doors.knows(secret)
    assert not doors.knows(secret.lower())
    assert not Doors().knows("")


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1.evil.example:{port}",
        "127.0.0.1:{port}.evil.example",
        "localhost.:{port}",
        "127.0.0.1:{port}@evil.example",
        "127.1:{port}",
        "0.0.0.0:{port}",
        "[::]:{port}",
        "127.0.0.1:",
        "",
        None,
    ],
)
def test_a_host_that_is_not_this_one_gets_421_on_every_path(host: str | None) -> None:
    async def test(dash: Dash) -> None:
        secret = await entered(dash)
        name = host.format(port=dash.port) if host is not None else None
        for method, path in ALL:
            got = await ask(dash, path, method, body={}, secret=secret, Host=name)
            # Without a host it is no HTTP/1.1.
            assert got.status == (400 if name is None else 421), (method, path)

    run(test)


def test_two_hosts_are_none() -> None:
    async def test(dash: Dash) -> None:
        async with await connected(dash) as stream:
            head = head_of(dash, "GET", "/").replace("\r\n\r\n", "\r\nHost: evil.example\r\n\r\n")
            await stream.send_all(head.encode())
            status = (await stream.receive_some())[:12]
        assert status in (b"HTTP/1.1 400", b"HTTP/1.1 421")

    run(test)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:1", "LOCALHOST", "[::1]:65535"])
def test_a_host_with_another_port_is_one_of_ssh(host: str) -> None:
    async def test(dash: Dash) -> None:
        origin = f"http://{host}"
        assert (await ask(dash, Host=host, Origin=origin)).status == 200
        got = await ask(
            dash, "/api/session", "POST", body={"token": token_of(dash)}, Host=host, Origin=origin
        )
        assert got.status == 200

    run(test)


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://evil.example",
        "https://127.0.0.1:{port}",
        "http://127.0.0.1:1",
        "http://127.0.0.1",
        "http://localhost:{port}",
        "http://127.0.0.1:{port}/",
        "file://",
        "",
    ],
)
def test_another_origin_gets_403_on_every_path(origin: str) -> None:
    async def test(dash: Dash) -> None:
        secret = await entered(dash)
        for method, path in ALL:
            name = origin.format(port=dash.port)
            got = await ask(dash, path, method, body={}, secret=secret, Origin=name)
            assert got.status == 403, (method, path)

    run(test)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "Same-Origin"])
def test_a_request_that_another_site_has_made_gets_403(site: str) -> None:
    async def test(dash: Dash) -> None:
        secret = await entered(dash)
        for method, path in ALL:
            got = await ask(dash, path, method, body={}, secret=secret, Sec_Fetch_Site=site)
            assert got.status == 403, (method, path)
        for mode, dest in [("no-cors", "script"), ("navigate", "iframe"), ("cors", "empty")]:
            more = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": mode, "Sec_Fetch_Dest": dest}
            assert (await ask(dash, **more)).status == 403
        # A link to the page, as the file of `--open` is one, opens what everybody gets, in a tab of its own.
        link = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
        assert (await ask(dash, **link)).status == 200
        assert (await ask(dash, "/static/main.js", **link)).status == 403
        assert (await ask(dash, "/api/session", "POST", body={}, **link)).status == 403
        for own in ("same-origin", "none"):
            assert (await ask(dash, Sec_Fetch_Site=own)).status == 200

    run(test)


def test_without_the_secret_there_is_the_empty_page_and_401() -> None:
    async def test(dash: Dash) -> None:
        assert (await ask(dash)).status == 200
        assert (await ask(dash, "/static/dash.css")).status == 200
        for path in ("events", "look", "stacks", "act", "nothing"):
            for method in ("GET", "POST", "PUT"):
                got = await ask(dash, f"/api/{path}", method, body={"panels": []})
                assert got.status == 401
                assert got.headers["www-authenticate"] == "Bearer"
        for value in ("Basic abc", "Bearer", "Bearer  ", "abc"):
            got = await ask(dash, "/api/look", "POST", body={}, Authorization=value)
            assert got.status == 401
        for path in ("/nothing", "/static/../_doors.py", "/static/%2e%2e%2f_doors.py", "//"):
            assert (await ask(dash, path)).status in (401, 404)
        # Cookies open nothing: they are shared by all ports of a host.
        secret = await entered(dash)
        got = await ask(dash, "/api/look", "POST", body={}, Cookie=f"secret={secret}")
        assert got.status == 401

    run(test)


def test_every_answer_says_what_a_browser_may_do_with_it() -> None:
    async def test(dash: Dash) -> None:
        secret = await entered(dash)
        answers = [
            await ask(dash),
            await ask(dash, "/static/main.js"),
            await ask(dash, "/api/look", "POST", body={}),
            await ask(dash, "/api/stacks", "POST", body={"uuid": "r"}, secret=secret),
            await ask(dash, "/", "PUT", secret=secret),
            await ask(dash, Host="evil.example"),
            await ask(dash, Origin="null"),
        ]
        assert {one.status for one in answers} == {200, 401, 409, 405, 421, 403}
        for one in answers:
            policy = one.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; ")
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert set(re.findall(r"(\S+)-src '(\w+)'", policy)) == {
                ("default", "none"),
                *((what, "self") for what in ("script", "style", "img", "connect")),
            }
            assert one.headers["x-content-type-options"] == "nosniff"
            assert one.headers["cache-control"] == "no-store"
            assert one.headers["referrer-policy"] == "no-referrer"
            assert not {"set-cookie", "access-control-allow-origin", "server"} & one.headers.keys()

    run(test)


def test_the_files_of_the_page_hold_nothing_of_another_place_and_are_small() -> None:
    files = list(Path(_serve.__file__).with_name("static").iterdir())
    assert sum(one.stat().st_size for one in files) <= 150 * 1024
    for one in files:
        text = one.read_text()
        urls = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text))
        assert urls <= {"http://www.w3.org"}, one
        # Texts are put in as texts.
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser",
            text,
        ), one
        if one.suffix == ".html":
            assert not re.search(r"<script(?![^>]*\bsrc=)|\bon\w+=|\bstyle=", text)


async def _first_kind(dash: Dash, secret: str) -> str:
    """What a new viewer gets first; empty: there is no place for it."""
    async with viewing(dash, secret, "tree") as states:
        try:
            kind: str = (await anext(states))[0]
            return kind
        except AssertionError as exc:
            if "503" not in str(exc):
                raise
            return ""


def test_a_ninth_viewer_is_told_so_and_a_place_is_free_again() -> None:
    async def main() -> None:
        async with served() as (dash, _), trio.open_nursery() as tn:
            secret = await entered(dash)

            async def look(*, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
                with trio.CancelScope() as scope:
                    async with viewing(dash, secret, "tree") as states:
                        await anext(states)
                        task_status.started(scope)
                        async for _ in states:
                            pass

            scopes = [await tn.start(look) for _ in range(8)]
            body = {"panels": ["tree"]}
            got = await ask(dash, "/api/events", "POST", body=body, secret=secret)
            assert got.status == 503
            assert "8 viewers" in got.json["error"]
            scopes[0].cancel()
            while (await _first_kind(dash, secret)) != "hello":
                pass
            tn.cancel_scope.cancel()

    trio.run(main)


def test_a_head_that_is_too_long_is_refused() -> None:
    async def test(dash: Dash) -> None:
        assert MAX_HEAD == 16 * 1024
        for name in ("X-Long", "Authorization"):
            got = await ask(dash, **{name: "A" * MAX_HEAD})
            assert got.status == 431
        # Without an end, too.
        async with await connected(dash) as stream:
            line = b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000
            with pytest.raises(trio.BrokenResourceError):
                await stream.send_all(line * 20)
        assert (await ask(dash)).status == 200

    run(test)


def test_who_sends_a_head_byte_by_byte_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _serve.HEAD_LIMIT == 10.0
    monkeypatch.setattr(_serve, "HEAD_LIMIT", 0.5)

    async def test(dash: Dash) -> None:
        async with await connected(dash) as stream, trio.open_nursery() as tn:

            async def drip() -> None:
                try:
                    for byte in head_of(dash, "GET", "/", {"X": "y" * 5000}).encode():
                        await stream.send_all(bytes([byte]))
                        await trio.sleep(0.05)
                except trio.BrokenResourceError:
                    pass

            tn.start_soon(drip)
            assert await read_all(stream) == b""
            tn.cancel_scope.cancel()
        assert (await ask(dash)).status == 200

    run(test)


def test_a_body_that_is_too_slow_or_too_long_or_none_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tractor.observe.page import _app

    assert _app.BODY_LIMIT == 10.0
    monkeypatch.setattr(_app, "BODY_LIMIT", 0.3)

    async def test(dash: Dash) -> None:
        kind = {"Content-Type": "application/json"}
        async with await connected(dash) as stream:
            head = head_of(dash, "POST", "/api/session", {**kind, "Content-Length": "40"})
            await stream.send_all(head.encode() + b"{")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 408")
        long = b'{"token":"' + b"A" * _app.MAX_BODY + b'"}'
        assert (await ask(dash, "/api/session", "POST", body=long)).status == 413
        for wrong in (b"", b"[]", b"{", b"\xff", b"[" * 4000, b"{}", b'{"token":1}'):
            assert (await ask(dash, "/api/session", "POST", body=wrong)).status == 400, wrong
        # What a form of another page could send.
        for other in ("text/plain", "application/x-www-form-urlencoded"):
            got = await ask(
                dash, "/api/session", "POST", body={"token": token_of(dash)}, Content_Type=other
            )
            assert got.status == 415

    run(test)


def test_no_other_protocol_is_spoken() -> None:
    async def test(dash: Dash) -> None:
        got = await ask(
            dash,
            "/api/events",
            Connection="Upgrade",
            Upgrade="websocket",
            Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
            Sec_WebSocket_Version="13",
        )
        assert got.status == 403
        async with await connected(dash) as stream:
            await stream.send_all(b"\x16\x03\x01 garbage\r\n\r\n")
            assert b" 200" not in await read_all(stream)
        assert (await ask(dash)).status == 200

    run(test)


def test_a_page_that_only_looks_does_nothing() -> None:
    async def test(dash: Dash) -> None:
        secret = await entered(dash)
        request = {"op": "cancel", "uuid": "r", "confirm": "root@1"}
        got = await ask(dash, "/api/act", "POST", body=request, secret=secret)
        assert got.status == 403
        assert "--control" in got.json["error"]

    run(test)


def test_an_act_needs_the_name_of_whom_it_is_about() -> None:
    async def main() -> None:
        looks = MadeUp()
        looks.tree()
        async with served(looks, control=True) as (dash, _):
            secret = await entered(dash)
            for confirm in (None, "", "feed", "feed@3", "root@1"):
                request = {"op": "cancel", "uuid": "f", "confirm": confirm}
                got = await ask(dash, "/api/act", "POST", body=request, secret=secret)
                assert got.status == 400
                assert "feed@2" in got.json["error"]
            for method in ("GET", "PUT"):
                got = await ask(dash, "/api/act", method, body={}, secret=secret)
                assert got.status == 405
            for op, uuid in [("eval", "f"), ("cancel", "nobody")]:
                request = {"op": op, "uuid": uuid, "confirm": "feed@2"}
                got = await ask(dash, "/api/act", "POST", body=request, secret=secret)
                assert got.status == 409

    trio.run(main)


@pytest.mark.skipif(sys.platform == "win32", reason="modes of files")
def test_the_browser_gets_a_file_and_not_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    opened: list[str] = []

    def open_it(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr("webbrowser.open", open_it)
    said: list[str] = []

    async def main() -> None:
        dash = Dash([], looks=MadeUp())
        with trio.fail_after(30):
            async with trio.open_nursery() as tn:

                async def serve() -> None:
                    assert await dash.run(say=said.append, open_it=True) == 15

                tn.start_soon(serve)
                while not opened:
                    await trio.sleep(0.01)
                (file,) = tmp_path.iterdir()
                assert opened == [file.as_uri()]
                assert stat.S_IMODE(file.stat().st_mode) == 0o600
                tokens = re.findall(r"#([\w-]{43})", file.read_text())
                assert tokens[0] not in opened[0]
                assert tokens[0] not in said[0]
                # Once it was used there is nothing to be read any more.
                got = await ask(dash, "/api/session", "POST", body={"token": tokens[0]})
                assert got.status == 200
                while file.exists():
                    await trio.sleep(0.01)
                os.kill(os.getpid(), 15)

    trio.run(main)
    assert not list(tmp_path.iterdir())


def test_a_port_that_is_taken_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from tractor.cli import main

    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        assert main(["dash", "--port", str(port)]) == 1
    assert f"port {port} can't be had" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["dash", "--port", "70000"])


def test_a_missing_library_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tractor.cli import main
    from tractor.cli.watch import _dash

    monkeypatch.setattr(_dash, "NEEDED", ("starlette", "no_library_of_this_name"))
    assert main(["dash"]) == 1
    err = capsys.readouterr().err
    assert "it needs no_library_of_this_name (`pip install 'trio-tractor[dash]'`)" in err
