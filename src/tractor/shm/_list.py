"""Lists of plain values in shared memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.shared_memory import ShareableList
from types import FunctionType
from typing import Any, ClassVar

from tractor.shm._segment import Segment, random_key
from tractor.shm._token import note_token

DEFAULT_SIZE = 1024
"""Elements."""

DEFAULTS: dict[Any, Any] = {float: 0.0, int: 0, bool: False, str: "", bytes: b"", None: None}
"""What a list holds at first, by its ``dtype``."""

_WORD_CODES = {int: "q", float: "d"}


def _segment_for_list(name: str, create: bool = False, size: int = 0) -> Segment:
    """What ``ShareableList`` uses in place of ``SharedMemory``."""
    return Segment.create(name, size) if create else Segment.attach(name)


def _own_init() -> Callable[..., None]:
    """The standard library's ``ShareableList.__init__``, with our segments for its ``SharedMemory``.

    Its own one tells a resource tracker of each segment, which cannot be turned off there in any version.
    """
    original: Any = ShareableList.__init__
    names = {**original.__globals__, "SharedMemory": _segment_for_list}
    init = FunctionType(original.__code__, names, "__init__", original.__defaults__)
    init.__kwdefaults__ = original.__kwdefaults__
    return init


_init_list = _own_init()


def _placeholder(value: Any) -> Any:
    """A value that gets as much room: the standard library counts characters, but stores bytes."""
    return "x" * len(value.encode()) if isinstance(value, str) else value


class ShmList(ShareableList[Any]):
    """A ``multiprocessing.shared_memory.ShareableList`` with slices, in memory that no resource tracker knows.

    Its length is fixed, and so is the room of each text: the bytes that it began with, rounded up to more by at most 8.
    A number that takes the place of one of its own type is written, and read, in one piece; everything else that is
    written while it is read may be seen half done.  Made by :func:`open_shm_list` and :func:`attach_shm_list`.
    """

    shm: Segment  # type: ignore[assignment]
    # Of the base class, which typeshed does not tell of.
    _allocated_offsets: list[int]
    _list_len: int
    _offset_data_start: int
    _types_mapping: ClassVar[dict[type, str]]
    _get_packing_format: Callable[[int], str]

    def __init__(
        self, sequence: Iterable[Any] | None = None, *, name: str, readonly: bool = True
    ) -> None:
        values = None if sequence is None else list(sequence)
        _init_list(self, values and [_placeholder(v) for v in values], name=name)
        self._readonly = False
        self._words: dict[type, memoryview] = {}
        for position, value in enumerate(values or ()):
            if isinstance(value, str):
                self[position] = value
        self._readonly = readonly

    @property
    def key(self) -> str:
        """What :func:`attach_shm_list` takes."""
        return self.shm.key

    @property
    def readonly(self) -> bool:
        """Whether this object refuses writes."""
        return self._readonly

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(self._list_len))

    def __getitem__(self, position: Any) -> Any:
        """An element, or the list of those of a slice.  Raises IndexError."""
        if isinstance(position, slice):
            get = super().__getitem__
            return [get(i) for i in range(*position.indices(len(self)))]
        return super().__getitem__(self._place(position))

    def __setitem__(self, position: Any, value: Any) -> None:
        """Replace an element, or as many as a slice has.

        Raises:
            ValueError: the list is read-only; a text is longer than its room; a slice has another length.
            TypeError: the value is not an int, float, bool, str, bytes or ``None``.
            IndexError: there is no such element.
        """
        if self._readonly:
            raise ValueError(
                f"the shared list {self.key!r} is read-only here; open it with readonly=False"
            )
        if not isinstance(position, slice):
            self._set(self._place(position), value)
            return
        places, values = range(*position.indices(len(self))), list(value)
        if len(places) != len(values):
            raise ValueError(
                f"a shared list keeps its length: {len(values)} values for {len(places)} elements"
            )
        for place, item in zip(places, values, strict=True):
            self._set(place, item)

    def _place(self, position: int) -> int:
        try:
            return range(self._list_len)[position]
        except IndexError:
            raise IndexError(
                f"index {position} is out of range of a shared list of {self._list_len} elements"
            ) from None

    def _set(self, place: int, value: Any) -> None:
        kind = type(value)
        code = _WORD_CODES.get(kind)
        if code is not None and self._get_packing_format(place) == code:
            # One store: `struct` would zero the bytes first, and the format beside them.
            start = self._offset_data_start
            words = self._words.get(kind)
            if words is None:
                data: Any = self.shm.buf[start : start + self._allocated_offsets[-1]]
                words = self._words[kind] = data.cast(code)
            words[self._allocated_offsets[place] // 8] = value
            return
        if kind not in self._types_mapping:
            raise TypeError(
                f"a shared list can't hold {value!r}: only int, float, bool, str, bytes and None"
            )
        super().__setitem__(place, value)

    def close(self) -> None:
        """Unmap it; the list itself stays.  Idempotent."""
        for words in self._words.values():
            words.release()
        self._words.clear()
        self.shm.close()

    def destroy(self) -> None:
        """Unmap it and remove it; others that have it mapped keep it.  Idempotent."""
        self.close()
        self.shm.unlink()
        note_token(self.key, None)

    def __reduce__(self) -> Any:
        raise TypeError("a shared list travels by its `key`: send that, and attach_shm_list(key)")

    # One and the same list is equal to itself only, and can be kept in sets.
    __hash__ = object.__hash__


def open_shm_list(
    key: str | None,
    sequence: Sequence[Any] | None = None,
    size: int = DEFAULT_SIZE,
    dtype: Any = float,
    readonly: bool = True,
    prefix: str = "shml_",
) -> ShmList:
    """Make a list in shared memory.

    It is removed at the end of this process's actor; without a runtime when the process exits.

    Args:
        key: its name, for :func:`attach_shm_list`; ``None``: a random one that begins with ``prefix``.
        sequence: its elements: int, float, bool, str, bytes, ``None``.  They also decide the room of each text.
        size: elements where there is no ``sequence``.
        dtype: their type then: ``float``, ``int``, ``bool``, ``str``, ``bytes`` or ``None``; they are zeros, or empty
            with room for 8 bytes.
        readonly: refuse writes through the result.
        prefix: of a random key.

    Returns:
        The list.

    Raises:
        FileExistsError: there is shared memory of that key.
        ValueError: no such ``dtype`` or key, or a negative ``size``.
        TypeError: an element of another type.
        OSError: no room.
    """
    if sequence is None:
        if dtype not in DEFAULTS:
            raise ValueError(
                f"a shared list has elements of float, int, bool, str, bytes or None, not {dtype!r}"
            )
        if size < 0:
            raise ValueError(f"a list of {size} elements is not possible")
        sequence = [DEFAULTS[dtype]] * size
    for item in sequence:
        if type(item) not in DEFAULTS and item is not None:
            raise TypeError(
                f"a shared list can't hold {item!r}: only int, float, bool, str, bytes and None"
            )
    found = ShmList(sequence, name=random_key(prefix) if key is None else key, readonly=readonly)
    note_token(found.key, found.key)
    return found


def attach_shm_list(key: str, readonly: bool = False) -> ShmList:
    """The list that another process, or this one, has made; it is left alone when the result is closed.

    Args:
        key: as of :func:`open_shm_list`.
        readonly: refuse writes through the result.

    Raises:
        FileNotFoundError: there is none.
        OSError: it can't be opened.
    """
    found = ShmList(name=key, readonly=readonly)
    note_token(key, key)
    return found
