"""What a type takes as keys of dicts and items of sets, and whether such keys meet in one place of a table.

Theory of operation.  Python's hashes of text, bytes and dates are random in each process; those of numbers, and of all
that is hashed like them, are not.  So who sends many of them can choose them such that each meets all before it, be it
that their hashes are the same (``UUID``, ``Decimal``, tuples), or that they walk the same way through the table
(every number).  80,000 such integers, in 0.4 MB, take 8 s.

msgspec decodes keys of such types in one step that nothing interrupts.  Therefore the keys of large dicts (items of
sets) are looked at before: they alone are decoded, into a list, and put into a table a few at a time.  Its work is
bounded by what the keys' hashes take and :data:`EACH`, in CPU time of this thread: 30 times of what honest keys take.
Who takes more is measured once more, since time alone proves nothing once.

The keys are found by msgspec, too: a dict is an array of twice as many values with another header.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from time import thread_time_ns
from typing import Any
from uuid import UUID

from msgspec import Raw, ValidationError, inspect
from msgspec.msgpack import Decoder

from tractor._proto.connection.containers import end_of, header_of, is_container

EACH = 2_000
"""Nanoseconds that a key may take in a table, beyond three times what its hash takes."""

GRACE = 50_000_000
"""Nanoseconds that all of a payload's keys may take beyond that."""

MANY = 64
"""Keys; a table of fewer is quick, whatever they are."""

LEAST = 512
"""Bytes; a container of fewer is not looked into."""

BLOB = 16 * 1024
"""Bytes of a payload that may be one large value, as an array is: it is not copied to be looked at, if it holds few."""

STEP = 64
"""Keys between two looks at the clock."""

SLOWER = 10
"""How many times longer than those of the first keys the hashes of all may take."""


class KeyTypes:
    """What a type takes as keys of dicts and items of sets.

    Attributes:
        is_open: somewhere it takes anything.
        has_arrays: dicts keyed by lists.
        has_sets: sets of lists.
        any_sets: sets.
        has_numbers: keys or items that are integers, or anything.
        chosen: other types of keys and items whose hashes their sender can choose.
    """

    __slots__ = ("_seen", "any_sets", "chosen", "has_arrays", "has_numbers", "has_sets", "is_open")

    def __init__(self, spec: Any) -> None:
        self.is_open = self.has_arrays = self.has_sets = self.any_sets = self.has_numbers = False
        self.chosen: list[Any] = []
        self._seen: set[int] = set()
        try:
            self._look(inspect.type_info(spec))
        except Exception:
            # What msgspec can't describe may be anything.
            self.is_open = self.has_arrays = True
        self.has_numbers |= self.is_open

    @property
    def can_meet(self) -> bool:
        """Whether there are keys, or items, that their sender can choose the hashes of."""
        return self.has_numbers or bool(self.chosen)

    def _look(self, root: Any) -> None:
        left: list[Any] = [root]
        while left:
            node = left.pop()
            if isinstance(node, tuple):
                left.extend(node)
            elif isinstance(node, inspect.Type | inspect.Field) and id(node) not in self._seen:
                self._seen.add(id(node))
                self._note(node)
                left.extend(getattr(node, name) for name in node.__struct_fields__)

    def _note(self, node: Any) -> None:
        if isinstance(node, inspect.AnyType | inspect.CustomType):
            self.is_open = True
        elif isinstance(node, inspect.DictType):
            keys = _members(node.key_type)
            self.has_arrays |= any(map(_is_array, keys))
            self._note_keys(keys)
        elif isinstance(node, inspect.SetType | inspect.FrozenSetType):
            items = _members(node.item_type)
            self.any_sets = True
            self.has_sets |= any(
                isinstance(one, inspect.AnyType) or _is_array(one) for one in items
            )
            self._note_keys(items)

    def _note_keys(self, nodes: tuple[Any, ...]) -> None:
        for node in nodes:
            if isinstance(node, inspect.IntType | inspect.AnyType):
                self.has_numbers = True
            elif not isinstance(node, _SAFE):
                made = _type_of(node)
                if made not in self.chosen:
                    self.chosen.append(made)


def _members(node: Any) -> tuple[Any, ...]:
    return node.types if isinstance(node, inspect.UnionType) else (node,)


def _is_array(node: Any) -> bool:
    return isinstance(node, _ARRAYS) or bool(getattr(node, "array_like", False))


_ARRAYS = (inspect.CollectionType, inspect.TupleType, inspect.NamedTupleType)

_SAFE = (
    inspect.NoneType, inspect.BoolType, inspect.StrType, inspect.BytesType, inspect.DateType, inspect.RawType,
    inspect.EnumType, inspect.LiteralType,
)  # fmt: skip
"""Few values, or hashes that are random in each process."""

_PLAIN: dict[type, Any] = {
    inspect.NoneType: None, inspect.BoolType: bool, inspect.IntType: int, inspect.FloatType: float,
    inspect.StrType: str, inspect.BytesType: bytes, inspect.DecimalType: Decimal, inspect.UUIDType: UUID,
    inspect.TimeDeltaType: datetime.timedelta, inspect.DateTimeType: datetime.datetime,
    inspect.DateType: datetime.date, inspect.TimeType: datetime.time,
}  # fmt: skip


def _type_of(node: Any) -> Any:
    """The type that a node describes, without its constraints; what is not known may be anything."""
    if isinstance(node, inspect.TupleType):
        return tuple[tuple(map(_type_of, node.item_types))]  # type: ignore[misc]
    if isinstance(node, inspect.VarTupleType):
        return tuple[_type_of(node.item_type), ...]  # type: ignore[misc]
    if isinstance(node, inspect.FrozenSetType):
        return frozenset[_type_of(node.item_type)]  # type: ignore[misc]
    return _PLAIN.get(type(node)) or getattr(node, "cls", Any)


def _array(number: int, body: Any) -> bytes:
    return b"".join((b"\xdd", number.to_bytes(4, "big"), body))


def holds_few(data: Any) -> bool:
    """Whether msgpack holds at most :data:`MANY` values in all, so no table of that many keys; nothing is copied."""
    left, pos, seen = 1, 0, 0
    with memoryview(data) as view:
        try:
            while left:
                seen += 1
                if seen > MANY or left > MANY:
                    return False
                left -= 1
                if is_container(view[pos : pos + 1]):
                    number, _, pos = header_of(view, pos)
                    left += number
                else:
                    pos = end_of(view, pos)
        except (IndexError, ValueError):
            # No msgpack: that is told by whoever decodes it.
            return False
        return pos <= len(view)


class _KeyType:
    """Decodes keys of one type out of keys of any."""

    __slots__ = ("_many", "_one")

    def __init__(self, spec: Any, dec_hook: Callable[[type, Any], Any] | None = None) -> None:
        self._one: Callable[[Any], Any] = Decoder(spec, dec_hook=dec_hook).decode
        self._many: Callable[[Any], list[Any]] = Decoder(list[spec], dec_hook=dec_hook).decode

    def of(self, raws: list[Raw]) -> list[Any]:
        """Those keys that are of the type."""
        try:
            return self._many(_array(len(raws), b"".join(raws)))
        except Exception:
            # Not only what msgspec raises: a hook fails in its own way.  A bad key, which may be the last one, must
            # not hide those before it.
            found = []
            for raw in raws:
                try:
                    found.append(self._one(raw))
                except Exception:
                    continue
            return found


_NUMBERS = _KeyType(Any)
_split: Callable[[Any], list[Raw]] = Decoder(list[Raw]).decode
_flat: Callable[[Any], list[Any]] = Decoder(list[bool | int | float | str | None]).decode


class KeyCheck:
    """Refuses payloads of one type whose keys meet.

    Args:
        keys: of the type.
        dec_hook: makes what msgspec does not know.
    """

    __slots__ = ("_numbers_only", "_sets", "_types")

    def __init__(self, keys: KeyTypes, dec_hook: Callable[[type, Any], Any] | None = None) -> None:
        self._sets = keys.any_sets
        self._numbers_only = not keys.chosen
        self._types = [_KeyType(one, dec_hook) for one in keys.chosen]
        if keys.has_numbers:
            self._types.append(_NUMBERS)

    def refuse(self, data: Any) -> None:
        """Refuse msgpack with keys that meet.

        Raises:
            ValidationError: it has them.
        """
        if len(data) >= BLOB and holds_few(data):
            return
        tables = _Tables()
        left: list[Any] = [data]
        while left:
            # What is not msgpack is told by whoever decodes it.
            found = self._look(left.pop(), tables)
            if found:
                left.extend(found)

    def _look(self, data: Any, tables: _Tables) -> list[Any] | None:
        """Measure one container; returns those in it that are to be looked at."""
        if len(data) < LEAST or not is_container(data):
            return None
        with memoryview(data) as view:
            number, is_map, start = header_of(view)
            if number > len(view):
                return None
            body = _array(number, view[start:])
        step = 2 if is_map else 1
        is_table = (is_map or self._sets) and number >= MANY * step
        if is_table and self._numbers_only:
            try:
                values = _flat(body)
            except Exception:
                pass
            else:
                tables.fill(values[::step], is_map)
                return None
        try:
            parts = _split(body)
        except Exception:
            return None
        if is_table:
            for one in self._types:
                tables.fill(one.of(parts[::step]), is_map)
        return [part for part in parts if len(part) >= LEAST]


class _Tables:
    """The time that tables of a payload may take, and have taken."""

    __slots__ = ("_may_take",)

    def __init__(self) -> None:
        self._may_take = GRACE

    def fill(self, keys: list[Any], is_map: bool) -> None:
        """Put keys into a table.  Raises ValidationError."""
        left = self._left_after(keys, is_map)
        if left is None:
            # Time of this thread is not only that of the keys: a collection of garbage, a signal handler or a slow
            # moment of the machine counts, too.  Keys that meet take as long again.
            left = self._left_after(keys, is_map)
        if left is None:
            raise ValidationError(
                f"it holds a {'dict' if is_map else 'set'} of {len(keys)} keys that meet in one place of its"
                " table, as chosen numbers do: send a list of pairs, or text as keys"
            )
        self._may_take = left

    def _left_after(self, keys: list[Any], is_map: bool) -> int | None:
        """The time that tables may still take after one of these keys; None if that takes too much."""
        began = thread_time_ns()
        found = _hashable(keys, self._may_take)
        if found is None:
            return None
        hashed = thread_time_ns()
        until = hashed + self._may_take + len(found) * EACH + 3 * (hashed - began)
        # One by one, as msgspec does it: a table of another size has other places.
        table: dict[Any, None] = {}
        items: set[Any] = set()
        for at in range(0, len(found), STEP):
            some = found[at : at + STEP]
            try:
                if is_map:
                    for key in some:
                        table[key] = None
                else:
                    items.update(some)
            except Exception:
                # Its own `__eq__()` fails, as it will for whoever decodes it.
                break
            if thread_time_ns() > until:
                return None
        return until - thread_time_ns()


def _hashable(keys: list[Any], grace: int) -> list[Any] | None:
    """The keys that have a hash; None if hashes take too much.  One without must not hide the others.

    A type may keep its hashes in a table of its own, as ``Fraction`` does since Python 3.12: keys that meet there take
    longer, the more there are.  None may take much longer than the first ones.
    """
    found = []
    began = thread_time_ns()
    until = None
    for at in range(0, len(keys), STEP):
        for key in keys[at : at + STEP]:
            try:
                hash(key)
            except Exception:
                continue
            found.append(key)
        now = thread_time_ns()
        if until is None:
            until = began + grace + len(keys) * (EACH + SLOWER * (now - began) // STEP)
        elif now > until:
            return None
    return found


_anything = KeyCheck(KeyTypes(Any))


def refuse_meeting(data: Any) -> None:
    """Refuse msgpack of any type that has dicts with numbers as keys that meet.  Raises ValidationError."""
    _anything.refuse(data)
