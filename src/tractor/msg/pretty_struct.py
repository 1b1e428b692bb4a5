"""A :class:`msgspec.Struct` that can be read and compared."""

from __future__ import annotations

import threading
from collections import UserList
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec.inspect import CustomType, type_info
from msgspec.structs import FieldInfo, fields, force_setattr, replace

from tractor.process._state import of_process

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
        """The fields as a dict, not converting nested structs.  A field that is unset is left out.

        Args:
            include_non_members: also the public properties of the class that can be read, and
                attributes of the instance that are not fields.
        """
        members = _members(self)
        if not include_non_members:
            return members
        return {**_properties(self), **getattr(self, "__dict__", {}), **members}

    def copy(self: _StructT, update: Mapping[str, Any] | None = None) -> _StructT:
        """A shallow copy, with the fields of ``update`` replaced.

        Raises:
            TypeError: ``update`` has a key that is not a field.
            AttributeError: a field is unset.
        """
        return replace(self, **dict(update or {}))

    def typecast(self) -> None:
        """Convert each field's value to the field's annotated type, also from text: ``'7'`` to 7.

        Types that msgspec does not know, such as ``Path``, and ``str`` are called with the value.

        Raises:
            msgspec.ValidationError: a value cannot be converted; no field has changed.
            AttributeError: a field is unset.
        """
        cast = [(info.name, _cast(value, info)) for info, value in iter_fields(self)]
        for name, value in cast:
            force_setattr(self, name, value)

    def fields_diff(self, other: msgspec.Struct | Mapping[str, Any]) -> DiffDump:
        """The fields in which this struct and ``other`` differ.

        A field that one of them does not have, or that is unset, counts as different, with
        :data:`MISSING` in its place.  Arrays are equal when their shapes and all their elements
        are.

        Raises:
            TypeError: ``other`` is neither.
        """
        if not isinstance(other, (msgspec.Struct, Mapping)):
            raise TypeError(f"expected a struct or a dict to compare with, not {type(other)!r}")
        own = _members(self)
        its = _members(other) if isinstance(other, msgspec.Struct) else dict(other)
        names = [*own, *(name for name in its if name not in own)]
        pairs = ((name, own.get(name, MISSING), its.get(name, MISSING)) for name in names)
        return DiffDump((name, a, b) for name, a, b in pairs if not _same(a, b))

    def __sub__(self, other: msgspec.Struct | Mapping[str, Any]) -> DiffDump:
        if not isinstance(other, (msgspec.Struct, Mapping)):
            return NotImplemented
        return self.fields_diff(other)


def iter_fields(struct: msgspec.Struct) -> Iterator[tuple[FieldInfo, Any]]:
    """Each field of ``struct``: what msgspec knows of it, and its value.

    Raises:
        AttributeError: a field is unset.
    """
    for info in fields(struct):
        yield info, getattr(struct, info.name)


def pformat(struct: msgspec.Struct, field_indent: int = 2, indent: int = 0) -> str:
    """``struct`` on several lines, nested ones too, without the fields that begin with ``_``.

    It never raises.  A value that cannot be rendered is named by its type; a struct whose fields
    cannot be told is left to msgspec's own ``repr``, and that failing, named by its type as well.

    Args:
        field_indent: spaces before a field, relative to the struct.
        indent: spaces before every line.
    """
    key = (id(struct), threading.get_ident())
    if key in _rendering:
        text = f"{type(struct).__qualname__}(...)"
    else:
        _rendering.add(key)
        try:
            text = "\n".join(_lines(struct, field_indent))
        except Exception:
            text = _fallback(struct)
        finally:
            _rendering.discard(key)
    pad = " " * indent
    return pad + text.replace("\n", "\n" + pad)


_rendering: set[tuple[int, int]] = of_process(set())
"""The structs that are being rendered, and by which thread: a cycle ends at one of them."""


def _lines(struct: msgspec.Struct, field_indent: int) -> Iterator[str]:
    pad = " " * field_indent
    yield f"{type(struct).__qualname__}("
    for info in fields(struct):
        if info.name.startswith("_"):
            continue
        value = _value(struct, info.name)
        own_repr = not isinstance(value, Struct) or type(value).__repr__ is not Struct.__repr__
        text = _render(value) if own_repr else pformat(value, field_indent)
        text = text.replace("\n", "\n" + pad)
        yield f"{pad}{info.name}: {_type_text(info.type)} = {text},"
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


def _value(struct: msgspec.Struct, name: str) -> Any:
    """A field's value, :data:`MISSING` if it is unset."""
    return getattr(struct, name, MISSING)


def _members(struct: msgspec.Struct) -> dict[str, Any]:
    names = type(struct).__struct_fields__
    pairs = ((name, _value(struct, name)) for name in names)
    return {name: value for name, value in pairs if value is not MISSING}


def _same(a: object, b: object) -> bool:
    try:
        if a is b:
            return True
        if getattr(a, "shape", None) != getattr(b, "shape", None):
            return False
        equal: Any = a == b
        return bool(equal.all() if hasattr(equal, "all") else equal)
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


def _cast(value: Any, info: FieldInfo) -> Any:
    annotation = info.type
    try:
        try:
            return msgspec.convert(value, annotation, strict=False)
        except msgspec.ValidationError:
            # Not each type's own call: `bool("no")` is true, and `bytes(9)` nine zeros.
            if annotation is str or isinstance(type_info(annotation), CustomType):
                return annotation(value)
            raise
    except (TypeError, ValueError) as exc:
        raise msgspec.ValidationError(
            f"the field {info.name!r} cannot be {_type_text(annotation)}: {_render(value)}: {exc}"
        ) from exc
