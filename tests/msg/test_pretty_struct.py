"""Structs that people can read and compare."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tractor.msg import Struct, pretty_struct
from tractor.msg.pretty_struct import MISSING, DiffDump


class Point(Struct):
    x: int
    name: str = "p"
    _hidden: int = 3

    @property
    def double(self) -> int:
        return self.x * 2

    @property
    def broken(self) -> int:
        raise RuntimeError("not now")


class Line(Struct):
    start: Point
    end: object = None


class Frozen(Struct, frozen=True):  # type: ignore[misc]
    x: int


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    __hash__ = None  # type: ignore[assignment]


def test_repr_has_a_line_for_each_field() -> None:
    assert repr(Point(1)) == "Point(\n  x: int = 1,\n  name: str = 'p',\n)"
    assert Point(1).pformat() == pretty_struct.pformat(Point(1)) == repr(Point(1))


def test_indents() -> None:
    assert pretty_struct.pformat(Frozen(1), 4, 2) == "  Frozen(\n      x: int = 1,\n  )"


def test_nested_struct() -> None:
    assert repr(Line(Point(1))) == (
        "Line(\n"
        "  start: Point = Point(\n"
        "    x: int = 1,\n"
        "    name: str = 'p',\n"
        "  ),\n"
        "  end: object = None,\n"
        ")"
    )


def test_rendering_a_plain_struct() -> None:
    class Plain(msgspec.Struct):
        x: int

    assert pretty_struct.pformat(Plain(1)).endswith("Plain(\n  x: int = 1,\n)")


def test_cycle_ends() -> None:
    line = Line(Point(1))
    line.end = line
    assert "= Line(...)," in repr(line)


def test_rendering_never_raises() -> None:
    assert repr(Line(Point(1), Unprintable())) == "<Line struct, its repr() failed>"
    hidden = Point(1)
    hidden._hidden = Unprintable()  # type: ignore[assignment]
    assert "x: int = 1" in repr(hidden)
    unset = Point(1)
    del unset.x
    assert "Point" in repr(unset)


def test_fallback_is_msgspecs_own_repr() -> None:
    class Odd(Struct):
        x: "NoSuchType"  # type: ignore[name-defined]  # noqa: F821, UP037

    assert repr(Odd(1)).endswith("Odd(x=1)")


def test_to_dict() -> None:
    members = {"x": 1, "name": "p", "_hidden": 3}
    assert Point(1).to_dict(include_non_members=False) == members
    assert Point(1).to_dict() == {**members, "double": 2}


def test_copy() -> None:
    point = Point(1)
    twin = point.copy()
    assert twin == point
    assert twin is not point
    assert point.copy({"x": 5}) == Point(5)
    assert point.x == 1
    with pytest.raises(TypeError, match="nothing"):
        point.copy({"nothing": 1})


@pytest.mark.parametrize("cls", [Point, Frozen])
def test_typecast(cls: Any) -> None:
    struct = cls("7")
    struct.typecast()
    assert struct.x == 7
    with pytest.raises(ValueError, match="seven"):
        cls("seven").typecast()


def test_typecast_changes_all_or_nothing() -> None:
    point = Point("7", name="p", _hidden="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'x'"):
        point.typecast()
    assert point.x == "7"  # type: ignore[comparison-overlap]


def test_difference_of_structs() -> None:
    assert Point(1) - Point(1) == []
    diff = Point(1) - Point(2, "q")
    assert isinstance(diff, DiffDump)
    assert diff == [("x", 1, 2), ("name", "p", "q")]
    assert repr(diff) == "DiffDump([\n  x: 1 != 2,\n  name: 'p' != 'q',\n])"
    assert repr(DiffDump()) == "DiffDump([])"


def test_difference_reports_missing_fields_of_either_side() -> None:
    assert Frozen(1).fields_diff({"y": 2}) == [("x", 1, MISSING), ("y", MISSING, 2)]
    assert Frozen(1) - Point(1) == [("name", MISSING, "p"), ("_hidden", MISSING, 3)]
    assert "<missing>" in repr(Frozen(1) - {"y": 2})
    with pytest.raises(TypeError):
        Frozen(1) - 5  # type: ignore[operator]


def test_difference_of_awkward_values() -> None:
    diff = Line(Point(1), Unprintable()) - Line(Point(1), Unprintable())
    assert [name for name, *_ in diff] == ["end"]
    assert "its repr() failed" in repr(diff)


def test_iter_fields() -> None:
    found = [(info.name, value) for info, value in pretty_struct.iter_fields(Point(1))]
    assert found == [("x", 1), ("name", "p"), ("_hidden", 3)]
