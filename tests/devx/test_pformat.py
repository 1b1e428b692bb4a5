"""Text for people."""

from __future__ import annotations

import pytest
import trio

from tractor.devx import pformat
from tractor.msg.pretty_struct import Struct


def test_a_divider_stands_in_the_middle() -> None:
    assert pformat.add_div("x" * 9, div_str="---") == "xxxxxxxxx\n   ---\n"
    assert pformat.add_div("x\n").splitlines() == ["x", "------ - ------"]


@pytest.mark.parametrize("tb_str", ["", "Traceback\n  File x\nValueError: y\n"])
def test_a_traceback_is_boxed_whole(tb_str: str) -> None:
    text = pformat.pformat_boxed_tb(tb_str, fields_str="uid: x", boxer_header="('a', '1')")
    first, *box = text.splitlines()
    assert first == " |_uid: x"
    assert all(line.startswith("   ") for line in box)
    assert "------ ('a', '1') ------" in text
    assert [line[5:] for line in box[2:-1]] == tb_str.splitlines()
    assert pformat.pformat_boxed_tb("x", tb_box_indent=0, tb_body_indent=0).splitlines()[2] == "|x"


def test_an_exception_tells_type_message_and_body() -> None:
    exc = ValueError("two\nlines")
    exc.add_note("a note")
    assert pformat.pformat_exc(exc) == "<ValueError(\n  two\n  lines\n  a note\n)>\n"
    text = pformat.pformat_exc(exc, header="got ", message="m", body="b")
    assert text == "got <ValueError(\n  m\n  b\n)>\n"
    assert pformat.pformat_exc(exc, with_type_header=False) == "  two\n  lines\n  a note\n"


def test_an_exception_that_cannot_be_told_is_named() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "str() failed: RuntimeError" in pformat.pformat_exc(Mute())


@pytest.mark.parametrize("box_tb", [True, False])
def test_the_caller_is_shown(box_tb: bool) -> None:
    def callee() -> str:
        return pformat.pformat_caller_frame(box_tb=box_tb)

    text = callee()
    assert "in test_the_caller_is_shown" in text
    assert "text = callee()" in text
    assert ("caller" in text.splitlines()[1]) is box_tb


def test_a_cancel_scope_is_shown() -> None:
    texts: list[str] = []

    async def main() -> None:
        with trio.CancelScope(shield=True) as cs:
            cs.cancel()
            texts.append(pformat.pformat_cs(cs, var_name="mine"))

    trio.run(main)
    (text,) = texts
    assert text.startswith("mine: <trio.CancelScope")
    assert " |_cancel_called = True\n" in text
    assert " |_shield = True\n" in text


def test_an_operation_nests_what_it_is_about() -> None:
    assert pformat.nest_from_op("x>", "one\ntwo") == "x>\n |_one\n   two\n"
    assert pformat.nest_from_op(">)", "one", prefix_op=False) == " |_one\n>)\n"
    assert pformat.nest_from_op("<=", 7, nest_prefix="- ", nest_indent=0) == "<=\n- 7\n"


def test_a_struct_is_shown_by_its_own_function() -> None:
    class Point(Struct):
        x: int

    assert "x: int = 1" in pformat.ppfmt(Point(1))
