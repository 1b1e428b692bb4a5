"""Unions as names and back."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, Literal, Optional, Union

import pytest
from msgspec import Raw

from tractor.msg import Started, Stop, dec_type_union, enc_type_union
from tractor.msg._union import spec_text


class Outer:
    class Inner:
        pass

    value = 5


class Odd:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("compared")

    __hash__ = None  # type: ignore[assignment]

    def __class_getitem__(cls, item: object) -> object:
        raise RuntimeError("subscribed")


@pytest.fixture
def here() -> ModuleType:
    mod = ModuleType("here")
    mod.Outer = Outer  # type: ignore[attr-defined]
    mod.odd = Odd()  # type: ignore[attr-defined]
    return mod


def test_names_in_order() -> None:
    assert enc_type_union(Union[int, str, None]) == ["int", "str", "NoneType"]  # noqa: UP007
    assert enc_type_union(int | Outer.Inner) == ["int", "Outer.Inner"]
    assert enc_type_union(Stop) == ["Stop"]
    assert enc_type_union(None) == ["NoneType"]


@pytest.mark.parametrize(
    "spec",
    [
        int,
        int | str | None,
        Optional[bytes],  # noqa: UP045
        dict[str, list[int]] | bool,
        dict[str, int | None],
        tuple[int, ...] | float,
        Started | Stop,
        Raw,
        Any,
        Outer | Outer.Inner | None,
        Literal["a", 2, None] | list[Literal[b"x", True]],
        dict[str, Outer.Inner | None],
    ],
)
def test_round_trip(spec: Any, here: ModuleType) -> None:
    assert dec_type_union(enc_type_union(spec), [here]) == spec


@pytest.mark.parametrize(
    "name",
    [
        "Nowhere",
        "print",
        "int.real",
        "1",
        "int if 1 else str",
        "__import__('os')",
        "int[",
        "",
        "list[Nowhere]",
        "Outer.Nothing",
        "Outer.value",
        "odd",
        "list[print]",
        "list[odd]",
        "int[str]",
        "int | odd",
        "...",
        "Literal",
        "Literal[1.5]",
        "Literal[Outer]",
        "lambda: int",
        "f'{1}'",
        "int\0",
        "list[" * 5000,
        "|".join(["int"] * 20_000),
        "x" * 100_000,
    ],
    ids=lambda name: name[:20],
)
def test_name_of_no_type(name: str, here: ModuleType) -> None:
    with pytest.raises(TypeError, match="names"):
        dec_type_union([name], [here])


def test_no_names() -> None:
    with pytest.raises(TypeError, match="at least one"):
        dec_type_union([])


def test_modules_come_first(here: ModuleType) -> None:
    here.int = Outer  # type: ignore[attr-defined]
    assert dec_type_union(["int"], [here]) is Outer
    assert dec_type_union(["int"]) is int


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type` statements came with 3.12")
def test_named_alias() -> None:
    mod = ModuleType("mod")
    exec("type Number = int | float", vars(mod))
    assert enc_type_union(mod.Number) == ["Number"]
    assert dec_type_union(["Number"], [mod]) is mod.Number


def test_spec_text() -> None:
    assert spec_text(str | None) == "str | None"
    assert spec_text(None) == "None"
    assert spec_text(dict[str, Any]) == "dict[str, Any]"
