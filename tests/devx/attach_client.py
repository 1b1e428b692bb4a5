"""The other terminal of a session, in tests."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

from tractor.devx.debug.attach._wire import Wire

LIMIT = 20.0
ESCAPES = re.compile("\x1b\\[[0-9;]*[A-Za-z]")


class Terminal:
    """Speaks the protocol; everything that does not come within the limit is an error."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(path))
        self.wire = Wire(self.sock)
        self.sock.settimeout(LIMIT)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.sock.close()

    def recv(self) -> dict[str, Any]:
        msg = self.wire.recv()
        assert msg is not None, "the actor has hung up"
        return msg

    def attach(self, task: str = "") -> str:
        self.wire.send("attach", text=task, color=False)
        return self.until_prompt()

    def until(self, text: str) -> str:
        seen = ""
        while text not in seen:
            msg = self.recv()
            assert msg["op"] == "out", (msg, seen)
            seen += msg["text"]
        return seen

    def until_prompt(self) -> str:
        """What is printed up to the next prompt."""
        seen = ""
        while (msg := self.recv())["op"] == "out":
            seen += msg["text"]
        assert msg["op"] == "ask", (msg, seen)
        assert msg["prompt"].endswith("(Pdb+) "), msg
        return ESCAPES.sub("", seen + msg["prompt"].removesuffix("(Pdb+) "))

    def line(self, text: str) -> str:
        """Type a line; what it prints."""
        self.wire.send("line", text=text)
        return self.until_prompt()

    def last_line(self, text: str) -> dict[str, Any]:
        """Type a line that ends the session; its last message."""
        self.wire.send("line", text=text)
        while (msg := self.recv())["op"] == "out":
            pass
        return msg
