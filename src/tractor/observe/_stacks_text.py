"""Stacks of tasks and threads as text.  Pure: of the answers of the op ``stacks``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tractor.observe._words import plain

IDLE = ("no task runs: the loop waits, or is between two tasks",)


def stacks_text(
    answer: Mapping[str, Any], *, threads: bool = False, everything: bool = False
) -> Iterator[str]:
    """The tasks of an actor as a tree, each with where it is, innermost line last.

    Args:
        answer: what the actor has told.
        threads: its threads, too.
        everything: the runtime's tasks and frames, too.
    """
    tasks: list[Mapping[str, Any]] = list(answer["tasks"])
    by_id = {task["id"]: task for task in tasks}
    depths: dict[Any, int] = {}
    for task in tasks:
        # Parents come first.
        parent = task["parent"]
        shown = everything or not task["runtime"]
        above = depths.get(parent, 0) if parent in by_id else 0
        depths[task["id"]] = above + shown
        if shown:
            indent = "  " * above
            mark = ", running" if task["running"] else ""
            yield f"{indent}task {plain(task['name'])}{mark}"
            for line in _frames(task["frames"], everything):
                yield f"{indent}    {line}"
    if answer.get("truncated"):
        yield f"{answer['truncated']} more tasks were left out"
    for thread in answer["threads"] if threads else ():
        yield f"thread {plain(thread['name'] or '?')}"
        for line in _frames(thread["frames"], everything=True):
            yield f"    {line}"


def _frames(frames: Sequence[Mapping[str, Any]], everything: bool) -> list[str]:
    """Those of the program, and what the last of them waits in."""
    if everything:
        return [_line(frame) for frame in frames]
    own = [i for i, frame in enumerate(frames) if not frame["runtime"]]
    lines = [_line(frames[i]) for i in own]
    if own and own[-1] + 1 < len(frames):
        below = frames[own[-1] + 1]
        lines.append(f"waits in {plain(below['function'])}()")
    return lines


def _line(frame: Mapping[str, Any]) -> str:
    return plain(f"{frame['file']}:{frame['line']} in {frame['function']}()")


def running_stack(answer: Mapping[str, Any]) -> tuple[str, ...]:
    """The frames of the task that runs, outermost first."""
    for task in answer["tasks"]:
        if task["running"] and not task["runtime"]:
            return (f"task {plain(task['name'])}", *_frames(task["frames"], everything=False))
    return IDLE


def profile_text(stacks: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """How often each stack was met, the most frequent first."""
    counts = Counter(stacks)
    total = sum(counts.values())
    for stack, count in counts.most_common():
        yield f"{count:>5} of {total}  {stack[0]}"
        for line in stack[1:]:
            yield f"{'':>{10 + len(str(total))}}  {line}"
