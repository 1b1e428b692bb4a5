"""The user at the terminal, played by a thread of the test."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ep_repl
import pytest
import trio

from tractor.devx.debug.repl import _opening

Prompt = dict[str, Any]
Answer = Callable[[Prompt], str]


class User:
    """Answers the prompts of a tree's fake REPLs, in the order in which they come.

    Attributes:
        prompts: what was seen, one record for each prompt.
        clashes: prompts that came while another one was open.
    """

    def __init__(self, path: Path) -> None:
        self.prompts: list[Prompt] = []
        self.clashes: list[tuple[Prompt, Prompt]] = []
        self.answer: Answer = lambda prompt: "c"
        self.allow_clashes = False
        self._kept: threading.Event | None = None
        self.seen = threading.Condition()
        self._open: list[tuple[Prompt, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._acceptor = threading.Thread(target=self._accept, name="user")
        self._acceptor.start()

    def _accept(self) -> None:
        while True:
            try:
                tty, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(tty,), name="user's answer")
            self._threads.append(thread)
            thread.start()

    def _serve(self, tty: socket.socket) -> None:
        with tty:
            line = tty.makefile().readline()
            if not line:
                return
            prompt = json.loads(line)
            with self.seen:
                self.clashes += [
                    (other, prompt) for other, its in self._open if not _has_hung_up(its)
                ]
                entry = (prompt, tty)
                self._open.append(entry)
                self.prompts.append(prompt)
                self.seen.notify_all()
                kept, self._kept = self._kept, None
            while kept is not None and not kept.wait(0.02):
                if _has_hung_up(tty):
                    break
            answer = self.answer(prompt)
            # Before the answer: the next prompt may come at once.
            with self.seen:
                self._open.remove(entry)
            try:
                tty.sendall(answer.encode() + b"\n")
            except OSError:
                # Who was at the prompt is dead.
                return

    def keep_next(self) -> Callable[[], None]:
        """Leave the next prompt unanswered until the returned function is called."""
        self._kept = threading.Event()
        return self._kept.set

    async def wait_for(self, count: int) -> Prompt:
        """Wait until that many prompts have come; the last one of them."""

        def wait() -> Prompt:
            with self.seen:
                assert self.seen.wait_for(lambda: len(self.prompts) >= count, timeout=20)
                return self.prompts[count - 1]

        return await trio.to_thread.run_sync(wait)

    @property
    def actors(self) -> list[str]:
        """Whose prompts came, in order."""
        return [prompt["actor"] for prompt in self.prompts]

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in [self._acceptor, *self._threads]:
            thread.join(10)


def _has_hung_up(tty: socket.socket) -> bool:
    """Whether who was at the prompt is gone."""
    try:
        return not tty.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


@pytest.fixture
def user(private_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[User]:
    """A user who continues at every prompt, unless told otherwise."""
    path = private_dir / f"tty-{os.urandom(4).hex()}"
    monkeypatch.setenv(ep_repl.VARIABLE, str(path))
    for name, fake in ep_repl.FAKES.items():
        monkeypatch.setattr(_opening, name, fake)
    one = User(path)
    yield one
    one.close()
    path.unlink()
    assert one.allow_clashes or one.clashes == []
