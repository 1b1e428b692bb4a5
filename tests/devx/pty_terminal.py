"""A program on a pseudo-terminal and somebody at the keyboard, who reads before typing.

Nothing here sleeps: each step waits for text, for as long as `PATIENCE` at most. The text has no colours or cursor
movements, and is kept as one transcript, which a failing test shows.
"""

from __future__ import annotations

import os
import re
import sys
import termios
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import pexpect

from tractor.address._types import UnwrappedAddress

PATIENCE = float(os.environ.get("TRACTOR_TEST_PATIENCE", "60"))
"""Seconds to wait for a text before the test fails; the variable is for work on the tests themselves."""

REPEAT_AFTER = 2.0
"""Seconds after which somebody presses a key again that has had no effect."""

PROMPT = "(Pdb+) "
PAUSED = "Opening a pdb REPL in paused actor"
CRASHED = "Opening a pdb REPL in crashed actor"
IGNORED = "Ignoring SIGINT while debug REPL in use"

CONTROL = re.compile(
    r"\x1b\[[0-9;?>=]*[A-Za-z]|\x1b\][^\x07]*\x07|\x1b[=>()][0-9A-B]?|[\x01\x02\x07\r]"
)
UNFINISHED = re.compile(r"\x1b(\[[0-9;?>=]*|\][^\x07]*|[=>()]?)$")

UID = r"\('(?P<name>[^'\n]+)', '(?P<uuid>[0-9a-f-]{36})'\)"
OPENINGS = {
    "paused": re.compile(rf"{PAUSED}\n+>\(\n\|_{UID}\n(?P<holder><[^\n]+>)\n"),
    "crashed": re.compile(rf"{CRASHED}\n+x>\(\n \|_ (?P<holder><[^\n]+>) @ {UID}\n+(?=[^\n])"),
}
"""What precedes the prompt, as devx.md has it."""


@dataclass(frozen=True)
class Stop:
    """One opening of a REPL, as the user sees it."""

    kind: str
    """``'paused'`` or ``'crashed'``."""
    name: str
    uuid: str
    holder: str
    """What is said of the task or thread."""
    text: str
    """Everything since the command before."""

    def shows(self, *texts: str) -> None:
        """Check that these were printed, in this order."""
        in_order(self.text, texts)


def in_order(text: str, parts: Sequence[str]) -> None:
    """Check that *text* has these parts, one after the other."""
    at = 0
    for part in parts:
        found = text.find(part, at)
        assert found >= 0, f"{part!r} is not in the rest of\n{text}"
        at = found + len(part)


class _PlainSpawn(pexpect.spawn):  # type: ignore[misc]
    """Without what moves the cursor or changes colours, and without carriage returns."""

    _held_back = ""

    def read_nonblocking(self, *args: Any, **kwargs: Any) -> str:
        """Read what is there; a control sequence that has not arrived whole comes with the rest of it."""
        text = self._held_back + super().read_nonblocking(*args, **kwargs)
        cut = UNFINISHED.search(text)
        self._held_back = text[cut.start() :] if cut else ""
        return CONTROL.sub("", text[: cut.start()] if cut else text)


class Terminal:
    """A program that runs on a terminal of its own.

    Args:
        argv: its command line.
        cwd: where it runs.
        ctrl_c: press ctrl-c at each prompt, and check that nothing comes of it.
        env: more variables.
    """

    def __init__(
        self,
        argv: Sequence[str],
        cwd: Path,
        *,
        ctrl_c: bool = False,
        env: dict[str, str] | None = None,
    ) -> None:
        self.ctrl_c = ctrl_c
        self.transcript = ""
        self._marks = 0
        variables = {
            **os.environ,
            "TERM": "xterm-256color",
            "PYTHON_COLORS": "0",
            # Nobody's personal settings.
            "HOME": str(cwd),
            "INPUTRC": os.devnull,
            "PYTHONDONTWRITEBYTECODE": "",
            **(env or {}),
        }
        with warnings.catch_warnings():
            # Idle worker threads of trio; the child executes a program at once.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._spawn = _PlainSpawn(
                argv[0],
                list(argv[1:]),
                cwd=str(cwd),
                env=variables,
                encoding="utf-8",
                codec_errors="replace",
                dimensions=(50, 240),
                timeout=PATIENCE,
                maxread=65536,
            )
        self._spawn.delaybeforesend = None
        self._settings = termios.tcgetattr(self._spawn.child_fd)
        self.pid: int = self._spawn.pid

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Shown by pytest if the test has failed.
        print(
            f"--- the terminal of {self._spawn.command}\n{self.transcript}{self._spawn.buffer}\n---"
        )
        self._spawn.close(force=True)

    # -- reading --

    def _expect(self, *patterns: Any, timeout: float = PATIENCE) -> tuple[int, str]:
        """Wait for one of these; its index, and the text up to its end."""
        try:
            index: int = self._spawn.expect(list(patterns), timeout=timeout)
        except (pexpect.TIMEOUT, pexpect.EOF) as error:
            self.transcript += self._spawn.before if isinstance(self._spawn.before, str) else ""
            what = "in time" if isinstance(error, pexpect.TIMEOUT) else "before the program ended"
            raise AssertionError(f"none of {patterns} was printed {what}") from None
        if self._spawn.after is pexpect.TIMEOUT:
            # It may still come, and then as a whole.
            return index, ""
        after = self._spawn.after if isinstance(self._spawn.after, str) else ""
        text = self._spawn.before + after
        self.transcript += text
        return index, text

    def wait_for(self, text: str) -> None:
        """Wait until *text* is printed, or find that it has been."""
        if text not in self.transcript:
            self._expect(re.escape(text))

    def find(self, pattern: str) -> re.Match[str]:
        """Wait until *pattern* is printed, or find that it has been."""
        while (found := re.search(pattern, self.transcript)) is None:
            self._expect("\n")
        return found

    def prompt(self, prompt: str = PROMPT) -> str:
        """Wait for a prompt; what was printed before it."""
        _, text = self._expect(re.escape(prompt))
        return text

    # -- a REPL --

    def stop(self, kind: str = "", name: str = "", *texts: str) -> Stop:
        """Wait until a REPL opens.

        Args:
            kind: ``'paused'`` or ``'crashed'``; empty: either.
            name: the actor's; empty: any.
            texts: what must be said before the prompt, in this order.
        """
        text = self.prompt()
        openings = [
            (kind, found) for kind, start in OPENINGS.items() for found in start.finditer(text)
        ]
        assert text.count("Opening a pdb REPL") == len(openings) == 1, (
            f"{len(openings)} REPLs were opened, as they should be, before one prompt:\n{text}"
        )
        ((opened, opening),) = openings
        stop = Stop(opened, opening["name"], opening["uuid"], opening["holder"], text)
        assert kind in ("", stop.kind), f"{stop.kind}, not {kind}:\n{text}"
        assert name in ("", stop.name), f"{stop.name}, not {name}:\n{text}"
        stop.shows(*texts)
        self._maybe_ctrl_c()
        return stop

    def command(self, line: str, *texts: str) -> str:
        """Type a command that keeps the REPL; what it printed."""
        self._spawn.sendline(line)
        text = self.prompt()
        assert "Opening a pdb REPL" not in text, f"{line!r} has opened another REPL:\n{text}"
        in_order(text, texts)
        self._maybe_ctrl_c()
        return text

    def leave(self, line: str = "c") -> None:
        """Type a command that leaves the REPL."""
        self._spawn.sendline(line)

    def press_ctrl_c(self) -> None:
        """Press it, and wait for nothing."""
        self._spawn.sendintr()

    def _maybe_ctrl_c(self) -> None:
        if not self.ctrl_c:
            return
        self.insist_on_ctrl_c(IGNORED)
        self.prompt()
        # However many prompts that made: the REPL is still there, and answers.
        self._marks += 1
        self._spawn.sendline(f"p 'still', {self._marks}")
        self._expect(re.escape(f"('still', {self._marks})"))
        self.prompt()

    def insist_on_ctrl_c(self, answer: str) -> None:
        """Press it until it is answered with a text, as a person would.

        A signal that hits CPython in the instant between readline's prompt and its `select()` is handled only when
        the next key, or signal, comes.
        """
        for _ in range(int(PATIENCE / REPEAT_AFTER)):
            self.press_ctrl_c()
            index, _ = self._expect(re.escape(answer), pexpect.TIMEOUT, timeout=REPEAT_AFTER)
            if index == 0:
                return
        raise AssertionError(f"ctrl-c is not answered with {answer!r}")

    # -- the end --

    def end(self, status: int, *texts: str, sane: bool = True) -> str:
        """Wait until no process uses the terminal any more.

        Args:
            status: the program's exit status; negative: the signal that it died of.
            texts: what must be printed before, in this order.
            sane: check that the terminal's settings are what they were.

        Returns:
            What was printed since the last prompt.
        """
        index, text = self._expect(pexpect.EOF, re.escape(PROMPT))
        assert index == 0, f"a REPL has opened instead of the end:\n{text}"
        settings = termios.tcgetattr(self._spawn.child_fd)
        self._spawn.wait()
        code = self._spawn.exitstatus
        ended = code if code is not None else -self._spawn.signalstatus
        assert ended == status, f"exit status {ended}, not {status}:\n{text}"
        in_order(text, texts)
        assert not sane or settings == self._settings, "the terminal is not as it was"
        return text


def python(script: Path, *args: str, address: UnwrappedAddress | None = None) -> list[str]:
    """The command line that runs a script, on the default transport or on TCP."""
    if address is None:
        return [sys.executable, str(script), *args]
    host, port = address
    launcher = Path(__file__).with_name("pty_launch.py")
    return [sys.executable, str(launcher), host, str(port), str(script), *args]
