"""Draws the pictures of the guide, with the numbers of the code: ``python tests/draw_pictures.py`` writes them anew.

Each is one SVG for light and dark, with a title and a description.  A test holds the files against what this draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from xml.sax.saxutils import escape

from tractor._proto.deadlines import (
    ACK_TIMEOUT,
    BOOT_GRACE,
    EXIT_TIMEOUT,
    LOSS_TIMEOUT,
    TERM_TIMEOUT,
)
from tractor._proto.dialog.flow import WINDOW, WINDOW_BYTES
from tractor._proto.lease import PINGS_A_DEADLINE

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "pictures"

WIDTH = 640

STYLE = """
    .paper { fill: #ffffff; stroke: #8a8f98; }
    .block { fill: none; stroke: #8a8f98; stroke-dasharray: 6 4; }
    .actor { fill: #e8f0fb; stroke: #1f5fa8; stroke-width: 2; }
    .lost { fill: #fbe9e7; stroke: #b3261e; stroke-width: 2; }
    .line { fill: none; stroke: #1f5fa8; stroke-width: 2; }
    .thin { fill: none; stroke: #8a8f98; }
    .bad { fill: none; stroke: #b3261e; stroke-width: 2; stroke-dasharray: 5 3; }
    .tip { fill: #1f5fa8; }
    .bad-tip { fill: #b3261e; }
    text { font: 14px sans-serif; fill: #1a1c1f; text-anchor: middle; }
    .name { font-weight: bold; }
    .small { font-size: 12px; }
    .left { text-anchor: start; }
    @media (prefers-color-scheme: dark) {
      .paper { fill: #17191c; }
      .actor { fill: #1d2c40; stroke: #7db3f2; }
      .lost { fill: #3d2220; stroke: #ff9a90; }
      .line { stroke: #7db3f2; }
      .tip { fill: #7db3f2; }
      .bad { stroke: #ff9a90; }
      .bad-tip { fill: #ff9a90; }
      text { fill: #eceef1; }
    }
"""


def words(x: float, y: float, text: str, kind: str = "small") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(text)}</text>'


def box(
    x: float, y: float, name: str, below: str = "", kind: str = "actor", wide: int = 130
) -> str:
    """A box with its upper edge at *y*, around *x*."""
    frame = (
        f'<rect class="{kind}" x="{x - wide / 2:g}" y="{y:g}" width="{wide}" height="46" rx="8"/>'
    )
    title = words(x, y + (20 if below else 28), name, "name")
    return "\n  ".join([frame, title, *([words(x, y + 37, below)] if below else [])])


def arrow(x1: float, y1: float, x2: float, y2: float, kind: str = "") -> str:
    """From the first point to the second one; *kind* is ``bad`` or nothing."""
    length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
    dx, dy = (x2 - x1) / length, (y2 - y1) / length
    foot_x, foot_y = x2 - 10 * dx, y2 - 10 * dy
    corners = [
        (x2, y2),
        (foot_x - 5 * dy, foot_y + 5 * dx),
        (foot_x + 5 * dy, foot_y - 5 * dx),
    ]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    line = f'<path class="{kind or "line"}" d="M{x1:g} {y1:g} L{foot_x:.1f} {foot_y:.1f}"/>'
    return f'{line}\n  <polygon class="{f"{kind}-" if kind else ""}tip" points="{points}"/>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "thin") -> str:
    return f'<path class="{kind}" d="M{x1:g} {y1:g} L{x2:g} {y2:g}"/>'


def frame(x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="block" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8"/>'


def svg(name: str, height: int, title: str, description: str, parts: Iterable[str]) -> str:
    body = "\n  ".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        f' aria-labelledby="{name}-title {name}-desc">\n'
        f'  <title id="{name}-title">{escape(title)}</title>\n'
        f'  <desc id="{name}-desc">{escape(description)}</desc>\n'
        f"  <style>{STYLE}  </style>\n"
        f'  <rect class="paper" x="1" y="1" width="{WIDTH - 2}" height="{height - 2}" rx="8"/>\n'
        f"  {body}\n</svg>\n"
    )


def handshake() -> str:
    left, right = 150, 490
    steps = [
        (92, True, "Start: the function, its arguments"),
        (128, False, "StartAck: found, and it may be called"),
        (164, False, "Started: the value of ctx.started()"),
        (216, True, "Yield"),
        (240, False, "Yield"),
        (276, True, "Stop: no more from this side"),
        (312, False, "Return: the result, or Error"),
    ]
    parts = [
        box(left, 18, "parent side", "open_context()"),
        box(right, 18, "child side", "its task"),
    ]
    parts += [line(left, 66, left, 330), line(right, 66, right, 330)]
    parts.append(frame(left - 24, 186, right - left + 48, 106))
    parts.append(words(left + 8, 202, "open_stream()", "small left"))
    for y, is_down, text in steps:
        ends = (left, right) if is_down else (right, left)
        parts += [arrow(ends[0], y, ends[1], y), words((left + right) / 2, y - 6, text)]
    parts.append(words(320, 352, "the block is entered with Started, and left after Return"))
    return svg(
        "handshake",
        368,
        "The handshake of a context",
        "Two lines of time. The parent side sends Start with the function and its arguments. The child side answers "
        "StartAck when the function was found, then Started with the value of ctx.started(). Within open_stream() each "
        "side sends Yield messages; Stop ends one direction. At the end the child side sends Return with the result, "
        "or Error. The block of open_context() is entered with Started and left after Return.",
        parts,
    )


def cascade() -> str:
    parts = [
        box(320, 20, "root", "its scope is cancelled"),
        box(150, 122, "team"),
        box(490, 122, "other"),
        box(70, 224, "leaf 1", wide=110),
        box(230, 224, "leaf 2", wide=110),
        arrow(270, 68, 180, 118),
        arrow(370, 68, 460, 118),
        arrow(130, 170, 84, 220),
        arrow(170, 170, 216, 220),
        words(186, 92, "1  cancel"),
        words(456, 92, "1  cancel"),
        words(66, 200, "2  cancel"),
        words(236, 200, "2  cancel"),
        words(150, 296, "3  the leaves end, and are reaped by team"),
        words(490, 190, "3  ends at once: nothing is below it"),
        words(
            320, 322, "4  team ends, then the root's nursery block is left: no process is left over"
        ),
    ]
    return svg(
        "cascade",
        340,
        "A cancellation goes down, the ends come up",
        "A root with two subactors, team and other; team has two leaves. The root's scope is cancelled. One: it asks "
        "both subactors to cancel, at the same time. Two: team asks its leaves. Three: the leaves end and team reaps "
        "them; other ends at once. Four: team ends, and the root's block is left with no process left over.",
        parts,
    )


LADDER = (
    ("0", "wait, if it still boots", BOOT_GRACE),
    ("1", "ask it to cancel its runtime", ACK_TIMEOUT),
    ("2", "wait for its exit; a note of progress begins this anew", EXIT_TIMEOUT),
    ("3", "SIGTERM", TERM_TIMEOUT),
    ("4", "SIGKILL", None),
)


def ladder() -> str:
    parts = []
    for step, (rung, text, limit) in enumerate(LADDER):
        x, y = 24 + 34 * step, 20 + 62 * step
        kind = "lost" if limit is None or text == "SIGTERM" else "actor"
        parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="460" height="40" rx="8"/>')
        parts.append(words(x + 22, y + 25, rung, "name"))
        parts.append(words(x + 44, y + 25, text, "left"))
        if limit is not None:
            parts.append(words(x + 410, y + 25, f"at most {limit:g} s"))
            parts.append(arrow(x + 440, y + 41, x + 440, y + 60, "bad"))
        else:
            parts.append(words(x + 410, y + 25, "until reaped"))
    return svg(
        "ladder",
        326,
        "The ladder of a child that is to go",
        "Five rungs, one below the other; whoever does not go in time comes to the next one. "
        + " ".join(
            f"Rung {rung}: {text}, {'until it is reaped' if limit is None else f'at most {limit:g} seconds'}."
            for rung, text, limit in LADDER
        ),
        parts,
    )


def credit() -> str:
    messages, size = f"{WINDOW:,}", f"{WINDOW_BYTES // 2**20} MiB"
    parts = [
        box(110, 30, "sender", "await send()"),
        box(530, 30, "reader", "await receive()"),
        '<rect class="block" x="210" y="30" width="220" height="46" rx="8"/>',
        words(320, 100, f"at most {messages} messages, or {size}"),
        arrow(178, 53, 206, 53),
        arrow(434, 53, 462, 53),
        arrow(530, 124, 114, 124),
        words(320, 142, "Credit: so many were taken, so many more may come"),
        line(110, 78, 110, 148, "bad"),
        words(110, 162, "without credit: waits"),
        line(530, 78, 530, 124),
        words(320, 190, "a cancel request needs none: it gets through while the stream is full"),
    ]
    parts += [
        f'<rect class="actor" x="{218 + 26 * n}" y="38" width="20" height="30" rx="3"/>'
        for n in range(8)
    ]
    return svg(
        "credit",
        208,
        "The credit of a stream",
        f"A sender, messages on their way, a reader. At most {messages} messages, or {size}, are on their way. What "
        "the reader has taken it tells the sender, by Credit, and so many more may come. Without credit send() waits. "
        "A cancel request needs no credit.",
        parts,
    )


def partition() -> str:
    here, there = 150, 490
    parts = [
        box(here, 18, "this host", "parent, link process"),
        box(there, 18, "other host", "agent, its actors"),
        line(here, 66, here, 330),
        line(there, 66, there, 330),
        arrow(there, 92, here, 92),
        words(320, 86, f"ping, {PINGS_A_DEADLINE} in a deadline D; this one is the last answered"),
        arrow(here, 114, there, 114),
        words(320, 108, "pong"),
        line(320, 128, 320, 330, "bad"),
        arrow(there, 152, 330, 152, "bad"),
        words(410, 146, "ping, not answered"),
        words(244, 146, "0: the network is cut"),
        box(there, 186, "lease over", "actors are released", "lost", 150),
        words(there + 8, 178, "D after it was sent", "small left"),
        box(here, 276, "HostLost", "the block can be left", "lost", 150),
        words(there + 8, 256, f"all ends in {LOSS_TIMEOUT:g} s", "small left"),
        words(here + 8, 266, f"D + {LOSS_TIMEOUT:g} s after receipt", "small left"),
        words(320, 352, "known here is always after gone there, and neither asks the other"),
    ]
    return svg(
        "partition",
        368,
        "Two hosts and a network that is cut",
        f"Two lines of time. The agent of the other host sends a ping {PINGS_A_DEADLINE} times a deadline, and this "
        "host answers. Then the network is cut. The agent counts from the sending of its last answered ping: after the "
        f"deadline its lease is over, it releases its actors, all ends in {LOSS_TIMEOUT:g} seconds. This host "
        f"counts from the receipt of that ping: after the deadline and {LOSS_TIMEOUT:g} seconds it raises HostLost, "
        "when all there has ended.",
        parts,
    )


PICTURES: dict[str, Callable[[], str]] = {
    "handshake": handshake,
    "cascade": cascade,
    "ladder": ladder,
    "credit": credit,
    "partition": partition,
}


def write() -> None:
    for name, draw in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(draw())


if __name__ == "__main__":
    write()
