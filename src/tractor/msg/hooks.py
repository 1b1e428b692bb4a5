"""Ready hooks for types that msgpack does not know: paths, references by name, numpy arrays.

Every hook writes a list that begins with the type's tag, say ``['tractor.path', 'PosixPath',
'/tmp']``, and takes nothing else: plain data of the same dialog is never mistaken for one of these
types.  A reader without the hook gets that list.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any, get_origin

import msgspec

from tractor.msg import _arrays
from tractor.msg._nspath import NamespacePath
from tractor.msg._union import union_members

__all__ = ["Hooks", "combine", "ndarray_hooks", "nspath_hooks", "path_hooks"]

PATH_TAG = "tractor.path"
NSPATH_TAG = "tractor.nspath"


class Hooks(msgspec.Struct, frozen=True, kw_only=True):
    """An encoding and a decoding hook, and the types that they handle.

    Yours can be combined with the ready ones: build one of these and call :func:`combine`.

    Args:
        enc_hook: gives, for an object of such a type, a value that msgspec can encode.  ``TypeError``
            or ``ValueError``: this object cannot be encoded.
        dec_hook: called with the type that is expected and the value that came, gives the object.
            ``TypeError`` or ``ValueError``: the value is none of that type; both become
            :exc:`msgspec.ValidationError`.  It is also asked about payloads of other types, and
            must take whatever a peer sends.
        ext_types: the types that a payload may have because of these hooks.
        handles: the classes whose objects, and whose subclasses' objects, are for these hooks;
            default: those of ``ext_types``.
    """

    enc_hook: Callable[[Any], Any]
    dec_hook: Callable[[Any, Any], Any]
    ext_types: tuple[Any, ...]
    handles: tuple[type, ...] = ()

    def __post_init__(self) -> None:
        if not self.ext_types:
            raise TypeError("hooks need `ext_types`, the types that they handle")
        for ext in (*self.ext_types, *self.handles):
            if not isinstance(get_origin(ext) or ext, type) or union_members(ext) != (ext,):
                raise TypeError(f"{ext!r} is not a class; list the members of a union one by one")
        classes = self.handles or tuple(get_origin(ext) or ext for ext in self.ext_types)
        msgspec.structs.force_setattr(self, "handles", classes)

    def as_kwargs(self) -> dict[str, Any]:
        """The arguments for ``@tractor.context(**hooks.as_kwargs())``."""
        return {
            "enc_hook": self.enc_hook,
            "dec_hook": self.dec_hook,
            "ext_types": list(self.ext_types),
        }

    def codec_kwargs(self) -> dict[str, Any]:
        """The arguments for ``tractor.msg.mk_codec(spec, **hooks.codec_kwargs())``."""
        return {
            "enc_hook": self.enc_hook,
            "ext_dec": self.dec_hook,
            "ext_types": list(self.ext_types),
        }

    def dec_kwargs(self) -> dict[str, Any]:
        """The arguments for ``tractor.msg.mk_dec(spec, **hooks.dec_kwargs())``."""
        return {"dec_hook": self.dec_hook, "ext_types": list(self.ext_types)}


def combine(*hooks: Hooks) -> Hooks:
    """One record that does what all of ``hooks`` do; each type goes to the hooks that handle it.

    Raises:
        TypeError: there are none, or two of them handle one class.
    """
    if not hooks:
        raise TypeError("combine() needs at least one `Hooks` record")
    table = [(cls, one) for one in hooks for cls in one.handles]
    for at, (cls, one) in enumerate(table):
        for other_cls, other in table[:at]:
            if one is not other and (issubclass(cls, other_cls) or issubclass(other_cls, cls)):
                raise TypeError(
                    f"both hooks for {other_cls.__qualname__!r} and for {cls.__qualname__!r} would"
                    " handle the narrower of the two; combine() one of them"
                )

    def enc_hook(obj: Any) -> Any:
        for cls, one in table:
            if isinstance(obj, cls):
                return one.enc_hook(obj)
        raise _not_handled(type(obj), table)

    def dec_hook(wanted: Any, obj: Any) -> Any:
        wanted_cls = get_origin(wanted) or wanted
        for cls, one in table:
            if isinstance(wanted_cls, type) and issubclass(wanted_cls, cls):
                return one.dec_hook(wanted, obj)
        raise _not_handled(wanted, table)

    return Hooks(
        enc_hook=enc_hook,
        dec_hook=dec_hook,
        ext_types=tuple(dict.fromkeys(ext for one in hooks for ext in one.ext_types)),
        handles=tuple(cls for cls, _ in table),
    )


def _not_handled(wanted: Any, table: list[tuple[type, Hooks]]) -> TypeError:
    names = ", ".join(cls.__qualname__ for cls, _ in table)
    return TypeError(f"{wanted!r} is none of the types that these hooks handle: {names}")


def path_hooks(*types: type[PurePath]) -> Hooks:
    """Hooks for :mod:`pathlib`'s paths.

    A path arrives as the class that it was sent as: ``PurePosixPath``, ``PureWindowsPath``, or the
    concrete path of the system, which on another kind of system arrives as its pure counterpart.
    Names that are not valid Unicode travel, too.  Where the declared type is another one, the value
    is refused.  A path is the peer's word: check where it leads before you open it.

    Args:
        types: the paths that payloads may be; default: every one, ``PurePath``.
    """
    return Hooks(
        enc_hook=_enc_path, dec_hook=_dec_path, ext_types=types or (PurePath,), handles=(PurePath,)
    )


_LOCAL_PATH = type(pathlib.Path())
_PATH_CLASSES: dict[str, type[PurePath]] = {
    "PosixPath": PurePosixPath,
    "WindowsPath": PureWindowsPath,
    "PurePosixPath": PurePosixPath,
    "PureWindowsPath": PureWindowsPath,
    _LOCAL_PATH.__name__: _LOCAL_PATH,
}


def _enc_path(path: Any) -> list[Any]:
    if not isinstance(path, PurePath):
        raise TypeError(f"path_hooks() encode paths, and {type(path)!r} is none")
    flavour = "WindowsPath" if isinstance(path, PureWindowsPath) else "PosixPath"
    kind = flavour if isinstance(path, pathlib.Path) else f"Pure{flavour}"
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return [PATH_TAG, kind, text.encode("utf-8", "surrogatepass")]
    return [PATH_TAG, kind, text]


def _dec_path(wanted: Any, obj: Any) -> PurePath:
    match obj:
        case [str(tag), str(kind), str() | bytes() as text] if (
            tag == PATH_TAG and kind in _PATH_CLASSES
        ):
            cls = _PATH_CLASSES[kind]
        case _:
            raise ValueError("this is not a path, as path_hooks() encode one")
    if not issubclass(cls, wanted):
        raise ValueError(f"expected a {wanted.__name__}, and a {kind} came")
    return cls(text if isinstance(text, str) else text.decode("utf-8", "surrogatepass"))


def nspath_hooks() -> Hooks:
    """Hooks for :class:`~tractor.msg.NamespacePath`.

    Only the form ``'module:name'`` is checked; nothing is imported.
    """
    return Hooks(enc_hook=_enc_nspath, dec_hook=_dec_nspath, ext_types=(NamespacePath,))


def _enc_nspath(path: Any) -> list[str]:
    if not isinstance(path, NamespacePath):
        raise TypeError(f"nspath_hooks() encode a NamespacePath, and {type(path)!r} is none")
    path.to_tuple()
    return [NSPATH_TAG, str(path)]


def _dec_nspath(wanted: Any, obj: Any) -> NamespacePath:
    match obj:
        case [str(tag), str(text)] if tag == NSPATH_TAG and wanted is NamespacePath:
            path = NamespacePath(text)
            path.to_tuple()
            return path
    raise ValueError("this is not a NamespacePath, as nspath_hooks() encode one")


def ndarray_hooks(*types: Any, readonly: bool = False) -> Hooks:
    """Hooks for numpy's arrays: shape, element type with byte order, and memory order travel.

    Elements may be booleans, integers, floats and complex numbers of 8 bytes a part at most, dates
    and durations with a unit, fixed-size text and bytes, raw bytes (``V``), and structures of these,
    nested or not.  Python objects, variable-size strings, ``longdouble`` and elements of no size are
    refused, by the sender and by the receiver alike; nothing is unpickled.  What came is checked
    against the declared shape and element type before an array is made, and no array is larger than
    the message that brought it.  The bytes of an element are taken as they are, as by
    ``numpy.frombuffer``.

    An array that is not contiguous is copied once by its sender.  Masked arrays, matrices, record
    arrays and other subclasses are refused, since what they add would be lost.  A numpy scalar, such
    as ``array.sum()``, arrives as Python's number, text or bytes.

    Args:
        types: the arrays that payloads may be, say ``NDArray[numpy.float64]``; default: every
            ``numpy.ndarray``.  Where an annotation says so, of a payload or of a field in it, the
            element type and the number of dimensions are checked.
        readonly: arrays that arrive are read-only views of the bytes that came, which saves a copy.
            They keep those bytes alive.

    Raises:
        ImportError: numpy is not installed.
    """
    ndarray, generic = _arrays.array_types()

    def dec_hook(wanted: Any, obj: Any) -> Any:
        array = _arrays.from_wire(wanted, obj, readonly)
        if readonly:
            array.flags.writeable = False
        return array

    return Hooks(
        enc_hook=_arrays.to_wire,
        dec_hook=dec_hook,
        ext_types=types or (ndarray,),
        handles=(ndarray, generic),
    )
