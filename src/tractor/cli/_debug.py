"""``tractor debug``: attach a REPL to a running actor, from another terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from tractor._errors import TransportClosed
from tractor.cli._actors import (
    FoundActor,
    add_registry_option,
    attachable,
    matching,
    open_wire,
    why_not_one,
)
from tractor.cli._arguments import Parser
from tractor.cli._exit import EXIT_FAILED, fail
from tractor.devx.debug.attach._wire import Wire


def main(argv: Sequence[str], prog: str) -> int:
    """Attach to an actor, and return when the user has let go of it.

    Args:
        argv: the actor's pid or name, and options.
        prog: for messages.

    Returns:
        0; 1 when there is no such actor, several are of that name, it is not in debug mode, or it has ended meanwhile.

    Raises:
        SystemExit: wrong arguments (code 2), or ``--help``.
    """
    options = parser(prog).parse_args(argv)
    actors = attachable()
    if options.actor is None:
        for actor in actors:
            print(actor)
        if not actors:
            print(f"{prog}: no actor of yours is in debug mode on this host", file=sys.stderr)
        return 0 if actors else EXIT_FAILED
    found = matching(options.actor, actors)
    if why := why_not_one(options.actor, found, options.registry):
        return fail(f"{prog}: {why}")
    return attach(found[0], options.task, prog)


def parser(prog: str) -> Parser:
    """What the command takes."""
    made = Parser(
        prog=prog,
        description="Open a REPL in a running actor of yours that is in debug mode, at what its busiest task waits "
        "for. The actor stands still meanwhile, and goes on when you let go: `c`, `q` or ctrl-d. Without ACTOR: list "
        "those that can be attached to.",
    )
    made.add_argument("actor", nargs="?", metavar="PID|NAME", help="which one")
    made.add_argument(
        "--task",
        default="",
        metavar="N|NAME",
        help="at this task instead; `tasks` in the REPL lists them",
    )
    add_registry_option(made)
    return made


def attach(actor: FoundActor, task: str, prog: str) -> int:
    """Run the session: what the actor prints, and lines from this terminal, until either lets go."""
    try:
        _, wire = open_wire(actor.path)
    except (OSError, TransportClosed) as exc:
        return fail(f"{prog}: {actor} can't be attached to: {exc}")
    try:
        wire.send("attach", text=task, color=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
        return _Client(wire, actor, prog).run()
    finally:
        wire.close()


class _Client:
    """This side of a session."""

    def __init__(self, wire: Wire, actor: FoundActor, prog: str) -> None:
        self.wire = wire
        self.actor = actor
        self.prog = prog
        self._completions: list[str] = []
        self._interrupts = 0

    def run(self) -> int:
        """The exit code."""
        with _line_editing(self._complete):
            while True:
                try:
                    msg = self.wire.recv()
                    if msg is None:
                        return fail(f"\n{self.prog}: {self.actor} has ended, or hung up")
                    code = self._on_message(msg)
                except KeyboardInterrupt:
                    # One stops what runs there; with the second one we leave, and it goes on.
                    self._interrupts += 1
                    if self._interrupts > 1:
                        print(f"\nlet go of {self.actor}")
                        return 0
                    print("\nstopping it at its next line; ctrl-c again lets go")
                    self.wire.send("int")
                    continue
                if code is not None:
                    return code

    def _on_message(self, msg: dict[str, Any]) -> int | None:
        op, text = msg.get("op"), str(msg.get("text", ""))
        if op == "out":
            sys.stdout.write(text)
            sys.stdout.flush()
        elif op == "ask":
            self._interrupts = 0
            self._ask(str(msg.get("prompt", "")))
        elif op == "end":
            if msg.get("failed"):
                return fail(f"{self.prog}: {text}")
            print(text)
            return 0
        return None

    def _ask(self, prompt: str) -> None:
        while True:
            try:
                line = input(prompt)
            except EOFError:
                print()
                self.wire.send("eof")
            except KeyboardInterrupt:
                # As a shell does: the line is dropped, nothing else happens.
                print()
                continue
            else:
                self.wire.send("line", text=line)
            return

    def _complete(self, text: str, state: int) -> str | None:
        """For readline, which asks for one after another."""
        if state == 0:
            self._completions = []
            if text and self.wire.send("complete", text=text):
                answer = self.wire.recv() or {}
                self._completions = [str(item) for item in answer.get("items", ())]
        return self._completions[state] if state < len(self._completions) else None


@contextlib.contextmanager
def _line_editing(complete: Any) -> Any:
    """History and completion while a session lasts, where there is readline and a terminal."""
    if sys.platform == "win32":
        raise NotImplementedError
    if not sys.stdin.isatty():
        yield
        return
    try:
        import readline
    except ImportError:
        yield
        return
    before = readline.get_completer()
    readline.set_completer(complete)
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    try:
        yield
    finally:
        readline.set_completer(before)
