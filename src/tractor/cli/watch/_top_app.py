"""The full screen of ``tractor top``: a table of actors, and details of one.

Looks are taken in a thread, one at a time, so keys work while an actor does not answer.  Whatever ends the program, the
terminal is put back: textual does that at a crash, and the signals that end a program end the app here.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static

from tractor.control._protocol import Refusal
from tractor.observe._ending import ended_text
from tractor.observe._finding import Found
from tractor.observe._history import History, key_of, short
from tractor.observe._naming import called, matching, with_all_below
from tractor.observe._recent_text import event_text, events_of
from tractor.observe._requests import answers_of
from tractor.observe._stacks_text import stacks_text
from tractor.observe._table import COLUMNS, LAG_IS_HIGH, Row, rows_of
from tractor.observe._words import plain, span
from tractor.observe.afar._by_message import NoRegistrar
from tractor.observe.afar._ending import end_anywhere
from tractor.observe.tracing._collecting import Collector
from tractor.observe.tracing._taking import VIEWER, record_to
from tractor.runtime.seen._samples import Sample, TreeSample

NARROW = ("NAME", "STATE", "CPU", "LAG", "FILL")
"""What is shown on less than :data:`WIDE` columns."""

USUAL = (
    "NAME",
    "PID",
    "STATE",
    "UP",
    "CPU",
    "RSS",
    "TASKS",
    "MSGS/S",
    "LAG",
    "FILL",
    "RST",
    "CPU, 60 s",
)
WIDE = 80
SMALLEST = (60, 10)
RIGHT = frozenset({"PID", "UP", "CPU", "RSS", "TASKS", "MSGS/S", "LAG", "FILL", "RST"})
SORTABLE: tuple[str | None, ...] = (None, "CPU", "RSS", "LAG", "FILL", "TASKS", "RST", "UP")

ASK_LIMIT = 3.0
RECENT = 5
"""Events in the details."""

KEYS = """\
↑ ↓     move              enter  details: dialogs, recent events
/       filter by name    s      stacks
< >     sort              l      log level
space   fold              c      cancel (asks)
p       freeze            d      debug, where it is in debug mode
?       this              t      trace of 5 s, into a file here
                          q      quit
"""

TRACE_SECONDS = 5.0
TRACE_EVENTS = 200_000

Looks = Callable[[], tuple[Found, TreeSample]]


class _Pages(ModalScreen[None]):
    """A text, until a key is pressed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "app.pop_screen", "back", priority=True)
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        yield VerticalScroll(Static(Text(self._text)))
        yield Footer()


class _Question(ModalScreen[str]):
    """A line of the user's; empty: nothing is wanted."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss('')", "back")]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        yield Static(Text(self._question))
        yield Input()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """The line is written."""
        self.dismiss(event.value.strip())


class Top(App[int]):
    """The application.

    Args:
        looks: takes a look.  What it raises as a NoRegistrar is shown, and the next one taken.
        actor: show it and those below it alone; ``None``: all.
        interval: seconds between two looks.
        dirs: runtime directories, for what is recorded.
    """

    CSS = """
    #head { height: 1; }
    #filter { display: none; height: 3; }
    #filter.asked { display: block; }
    DataTable { height: 1fr; }
    #details { display: none; height: auto; max-height: 40%; border-top: solid $accent; }
    #details.shown { display: block; }
    #small { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("less_than_sign", "sort(-1)", "sort", key_display="<"),
        Binding("greater_than_sign", "sort(1)", "sort", key_display=">", show=False),
        Binding("space", "fold", "fold", priority=True),
        Binding("enter", "details", "details", priority=True),
        Binding("s", "stacks", "stacks"),
        Binding("l", "log", "log"),
        Binding("c", "cancel", "cancel"),
        Binding("d", "debug", "debug"),
        Binding("t", "trace", "trace 5s"),
        Binding("p", "freeze", "freeze"),
        Binding("question_mark", "keys", "keys", key_display="?"),
        Binding("q", "quit", "quit"),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(
        self,
        looks: Looks,
        actor: str | None = None,
        interval: float = 1.0,
        dirs: Sequence[Path] = (),
    ) -> None:
        super().__init__()
        self._dirs = dirs
        self._actor = actor
        self._interval = interval
        self._looks = looks
        self._found: Found | None = None
        self._history = History()
        self._folded: set[tuple[str, int | None]] = set()
        self._rows: list[Row] = []
        self._sort: str | None = None
        self._pattern = ""
        self._frozen = False
        self._shown: list[str] = []
        # What records now.
        self._collector: Collector | None = None

    def show(self) -> int:
        """Run until the user leaves, or a signal comes; the exit status."""
        return self.run() or 0

    # -- the screen -----------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Input(placeholder="names to show, as feed*", id="filter")
        table: DataTable[Text] = DataTable(cursor_type="row", zebra_stripes=False)
        yield table
        yield Static(id="details")
        yield Footer()

    async def on_mount(self) -> None:
        """Begin to look."""
        if sys.platform != "win32":
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self.exit, 128 + number)
        self.query_one(DataTable).focus()
        self.run_worker(self._watch(), name="looks")

    async def _watch(self) -> None:
        while True:
            begun = time.monotonic()
            if not self._frozen:
                try:
                    self._found, tree = await asyncio.to_thread(self._look)
                except NoRegistrar as exc:
                    self.notify(str(exc), severity="error")
                else:
                    self._history.add(tree)
                self._draw()
                if self.query("#details.shown"):
                    await self._draw_details()
            await asyncio.sleep(max(0.05, begun + self._interval - time.monotonic()))

    def _look(self) -> tuple[Found, TreeSample]:
        found, tree = self._looks()
        if self._actor is not None:
            chosen = matching(self._actor, tree.actors, found.addrs)
            actors = with_all_below(chosen, tree.actors)
            tree = TreeSample(
                time=tree.time, host=tree.host, actors=tuple(actors), missing=tree.missing
            )
        return found, tree

    def on_resize(self) -> None:
        """Another width may show other columns."""
        self._draw()

    def _draw(self) -> None:
        tree = self._history.latest
        # The screen may be gone already when the last look comes to its end.
        if tree is None or not self.query("#head"):
            return
        head = self.query_one("#head", Static)
        table: DataTable[Text] = self.query_one(DataTable)
        if self.size.width < SMALLEST[0] or self.size.height < SMALLEST[1]:
            table.display = False
            head.update(
                Text(f"too small: {SMALLEST[0]} columns and {SMALLEST[1]} lines are needed")
            )
            return
        table.display = True
        head.update(Text(self._heading(tree), no_wrap=True))
        columns = list(USUAL if self.size.width >= WIDE else NARROW)
        if columns != self._shown:
            table.clear(columns=True)
            for name in columns:
                table.add_column(name, key=name)
            self._shown = columns
        at = self._selected()
        only = self._pattern or None
        if only and not any(letter in only for letter in "*?["):
            only = f"*{only}*"
        self._rows = self._unfolded(rows_of(tree.actors, sort=self._sort, only=only))
        table.clear()
        for row in self._rows:
            table.add_row(*[self._cell(name, row) for name in columns])
        if at is not None:
            keys = [key_of(row.sample) for row in self._rows]
            if key_of(at) in keys:
                table.move_cursor(row=keys.index(key_of(at)), animate=False)

    def _unfolded(self, rows: list[Row]) -> list[Row]:
        """Without those below one that is folded."""
        hidden: set[str] = set()
        kept = []
        for row in rows:
            one = row.sample
            if one.parent in hidden:
                hidden.add(one.uuid)
                continue
            if key_of(one) in self._folded and one.uuid:
                hidden.add(one.uuid)
            kept.append(row)
        return kept

    def _heading(self, tree: TreeSample) -> str:
        known = {one.uuid for one in tree.actors if one.uuid}
        roots = sum(one.parent not in known for one in tree.actors)
        odd = [
            f"{count} {state}"
            for state in ("blocked", "stopped", "zombie", "mute", "lost", "gone", "backoff")
            if (count := sum(one.state == state for one in tree.actors))
        ]
        total = self._history.total()
        clock = time.strftime("%H:%M:%S", time.localtime(tree.time))
        parts = [
            f"tractor top   host {plain(tree.host)}   {roots} trees  {len(tree.actors)} actors",
            *odd,
            f"calls {short(total.calls)}/s  msgs {short(total.messages)}/s",
            f"sort {self._sort or 'NAME'}",
            f"frozen {clock}" if self._frozen else clock,
        ]
        return "   ".join(parts)

    def _cell(self, name: str, row: Row) -> Text:
        one = row.sample
        style = "dim" if row.dimmed else ""
        if name == "MSGS/S":
            text = short(self._history.rates(one).messages)
        elif name == "CPU, 60 s":
            text = self._history.bars(one)
        else:
            text = COLUMNS[name].text(one)
        if name == "NAME":
            fold = " ▸" if key_of(one) in self._folded else ""
            text = row.prefix + text + fold
        elif name == "STATE" and one.state not in ("run", "boot"):
            style = "yellow" if one.state in ("stopped", "mute", "cancel", "repl") else "red"
        elif name == "LAG" and (one.state == "blocked" or (one.lag or 0.0) >= LAG_IS_HIGH):
            style = "red"
        return Text(text, style=style, justify="right" if name in RIGHT else "left")

    def _selected(self) -> Sample | None:
        table: DataTable[Text] = self.query_one(DataTable)
        at = table.cursor_row
        return self._rows[at].sample if 0 <= at < len(self._rows) else None

    # -- keys -----------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys belong to whoever has a question open."""
        busy = len(self.screen_stack) > 1 or isinstance(self.focused, Input)
        return not busy or action in ("quit", "pop_screen", "command_palette", "app.pop_screen")

    def action_filter(self) -> None:
        """Ask for a pattern of names."""
        field = self.query_one("#filter", Input)
        field.add_class("asked")
        field.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """The pattern is written; an empty one shows all."""
        self._pattern = event.value.strip()
        event.input.remove_class("asked")
        self.query_one(DataTable).focus()
        self._draw()

    def action_sort(self, step: int) -> None:
        """Sort by the next column."""
        at = SORTABLE.index(self._sort)
        self._sort = SORTABLE[(at + step) % len(SORTABLE)]
        self._draw()

    def action_fold(self) -> None:
        """Hide those below the one that is chosen, or show them."""
        one = self._selected()
        if one is not None:
            self._folded ^= {key_of(one)}
            self._draw()

    def action_freeze(self) -> None:
        """Ask nothing, until the key comes again."""
        self._frozen = not self._frozen
        self._draw()

    def action_keys(self) -> None:
        """Tell the keys."""
        self.push_screen(_Pages(KEYS))

    async def action_details(self) -> None:
        """Show dialogs and recent events of the one that is chosen, or hide them."""
        details = self.query_one("#details")
        details.toggle_class("shown")
        if details.has_class("shown"):
            await self._draw_details()

    async def _draw_details(self) -> None:
        one = self._selected()
        if one is None:
            return
        asked: list[dict[str, Any]] = [{"op": "sample", "dialogs": True}, {"op": "recent"}]
        answers = await self._ask(one, *asked)
        lines = [
            f"{called(one)}[{one.uuid[:6]}]   {one.state}  {one.why or ''}   up {span(one.uptime)}"
        ]
        if len(answers) == len(asked) and not isinstance(answers[0], Refusal):
            for dialog in (answers[0].get("dialogs") or [])[:RECENT]:
                way = "to" if dialog["side"] == "caller" else "for"
                fill = "" if dialog["fill"] is None else f"  {dialog['fill']:.0f}% full"
                lines.append(f"{dialog['kind']} {dialog['function']} {way} {dialog['peer']}{fill}")
            if not isinstance(answers[1], Refusal):
                for event in events_of(one.name, answers[1])[-RECENT:]:
                    lines += event_text(event, tracebacks=False)
        self.query_one("#details", Static).update(Text("\n".join(map(plain, lines))))

    async def _ask(self, one: Sample, *requests: dict[str, Any]) -> list[Any]:
        """The answers of an actor; none where it can't be asked."""
        found = self._found
        if found is None:
            return []
        told = [
            await asyncio.to_thread(answers_of, [one], found, ASK_LIMIT, request)
            for request in requests
        ]
        return [answers[one.uuid] for answers in told if one.uuid in answers]

    async def action_stacks(self) -> None:
        """Show where its tasks are."""
        one = self._selected()
        if one is None:
            return
        (answer,) = await self._ask(one, {"op": "stacks"}) or [None]
        if answer is None or isinstance(answer, Refusal):
            self.notify(f"{called(one)} gave no stacks", severity="warning")
            return
        text = "\n".join([called(one), *stacks_text(answer, threads=True)])
        self.push_screen(_Pages(text))

    def action_log(self) -> None:
        """Ask for a log level, and set it."""
        one = self._selected()
        if one is not None:
            self.run_worker(self._set_level(one))

    async def _set_level(self, one: Sample) -> None:
        level = await self.push_screen_wait(_Question(f"log level, or spec, of {called(one)}"))
        if not level:
            return
        (answer,) = await self._ask(one, {"op": "log", "spec": level}) or [None]
        if isinstance(answer, Refusal):
            self.notify(answer.text, severity="error")
        else:
            self.notify(f"{called(one)}: {level}" if answer else f"{called(one)} did not answer")

    def action_cancel(self) -> None:
        """Ask whether to end it, and end it."""
        one = self._selected()
        if one is not None:
            self.run_worker(self._end(one))

    async def _end(self, one: Sample) -> None:
        latest = self._history.latest
        below = with_all_below([one], latest.actors)[1:] if latest is not None else []
        more = f" and {len(below)} below" if below else ""
        if await self.push_screen_wait(_Question(f"end {called(one)}{more}? write yes")) != "yes":
            return
        found = self._found
        if found is None:
            return
        ended = await asyncio.to_thread(
            end_anywhere, [one], below, found, self._looks, hard=False, limit=ASK_LIMIT * 10
        )
        self.notify("\n".join(map(ended_text, ended)) or f"{called(one)} has no process here")

    def action_trace(self) -> None:
        """Record it and those below it, and write that to a file."""
        one = self._selected()
        if one is not None and one.uuid and self._collector is None:
            self._collector = Collector(self._dirs, {one.uuid}, TRACE_EVENTS)
            self.run_worker(self._trace(one, self._collector))

    async def _trace(self, one: Sample, collector: Collector) -> None:
        name = "".join(
            letter if letter.isalnum() or letter in "._-" else "_" for letter in one.name
        )
        path = Path(f"trace-{name}-{time.strftime('%H%M%S')}.json.gz")
        self.notify(f"recording {called(one)} for {TRACE_SECONDS:g} s", timeout=TRACE_SECONDS)
        try:
            text = await asyncio.to_thread(record_to, path, collector, TRACE_SECONDS)
            self.notify(f"{text}; {VIEWER} shows it")
        except (OSError, LookupError) as exc:
            self.notify(f"no trace: {exc}", severity="error")
        finally:
            self._collector = None

    def on_unmount(self) -> None:
        """Whatever records is not waited for."""
        if self._collector is not None:
            self._collector.stop()

    def action_debug(self) -> None:
        """Leave the screen to `tractor debug`, until the user lets go there."""
        one = self._selected()
        if one is not None and one.pid is not None:
            with self.suspend():
                subprocess.run(
                    [sys.executable, "-m", "tractor", "debug", str(one.pid)], check=False
                )
                input("enter goes back to top ")
