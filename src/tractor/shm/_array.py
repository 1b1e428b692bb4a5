"""Arrays of structures in shared memory, with one writer and any number of readers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import Any

from tractor._util.dist._name import pip_install
from tractor.process.host._host_id import host_id, is_here
from tractor.shm._int import SharedInt
from tractor.shm._segment import Segment, random_key
from tractor.shm._token import NDToken, get_shm_token, note_token

APPEND_START = 0.616
"""The share of an array's rows that is kept free before the first one, for rows that are prepended."""

ATTACH_TRIES = 3
ATTACH_PAUSE = 0.1
"""Tries, and seconds between them, to attach to an array that may just be being made."""

DEFAULT_DTYPE = [("index", "<i8"), ("value", "<f8")]


def load_numpy() -> Any:
    """numpy.  Raises ImportError: it is not installed."""
    try:
        import numpy
    except ImportError as exc:
        raise ImportError(
            f"shared arrays need numpy, which is not installed: {pip_install('shm')}"
        ) from exc
    return numpy


class ShmArray:
    """Rows in shared memory: a window of a larger buffer, that grows at its end, and at its beginning.

    One process writes; any number of others, in whichever actors, read at the same time and without locks.  Rows are
    published by two integers, ``first`` and ``last``, each of which is written after the rows that it publishes
    (see :class:`SharedInt`), and never moves back: a reader sees whole rows only.  A row that was published and is
    written again (``push(start=...)``) may be seen half done.

    Made by :func:`open_shm_ndarray`, :func:`attach_shm_ndarray` and :func:`maybe_open_shm_ndarray`.
    """

    def __init__(
        self, token: NDToken, segment: Segment, first: SharedInt, last: SharedInt, readonly: bool
    ) -> None:
        self._token = token
        self._segment = segment
        self._first = first
        self._last = last
        self._readonly = readonly
        # Not `ndarray(buffer=)`, which does not keep the memory from being unmapped under an array that is in use.
        self._rows: Any = load_numpy().frombuffer(segment.buf, dtype=token.dtype, count=token.size)
        if readonly:
            self._rows.flags.writeable = False

    @property
    def token(self) -> NDToken:
        """What :func:`attach_shm_ndarray` takes; travels as a payload."""
        return self._token

    @property
    def key(self) -> str:
        """The key of its memory."""
        return self._token.shm_name

    @property
    def readonly(self) -> bool:
        """Whether it refuses writes."""
        return self._readonly

    @property
    def size(self) -> int:
        """Rows that there is room for."""
        return self._token.size

    @property
    def array(self) -> Any:
        """The rows that were published, as an array that shows the shared memory itself.

        It has the rows of this moment: later ones are in a new look at this attribute.  Read-only where this object is.
        """
        rows = self._require_open()
        # Two looks: each bound is right by itself, at whichever moment.
        first = self._first.value
        return rows[first : self._last.value]

    @property
    def index(self) -> int:
        """Where in the buffer the next row that is appended goes."""
        self._require_open()
        return self._last.value

    def last(self, n: int = 1) -> Any:
        """The newest ``n`` rows, or as many as there are; as :attr:`array`."""
        if n < 0:
            raise ValueError(f"{n} rows can't be given")
        rows = self.array
        return rows[len(rows) - min(n, len(rows)) :]

    def ustruct(self, fields: Iterable[str] | None = None, common_dtype: Any = float) -> Any:
        """A plain two-dimensional copy of the published rows: one line for each, one column for each field.

        Args:
            fields: their names, in the order of the columns; ``None``: all.
            common_dtype: of the result.

        Raises:
            TypeError: the array has no such field.
        """
        rows = self.array
        names = list(rows.dtype.names if fields is None else fields)
        self._check_fields(names)
        plain = load_numpy().empty((len(rows), len(names)), dtype=common_dtype)
        for column, name in enumerate(names):
            plain[:, column] = rows[name]
        return plain

    def push(
        self,
        data: Any,
        field_map: Mapping[str, str] | None = None,
        prepend: bool = False,
        update_first: bool = True,
        start: int | None = None,
    ) -> int:
        """Write rows, then publish them.

        Args:
            data: a one-dimensional structured array, or one row.  Without ``field_map`` it has all fields of this
                array, but for ``index``, which it may leave out: each row has its place in the buffer there.
            field_map: fields of ``data`` to fields of this array; the others keep what they hold.
            prepend: before the first row, not behind the last one.
            update_first: with ``prepend``: publish the rows.  Without, a later prepend publishes them.
            start: the place of the first row; with ``prepend`` of the one behind the last one.  Rows that were
                published are replaced by it; default: as said.

        Returns:
            The place behind the last row that was written.

        Raises:
            ValueError: there is no room for the rows, they would leave a gap, or the array is read-only here.
            TypeError: the fields are not those of this array.
        """
        rows = self._require_open()
        if self._readonly:
            raise ValueError(
                f"the shared array {self.key!r} is read-only here; attach with readonly=False"
            )
        data, pairs = self._matched(data, field_map)
        begin, end = self._place(len(data), prepend, start, update_first)
        if field_map is None and data.dtype == rows.dtype and data.flags.c_contiguous:
            # As one piece; numpy would copy structures one by one.
            octets = load_numpy().uint8
            rows[begin:end].view(octets)[:] = data.view(octets)
        else:
            for source, target in pairs:
                rows[target][begin:end] = data[source]
        if prepend:
            if update_first and begin < self._first.value:
                self._first.value = begin
        elif end > self._last.value:
            self._last.value = end
        return end

    def prepend(self, data: Any) -> int:
        """Write rows before the first one: ``push(data, prepend=True)``."""
        return self.push(data, prepend=True)

    def close(self) -> None:
        """Unmap it; the array itself stays.  Idempotent.  Arrays that show it keep their rows mapped."""
        self._rows = None
        self._first.close()
        self._last.close()
        self._segment.close()

    def destroy(self) -> None:
        """Unmap it and remove it; others that have it mapped keep it.  Idempotent."""
        self.close()
        self._segment.unlink()
        self._first.destroy()
        self._last.destroy()
        note_token(self.key, None)

    def _require_open(self) -> Any:
        if self._rows is None:
            raise ValueError(f"the shared array {self.key!r} was closed on this side")
        return self._rows

    def _check_fields(self, names: Iterable[str]) -> None:
        known = self._require_open().dtype.names
        strange = [name for name in names if name not in known]
        if strange:
            raise TypeError(
                f"the shared array {self.key!r} has no fields {strange}: it has {list(known)}"
            )

    def _matched(
        self, data: Any, field_map: Mapping[str, str] | None
    ) -> tuple[Any, list[tuple[str, str]]]:
        """The rows, and which of their fields goes into which.  Raises TypeError."""
        np = load_numpy()
        data = np.atleast_1d(np.asanyarray(data))
        if data.dtype.names is None or data.ndim != 1:
            raise TypeError(
                f"rows of a shared array are a one-dimensional structured array, not {data.dtype} of shape {data.shape}"
            )
        pairs = dict(field_map) if field_map is not None else {n: n for n in data.dtype.names}
        self._check_fields(pairs.values())
        lost = [name for name in pairs if name not in data.dtype.names]
        if field_map is None:
            known = self._require_open().dtype.names
            lost = [n for n in known if n not in pairs and n != "index"]
        if lost:
            raise TypeError(f"the rows have no fields {lost}: they have {list(data.dtype.names)}")
        return data, list(pairs.items())

    def _place(
        self, count: int, prepend: bool, start: int | None, update_first: bool
    ) -> tuple[int, int]:
        """Where rows go.  Raises ValueError."""
        first, last = self._first.value, self._last.value
        if prepend:
            end = first if start is None else start
            begin = end - count
            is_gap = update_first and end < first
        else:
            begin = last if start is None else start
            end = begin + count
            is_gap = begin > last
        if begin < 0 or end > self.size:
            raise ValueError(
                f"{count} rows at {begin} overrun the shared array {self.key!r}: it has room for {self.size}, "
                f"{first} are free before its first row and {self.size - last} behind its last one"
            )
        if is_gap:
            raise ValueError(
                f"rows from {begin} to {end} would leave a gap to those of the shared array {self.key!r}, "
                f"from {first} to {last}"
            )
        return begin, end

    def __repr__(self) -> str:
        if self._rows is None:
            return f"<ShmArray {self.key!r}: closed>"
        return f"<ShmArray {self.key!r}: rows {self._first.value} to {self._last.value} of {self.size}>"


def _checked_dtype(dtype: Any) -> Any:
    found = load_numpy().dtype(DEFAULT_DTYPE if dtype is None else dtype)
    if found.names is None or "index" not in found.names or found["index"].kind not in "iu":
        raise TypeError(
            f"the rows of a shared array have a field 'index' of integers, which {found} has not"
        )
    return found


def open_shm_ndarray(
    size: int,
    key: str | None = None,
    dtype: Any = None,
    append_start_index: int | None = None,
    readonly: bool = False,
) -> ShmArray:
    """Make an array in shared memory, whose memory is reserved at once.

    It is removed at the end of this process's actor; without a runtime when the process exits.

    Args:
        size: rows.
        key: its name; ``None``: a random one.
        dtype: of a row: a structure with an integer field ``index``, in which each row has its place in the buffer.
            Default: ``index`` and a float64 ``value``.
        append_start_index: the place of the first row that is appended; default ``round(size * .616)``.
        readonly: refuse writes through the result.

    Returns:
        The array, empty.

    Raises:
        ImportError: numpy is not installed.
        FileExistsError: there is shared memory of that key.
        TypeError: ``dtype`` is no such structure, or one of objects.
        ValueError: ``size`` is not positive, ``append_start_index`` not in it, or the key is none.
        OSError: no room (ENOSPC); nothing is left.
    """
    np = load_numpy()
    row = _checked_dtype(dtype)
    if size < 1:
        raise ValueError(f"a shared array has at least 1 row, not {size}")
    begin = round(size * APPEND_START) if append_start_index is None else append_start_index
    if not 0 <= begin <= size:
        raise ValueError(f"append_start_index={begin} is not in an array of {size} rows")
    token = NDToken.of(random_key("shma_") if key is None else key, size, row)

    def number(memory: memoryview) -> None:
        np.frombuffer(memory, dtype=row, count=size)["index"] = np.arange(size)

    made: list[Any] = []
    try:
        # The rows last: who finds them finds the indices.
        for name in (token.shm_first_index_name, token.shm_last_index_name):
            made.append(SharedInt.create(name, begin))
        segment = Segment.create(token.shm_name, size * row.itemsize, number)
    except BaseException:
        for index in made:
            index.destroy()
        raise
    note_token(token.shm_name, token)
    return ShmArray(token, segment, made[0], made[1], readonly)


def attach_shm_ndarray(token: NDToken | Mapping[str, Any], readonly: bool = True) -> ShmArray:
    """The array that another process, or this one, has made; it is left alone when the result is closed.

    Tries three times, 0.1 s apart, while there is none; blocks the thread meanwhile.

    Args:
        token: its token, or what ``token.as_msg()`` gave.
        readonly: map it so that it can't be written to.  An array has one writer.

    Raises:
        ImportError: numpy is not installed.
        FileNotFoundError: there is none.
        ValueError: what has that name is too small for it, or the token says no type of rows.
        msgspec.ValidationError: no token.
        OSError: it can't be opened.
        RuntimeError: it is another host's.
    """
    token = NDToken.from_msg(token)
    if not is_here(token.host):
        raise RuntimeError(
            f"the shared memory {token.shm_name!r} is of host {token.host}, and this one is {host_id()}: memory is "
            "shared within one host and pid namespace; send the rows themselves"
        )
    row = token.dtype
    for attempt in range(1, ATTACH_TRIES + 1):
        try:
            return _attach(token, row, readonly)
        except FileNotFoundError:
            if attempt == ATTACH_TRIES:
                raise
            time.sleep(ATTACH_PAUSE)
    raise AssertionError("not reached")


def _attach(token: NDToken, row: Any, readonly: bool) -> ShmArray:
    with contextlib.ExitStack() as undo:
        segment = Segment.attach(token.shm_name, readonly)
        undo.callback(segment.close)
        if not 0 < token.size * row.itemsize <= segment.size:
            raise ValueError(
                f"the shared memory {token.shm_name!r} has {segment.size} bytes, "
                f"the token says {token.size} rows of {row.itemsize}"
            )
        first = SharedInt.attach(token.shm_first_index_name, readonly)
        undo.callback(first.close)
        last = SharedInt.attach(token.shm_last_index_name, readonly)
        undo.callback(last.close)
        found = ShmArray(token, segment, first, last, readonly)
        undo.pop_all()
    note_token(token.shm_name, token)
    return found


def maybe_open_shm_ndarray(
    key: str,
    size: int,
    dtype: Any = None,
    append_start_index: int = 0,
    readonly: bool = True,
) -> tuple[ShmArray, bool]:
    """The array of that key; made where there is none.

    Args:
        key: its name.
        size: rows.
        dtype: of a row, as of :func:`open_shm_ndarray`.
        append_start_index: of an array that is made here.
        readonly: of one that is attached.  One that is made here can be written to: this process is its writer.

    Returns:
        The array, and whether it was made here.

    Raises:
        ValueError: there is one, but it is smaller, or this process knows it with another type of rows.
        ImportError, TypeError, OSError: as from :func:`open_shm_ndarray`.
    """
    row = _checked_dtype(dtype)
    known = get_shm_token(key)
    if isinstance(known, NDToken) and known.dtype != row:
        raise ValueError(f"the shared array {key!r} has rows of {known.dtype}, not of {row}")
    token = NDToken.of(key, size, row)
    for attempt in range(1, ATTACH_TRIES + 1):
        # Another process may make it, or remove it, at any moment.
        with contextlib.suppress(FileNotFoundError):
            return _attach(token, row, readonly), False
        try:
            return open_shm_ndarray(size, key, row, append_start_index), True
        except FileExistsError:
            if attempt == ATTACH_TRIES:
                raise
            time.sleep(ATTACH_PAUSE)
    raise AssertionError("not reached")
