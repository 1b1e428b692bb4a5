"""A :class:`msgspec.Struct` that people can read and compare."""

from __future__ import annotations

from collections import UserList
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec.structs import FieldInfo, asdict, fields, force_setattr, replace

__all__ = ["MISSING", "DiffDump", "Struct", "iter_fields", "pformat"]

_StructT = TypeVar("_StructT", bound="Struct")


class _Missing:
    def __repr__(self) -> str:
        return "<missing>"


MISSING = _Missing()
"""Stands in a :class:`DiffDump` for the value of a field that one side does not have."""


class DiffDump(UserList[tuple[str, Any, Any]]):
    """The fields in which two structs differ: tuples of name, own value, other value."""

    def __repr__(self) -> str:
        if not self.data:
            return "DiffDump([])"
        lines = (f"  {name}: {_render(a)} != {_render(b)}," for name, a, b in self.data)
        return "\n".join(("DiffDump([", *lines, "])"))


class Struct(msgspec.Struct):
    """A struct whose ``repr`` has a line for each field and hides those that begin with ``_``."""

    def __repr__(self) -> str:
        return pformat(self)

    def pformat(self, field_indent: int = 2, indent: int = 0) -> str:
        """See :func:`pformat`."""
        return pformat(self, field_indent, indent)

    def to_dict(self, include_non_members: bool = True) -> dict[str, Any]:
        """The fields as a dict, not converting nested structs.

        Args:
            include_non_members: also the public properties of the class that can be read, and
                attributes of the instance that are no fields.
        """
        members = asdict(self)
        if not include_non_members:
            return members
        return {**_properties(self), **getattr(self, "__dict__", {}), **members}

    def copy(self: _StructT, update: Mapping[str, Any] | None = None) -> _StructT:
        """A shallow copy, with the fields of ``update`` replaced.

        Raises:
            TypeError: ``update`` has a key that is no field.
        """
        return replace(self, **dict(update or {}))

    def typecast(self) -> None:
        """Convert each field's value to the field's annotated type, as far as msgspec or the type
        itself can.

        Raises:
            msgspec.ValidationError, TypeError, ValueError: a value cannot be converted; no field
            has changed.
        """
        cast = [(info.name, _cast(value, info.type)) for info, value in iter_fields(self)]
        for name, value in cast:
            force_setattr(self, name, value)

    def fields_diff(self, other: msgspec.Struct | Mapping[str, Any]) -> DiffDump:
        """The fields in which this struct and ``other`` differ.

        A field that one of them does not have counts as different, with :data:`MISSING` in its
        place.
        """
        own = asdict(self)
        its = asdict(other) if isinstance(other, msgspec.Struct) else dict(other)
        names = [*own, *(name for name in its if name not in own)]
        pairs = ((name, own.get(name, MISSING), its.get(name, MISSING)) for name in names)
        return DiffDump((name, a, b) for name, a, b in pairs if not _same(a, b))

    def __sub__(self, other: msgspec.Struct | Mapping[str, Any]) -> DiffDump:
        if not isinstance(other, (msgspec.Struct, Mapping)):
            return NotImplemented
        return self.fields_diff(other)


def iter_fields(struct: msgspec.Struct) -> Iterator[tuple[FieldInfo, Any]]:
    """Each field of ``struct``: what msgspec knows of it, and its value."""
    for info in fields(struct):
        yield info, getattr(struct, info.name)


def pformat(struct: msgspec.Struct, field_indent: int = 2, indent: int = 0) -> str:
    """``struct`` on several lines, nested ones too, without the fields that begin with ``_``.

    It never raises: what it cannot render it leaves to msgspec's own ``repr``, and that failing, to
    the type.

    Args:
        field_indent: spaces before a field, relative to the struct.
        indent: spaces before every line.
    """
    try:
        text = "\n".join(_lines(struct, field_indent, ()))
    except Exception:
        text = _fallback(struct)
    pad = " " * indent
    return "\n".join(pad + line for line in text.split("\n")) if indent else text


def _lines(struct: msgspec.Struct, field_indent: int, outer: tuple[int, ...]) -> Iterator[str]:
    name = type(struct).__qualname__
    if id(struct) in outer:
        yield f"{name}(...)"
        return
    pad = " " * field_indent
    yield f"{name}("
    for info, value in iter_fields(struct):
        if info.name.startswith("_"):
            continue
        head = f"{pad}{info.name}: {_type_text(info.type)} = "
        if isinstance(value, Struct):
            first, *rest = _lines(value, field_indent, (*outer, id(struct)))
            yield head + "\n".join((first, *(pad + line for line in rest))) + ","
        else:
            yield f"{head}{value!r},"
    yield ")"


def _fallback(struct: msgspec.Struct) -> str:
    try:
        return msgspec.Struct.__repr__(struct)
    except Exception:
        return f"<{type(struct).__qualname__} struct, its repr() failed>"


def _render(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__qualname__} object, its repr() failed>"


def _type_text(annotation: Any) -> str:
    plain = isinstance(annotation, type) and not hasattr(annotation, "__args__")
    return annotation.__qualname__ if plain else str(annotation)


def _same(a: object, b: object) -> bool:
    try:
        return a is b or bool(a == b)
    except Exception:
        return False


def _properties(struct: msgspec.Struct) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for cls in reversed(type(struct).__mro__):
        for name, member in vars(cls).items():
            if isinstance(member, property) and not name.startswith("_"):
                try:
                    found[name] = getattr(struct, name)
                except Exception:
                    found.pop(name, None)
    return found


def _cast(value: Any, annotation: Any) -> Any:
    try:
        return msgspec.convert(value, annotation, strict=False)
    except msgspec.ValidationError:
        if isinstance(annotation, type):
            return annotation(value)
        raise
