"""numpy's arrays as plain data, and back, safe against whatever a peer sends.

An array is ``[TAG, dtype, shape, order, bytes]``.  A dtype is numpy's text for it (``'<f8'``), or
``{"fields": [[name, dtype, offset], ...], "size": bytes}``, or, within a field only,
``{"base": dtype, "shape": [...]}``.
"""

from __future__ import annotations

import os
import re
import reprlib
from contextvars import ContextVar
from math import prod
from typing import Any, get_args, get_origin

from msgspec.msgpack import Ext

TAG = "tractor.ndarray"

BLOB = 0x55
"""Code of the extension in which the bytes of a large array travel: unlike a ``bin`` it can be read where it is."""

MARK = os.urandom(16)
"""What stands in a message for the bytes of a large array, which its sender puts there without copying them before."""

CARRY_ABOVE = 2**18
"""Bytes from which on an array is large."""

carried: ContextVar[list[memoryview] | None] = ContextVar("carried", default=None)
"""While a message is encoded whose sender puts one large array in place of :data:`MARK` by itself: that array."""

MAX_DEPTH = 16
"""How deep the dtype of a structure may nest."""

MAX_DIMENSIONS = 64
"""What numpy has at most; also keeps the product of a shape a number of bounded size."""

# Nothing that numpy would have to unpickle, follow or interpret: no objects, no variable-size text,
# no comma lists; no `longdouble`, whose bytes mean another number on another machine; no size 0.
_ELEMENT = re.compile(
    r"\|b1|[|<>][iu][1248]|[<>]f[248]|[<>]c(?:8|16)|[|<>][SUV][1-9][0-9]{0,8}"
    r"|[<>][mM]8(?:\[(?:[1-9][0-9]{0,8})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"
)


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as exc:
        raise ImportError("arrays need numpy, which is not installed: pip install numpy") from exc
    return numpy


def array_types() -> tuple[type, type]:
    """``numpy.ndarray`` and ``numpy.generic``, the base of numpy's scalars.

    Raises:
        ImportError: numpy is not installed.
    """
    np = _numpy()
    return np.ndarray, np.generic


# -- types of elements --


def dtype_to_wire(dtype: Any) -> Any:
    """A dtype as plain data.

    Raises:
        TypeError: it is not one of those whose elements are plain bytes of fixed size.
    """
    np = _numpy()
    return _dtype_to_wire(np.dtype(dtype), np)


def dtype_from_wire(wire: Any) -> Any:
    """The dtype that :func:`dtype_to_wire` made ``wire`` of.

    Raises:
        ValueError: it is none; never one whose elements a peer could choose to be pointers.
    """
    return _dtype_from_wire(wire, _numpy())


# -- out --


def to_wire(obj: Any) -> Any:
    """An array or a numpy scalar as data that msgspec can encode.

    Raises:
        TypeError: it is neither, or of elements that do not travel.
    """
    np = _numpy()
    if isinstance(obj, np.generic):
        return _scalar(obj)
    if type(obj) not in (np.ndarray, np.memmap):
        raise TypeError(
            f"{type(obj)!r} is not a plain array; numpy.asarray() makes one, where that loses nothing"
        )
    array = obj.view(np.ndarray)
    dtype = _dtype_to_wire(array.dtype, np)
    order = "C"
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        order, flat = "F", array.T
    else:
        # Unlike `ascontiguousarray()` this leaves an array of no dimensions alone.
        flat = array if array.flags.c_contiguous else array.copy(order="C")
    octets = flat.reshape(-1).view(np.uint8)
    # An array of no elements may have a type of any size, and no bytes to hide.
    if array.size and (gaps := _gaps(array.dtype)):
        # What lies between the fields may be any memory of this process: no peer's business.
        octets = octets.copy()
        octets.reshape(-1, array.dtype.itemsize)[:, gaps] = 0
    found = carried.get()
    if found is not None and not found and octets.nbytes >= CARRY_ABOVE:
        found.append(octets.data)
        return [TAG, dtype, list(array.shape), order, Ext(BLOB, MARK)]
    return [TAG, dtype, list(array.shape), order, octets.data]


def _scalar(scalar: Any) -> Any:
    value = scalar.item() if scalar.dtype.kind in "biufSU" else None
    if type(value) not in (bool, int, float, str, bytes):
        raise TypeError(
            f"a numpy scalar of type {str(scalar.dtype)!r} has no counterpart in Python;"
            " numpy.asarray() makes an array of it, which travels"
        )
    return value


def _dtype_to_wire(dtype: Any, np: Any, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise TypeError(f"array elements are nested more than {MAX_DEPTH} deep")
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        if 0 in shape:
            raise _unfit(dtype)
        return {"base": _dtype_to_wire(base, np, depth + 1), "shape": list(shape)}
    if dtype.names is None:
        text = dtype.str
        # A type that another package has added may pass under the text of a plain one.
        if not _ELEMENT.fullmatch(text) or np.dtype(text) != dtype:
            raise _unfit(dtype)
        return text
    fields = []
    for name in dtype.names:
        if len(dtype.fields[name]) > 2:
            raise TypeError(f"the field {name!r} has a title, which does not travel: {dtype}")
        inner, offset = dtype.fields[name]
        fields.append([name, _dtype_to_wire(inner, np, depth + 1), offset])
    if not fields:
        raise _unfit(dtype)
    return {"fields": fields, "size": dtype.itemsize}


def _gaps(dtype: Any) -> list[int]:
    """The bytes of an element that belong to none of its fields."""
    if dtype.names is None and dtype.subdtype is None:
        return []
    used = bytearray(dtype.itemsize)
    _mark_used(dtype, 0, used)
    return [at for at, is_used in enumerate(used) if not is_used]


def _mark_used(dtype: Any, start: int, used: bytearray) -> None:
    if dtype.subdtype is not None:
        base, _ = dtype.subdtype
        for at in range(start, start + dtype.itemsize, base.itemsize):
            _mark_used(base, at, used)
    elif dtype.names is not None:
        for inner, offset, *_ in dtype.fields.values():
            _mark_used(inner, start + offset, used)
    else:
        used[start : start + dtype.itemsize] = b"\1" * dtype.itemsize


def _unfit(dtype: Any) -> TypeError:
    return TypeError(
        f"arrays of {str(dtype)!r} do not travel; numbers of fixed size, dates, fixed-size text and"
        " structures of these do"
    )


# -- in --


def from_wire(wanted: Any, obj: Any, readonly: bool) -> Any:
    """The array that :func:`to_wire` made ``obj`` of.

    Args:
        wanted: ``numpy.ndarray``, or that with the types of its shape and its elements.
        readonly: give a view of the bytes in ``obj``, not a copy.

    Raises:
        ValueError: it is no such array, or not of the type that is wanted.
    """
    np = _numpy()
    match obj:
        case [
            str(tag),
            dtype_wire,
            list(shape),
            "C" | "F" as order,
            (bytes() | memoryview()) as data,
        ] if tag == TAG:
            pass
        case _:
            raise ValueError("this is not an array, as ndarray_hooks() encode one")
    if (get_origin(wanted) or wanted) is not np.ndarray:
        raise ValueError(f"expected {wanted!r}, and an array came")
    dtype = _dtype_from_wire(dtype_wire, np)
    if len(shape) > MAX_DIMENSIONS or not all(_is_size(length) for length in shape):
        raise ValueError(f"{reprlib.repr(shape)} is not a shape of an array")
    expected = prod(shape) * dtype.itemsize
    if expected != len(data):
        raise ValueError(
            f"an array of shape {reprlib.repr(shape)} and type {reprlib.repr(dtype)} has {reprlib.repr(expected)}"
            f" bytes, and {len(data)} came"
        )
    _check_wanted(wanted, dtype, len(shape))
    try:
        array = np.ndarray(tuple(shape), dtype=dtype, buffer=data, order=order)
    except (TypeError, OverflowError, MemoryError) as exc:
        raise ValueError(f"numpy takes no array of shape {reprlib.repr(shape)}: {exc}") from exc
    # One that a peer has put at an odd place is not for every function.
    return array if readonly and array.flags.aligned else array.copy(order="K")


def checked(wanted: Any, array: Any) -> Any:
    """An array that is there already, if it is of the type that is wanted.  Raises ValueError: it is not."""
    if not issubclass(get_origin(wanted) or wanted, type(array)):
        raise ValueError(f"expected {wanted!r}, and an array came")
    _check_wanted(wanted, array.dtype, array.ndim)
    return array


def _is_size(value: Any) -> bool:
    return type(value) is int and value >= 0


def _dtype_from_wire(wire: Any, np: Any, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError(f"array elements are nested more than {MAX_DEPTH} deep")
    match wire:
        case str() if _ELEMENT.fullmatch(wire):
            spec: Any = wire
        case {"base": base, "shape": [_, *_] as shape, **rest} if depth and not rest:
            if not all(_is_size(length) and length for length in shape):
                raise ValueError(f"{reprlib.repr(shape)} is not a shape of a field")
            spec = (_dtype_from_wire(base, np, depth + 1), tuple(shape))
        case {"fields": [_, *_] as fields, "size": size, **rest} if not rest and _is_size(size):
            names, formats, offsets = zip(*map(_field, fields), strict=True)
            spec = {
                "names": list(names),
                "formats": [_dtype_from_wire(inner, np, depth + 1) for inner in formats],
                "offsets": list(offsets),
                "itemsize": size,
            }
        case _:
            raise ValueError(f"{reprlib.repr(wire)} is not a type of array elements that travels")
    try:
        return np.dtype(spec)
    except (TypeError, OverflowError, MemoryError) as exc:
        raise ValueError(f"{reprlib.repr(wire)} is not a type of array elements: {exc}") from exc


def _field(wire: Any) -> tuple[str, Any, int]:
    match wire:
        case [str(name), inner, int(offset)] if _is_size(offset):
            return name, inner, offset
    raise ValueError(f"{reprlib.repr(wire)} is not a field of a structure: name, type, offset")


def _check_wanted(wanted: Any, dtype: Any, dimensions: int) -> None:
    """Hold an array's description against an annotation such as ``NDArray[numpy.float64]``."""
    shape_type, dtype_type = get_args(wanted) or (Any, Any)
    lengths = get_args(shape_type)
    if lengths and Ellipsis not in lengths and len(lengths) != dimensions:
        raise ValueError(f"expected an array of {len(lengths)} dimensions, not of {dimensions}")
    (scalar,) = get_args(dtype_type) or (Any,)
    known = isinstance(scalar, type) and scalar is not Any
    if known and not issubclass(dtype.type, scalar):
        raise ValueError(f"expected an array of {scalar.__name__}, not of {reprlib.repr(dtype)}")
