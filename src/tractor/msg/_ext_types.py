"""Hooks for an application's own types, from a pair of functions for each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tractor._error_registry import type_path
from tractor.msg.hooks import Hooks

ToPlain = Callable[[Any], Any]
FromPlain = Callable[[Any], Any]


def mk_boxed_ext_struct(ext_type: type) -> type[msgspec.Struct]:
    """A struct class that carries one ``value`` in place of an object of ``ext_type``.

    On the wire it says which type it stands for, ``'module:qualname'``, so that plain data, or the box of another
    type, is never mistaken for it.

    Args:
        ext_type: a type that msgspec does not know.

    Raises:
        TypeError: it is not a class.
    """
    if not isinstance(ext_type, type):
        raise TypeError(f"a box is made for a class, not for {ext_type!r}")
    return msgspec.defstruct(
        f"Boxed{ext_type.__name__}",
        [("value", Any)],
        frozen=True,
        tag=type_path(ext_type),
        tag_field="ext_type",
        forbid_unknown_fields=True,
    )


def mk_codec_hooks(conversions: Mapping[type, tuple[ToPlain, FromPlain]]) -> Hooks:
    """Hooks for types that msgspec does not know.

    Args:
        conversions: for each type a function that gives, for an object of it, a value that msgspec can encode, and one
            that makes the object of that value.  An object of a subclass goes as the type that is listed.

    Returns:
        The hooks, in boxes (:func:`mk_boxed_ext_struct`), for ``@tractor.context(**hooks.as_kwargs())`` and its like.

    Raises:
        TypeError: there are none, or a key is not a class.
    """
    boxes = {
        ext: (mk_boxed_ext_struct(ext), to_plain, from_plain)
        for ext, (to_plain, from_plain) in conversions.items()
    }

    def enc_hook(obj: Any) -> Any:
        for cls in type(obj).__mro__:
            if cls in boxes:
                box, to_plain, _ = boxes[cls]
                return box(to_plain(obj))
        raise TypeError(f"no hook is there for {type(obj)!r}")

    def dec_hook(wanted: Any, obj: Any) -> Any:
        if wanted not in boxes:
            raise TypeError(f"no hook is there for {wanted!r}")
        box, _, from_plain = boxes[wanted]
        came: Any = msgspec.convert(obj, box)
        return from_plain(came.value)

    return Hooks(enc_hook=enc_hook, dec_hook=dec_hook, ext_types=tuple(boxes))
