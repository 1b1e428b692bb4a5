"""The REPL: pdbp, kept to the task that it was opened in, and told when the user leaves it for good."""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys
import traceback
from collections.abc import Callable
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from opcode import opname
from types import FrameType, TracebackType
from typing import Any

from tractor import log as _log
from tractor._util._frames import calling_frames, frames_above
from tractor.devx._frames import is_runtime_frame
from tractor.devx.debug.lock._holder import current_ident
from tractor.devx.debug.lock._lease import Lease
from tractor.devx.debug.lock._terminal import wants_colors
from tractor.devx.debug.repl._pdbp import pdb_has_pdbp, pdbp
from tractor.devx.debug.repl._respawn import respawn_command

log = _log.get_logger()

SUSPENDS = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR

BELOW_TASKS = (
    "trio._core._run",
    "trio._core._thread_cache",
    "trio._threads",
    "greenback._impl",
    "outcome._impl",
    "asyncio.events",
    "asyncio.base_events",
    "concurrent.futures.thread",
    "threading",
)
"""Modules whose frames are what a task or thread runs on: nothing above them is of the same task."""

ESCAPES = re.compile("\x1b\\[[0-9;]*[A-Za-z]")


class TractorConfig(pdbp.DefaultConfig):  # type: ignore[misc]
    """The settings that a REPL has where the user's own ``~/.pdbrc.py`` has none."""

    prompt = "(Pdb+) "
    highlight = True
    use_pygments = True
    sticky_by_default = False
    truncate_long_lines = False
    enable_hidden_frames = True
    show_hidden_frames_count = False
    # Otherwise pytest is imported just to learn that it does not run.
    disable_pytest_capturing = "pytest" in sys.modules


class _Plain:
    """A text stream without escape sequences."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(ESCAPES.sub("", text.replace("\n\x1b[F", "")))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class PdbREPL(pdbp.Pdb):  # type: ignore[misc]
    """A :class:`pdbp.Pdb` for one task or thread.

    It stops only in the task (thread, asyncio task) that it was opened in, in frames that the user can see.  When
    the user continues, quits, or steps out of the task's last frame, ``on_release`` is called, once, before user code
    goes on; stepping keeps it.

    A breakpoint that was set in it and is hit after that needs the terminal anew: ``on_reopen`` takes it and returns a
    new ``on_release``; where it returns ``None``, or is not given, the breakpoint is reported and passed.
    """

    DefaultConfig = TractorConfig

    def __init__(
        self,
        completekey: Any = "tab",
        stdin: Any = None,
        stdout: Any = None,
        *,
        on_release: Callable[[], None] | None = None,
        on_reopen: Callable[[PdbREPL], Callable[[], None] | None] | None = None,
        hide_tb: bool = True,
        **kwargs: Any,
    ) -> None:
        self._on_release = [] if on_release is None else [on_release]
        self._on_reopen = on_reopen
        self._is_left = False
        self._leaving = False
        self._at_prompt = False
        self._interacting = False
        self._owner: object = None
        self._raised_in: FrameType | None = None
        if sys.version_info >= (3, 14):
            kwargs["backend"] = "settrace"
        self._readline_before = _ReadlineState()
        super().__init__(completekey, stdin, stdout, nosigint=True, **kwargs)
        out: Any = vars(self)["stdout"]
        if stdin is not None:
            self.use_rawinput = 0
        # pdbp sets the completer up itself, also for libedit (`preloop`).
        self.completekey = None
        self.show_hidden_frames = not hide_tb
        if not wants_colors(out):
            self.config.highlight = self.config.use_pygments = False
            self.stdout = _Plain(out)

    def get_config(self, factory: Any) -> Any:
        """The user's settings, completed by ours."""
        with pdb_has_pdbp():
            found = super().get_config(factory)
        own = type(found)
        if issubclass(own, TractorConfig):
            return found
        with contextlib.suppress(TypeError):
            return type("Config", (own, TractorConfig), {})()
        return found

    # -- opening --

    def reset(self) -> None:
        """Begin anew, in what runs now."""
        self._owner = current_ident()
        super().reset()

    def arm(self, frame: FrameType) -> None:
        """Open at the next line of ``frame``, or where it returns if there is none.

        To be called last: every function that this thread calls afterwards is traced.
        """
        self.reset()
        self._via_set_trace_frame = frame
        for at in frames_above(frame):
            if at.f_globals.get("__name__") in BELOW_TASKS:
                break
            at.f_trace = self.trace_dispatch
            self.botframe = at
        self._set_stopinfo(frame, None)
        sys.settrace(self.trace_dispatch)

    def post_mortem(self, tb: TracebackType) -> bool:
        """Look at a traceback; returns whether the user went on, not quit."""
        self.reset()
        before = sys.gettrace()
        try:
            self.interaction(self._callers_of(tb), tb)
        finally:
            self._leave()
            sys.settrace(before)
        return not self.quitting

    def _callers_of(self, tb: TracebackType) -> FrameType | None:
        """What has called into a traceback in which there is nothing that the user can see, and still waits for it."""
        seen = any(not self._is_hidden(frame) for frame, _ in traceback.walk_tb(tb))
        if seen or tb.tb_frame not in calling_frames():
            return None
        caller = tb.tb_frame.f_back
        return caller if not all(map(self._is_hidden, frames_above(caller))) else None

    def do_respawn(self, arg: str) -> bool:
        """respawn [NAME]: have a fresh process, with the code as it is now, take the place of this crashed actor, or of
        the subactor NAME."""
        return bool(respawn_command(self, arg))

    def take(self, lease: Lease) -> None:
        """The terminal is this REPL's for the length of a lease.

        Raises:
            DebugRequestError: it can't be reached.
        """
        lease.repl = self

    # -- from other threads --

    @property
    def is_interacting(self) -> bool:
        """Whether the user is at it; ``False``: code runs that it will stop again, or it was left."""
        return self._interacting

    def redraw_prompt(self) -> bool:
        """Print the prompt, and what was typed at it, again.

        Returns:
            Whether the REPL has the user's attention; ``False``: it has let code run that it will stop again.
        """
        if not self._interacting:
            return False
        if self._at_prompt:
            typed = ""
            readline = sys.modules.get("readline")
            if readline is not None and self.use_rawinput:
                typed = readline.get_line_buffer()
            with contextlib.suppress(OSError, ValueError):
                self.stdout.write(f"{self.prompt}{typed}")
                self.stdout.flush()
        return True

    def detach(self) -> None:
        """Stop tracing and give the terminal back, while user code runs; from any thread."""
        self._leave()

    # -- where to stop --

    def trace_dispatch(self, frame: FrameType, event: str, arg: Any) -> Any:
        """As :meth:`bdb.Bdb.trace_dispatch`, for frames of our own task."""
        if self._is_left:
            if not self.breaks:
                sys.settrace(None)
                return None
        elif current_ident() != self._owner:
            # Another task of this thread: its frames are not traced.
            return None
        return super().trace_dispatch(frame, event, arg)

    def dispatch_line(self, frame: FrameType) -> Any:
        """As in :mod:`bdb`."""
        self._raised_in = None
        return super().dispatch_line(frame)

    def dispatch_call(self, frame: FrameType, arg: Any) -> Any:
        """As in :mod:`bdb`; a function that is hidden is not stepped into."""
        # It has not set its mark yet.
        marks_itself = "__tracebackhide__" in frame.f_code.co_varnames
        steps = self.stopframe is None and not self.show_hidden_frames
        if steps and (marks_itself or self._is_hidden(frame)):
            return None
        return super().dispatch_call(frame, arg)

    def dispatch_return(self, frame: FrameType, arg: Any) -> Any:
        """As in :mod:`bdb`, which never stops where a coroutine returns; and at the end of the task it is over."""
        raised, self._raised_in = self._raised_in is frame, None
        if not raised and _is_suspending(frame):
            # Stepping goes on when it is resumed.
            if self.stopframe is None and self.stoplineno != -1 and not self._is_left:
                self._set_stopinfo(frame, None)
            return self.trace_dispatch
        if frame is self.stopframe and not self._is_left:
            self._set_stopinfo(None, None)
        result = super().dispatch_return(frame, arg)
        if frame is self.botframe:
            self._leave()
        elif not self._is_left:
            self._trace_callers(frame)
        return result

    def dispatch_exception(self, frame: FrameType, arg: Any) -> Any:
        """As in :mod:`bdb`, which would stop at some even when told to go on."""
        self._raised_in = frame
        return self.trace_dispatch if self._is_left else super().dispatch_exception(frame, arg)

    def stop_here(self, frame: FrameType) -> bool:
        """Whether to stop in this frame: not in hidden ones, unless the user asked for just that one."""
        if self._is_left:
            return False
        if frame is not self.stopframe and self._is_hidden(frame):
            return False
        return bool(super().stop_here(frame))

    def _trace_callers(self, frame: FrameType) -> None:
        """See that stepping out of ``frame`` stops in its callers, those above hidden ones included."""
        for at in frames_above(frame.f_back):
            if at.f_trace is not None or at.f_globals.get("__name__") in BELOW_TASKS:
                break
            at.f_trace = self.trace_dispatch
            if at is self.botframe:
                break

    def _is_hidden(self, frame: FrameType) -> bool:
        if self.show_hidden_frames or not self.config.enable_hidden_frames:
            return False
        if frame is getattr(self, "_via_set_trace_frame", None):
            return False
        return bool(super()._is_hidden(frame)) or is_runtime_frame(frame)

    def compute_stack(self, fullstack: Any, idx: int | None = None) -> Any:
        """The visible part of the stack, and in it the place of the frame at ``idx`` or the nearest above."""
        at = len(fullstack) - 1 if idx is None else idx
        if self.show_hidden_frames:
            return fullstack, at
        shown = [(i, entry) for i, entry in enumerate(fullstack) if not self._is_hidden(entry[0])]
        if not shown:
            return fullstack, at
        kept = {i for i, _ in shown}
        self._hidden_frames = [entry for i, entry in enumerate(fullstack) if i not in kept]
        above = sum(i <= at for i, _ in shown)
        return [entry for _, entry in shown], max(0, above - 1)

    # -- at the prompt --

    def interaction(self, frame: FrameType | None, traceback: TracebackType | None) -> None:
        """Let the user look round, until a command lets code run."""
        if self._is_left and not self._reopen():
            self.message(
                f"*** breakpoint in {frame and frame.f_code.co_qualname}() passed: the terminal is not ours"
            )
            self.set_continue()
            return
        self._leaving = False
        self._interacting = True
        try:
            if (lost := self._lost_stream()) is None:
                super().interaction(frame, traceback)
            else:
                self._go_on_alone(f"`sys.{lost}` is closed")
        except OSError as exc:
            self._go_on_alone(f"the terminal is lost: {exc}")
        except BaseException:
            self._leaving = True
            raise
        finally:
            self._interacting = self._at_prompt = False
            self._readline_before.restore()
            if self._leaving:
                self._leave()

    def _lost_stream(self) -> str | None:
        """The name of one of the streams that a prompt needs, if it is not there."""
        if not self.use_rawinput:
            return None
        streams = {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr")}
        for name, stream in streams.items():
            if stream is None or getattr(stream, "closed", False):
                return name
        return None

    def _go_on_alone(self, why: str) -> None:
        """Continue, since nobody can answer: a service is neither stopped for ever nor ended by a REPL."""
        log.pdb("nobody can answer the REPL (%s): the program goes on", why)
        self.set_continue()

    def cmdloop(self, intro: Any = None) -> None:
        """As in :mod:`cmd`; a line that is not text is reported."""
        while True:
            try:
                super().cmdloop(intro)
                return
            except UnicodeDecodeError as exc:
                self.error(f"not understood: {exc}")

    def do_debug(self, arg: str) -> Any:
        """debug CODE: step through CODE in a debugger of its own."""
        # The one of `pdb` goes on tracing in any case, and a post-mortem's own frames with it.
        before = sys.gettrace()
        try:
            return super().do_debug(arg)
        finally:
            sys.settrace(before)

    def do_EOF(self, arg: str) -> bool:
        """EOF (ctrl-d): as `quit`; where there is no terminal the end of the input is as `continue`."""
        if self.use_rawinput and not sys.stdin.isatty():
            self._go_on_alone("stdin is not a terminal, and has ended")
            return True
        return bool(super().do_EOF(arg))

    def set_continue(self) -> None:
        """The user lets go; as in :mod:`bdb`."""
        self._leaving = True
        super().set_continue()

    def set_quit(self) -> None:
        """The user lets go; as in :mod:`bdb`."""
        self._leaving = True
        super().set_quit()

    def _leave(self) -> None:
        self._is_left = True
        # Also called by a signal handler, maybe in the middle of this: one of the two gets it; no lock is held.
        try:
            release = self._on_release.pop()
        except IndexError:
            return
        release()

    def _reopen(self) -> bool:
        release = None if self._on_reopen is None else self._on_reopen(self)
        if release is None:
            return False
        self._on_release.append(release)
        self._owner = current_ident()
        self._is_left = False
        return True

    def onecmd(self, line: str) -> Any:
        """Carry out a line; what it assigns to the frame's variables is kept."""
        frame = self.curframe
        try:
            return super().onecmd(line)
        finally:
            if sys.version_info < (3, 13) and frame is not None:
                # `f_locals` is a copy, which the next look at it overwrites.
                ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))

    def preloop(self) -> None:
        """Before the first prompt: completion for libedit, whose bindings are written otherwise."""
        readline = sys.modules.get("readline")
        if readline is not None and "libedit" in (readline.__doc__ or ""):
            readline.parse_and_bind("bind ^I rl_complete")
        super().preloop()
        self._at_prompt = True

    def precmd(self, line: str) -> str:
        """A line was typed."""
        self._at_prompt = False
        return str(super().precmd(line))

    def postcmd(self, stop: Any, line: str) -> Any:
        """A line was carried out."""
        self._at_prompt = not stop
        return super().postcmd(stop, line)


def _is_suspending(frame: FrameType) -> bool:
    """Whether a generator or coroutine that 'returns', and does not raise, only waits; it has not ended."""
    code, at = frame.f_code.co_code, frame.f_lasti
    if not frame.f_code.co_flags & SUSPENDS or at < 0:
        return False
    # In Python 3.13 the frame is ahead already.
    ahead = opname[code[at]] == "RESUME" and at >= 2
    return opname[code[at - 2 if ahead else at]] == "YIELD_VALUE"


class _ReadlineState:
    """What a program had set in readline, if it uses it, before pdb changed it."""

    def __init__(self) -> None:
        self._readline: Any = sys.modules.get("readline")
        if self._readline is not None:
            self._completer = self._readline.get_completer()
            self._delims = self._readline.get_completer_delims()
            self._backend = getattr(self._readline, "backend", None)

    def restore(self) -> None:
        """Put it back."""
        if self._readline is not None:
            self._readline.set_completer(self._completer)
            self._readline.set_completer_delims(self._delims)
            if self._backend is not None:
                self._readline.backend = self._backend
