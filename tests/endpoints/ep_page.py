"""What the tests of the page talk to it with: looks that are made up, and HTTP by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any

import trio
from ep_observe import sample

from tractor.observe.page._app import Page
from tractor.observe.page._looks import Looks, Unknown
from tractor.observe.page._serve import Dash
from tractor.observe.page._shown import Dialogs, Events, Shown
from tractor.runtime.seen._samples import DialogSample, Sample, TreeSample


class MadeUp(Looks):
    """Looks at no process, and counts how often it was asked."""

    def __init__(self, *actors: Sample, events: list[dict[str, Any]] | None = None) -> None:
        super().__init__([])
        self.samples = list(actors) or [
            sample("root", "r", 1),
            sample("feed", "f", 2, "r", cpu=8.0, rss=1024, fill=98.0, restarts=2),
            sample("feed.0", "f0", 3, "f", state="blocked", why="its loop did not answer"),
        ]
        self.events = events or []
        self.asked: Counter[str] = Counter()
        self.state = Shown()
        self._recent = Events()
        self._open = Dialogs()

    def tree(self) -> dict[str, Any]:
        self.asked["tree"] += 1
        self.state.add(
            TreeSample(time=100.0 + self.asked["tree"], host="h1", actors=tuple(self.samples))
        )
        self.actors = {one.uuid: one for one in self.state.latest.actors if one.uuid}
        return self.state.state()

    def actor(self, uuid: str) -> dict[str, Any]:
        self.asked["actor"] += 1
        number = self.asked["actor"]
        one = sample(
            "feed",
            uuid,
            2,
            "r",
            time=100.0 + number,
            dialogs=(
                DialogSample(
                    kind="context",
                    side="caller",
                    function="app:ticks",
                    peer="root[4c7229]@1",
                    state="open",
                    sent=24 * number,
                    received=0,
                    discarded=0,
                    fill=98.0,
                ),
            ),
        )
        return {**self._open.state(one), "levels": {"tractor": "error"}, "levels_why": None}

    def recent(self) -> tuple[dict[str, Any], bool]:
        self.asked["recent"] += 1
        new = self._recent.add(self.samples[0], {"events": self.events, "count": len(self.events)})
        return self._recent.state(100.0, []), new

    def stacks(self, uuid: str) -> Any:
        self.asked["stacks"] += 1
        if uuid not in self.actors:
            raise Unknown("there is no such actor")
        return {"tasks": [], "threads": [], "truncated": 0}


@asynccontextmanager
async def served(looks: Looks | None = None, **options: Any) -> AsyncIterator[tuple[Dash, Page]]:
    """A page, for the block."""
    dash = Dash([], looks=looks or MadeUp(), **options)
    with trio.fail_after(50):
        async with dash.serving() as page:
            yield dash, page


class Answer:
    """What a request got: its status, headers in lower case, and body."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1]) if first else 0
        pairs = [line.partition(": ") for line in lines]
        self.headers = {name.lower(): value for name, _, value in pairs}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def token_of(dash: Dash) -> str:
    return dash.new_address().partition("#")[2]


def head_of(
    dash: Dash, method: str, path: str, headers: Mapping[str, str | None] | None = None
) -> str:
    """The head of a request; a header that is ``None`` is left out."""
    given: dict[str, str | None] = {"Host": f"127.0.0.1:{dash.port}", **(headers or {})}
    lines = [f"{name}: {value}" for name, value in given.items() if value is not None]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""])


async def connected(dash: Dash) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", dash.port)


async def read_all(stream: trio.SocketStream) -> bytes:
    """What comes until the other side has ended."""
    data = bytearray()
    try:
        async for part in stream:
            data += part
    except trio.BrokenResourceError:
        pass
    return bytes(data)


async def ask(
    dash: Dash,
    path: str = "/",
    method: str = "GET",
    *,
    body: Any = None,
    secret: str | None = None,
    **headers: str | None,
) -> Answer:
    """A request on a connection of its own."""
    more: dict[str, str | None] = {"Connection": "close"}
    more |= {name.replace("_", "-"): value for name, value in headers.items()}
    data = b""
    if body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        more = {"Content-Type": "application/json", "Content-Length": str(len(data)), **more}
    if secret is not None:
        more["Authorization"] = f"Bearer {secret}"
    async with await connected(dash) as stream:
        await stream.send_all(head_of(dash, method, path, more).encode("latin-1") + data)
        return Answer(await read_all(stream))


async def entered(dash: Dash) -> str:
    """A secret."""
    answer = await ask(dash, "/api/session", "POST", body={"token": token_of(dash)})
    assert answer.status == 200
    secret: str = answer.json["secret"]
    return secret


def viewing(
    dash: Dash, secret: str, *panels: str, actor: str = ""
) -> AbstractAsyncContextManager[AsyncIterator[tuple[str, Any]]]:
    """The states of a viewer, as they come."""
    return following(dash, secret, "/api/events", {"panels": panels, "actor": actor})


@asynccontextmanager
async def following(
    dash: Dash, secret: str, path: str, asked: Any
) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
    """The lines of an answer, as they come; who leaves the block hangs up."""
    body = json.dumps(asked).encode()
    headers: dict[str, str | None] = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Authorization": f"Bearer {secret}",
    }
    async with await connected(dash) as stream:
        await stream.send_all(head_of(dash, "POST", path, headers).encode() + body)
        async with aclosing(_states(stream)) as states:
            yield states


async def _states(stream: trio.SocketStream) -> AsyncGenerator[tuple[str, Any], None]:
    data = bytearray()
    while b"\r\n\r\n" not in data:
        data += await stream.receive_some()
    head, _, data = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), bytes(head)
    line = bytearray()
    while True:
        # Chunks: a size in hex, that many bytes, and an end of line.
        while b"\r\n" not in data:
            part = await stream.receive_some()
            if not part:
                return
            data += part
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return
        while len(data) < length + 2:
            data += await stream.receive_some()
        line += data[:length]
        data = data[length + 2 :]
        while b"\n" in line:
            one, _, line = line.partition(b"\n")
            told = json.loads(one)
            yield told["kind"], told["data"]
