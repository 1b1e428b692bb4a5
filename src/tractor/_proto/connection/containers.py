"""How many lists and dicts a msgpack value holds, and how many dicts in it are keyed by lists: without decoding it.

A container costs its sender one byte, and its receiver 60 of memory and more.  A list as a dict's key arrives as a
tuple, and who chooses the numbers in tuples can have all their hashes be the same.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

_HEADERS = bytes((*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF))
_CONTAINS = frozenset(_HEADERS)

_FIXED = rb"[\x00-\x7f\xc0\xc2\xc3\xe0-\xff]|[\xcc\xd0].|[\xcd\xd1]..|[\xca\xce\xd2].{4}|[\xcb\xcf\xd3].{8}"
_TEXTS = b"|".join(b"\\x%02x.{%d}" % (0xA0 + n, n) for n in range(32))
_EXTS = rb"\xd4.{2}|\xd5.{3}|\xd6.{5}|\xd7.{9}|\xd8.{17}"
_ONE = _FIXED + b"|" + _TEXTS + b"|" + _EXTS
"""A value of a fixed length that holds no other."""


_OPENS = rb"([\x80-\x9f]|[\xdc\xde].{2}|[\xdd\xdf].{4})"
"""The header of a container, as a group."""


@cache
def _tokens() -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Of a header, or of a value that holds no other and has a fixed length, or one of up to 255 bytes; and of a run of
    them.  Only longer values end a run, so what makes a step of work costs its sender 256 bytes.
    """

    def short(extra: int) -> bytes:
        return b"(?:" + b"|".join(b"\\x%02x.{%d}" % (n, n + extra) for n in range(256)) + b")"

    each = b"|".join((
        _FIXED,
        rb"(?=[\xa0-\xbf])(?:" + _TEXTS + b")",
        rb"(?:[\xd9\xc4]|[\xda\xc5]\x00|[\xdb\xc6]\x00{3})" + short(0),
        rb"(?:\xc7|\xc8\x00|\xc9\x00{3})" + short(1),
        _EXTS,
    ))  # fmt: skip
    run = b"(?:" + _OPENS[1:-1] + b"|" + each + b"){1,4096}+"
    return re.compile(_OPENS + b"|" + each, re.DOTALL), re.compile(run, re.DOTALL)


@cache
def _patterns() -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Of one such value, and of a run of them; made when they are needed, as most actors need none."""
    run = b"(?:" + _ONE + b"){1,256}+"
    return re.compile(_ONE, re.DOTALL), re.compile(run, re.DOTALL)


_LENGTHS = {
    0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0), 0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0),
    0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1),
}  # fmt: skip
"""Of a text, bytes or an extension with a length: bytes of the length, and those between it and the data."""


class Shape(NamedTuple):
    """What a value holds.

    Attributes:
        containers: lists and dicts, itself counted.
        array_keys: keys of dicts that are lists.
        is_whole: all of it was looked at; else there may be more.
    """

    containers: int
    array_keys: int
    is_whole: bool


def is_container(data: Any) -> bool:
    """Whether a msgpack value is a list or a dict."""
    with memoryview(data) as view:
        return len(view) > 0 and view[0] in _CONTAINS


def most_containers(data: bytes | bytearray) -> int:
    """A number that the containers in ``data`` are no more than, at once: its bytes that could begin one."""
    return len(data) - len(data.translate(None, _HEADERS))


def containers_in(data: Any, most: int, steps: int | None = None) -> tuple[int, bool]:
    """Count the lists and dicts in a msgpack value, at about the speed of decoding it.

    Args:
        data: the value, as bytes.  What is not msgpack ends the count.
        most: it stops behind that many, give or take a few thousand.
        steps: of work: a long text, or up to 4,096 other values.  It stops behind that many.

    Returns:
        How many there are, itself counted, and whether all of it was looked at; else there may be more.
    """
    token, run_of = _tokens()
    found = pos = 0
    with memoryview(data) as view:
        while pos < len(view) and found <= most and steps != 0:
            if steps is not None:
                steps -= 1
            run = run_of.match(view, pos)
            if run is not None:
                # How values lie in each other is of no matter here: all follow each other.
                opens = token.findall(view, pos, run.end())
                found += len(opens) - opens.count(b"")
                pos = run.end()
                continue
            width, extra = _LENGTHS.get(view[pos], (0, 0))
            if not width:
                return found, True
            length = int.from_bytes(view[pos + 1 : pos + 1 + width], "big")
            pos += 1 + width + extra + length
        return found, pos >= len(view)


def shape_of(data: Any, most: int, most_keys: int) -> Shape:
    """Count what a msgpack value holds.  It takes about as long as to decode it, and little memory.

    Args:
        data: the value, as bytes.  What is not msgpack ends the count.
        most: of containers; it stops behind that many.
        most_keys: of keys that are lists; it stops behind that many.
    """
    with memoryview(data) as view:
        return _shape(view, most, most_keys)


def _shape(view: memoryview, most: int, most_keys: int) -> Shape:
    one, run_of = _patterns()
    containers = keys = pos = 0
    # Of the innermost container: how many values are to come, and whether it is a dict.  The others are on the stack.
    left, is_map = 1, False
    stack: list[tuple[int, bool]] = []
    size = len(view)
    while True:
        while not left:
            if not stack:
                return Shape(containers, keys, True)
            left, is_map = stack.pop()
        run = run_of.match(view, pos)
        if run is not None:
            passed = len(one.findall(view, pos, run.end()))
            pos = run.end()
            while passed > left and stack:
                passed -= left
                left, is_map = stack.pop()
            left = max(left - passed, 0)
            continue
        if pos >= size:
            break
        byte = view[pos]
        is_key = is_map and not left % 2
        left -= 1
        if byte not in _CONTAINS:
            width, extra = _LENGTHS.get(byte, (0, 0))
            if not width:
                break
            pos += 1 + width + extra + int.from_bytes(view[pos + 1 : pos + 1 + width], "big")
            continue
        containers += 1
        if left:
            stack.append((left, is_map))
        left, is_map, pos = header_of(view, pos)
        keys += is_key and not is_map
        if containers > most or keys > most_keys:
            return Shape(containers, keys, False)
    return Shape(containers, keys, pos >= size)


def header_of(view: memoryview, pos: int = 0) -> tuple[int, bool, int]:
    """Of a container at ``pos``: how many values it holds, keys counted, whether it is a dict, where the first is."""
    byte = view[pos]
    if byte < 0xA0:
        is_map = byte < 0x90
        return (byte & 0x0F) * (2 if is_map else 1), is_map, pos + 1
    is_map, width = byte >= 0xDE, 4 if byte % 2 else 2
    number = int.from_bytes(view[pos + 1 : pos + 1 + width], "big")
    return number * (2 if is_map else 1), is_map, pos + 1 + width


def end_of(view: memoryview, pos: int) -> int:
    """Where the value at ``pos``, which is no container, ends.  Raises ValueError: it is no msgpack."""
    one = _patterns()[0].match(view, pos)
    if one is not None:
        return one.end()
    width, extra = _LENGTHS.get(view[pos], (0, 0))
    if not width:
        raise ValueError(f"{view[pos]:#x} begins no msgpack value")
    return pos + 1 + width + extra + int.from_bytes(view[pos + 1 : pos + 1 + width], "big")


def text_at(view: memoryview, pos: int) -> int | None:
    """Where the characters or bytes of the value at ``pos`` begin; ``None``: it is neither text nor bytes."""
    byte = view[pos]
    if 0xA0 <= byte < 0xC0:
        return pos + 1
    width, extra = _LENGTHS.get(byte, (0, 1))
    return None if extra else pos + 1 + width


def is_text(view: memoryview, pos: int) -> bool:
    """Whether the value at ``pos`` is text."""
    return 0xA0 <= view[pos] < 0xC0 or 0xD9 <= view[pos] <= 0xDB
