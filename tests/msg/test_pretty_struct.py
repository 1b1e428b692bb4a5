"""Structs that people can read and compare."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
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


class Anything(Struct):
    value: Any
    after: int = 1


class Holder:
    """An object that is not a struct, and on the way of a cycle."""

    def __init__(self, *held: object) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f"Holder{self.held!r}"


def test_rendering_goes_on_after_what_cannot_be_rendered() -> None:
    assert repr(Anything(Unprintable())) == (
        "Anything(\n  value: Any = <Unprintable object, its repr() failed>,\n  after: int = 1,\n)"
    )
    assert "<int object" in repr(Anything(10**5000))
    hidden = Point(1)
    hidden._hidden = Unprintable()  # type: ignore[assignment]
    assert "x: int = 1" in repr(hidden)


def test_rendering_an_unset_field() -> None:
    unset = Point(1)
    del unset.x
    assert repr(unset) == "Point(\n  x: int = <missing>,\n  name: str = 'p',\n)"


def test_rendering_cycles_by_any_way() -> None:
    struct = Anything(None)
    for value in ([struct], {"a": struct}, Holder(struct, struct), Anything([struct, struct])):
        struct.value = value
        assert "Anything(...)" in repr(struct)
        assert len(repr(struct)) < 500
    other = Anything(struct)
    struct.value = Holder(other, struct, other)
    assert "Anything(...)" in struct.pformat()
    # Nothing is kept: the next one is rendered in full.
    struct.value = 1
    assert "after: int = 1" in repr(struct)
    assert pretty_struct._rendering == set()


def test_rendering_a_deep_chain_ends() -> None:
    chain = Anything(None)
    for _ in range(5000):
        chain = Anything(chain)
    assert "Anything" in repr(chain)
    # Python takes down so deep a chain level by level, too.
    while isinstance(chain.value, Anything):
        chain = chain.value


def test_several_lines_of_a_value_are_indented() -> None:
    assert repr(Line(Point(1), [Frozen(1)])).endswith(
        "  end: object = [Frozen(\n    x: int = 1,\n  )],\n)"
    )


def test_a_repr_of_a_nested_struct_is_its_own() -> None:
    class Secret(Struct):
        password: str

        def __repr__(self) -> str:
            return "Secret(***)"

    assert "end: object = Secret(***)," in repr(Line(Point(1), Secret("hunter2")))


def test_fallback_is_msgspecs_own_repr() -> None:
    class Odd(Struct):
        x: "NoSuchType"  # type: ignore[name-defined]  # noqa: F821, UP037

    assert repr(Odd(1)).endswith("Odd(x=1)")


def test_to_dict() -> None:
    members = {"x": 1, "name": "p", "_hidden": 3}
    assert Point(1).to_dict(include_non_members=False) == members
    assert Point(1).to_dict() == {**members, "double": 2}


def test_to_dict_leaves_out_what_is_unset() -> None:
    unset = Point(1)
    del unset.x
    assert unset.to_dict(include_non_members=False) == {"name": "p", "_hidden": 3}
    assert unset - Point(1) == [("x", MISSING, 1)]
    assert "double" not in unset.to_dict()
    with pytest.raises(AttributeError, match="x"):
        unset.copy()


def test_to_dict_with_attributes_that_are_no_fields() -> None:
    class Open(Struct, dict=True):
        x: int

    struct = Open(1)
    struct.more = 2  # type: ignore[attr-defined]
    assert struct.to_dict() == {"x": 1, "more": 2}
    assert struct.to_dict(False) == {"x": 1}


def test_to_dict_keeps_nested_structs() -> None:
    point = Point(1)
    assert Line(point).to_dict()["start"] is point


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


class Typed(Struct):
    path: Path = Path()
    flag: bool = False
    data: bytes = b""
    when: date = date.min
    amounts: dict[str, Decimal] = msgspec.field(default_factory=dict)
    text: str = ""
    point: Point | None = None


def test_typecast_of_many_types() -> None:
    typed: Any = Typed("a/b", "true", "eA==", "2024-02-29", {"a": "1.5"}, 5, {"x": 1})  # type: ignore[arg-type, dict-item]
    typed.typecast()
    assert typed == Typed(
        Path("a/b"), True, b"x", date(2024, 2, 29), {"a": Decimal("1.5")}, "5", Point(1)
    )
    typed.typecast()
    assert typed.path == Path("a/b")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("path", 5),
        ("flag", "maybe"),
        ("flag", [1]),
        ("data", 10**12),
        ("when", "tomorrow"),
        ("amounts", [1]),
        ("point", "p"),
        ("text", Unprintable()),
        ("path", Unprintable()),
    ],
)
def test_typecast_of_what_cannot_be_cast(field: str, value: object) -> None:
    typed = Typed(**{field: value})  # type: ignore[arg-type]
    with pytest.raises((msgspec.ValidationError, RuntimeError)) as caught:
        typed.typecast()
    if isinstance(caught.value, msgspec.ValidationError):
        assert f"the field {field!r} cannot be" in str(caught.value)
    assert getattr(typed, field) is value


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


def test_difference_of_arrays() -> None:
    np: Any = pytest.importorskip("numpy")
    assert Anything(np.arange(3)) - Anything(np.arange(3)) == []
    for other in (np.arange(3) + 1, np.arange(4), np.zeros((0, 3)), np.array(0), [0, 1, 2], None):
        assert len(Anything(np.arange(3)) - Anything(other)) == 1
    assert len(Anything(np.zeros(3)) - Anything(0)) == 1


def test_difference_with_what_has_no_fields() -> None:
    with pytest.raises(TypeError, match="a struct or a dict"):
        Point(1).fields_diff(5)  # type: ignore[arg-type]


def test_difference_with_any_mapping() -> None:
    assert Frozen(1) - MappingProxyType({"x": 1}) == []
    assert Frozen(1) - {"x": 2, 5: 6} == [("x", 1, 2), (5, MISSING, 6)]  # type: ignore[dict-item]


def test_iter_fields() -> None:
    found = [(info.name, value) for info, value in pretty_struct.iter_fields(Point(1))]
    assert found == [("x", 1), ("name", "p"), ("_hidden", 3)]
