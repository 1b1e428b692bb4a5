"""Plain numpy arrays of any shape in shared memory."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from math import prod
from typing import Any, SupportsIndex

import msgspec

from tractor.msg._arrays import dtype_from_wire, dtype_to_wire
from tractor.process._state import of_process
from tractor.process.host._host_id import host_id, is_here
from tractor.shm._array import load_numpy
from tractor.shm._segment import Segment, random_key


class ShmToken(msgspec.Struct, frozen=True):
    """What names an array of :func:`open_shm`; a payload like any other.

    Attributes:
        key: of its memory.
        shape: its lengths.
        dtype_descr: the type of its elements, as plain data.
        host: the id of the host whose memory it is.
    """

    key: str
    shape: tuple[int, ...]
    dtype_descr: Any
    host: str

    def __hash__(self) -> int:
        return hash((self.key, self.shape))


class _Open(msgspec.Struct, frozen=True, eq=False):
    token: ShmToken
    segment: Segment


_open: dict[int, _Open] = of_process({})
"""Arrays that are there, by the id of what holds their memory; each is taken out when that is gone."""


def open_shm(
    shape: SupportsIndex | tuple[SupportsIndex, ...],
    dtype: Any = float,
    *,
    key: str | None = None,
    fill: Any = None,
) -> Any:
    """Make an array in shared memory: a plain ``numpy.ndarray`` of zeros, its memory reserved at once.

    Others attach with :func:`attach_shm` and its :func:`shm_token`; functions of a worker pool may be given it as it
    is.  It is removed at the end of this process's actor, without a runtime when the process exits; who has it mapped
    keeps it.  ``tractor reap --shm`` knows whose it was.  There is no lock in it.

    Args:
        shape: its lengths.
        dtype: of its elements: numbers, dates, text of fixed size, or structures of these.
        key: its name; ``None``: a random one.
        fill: a value or an array that is written to it before others can find it.

    Returns:
        The array.

    Raises:
        ImportError: numpy is not installed.
        TypeError: elements that can't be shared, such as objects.
        ValueError: it has no elements, ``fill`` does not fit, or the key is none.
        FileExistsError: there is shared memory of that key.
        OSError: no room (ENOSPC); nothing is left.
    """
    np = load_numpy()
    element = np.dtype(dtype)
    lengths = tuple(int(n) for n in shape) if isinstance(shape, tuple) else (int(shape),)
    if any(n < 1 for n in lengths) or not element.itemsize:
        raise ValueError(f"an array of shape {lengths} and type {element} has nothing to share")
    token = ShmToken(
        random_key("shmp_") if key is None else key, lengths, dtype_to_wire(element), host_id()
    )

    def write(memory: memoryview) -> None:
        np.ndarray(lengths, element, buffer=memory)[...] = fill

    size = prod(lengths) * element.itemsize
    segment = Segment.create(token.key, size, None if fill is None else write)
    return _plain(token, segment, element)


def attach_shm(token: ShmToken | Mapping[str, Any], readonly: bool = True) -> Any:
    """The array that another process, or this one, has made.  It stays when the result is gone.

    Args:
        token: its token, also as it arrives in an untyped payload.
        readonly: map it so that it can't be written to.

    Raises:
        ImportError: numpy is not installed.
        FileNotFoundError: there is none (any more).
        ValueError: what has that name is too small for it, or the token says no type of elements.
        msgspec.ValidationError: no token.
        RuntimeError: it is another host's.
        OSError: it can't be opened.
    """
    load_numpy()
    found = token if isinstance(token, ShmToken) else msgspec.convert(token, ShmToken)
    if not is_here(found.host):
        raise RuntimeError(
            f"the shared memory {found.key!r} is of host {found.host}, and this one is {host_id()}: memory is shared "
            "within one host and pid namespace; send the array itself"
        )
    element = dtype_from_wire(found.dtype_descr)
    segment = Segment.attach(found.key, readonly)
    size = prod(found.shape) * element.itemsize
    if any(n < 1 for n in found.shape) or size > segment.size:
        segment.close()
        raise ValueError(
            f"the shared memory {found.key!r} has {segment.size} bytes, the token says shape {found.shape} of "
            f"{element.itemsize} bytes each"
        )
    return _plain(found, segment, element)


def shm_token(array: Any) -> ShmToken:
    """The token of an array of :func:`open_shm` or :func:`attach_shm`.

    Raises:
        ValueError: it is none, or a part of one.
    """
    return _required(array).token


def is_shared(array: Any) -> bool:
    """Whether an array is a whole one of :func:`open_shm` or :func:`attach_shm`."""
    return _found(array) is not None


def destroy_shm(array: Any) -> None:
    """Remove the name of an array of :func:`open_shm`; who has it mapped, this process too, keeps it.  Idempotent.

    Raises:
        ValueError: it is none, or a part of one.
        OSError: that can't be done.
    """
    _required(array).segment.unlink()


def _plain(token: ShmToken, segment: Segment, element: Any) -> Any:
    count = prod(token.shape)
    # What holds the memory is the array below; it is not unmapped before that is gone.
    flat = load_numpy().frombuffer(segment.buf, dtype=element, count=count)
    _open[id(flat)] = _Open(token, segment)
    weakref.finalize(flat, _open.pop, id(flat), None).atexit = False
    return flat.reshape(token.shape)


def _required(array: Any) -> _Open:
    found = _found(array)
    if found is None:
        raise ValueError(
            f"this is no whole array of open_shm(), but {type(array).__name__} of shape {getattr(array, 'shape', None)}"
        )
    return found


def _found(array: Any) -> _Open | None:
    """What is known of an array: of one whose base is ours, and that shows all of it."""
    if not _open or type(array) is not load_numpy().ndarray:
        return None
    found = _open.get(id(array.base))
    if found is None or array.shape != found.token.shape or not array.flags.c_contiguous:
        return None
    return found if array.dtype == array.base.dtype else None
