"""The application: the page's files, the stream of states, and what is asked at a click."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator
from contextlib import aclosing
from importlib import resources
from typing import Any

import msgspec
import trio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tractor.observe.page._acting import NotMeant, act
from tractor.observe.page._collector import PANELS, Collector, Full, in_thread
from tractor.observe.page._doors import Doors
from tractor.observe.page._gate import Gate, Refused
from tractor.observe.page._looks import Looks, Unknown
from tractor.observe.page._recording import Recorder, Take

MAX_BODY = 4 * 1024
"""Bytes of a request's body."""

BODY_LIMIT = 10.0
"""Seconds for a request's body."""

TELL_INTERVAL = 0.5
"""Seconds between two states of a recording."""

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Of the page's files; there are no others."""


class Page:
    """What answers behind the gate.

    Args:
        doors: who may look.
        collector: asks for all who look.
        looks: asks at a click.
        recorder: records at a click.
        control: whether users may act.
    """

    def __init__(
        self,
        doors: Doors,
        collector: Collector,
        looks: Looks,
        recorder: Recorder,
        control: bool,
    ) -> None:
        self._doors = doors
        self._collector = collector
        self._looks = looks
        self._recorder = recorder
        self._control = control
        self.used = trio.Event()
        """A token was exchanged."""

    def app(self) -> Gate:
        """The whole application."""
        routes = [
            Route("/", self._file),
            Route("/static/{name}", self._file),
            Route("/api/session", self._session, methods=["POST"]),
            Route("/api/events", self._events, methods=["POST"]),
            Route("/api/look", self._look, methods=["POST"]),
            Route("/api/stacks", self._stacks, methods=["POST"]),
            Route("/api/record", self._record, methods=["POST"]),
            Route("/api/record/stop", self._stop, methods=["POST"]),
            Route("/api/record/file", self._trace_file, methods=["POST"]),
            Route("/api/act", self._act, methods=["POST"]),
        ]
        handlers: Any = {Refused: _refused, Unknown: _unknown, NotMeant: _not_meant}
        return Gate(Starlette(routes=routes, exception_handlers=handlers), self._doors)

    async def _file(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        files = _files()
        if name not in files:
            raise Refused(404, "there is no such file")
        body, kind = files[name]
        return Response(body, media_type=kind)

    async def _session(self, request: Request) -> Response:
        given = await _body(request)
        secret = self._doors.exchange(_text(given, "token"))
        if secret is None:
            raise Refused(401, "this address was used already, or is wrong")
        self.used.set()
        return JSONResponse({"secret": secret})

    async def _events(self, request: Request) -> Response:
        given = await _body(request)
        panels, actor = _panels(given)
        viewing = self._collector.viewing(panels, actor)
        try:
            viewer = viewing.__enter__()
        except Full:
            raise Refused(503, "8 viewers look already; close one of their tabs") from None

        return _Stream(viewer.lines(), viewing)

    async def _look(self, request: Request) -> Response:
        given = await _body(request)
        if not self._collector.look(_text(given, "viewer"), *_panels(given)):
            raise Refused(410, "this viewer is gone")
        return Response(status_code=204)

    async def _stacks(self, request: Request) -> Response:
        given = await _body(request)
        answer = await in_thread(self._looks.stacks, _text(given, "uuid"))
        return Response(msgspec.json.encode(answer), media_type="application/json")

    async def _record(self, request: Request) -> Response:
        given = await _body(request)
        return _Recording(self._recorder.begin(_text(given, "uuid")))

    async def _stop(self, request: Request) -> Response:
        await _body(request)
        self._recorder.stop()
        return Response(status_code=204)

    async def _trace_file(self, request: Request) -> Response:
        number = (await _body(request)).get("number")
        if not isinstance(number, int):
            raise Refused(400, "'number' is missing, or no number")
        taken = self._recorder.taken(number)
        name = {"content-disposition": f'attachment; filename="{taken.name}"'}
        return Response(taken.file, media_type="application/gzip", headers=name)

    async def _act(self, request: Request) -> Response:
        given = await _body(request)
        if not self._control:
            raise Refused(403, "this page only looks; `tractor dash --control` lets it act")
        return JSONResponse({"text": await in_thread(act, self._looks, given)})


class _Stream(StreamingResponse):
    """The states for a viewer, whose place is free when the response ends, whyever."""

    def __init__(self, lines: AsyncGenerator[bytes, None], viewing: Any) -> None:
        super().__init__(lines, media_type="application/x-ndjson")
        self._lines = lines
        self._viewing = viewing

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            async with aclosing(self._lines):
                await super().__call__(scope, receive, send)
        finally:
            self._viewing.__exit__(None, None, None)


class _Recording(StreamingResponse):
    """How a recording goes, and what it has brought.  Nobody reads it any more: it ends."""

    def __init__(self, take: Take) -> None:
        super().__init__(self._lines(), media_type="application/x-ndjson")
        self._take = take

    async def _lines(self) -> AsyncGenerator[bytes, None]:
        take = self._take
        while not take.done.is_set():
            yield _line("recording", take.state())
            with trio.move_on_after(TELL_INTERVAL):
                await take.done.wait()
        if take.taken is not None:
            yield _line("timeline", take.taken.told)
        else:
            yield _line("failed", {"why": take.why or "it was given up"})

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._take.give_up()


def _line(kind: str, state: Any) -> bytes:
    return msgspec.json.encode({"kind": kind, "data": state}) + b"\n"


@functools.cache
def _files() -> dict[str, tuple[bytes, str]]:
    """The page's files, by name, with their types."""
    found = {}
    for one in resources.files("tractor.observe.page").joinpath("static").iterdir():
        kind = TYPES.get(f".{one.name.rpartition('.')[2]}")
        if kind is not None:
            found[one.name] = (one.read_bytes(), kind)
    return found


async def _body(request: Request) -> dict[str, Any]:
    """What a request says.  Raises Refused: it is too long, too slow, or no JSON object."""
    data = bytearray()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "a request is JSON")
    with trio.move_on_after(BODY_LIMIT) as scope:
        try:
            async with aclosing(request.stream()) as parts:
                async for part in parts:
                    data += part
                    if len(data) > MAX_BODY:
                        raise Refused(413, f"a request has at most {MAX_BODY} bytes")
        except ClientDisconnect:
            raise Refused(400, "it was not sent to its end") from None
    if scope.cancelled_caught:
        raise Refused(408, f"a request was not there within {BODY_LIMIT:g} s")
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        raise Refused(400, "a request is a JSON object")
    return found


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str):
        raise Refused(400, f"{name!r} is missing, or no text")
    return value


def _panels(given: dict[str, Any]) -> tuple[frozenset[str], str]:
    listed = given.get("panels")
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise Refused(400, "'panels' is missing, or no list of names")
    unknown = set(listed) - PANELS
    if unknown:
        raise Refused(400, f"there are no panels {sorted(unknown)}")
    actor = given.get("actor") or ""
    return frozenset(listed), _text({"actor": actor}, "actor")


async def _refused(_request: Request, exc: Refused) -> Response:
    return JSONResponse({"error": exc.text}, exc.status, {"connection": "close"})


async def _unknown(_request: Request, exc: Unknown) -> Response:
    return JSONResponse({"error": str(exc)}, 409)


async def _not_meant(_request: Request, exc: NotMeant) -> Response:
    return JSONResponse({"error": str(exc)}, 400)
