"""The hooks that need no asking: for arguments and results whose annotation names one of their types."""

from __future__ import annotations

import os
import sys
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, get_origin

from tractor.msg import _arrays
from tractor.msg._nspath import NamespacePath
from tractor.msg.hooks import nspath_hooks, path_hooks

PATHS = (Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath)

_paths = path_hooks()
_names = nspath_hooks()


def is_ready(cls: type) -> bool:
    """Whether values of a class that msgspec does not know travel by these hooks."""
    return cls in PATHS or cls in (os.PathLike, NamespacePath) or _is_of_numpy(cls)


def _is_of_numpy(cls: type) -> bool:
    # Who has annotated a function with it has loaded it.
    np = sys.modules.get("numpy")
    return np is not None and (cls is np.ndarray or issubclass(cls, np.generic))


def enc_ready(obj: Any) -> Any:
    """What msgspec can encode, for a value of one of these types.

    Raises:
        TypeError, ValueError: it is none, or can't be sent.
    """
    if isinstance(obj, PurePath):
        return _paths.enc_hook(obj)
    if isinstance(obj, NamespacePath):
        return _names.enc_hook(obj)
    np = sys.modules.get("numpy")
    if np is not None and isinstance(obj, (np.ndarray, np.generic)):
        return _arrays.to_wire(obj)
    return enc_subclass(obj)


SUBCLASSED = (str, bytes, int, float)


def enc_subclass(obj: Any) -> Any:
    """The plain text, bytes or number that an object of a subclass is, such as ``numpy.float64``.

    Raises:
        TypeError: it is none.
    """
    np = sys.modules.get("numpy")
    if np is not None and isinstance(obj, np.generic):
        return _arrays.to_wire(obj)
    # Not `str(obj)` and the like, which ask the object.
    if isinstance(obj, str):
        return str.__str__(obj)
    if isinstance(obj, bytes):
        return bytes(memoryview(obj))
    if isinstance(obj, int):
        return int.__int__(obj)
    if isinstance(obj, float):
        return float.__float__(obj)
    raise TypeError(f"Encoding objects of type {type(obj).__qualname__} is unsupported")


def dec_ready(wanted: Any, obj: Any, *, from_text: bool = True) -> Any:
    """The object of the wanted type that what came stands for.

    Args:
        wanted: the type.
        obj: what came, as plain data.
        from_text: plain text will do for a path or a name.

    Raises:
        TypeError, ValueError: it stands for none.
    """
    cls = get_origin(wanted) or wanted
    np = sys.modules.get("numpy")
    if isinstance(obj, PurePath) and isinstance(obj, cls):
        # Made by a hook for extensions, as an array below.
        return obj
    if np is not None and isinstance(obj, np.ndarray):
        return _arrays.checked(wanted, obj)
    if from_text and isinstance(obj, str) and cls in (*PATHS, os.PathLike, NamespacePath):
        if cls is NamespacePath:
            NamespacePath(obj).to_tuple()
        return (Path if cls is os.PathLike else cls)(obj)
    if cls is NamespacePath:
        return _names.dec_hook(wanted, obj)
    if cls in PATHS or cls is os.PathLike:
        return _paths.dec_hook(cls, obj)
    if np is not None and issubclass(cls, np.generic):
        if not isinstance(obj, (bool, int, float, str, bytes)):
            raise ValueError(f"expected a {cls.__name__}, not {type(obj).__name__!r}")
        return cls(obj)
    return _arrays.from_wire(wanted, obj, readonly=False)
