"""Unions of types as lists of names, so that a peer can be told which payloads are expected."""

from __future__ import annotations

import ast
import builtins
import types as pytypes
import typing
from collections.abc import Iterable
from functools import reduce
from operator import or_
from types import ModuleType
from typing import Any, Literal

import msgspec

from tractor.msg import types as msg_types

_SPECIAL: dict[str, Any] = {
    "Any": Any,
    "Literal": Literal,
    "None": type(None),
    "NoneType": type(None),
    "Raw": msgspec.Raw,
}


def union_members(spec: Any) -> tuple[Any, ...]:
    """The members of a union, or ``spec`` alone."""
    if typing.get_origin(spec) in (typing.Union, pytypes.UnionType):
        return typing.get_args(spec)
    return (spec,)


def unpack_spec_types(spec: Any) -> set[Any]:
    """The types that a payload spec allows: the members of a union, or the one type."""
    return set(union_members(spec))


def join_union(members: Iterable[Any]) -> Any:
    """The union of ``members``, of which there is at least one."""
    return reduce(or_, (type(None) if member is None else member for member in members))


def type_text(member: Any) -> str:
    """A type's name as :func:`dec_type_union` reads it."""
    if member is None or member is type(None):
        return "NoneType"
    if member is Any:
        return "Any"
    if isinstance(member, type) and not typing.get_args(member):
        return member.__qualname__
    origin, args = typing.get_origin(member), typing.get_args(member)
    if origin in (typing.Union, pytypes.UnionType):
        return " | ".join(map(type_text, args))
    if isinstance(origin, type) and all(arg is ... or _is_type_like(arg) for arg in args):
        inner = ", ".join("..." if arg is ... else type_text(arg) for arg in args)
        return f"{origin.__qualname__}[{inner}]"
    return str(member).replace("typing.", "")


def _is_type_like(arg: object) -> bool:
    return arg is None or arg is Any or isinstance(arg, type) or typing.get_origin(arg) is not None


def spec_text(spec: Any) -> str:
    """A payload spec in words: ``'str | None'``."""
    names = (type_text(member) for member in union_members(spec))
    return " | ".join("None" if name == "NoneType" else name for name in names)


def enc_type_union(T: Any) -> list[str]:
    """The names of a union's members, or of a single type, in order."""
    return [type_text(member) for member in union_members(T)]


def dec_type_union(names: Iterable[str], mods: Iterable[ModuleType] = ()) -> Any:
    """The union of the types called ``names``; of one name, the type itself.

    A name is looked up in ``mods``, then in :mod:`builtins`, then among the messages.  Parametrised
    generics (``'dict[str, int]'``), nested classes (``'Outer.Inner'``) and ``Literal`` can be written
    as in source code.  Nothing is imported, and nothing run but a class's own subscription.

    Raises:
        TypeError: a name is not a type that is found there; ``names`` is empty.
    """
    names = list(names)
    if not names:
        raise TypeError("dec_type_union() needs at least one name of a type")
    spaces = [vars(mod) for mod in (*mods, builtins, msg_types)]
    return join_union([_decode(name, [*spaces, _SPECIAL]) for name in names])


def _decode(name: str, spaces: list[dict[str, Any]]) -> Any:
    shown = name if len(name) <= 100 else f"{name[:100]}..."
    try:
        found = _resolve(ast.parse(name.strip(), mode="eval").body, spaces)
    except (AttributeError, LookupError, TypeError, ValueError) as exc:
        raise TypeError(
            f"{shown!r} names no type that is known here: {exc}; pass its module in `mods`"
        ) from exc
    except (SyntaxError, RecursionError, MemoryError) as exc:
        raise TypeError(f"{shown!r} names no type: it cannot be read as one") from exc
    if found is ... or found is Literal:
        raise TypeError(f"{shown!r} names no type by itself")
    return found


def _resolve(node: ast.expr, spaces: list[dict[str, Any]]) -> Any:
    """The type that an expression of names, attributes, ``[...]`` and ``|`` stands for."""
    match node:
        case ast.Name(id=name):
            found = [space[name] for space in spaces if name in space]
            if not found:
                raise LookupError(f"there is no {name!r}")
            return _checked_type(found[0], name)
        case ast.Attribute(value=value, attr=attr):
            outer = _resolve(value, spaces)
            if not isinstance(outer, type) or attr not in vars(outer):
                raise LookupError(f"there is no {attr!r} in {outer!r}")
            return _checked_type(vars(outer)[attr], attr)
        case ast.Subscript(value=value, slice=index):
            outer = _resolve(value, spaces)
            elts = index.elts if isinstance(index, ast.Tuple) else [index]
            inner = _literal if outer is Literal else _resolve
            args = tuple(inner(elt, spaces) for elt in elts)
            return outer[args if isinstance(index, ast.Tuple) else args[0]]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _resolve(left, spaces) | _resolve(right, spaces)
        case ast.Constant(value=None):
            return type(None)
        case ast.Constant(value=value) if value is ...:
            return ...
    raise LookupError(f"it has {ast.unparse(node)!r}")


def _literal(node: ast.expr, spaces: list[dict[str, Any]]) -> Any:
    value = ast.literal_eval(node)
    if not isinstance(value, (str, bytes, int, bool, type(None))):
        raise LookupError(f"{value!r} is not a literal of a type")
    return value


def _checked_type(found: Any, name: str) -> Any:
    # A `type X = ...` of Python 3.12 is not a type, and means one.
    means = typing.get_origin(found) is not None or hasattr(found, "__value__")
    if not (isinstance(found, type) or found is Any or found is Literal or means):
        raise LookupError(f"{name!r} is {type(found).__name__!r}, no type")
    return found
