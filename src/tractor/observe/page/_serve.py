"""The server: on this host's own addresses alone, in the process of the command, until a signal ends it."""

from __future__ import annotations

import contextlib
import html
import logging
import os
import signal
import socket
import sys
import tempfile
import webbrowser
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from tractor._util.dist._version import __version__
from tractor.observe.page._app import Page
from tractor.observe.page._collector import Collector
from tractor.observe.page._doors import Doors
from tractor.observe.page._gate import MAX_HEAD
from tractor.observe.page._looks import Looks
from tractor.observe.page._recording import SECONDS, Recorder

ADDRESS = "127.0.0.1"

HEAD_LIMIT = 10.0
"""Seconds for a request's head, and for which a connection may be idle."""

STALL_LIMIT = 10.0
"""Seconds after which a browser that takes nothing is dropped, where the system can do that."""

END_LIMIT = 1.0
"""Seconds for requests that are served when the command ends."""


_log = logging.getLogger("tractor.observe.page")


def _is_of_note(record: logging.LogRecord) -> bool:
    """Whether it is more than that a browser has gone meanwhile, which the server tells as an error."""
    error = record.exc_info[1] if record.exc_info else None
    gone = (trio.BusyResourceError, trio.BrokenResourceError, trio.ClosedResourceError)
    return record.levelno >= logging.WARNING and not isinstance(error, gone)


_log.addFilter(_is_of_note)


class Dash:
    """The page, served.

    Args:
        dirs: runtime directories.
        actor: it and those below it alone; ``None``: all.
        port: to listen on; 0: any that is free.
        control: whether the page may act.
        limit: seconds for answers to a look.
        looks: takes them instead, for tests.
        recorded: seconds of a recording.

    Attributes:
        port: on which it listens.

    Raises:
        OSError: the port can't be had.
    """

    def __init__(
        self,
        dirs: list[Path],
        actor: str | None = None,
        port: int = 0,
        control: bool = False,
        limit: float = 1.0,
        looks: Looks | None = None,
        recorded: float = SECONDS,
    ) -> None:
        self._sock = _listening(port)
        self.port: int = self._sock.getsockname()[1]
        self._doors = Doors()
        self._looks = looks or Looks(dirs, actor, limit)
        self._control = control
        self._recorded = recorded
        self._facts = {
            "actor": actor,
            "control": control,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": __version__,
        }

    def close(self) -> None:
        """Listen no more.  Idempotent."""
        self._sock.close()

    def new_address(self) -> str:
        """One that opens the page, once."""
        return f"http://{ADDRESS}:{self.port}/#{self._doors.new_token()}"

    async def run(
        self, *, say: Callable[[str], None] = print, open_it: bool = False, keys: bool = False
    ) -> int:
        """Serve until a signal comes.

        Args:
            say: tells the user something.
            open_it: have a browser open the page.
            keys: enter at the terminal gives another address.

        Returns:
            The number of the signal.
        """
        wanted = [signal.SIGINT, signal.SIGTERM]
        if sys.platform != "win32":
            wanted.append(signal.SIGHUP)
        with trio.open_signal_receiver(*wanted) as signals, self._file(open_it) as file:
            async with self.serving() as page, trio.open_nursery() as tn:
                if file is not None:
                    tn.start_soon(self._open, file, page, say)
                say(self.new_address())
                if keys:
                    tn.start_soon(self._keys, say)
                number = await anext(signals)
                tn.cancel_scope.cancel()
        return int(number)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Page]:
        """Serve for the block, once."""
        ending = trio.Event()
        collector = Collector(self._looks, self._facts)
        recorder = Recorder(self._looks, self._recorded)
        page = Page(self._doors, collector, self._looks, recorder, self._control)
        async with trio.open_nursery() as tn:
            tn.start_soon(collector.run)
            tn.start_soon(recorder.run)
            tn.start_soon(self._serve, page, ending)
            try:
                yield page
            finally:
                collector.close()
                ending.set()
                with trio.move_on_after(END_LIMIT, shield=True):
                    while len(collector):
                        await trio.sleep(0.01)
                tn.cancel_scope.cancel()
        self._looks.rest()

    async def _serve(self, page: Page, ending: trio.Event) -> None:
        config = Config()
        config.bind = [f"fd://{self._sock.detach()}"]
        config.h11_max_incomplete_size = MAX_HEAD
        config.keep_alive_timeout = HEAD_LIMIT
        config.graceful_timeout = END_LIMIT
        config.include_server_header = False
        config.errorlog = _log
        app: Any = page.app()
        await serve(app, config, shutdown_trigger=ending.wait, mode="asgi")

    async def _keys(self, say: Callable[[str], None]) -> None:
        """Another address at each press of enter."""
        while await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            say(self.new_address())

    @contextlib.contextmanager
    def _file(self, wanted: bool) -> Iterator[Path | None]:
        """A file that leads a browser to the page: its arguments can be read by others, the file can't."""
        if not wanted:
            yield None
            return
        number, name = tempfile.mkstemp(prefix="tractor-dash-", suffix=".html")
        try:
            with os.fdopen(number, "w", encoding="utf-8") as file:
                address = html.escape(self.new_address(), quote=True)
                file.write(
                    '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
                    f'<title>tractor dash</title><meta http-equiv="refresh" content="0;url={address}">'
                    f'<a href="{address}">tractor dash</a>\n'
                )
            yield Path(name)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)

    async def _open(self, file: Path, page: Page, say: Callable[[str], None]) -> None:
        opened = await trio.to_thread.run_sync(
            partial(webbrowser.open, file.as_uri()), abandon_on_cancel=True
        )
        if not opened:
            say("no browser could be opened; open the address in one")
        await page.used.wait()
        with contextlib.suppress(FileNotFoundError):
            file.unlink()


def _listening(port: int) -> socket.socket:
    """A socket of this host alone.  Raises OSError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            # There it would let others listen on the same port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Connections have it from the socket that accepts them. A browser that takes nothing would be waited for.
            limit = int(STALL_LIMIT * 1000)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit)
        sock.bind((ADDRESS, port))
        sock.listen(100)
    except BaseException:
        sock.close()
        raise
    return sock
