"""A peer chooses a name; looking it up runs nothing of the module's."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from tractor.runtime.dialog._endpoints import find_endpoint

ran: list[str] = []


class Noting:
    """A descriptor that notes its use."""

    def __get__(self, obj: Any, owner: Any = None) -> Any:
        ran.append("descriptor")
        return fn


class Meta(type):
    """A metaclass that makes attributes up."""

    def __getattr__(cls, name: str) -> Any:
        ran.append("metaclass")
        return fn

    @property
    def made(cls) -> Any:
        """An endpoint."""
        ran.append("property")
        return fn


class Base:
    """Has methods to inherit."""

    @staticmethod
    async def static(x: int) -> int:
        """An endpoint."""
        return x

    @classmethod
    async def of_class(cls, x: int) -> str:
        """An endpoint."""
        return f"{cls.__name__} {x}"

    class Inner:
        """A class in a class."""

        @staticmethod
        async def deep() -> None:
            """An endpoint."""


class Holder(Base, metaclass=Meta):
    """Has all kinds of attributes."""

    noting = Noting()

    @property
    def value(self) -> Any:
        """No endpoint."""
        ran.append("property")
        return fn


class Pretender:
    """Says that it is a class."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        ran.append("__class__")
        return type

    def __getattr__(self, name: str) -> Any:
        ran.append("instance")
        return fn


async def fn() -> None:
    """An endpoint."""


pretender = Pretender()


def __getattr__(name: str) -> Any:
    if name.startswith("made"):
        ran.append("module")
        return fn
    raise AttributeError(name)


@pytest.fixture(autouse=True)
def nothing_ran() -> Any:
    ran.clear()
    yield
    assert ran == []


def found(name: str) -> Any:
    return find_endpoint({__name__}, __name__, name, "call").fn


@pytest.mark.parametrize(
    "name",
    ["made_up", "Holder.made", "Holder.made_up", "Holder.noting.x", "pretender.fn", "fn.__call__", "Holder.value.fget",
     "", "Holder.", ".fn", "Holder.__dict__.static", "nothing"],
)  # fmt: skip
def test_what_is_made_up_is_not_there(name: str) -> None:
    with pytest.raises(AttributeError):
        found(name)


@pytest.mark.parametrize("name", ["Holder.noting", "Holder.value", "Holder", "pretender"])
def test_what_is_no_function_is_refused_as_it_is(name: str) -> None:
    with pytest.raises(TypeError, match="must be an async function"):
        found(name)


def test_functions_and_methods_of_classes() -> None:
    assert found("fn") is fn
    for name in ("Base.static", "Holder.static"):
        assert found(name) is Base.static
    assert found("Holder.of_class") == Holder.of_class
    assert found("Base.of_class").__self__ is Base
    assert found("Holder.Inner.deep") is Base.Inner.deep


def test_an_object_in_a_modules_place(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slotted:
        __slots__ = ()

    monkeypatch.setitem(sys.modules, "slotted_place", Slotted())
    with pytest.raises(AttributeError):
        find_endpoint({"slotted_place"}, "slotted_place", "fn", "call")
    other = ModuleType("other_place")
    other.fn = fn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "other_place", other)
    assert find_endpoint({"other_place", __name__}, "other_place", "fn", "call").fn is fn
