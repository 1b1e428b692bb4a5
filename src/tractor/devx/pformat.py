"""Text to be read: tracebacks in boxes, exceptions, frames, cancel scopes, and what happened to what."""

from __future__ import annotations

import traceback
from types import FrameType
from typing import Any

import trio

from tractor._util._frames import frame_at, frames_above
from tractor.devx._frames import is_runtime_frame
from tractor.msg.pretty_struct import pformat as ppfmt

__all__ = [
    "add_div",
    "nest_from_op",
    "pformat_boxed_tb",
    "pformat_caller_frame",
    "pformat_cs",
    "pformat_exc",
    "ppfmt",
]


def add_div(message: str, div_str: str = "------ - ------") -> str:
    """``message`` with a line in the middle of whose width ``div_str`` stands, to put below it and above more."""
    width = max((len(line) for line in message.splitlines()), default=0)
    pad = max(0, width - len(div_str)) // 2
    return f"{message.rstrip()}\n{' ' * pad}{div_str}\n"


def pformat_boxed_tb(
    tb_str: str,
    fields_str: str | None = None,
    field_prefix: str = " |_",
    tb_box_indent: int | None = None,
    tb_body_indent: int = 1,
    boxer_header: str = "-",
) -> str:
    """A traceback, often one of another process, in a box.

    Args:
        tb_str: the traceback's text.
        fields_str: lines to put above the box.
        field_prefix: before the first of these and before the box.
        tb_box_indent: spaces before the box; default: the length of ``field_prefix``.
        tb_body_indent: spaces before each line of the traceback within the box.
        boxer_header: in the box's upper edge, say the actor that it came from.
    """
    pad = " " * (len(field_prefix) if tb_box_indent is None else tb_box_indent)
    body = [" " * tb_body_indent + line for line in tb_str.rstrip("\n").splitlines()]
    lines = [f"{pad}|", f"{pad} ------ {boxer_header} ------"]
    lines += [f"{pad}|{line}".rstrip() for line in body]
    lines.append(f"{pad}|_")
    above = f"{field_prefix}{fields_str.rstrip()}\n" if fields_str else ""
    return above + "\n".join(lines) + "\n"


def pformat_exc(
    exc: BaseException,
    header: str = "",
    message: str = "",
    body: str = "",
    with_type_header: bool = True,
) -> str:
    """An exception on several lines: its type in angle brackets, message and body between.

    Args:
        exc: it.
        header: put before the type.
        message: default: ``str(exc)``.
        body: what else there is to say, say a boxed traceback; default: the exception's notes.
        with_type_header: whether to begin with its type.
    """
    try:
        text = message or str(exc)
    except Exception as failure:
        text = f"(its str() failed: {type(failure).__name__})"
    body = body or "\n".join(getattr(exc, "__notes__", ()))
    lines = [f"{header}<{type(exc).__name__}("] if with_type_header else [header] * bool(header)
    lines += [f"  {line}" for line in text.splitlines()]
    lines += [f"  {line}".rstrip() for line in body.splitlines()]
    if with_type_header:
        lines.append(")>")
    return "\n".join(lines) + "\n"


def pformat_caller_frame(stack_limit: int = 1, box_tb: bool = True) -> str:
    """Where the calling function was called from, without frames of the runtime.

    Args:
        stack_limit: how many frames to show; the innermost is the last.
        box_tb: put it in a box.
    """
    caller: FrameType | None = None
    for caller in frames_above(frame_at(1).f_back):
        if not is_runtime_frame(caller):
            break
    text = "".join(traceback.format_stack(caller, limit=stack_limit)) if caller is not None else ""
    return pformat_boxed_tb(text, field_prefix="  ", boxer_header="caller") if box_tb else text


def pformat_cs(cs: trio.CancelScope, var_name: str = "cs", field_prefix: str = " |_") -> str:
    """A cancel scope's state, one field a line.

    Args:
        cs: it.
        var_name: what to call it.
        field_prefix: before each field.
    """
    fields = ("cancel_called", "cancelled_caught", "shield", "deadline", "relative_deadline")
    lines = [f"{var_name}: {cs!r}"]
    for name in fields:
        try:
            lines.append(f"{field_prefix}{name} = {getattr(cs, name)!r}")
        except (AttributeError, RuntimeError):
            # That one is known only before the scope is entered, or not at all in this trio.
            continue
    return "\n".join(lines) + "\n"


def nest_from_op(
    input_op: str,
    text: Any,
    prefix_op: bool = True,
    nest_prefix: str = "|_",
    nest_indent: int | None = None,
) -> str:
    """``text`` nested below a sign that says what happens to it: ``'>)'`` ends, ``'x>'`` crashed, ``'<='`` was asked.

    Args:
        input_op: the sign.
        text: what it is about; each of its lines is indented.
        prefix_op: the sign comes first, else last.
        nest_prefix: before the first line of ``text``.
        nest_indent: spaces before ``nest_prefix``; default: one less than the sign's length.
    """
    pad = " " * (max(0, len(input_op) - 1) if nest_indent is None else nest_indent)
    first, *others = str(text).rstrip("\n").split("\n")
    under = " " * len(nest_prefix)
    nested = "\n".join(
        [f"{pad}{nest_prefix}{first}", *(f"{pad}{under}{one}".rstrip() for one in others)]
    )
    return f"{input_op}\n{nested}\n" if prefix_op else f"{nested}\n{input_op}\n"
