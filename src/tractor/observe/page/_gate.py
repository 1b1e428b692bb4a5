"""What every request passes before anything else sees it: where it comes from, and whether it has the secret.

A page of another origin can send requests here, and a name of its own may lead here (DNS rebinding), so both names are
looked at, on every path and with every method.  There is no cookie, so no other page can send what a request needs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from tractor.observe.page._doors import Doors

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_HOST = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
"""With any port: `ssh -L` has its own."""

STATIC = "/static/"

MAX_HEAD = 16 * 1024
"""Bytes of a request's head.  The server counts what it can't take apart yet; one that came at once is counted here."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)

HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
"""Of every answer."""


class Refused(Exception):
    """A request gets this status, and these words."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(status, text)


class Gate:
    """The application behind its gate.

    Args:
        app: it.
        doors: who may look.
    """

    def __init__(self, app: App, doors: Doors) -> None:
        self._app = app
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            # Before it is accepted: the server answers with 403.
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._http(scope, receive, _with_headers(send))

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            check_size(scope)
            check_origin(scope)
            if not is_open(scope["method"], scope["path"]):
                self._check_secret(scope)
        except Refused as exc:
            await send_refusal(send, exc)
            return
        await self._app(scope, receive, send)

    def _check_secret(self, scope: Scope) -> None:
        values = _values(scope, b"authorization")
        scheme, _, secret = (values[0] if len(values) == 1 else "").partition(" ")
        if scheme.lower() != "bearer" or not self._doors.knows(secret.strip()):
            raise Refused(401, 'open the address that "tractor dash" prints')


def check_size(scope: Scope) -> None:
    """Return where the head of a request is within its bound.  Raises Refused."""
    line = len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")
    if line + sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > MAX_HEAD:
        raise Refused(431, f"the head of a request has at most {MAX_HEAD} bytes")


def check_origin(scope: Scope) -> None:
    """Return where a request comes from this host, and from this page.  Raises Refused."""
    if not str(scope.get("http_version", "1.1")).startswith("1"):
        raise Refused(505, "HTTP/1.1 alone is spoken here")
    hosts = _values(scope, b"host")
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        raise Refused(421, "this is a page of 127.0.0.1, localhost or [::1]")
    for origin in _values(scope, b"origin"):
        if origin.lower() != f"http://{hosts[0]}".lower():
            raise Refused(403, "another page asks")
    for site in _values(scope, b"sec-fetch-site"):
        if site not in ("same-origin", "none") and not _is_a_way_in(scope):
            raise Refused(403, "another page asks")


def is_open(method: str, path: str) -> bool:
    """Whether that needs no secret: it says nothing of any actor."""
    if method in ("GET", "HEAD"):
        return path == "/" or path.startswith(STATIC)
    return method == "POST" and path == "/api/session"


def _is_a_way_in(scope: Scope) -> bool:
    """Whether a whole tab goes to the empty page from another place, as from the file of ``--open``.

    It gets what anybody gets, and neither a frame nor a script of the other page can reach it.
    """
    return (
        scope["method"] == "GET"
        and scope["path"] == "/"
        and _values(scope, b"sec-fetch-mode") == ["navigate"]
        and _values(scope, b"sec-fetch-dest") == ["document"]
        and not _values(scope, b"origin")
    )


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            own = {name for name, _ in HEADERS}
            rest = [(k, v) for k, v in message.get("headers", []) if k.lower() not in own]
            message = {**message, "headers": [*rest, *HEADERS]}
        await send(message)

    return sending


async def send_refusal(send: Send, exc: Refused) -> None:
    """Answer a request with why it is refused; the connection ends with it."""
    body = json.dumps({"error": exc.text}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    if exc.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": exc.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
