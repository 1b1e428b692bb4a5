"""The REPL of somebody at another terminal, at a task that he did not stop himself."""

from __future__ import annotations

import contextlib
import ctypes
import queue
import rlcompleter
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import trio

from tractor._util._frames import frames_of
from tractor.devx._picture import picture_of_task, user_tasks
from tractor.devx.debug.attach._wire import Wire
from tractor.devx.debug.lock._holder import current_ident
from tractor.devx.debug.repl._repl import BELOW_TASKS, PdbREPL

MAX_COMPLETIONS = 200

SESSION = "REPL of <somebody"
"""What the names of the tasks begin with that run sessions such as this."""


class _Out:
    """The REPL's standard output: whole lines leave at once, the rest is the beginning of the prompt."""

    encoding = "utf-8"

    def __init__(self, wire: Wire, color: bool) -> None:
        self._wire = wire
        self._color = color
        self._tail = ""

    def write(self, text: str) -> int:
        head, newline, self._tail = (self._tail + text).rpartition("\n")
        if newline:
            self._wire.send("out", text=head + newline)
        return len(text)

    def flush(self) -> None:
        """What is not a whole line yet waits for the prompt."""

    def isatty(self) -> bool:
        return self._color

    def take_prompt(self) -> str:
        prompt, self._tail = self._tail, ""
        return prompt


class _In:
    """Its standard input: asks the other terminal for a line."""

    encoding = "utf-8"

    def __init__(self, wire: Wire, out: _Out) -> None:
        self._wire = wire
        self._out = out
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def readline(self) -> str:
        """The line with its end; empty at the end of input, once and for all."""
        if not self._wire.send("ask", prompt=self._out.take_prompt()):
            return ""
        return self.lines.get()

    def isatty(self) -> bool:
        return False


class AttachREPL(PdbREPL):
    """Looks at a suspended task, or at the code that keeps the loop busy; stepping goes on in that task.

    ``q``, ``c`` and the end of input let go: nothing is quit but the session.
    """

    def __init__(self, wire: Wire, color: bool, on_release: Callable[[], None]) -> None:
        self.wire = wire
        self._chain: list[FrameType] = []
        self._busy = threading.Lock()
        self._runs_command = False
        self._interrupted = False
        self._thread = threading.get_ident()
        out = _Out(wire, color)
        self.source = _In(wire, out)
        super().__init__(stdin=self.source, stdout=out, on_release=on_release, readrc=True)

    # -- opening --------------------------------------------------------------------------------------

    def look_at(self, task: trio.lowlevel.Task) -> None:
        """Open at a suspended task; returns when its code is to run on.  In the trio thread."""
        self.reset()
        self._select(task)
        self.interaction(self._chain[-1], None)
        self._run_on(self._chain)

    def look_here(self, frame: FrameType) -> None:
        """Open at code that is just running, called from a signal handler: to be its last step."""
        self.reset()
        self._owner = current_ident()
        chain = [frame]
        while (above := chain[-1].f_back) is not None:
            if above.f_globals.get("__name__") in BELOW_TASKS:
                break
            chain.append(above)
        self.botframe = chain[-1]
        self.interaction(frame, None)
        self._run_on(chain[::-1])

    def _select(self, task: trio.lowlevel.Task) -> None:
        self._owner = task
        self._chain = frames_of(task)
        self.botframe = self._chain[0]

    def _run_on(self, chain: list[FrameType]) -> None:
        """The user has let the code run: watch it if he only steps."""
        self._chain = []
        if self._is_left:
            return
        for frame in chain:
            # Not those further in: how a coroutine ends there would count as an exception.
            if frame is self.stopframe or not self._is_hidden(frame):
                frame.f_trace = self.trace_dispatch
            if frame is self.stopframe:
                break
        sys.settrace(self.trace_dispatch)

    def get_stack(self, f: FrameType | None, t: Any) -> Any:
        """The frames of the task: those of a suspended one do not know of each other."""
        if self._chain and f is self._chain[-1]:
            self.fullstack = [(frame, frame.f_lineno) for frame in self._chain]
            return self.compute_stack(self.fullstack, len(self.fullstack) - 1)
        return super().get_stack(f, t)

    def choose(self, wanted: str, steps: Counter[trio.lowlevel.Task]) -> trio.lowlevel.Task:
        """The task of that number or name; without one the busiest of the user's, of several the first.

        Raises:
            LookupError: there is none.
        """
        if wanted:
            return find_task(wanted)
        own = current_tasks()
        if own:
            return max(own, key=lambda task: steps[task])
        root = trio.lowlevel.current_root_task()
        assert root is not None
        # An actor that serves nobody just now: what the runtime itself does there.
        return max(_below(root), key=lambda task: len(frames_of(task)))

    # -- letting go -----------------------------------------------------------------------------------

    def do_quit(self, arg: str) -> bool:
        """q(uit), c(ont(inue)), detach: let go of the actor, which goes on; breakpoints that were set are removed."""
        self.clear_all_breaks()
        self.set_continue()
        return True

    do_q = do_exit = do_detach = do_quit
    do_c = do_cont = do_continue = do_quit

    def do_EOF(self, arg: str) -> bool:
        """As quit."""
        return self.do_quit(arg)

    def let_go(self) -> None:
        """The other terminal is gone; in the thread of the trio loop, while code runs."""
        sys.settrace(None)
        with contextlib.suppress(Exception):
            self.clear_all_breaks()
        self.detach()

    def redraw_prompt(self) -> bool:
        """A ctrl-c on the tree's own terminal: the prompt is elsewhere, and nothing has happened to it."""
        return True

    # -- from the thread that reads the connection ----------------------------------------------------

    def onecmd(self, line: str) -> bool:
        """A command, which ctrl-c may interrupt."""
        self._runs_command = True
        frame = self.curframe
        _share_locals(frame)
        try:
            return bool(super().onecmd(line))
        finally:
            _keep_locals(frame)
            with self._busy:
                self._runs_command = False
                if self._interrupted:
                    # One that came too late must not hit what runs next.
                    self._interrupted = False
                    _raise_in(self._thread, None)

    def interrupt(self) -> None:
        """The user's ctrl-c: ends the command that runs, or stops the task at its next line."""
        with self._busy:
            if self._runs_command:
                self._interrupted = True
                _raise_in(self._thread, KeyboardInterrupt)
            elif not self._interacting and not self._is_left:
                self._set_stopinfo(None, None)

    def completions(self, text: str) -> list[str]:
        """How ``text``, the beginning of a name or of dotted names, may go on."""
        with contextlib.suppress(Exception):
            names = {**self.curframe.f_globals, **self.curframe.f_locals}
            complete = rlcompleter.Completer(names).complete
            found: list[str] = []
            while len(found) < MAX_COMPLETIONS and (one := complete(text, len(found))) is not None:
                found.append(one)
            return found
        return []

    # -- which task -----------------------------------------------------------------------------------

    def do_tasks(self, arg: str) -> None:
        """tasks: list the tasks of this actor that run code of the user's, with their numbers."""
        for number, task in enumerate(current_tasks(), 1):
            mark = ">" if task is self._owner else " "
            self.message(f"{mark}{number} {task_line(task)}")

    def do_task(self, arg: str) -> None:
        """task NUMBER|NAME: look at another task of this actor."""
        try:
            task = find_task(arg.strip())
        except LookupError as exc:
            self.error(str(exc))
            return
        self._select(task)
        self.setup(self._chain[-1], None)
        self.print_current_stack_entry()


def _share_locals(frame: FrameType | None) -> object:
    """Before 3.13 a frame's locals can be given back to its code only once they were read."""
    return None if frame is None else frame.f_locals


def _keep_locals(frame: FrameType | None) -> None:
    """Give the code the values that its names were given at the prompt; from 3.13 on it has them already.

    At once: the next command, or the search for hidden frames, reads the frame's locals, and so undoes them else.
    """
    if frame is not None and sys.version_info < (3, 13):
        ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))


def _below(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield child
            yield from _below(child)


def _raise_in(thread: int, exc: type[BaseException] | None) -> None:
    """Have an exception raised at another thread's next step; ``None``: take it back."""
    target = None if exc is None else ctypes.py_object(exc)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), target)


def current_tasks() -> list[trio.lowlevel.Task]:
    """Those of this thread's trio run that run code of the user's, parents before their children."""
    root = trio.lowlevel.current_root_task()
    if root is None:
        return []
    return [t for t, _ in user_tasks(root) if frames_of(t) and not t.name.startswith(SESSION)]


def task_line(task: trio.lowlevel.Task) -> str:
    """A task, and where it is, on one line."""
    shown = picture_of_task(task)
    return f"{shown.name}: {shown.at}, in {shown.waits_in}" if shown.at else shown.name


def find_task(wanted: str) -> trio.lowlevel.Task:
    """The task of a number (as in the list) or name.  Raises LookupError."""
    tasks = current_tasks()
    if wanted.isdecimal() and 1 <= int(wanted) <= len(tasks):
        return tasks[int(wanted) - 1]
    found = [
        t for t in tasks if wanted in (t.name, t.name.rpartition(".")[2], t.name.rpartition(":")[2])
    ]
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} tasks are called" if found else "there is no task"
    listed = "\n".join(f"  {number} {task_line(task)}" for number, task in enumerate(tasks, 1))
    raise LookupError(f"{what} {wanted!r}; give a number:\n{listed}")
