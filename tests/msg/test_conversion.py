"""What annotations make of arguments and results."""

from __future__ import annotations

import datetime
import decimal
import functools
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NoReturn, Optional, TypeVar

import ep_typed
import msgspec
import numpy as np
import pytest
from ep_typed import Colour, Job, Level, Own, Picky, Point
from msgspec import Raw
from numpy.typing import NDArray

import tractor
from tractor.msg import NamespacePath
from tractor.msg._codec import current_codec
from tractor.msg._conversion import NOTHING_KNOWN, conversions_of, decode_arguments, decode_result

T = TypeVar("T")


def function_of(annotation: Any, default: Any = ...) -> Any:
    """A function whose parameter ``x``, and whose result, are annotated so."""

    def fn(x: Any = default) -> Any:
        raise NotImplementedError

    if default is ...:
        fn.__defaults__ = None
    fn.__annotations__ = {"x": annotation, "return": annotation}
    return fn


def there(fn: Any, **kwargs: Any) -> dict[str, Any]:
    """The arguments as the function gets them."""
    known = conversions_of(fn)
    sent = msgspec.msgpack.encode(known.pack(kwargs, current_codec()))
    return decode_arguments(Raw(sent), known, "here:fn", 1)


def and_back(fn: Any, value: Any) -> Any:
    """A result as the caller gets it."""
    known = conversions_of(fn)
    sent = msgspec.msgpack.encode(known.pack_result(value, current_codec()))
    return decode_result(Raw(sent), known.result, "here:fn", 1)


WHEN = datetime.datetime(2026, 11, 30, tzinfo=datetime.UTC)

FITS: list[tuple[Any, Any]] = [
    (set[int], {1, 2}),
    (frozenset[str], frozenset("a")),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2, 3)),
    (tuple, (1, "a")),
    (list[tuple[int, int]], [(1, 2)]),
    (dict[int, set[int]], {1: {2}}),
    (dict[tuple[int, int], str], {(1, 2): "a"}),
    (Sequence[int], [1, 2]),
    (Mapping[str, int], {"a": 1}),
    (Point, Point(1, 2)),
    (list[Point], [Point(1), Point(2)]),
    (dict[str, Point], {"a": Point(1)}),
    (Point | None, Point(1)),
    (Point | None, None),
    (Optional[Point], Point(1)),  # noqa: UP045
    (Point | int, Point(1)),
    (Point | int, 7),
    (Job, Job("a", Path("/tmp"), [Point(1)])),
    (Colour, Colour.BLUE),
    (Level, Level.INFO),
    (Literal["a", 1], "a"),
    (datetime.datetime, WHEN),
    (datetime.date, WHEN.date()),
    (datetime.timedelta, datetime.timedelta(seconds=90)),
    (decimal.Decimal, decimal.Decimal("1.50")),
    (uuid.UUID, uuid.UUID(int=5)),
    (Path, Path("/tmp/x")),
    (PurePosixPath, PurePosixPath("a/b")),
    (Path | None, None),
    (list[Path], [Path("a")]),
    (str | Path, Path("a")),
    (str | Path, "a"),
    (int | Path | None, None),
    (NamespacePath, NamespacePath("a:b")),
    (np.float64, np.float64(1.5)),
    (bytes, b"a"),
    (bytearray, bytearray(b"a")),
    (float, 1.5),
    (bool, True),
    (None, None),
    (Annotated[int, msgspec.Meta(gt=0)], 1),
    (ep_typed.Options, {"depth": 1, "tags": {"a"}}),
    ("set[int]", {1}),
    ("Point", Point(1)),
    ("list[Point | None]", [Point(1), None]),
    (list["Point"], [Point(1)]),
]


@pytest.mark.parametrize(("annotation", "value"), FITS, ids=str)
def test_what_fits_arrives_as_it_is_annotated(annotation: Any, value: Any) -> None:
    fn = function_of(annotation)
    for arrived in (there(fn, x=value)["x"], and_back(fn, value)):
        assert arrived == value
        assert type(arrived) is type(value)


def test_arrays() -> None:
    fn = function_of(NDArray[np.float64])
    for arrived in (there(fn, x=np.ones(3))["x"], and_back(fn, np.ones(3))):
        assert arrived.dtype == np.float64
        assert arrived.tolist() == [1, 1, 1]
    with pytest.raises(tractor.MsgTypeError, match="'x' of here:fn"):
        there(fn, x=np.ones(3, dtype="int32"))


CONVERTED: list[tuple[Any, Any, Any]] = [
    (float, 1, 1.0),
    (set[int], [1, 1, 2], {1, 2}),
    (tuple[int, ...], [1, 2], (1, 2)),
    (Point, {"x": 1, "y": 2}, Point(1, 2)),
    (Colour, "red", Colour.RED),
    (Path, "/tmp", Path("/tmp")),
    (datetime.datetime, WHEN.isoformat(), WHEN),
    (decimal.Decimal, "1.5", decimal.Decimal("1.5")),
    (np.int32, 5, np.int32(5)),
]


@pytest.mark.parametrize(("annotation", "value", "arrived"), CONVERTED, ids=str)
def test_plain_data_becomes_what_is_annotated(annotation: Any, value: Any, arrived: Any) -> None:
    found = there(function_of(annotation), x=value)["x"]
    assert found == arrived
    assert type(found) is type(arrived)


MISFITS: list[tuple[Any, Any]] = [
    (int, "1"),
    (int, True),
    (int, None),
    (bool, 1),
    (str, b"a"),
    (set[int], {"a"}),
    (tuple[int, str], (1, 2)),
    (list[Point], [Point(1), 2]),
    (Point, {"y": 1}),
    (Picky, {"n": -1}),
    (Colour, "green"),
    (datetime.datetime, "yesterday"),
    (decimal.Decimal, "one"),
    (Path, 7),
    (Path | int, "a"),
    (NamespacePath, "not a path"),
    (np.float64, [1]),
    (Annotated[int, msgspec.Meta(gt=0)], 0),
    (None, 1),
]


@pytest.mark.parametrize(("annotation", "value"), MISFITS, ids=str)
def test_what_does_not_fit_names_the_argument(annotation: Any, value: Any) -> None:
    fn = function_of(annotation)
    with pytest.raises(tractor.MsgTypeError) as caught:
        there(fn, x=value)
    for part in ("invalid `Start`", "the argument 'x' of here:fn", "has type", "its annotation `"):
        assert part in caught.value.message
    with pytest.raises(tractor.MsgTypeError) as caught:
        and_back(fn, value)
    for part in ("invalid `Return`", "the result of here:fn", "its annotation `"):
        assert part in caught.value.message


LEFT_ALONE: list[Any] = [
    Any,
    object,
    T,
    Own,
    list[Own],
    dict[str, Own | None],
    Iterable[int],
    complex,
    type,
    "Nowhere",
    "list[Nowhere]",
    "no type at all",
    7,
    list[int] | set[int],
    Point | Picky,
    NoReturn,
    tractor.Context,
]


@pytest.mark.parametrize("annotation", LEFT_ALONE, ids=str)
@pytest.mark.parametrize("value", [[1, {"a": "b"}], "text", None], ids=str)
def test_what_is_not_known_stays_as_it_came(annotation: Any, value: Any) -> None:
    fn = function_of(annotation)
    assert conversions_of(fn) is NOTHING_KNOWN
    assert there(fn, x=value) == {"x": value}


def test_the_class_of_an_argument_that_no_hook_encodes_is_an_error_of_its_sender() -> None:
    with pytest.raises(TypeError, match="PosixPath"):
        there(function_of(Any), x=Path("a"))


def test_a_default_of_none_means_that_none_may_be_given() -> None:
    assert there(function_of(int, None), x=None) == {"x": None}
    assert there(function_of(Point, None), x=Point(1)) == {"x": Point(1)}
    with pytest.raises(tractor.MsgTypeError):
        there(function_of(int, 3), x=None)


def test_keywords_that_no_parameter_names() -> None:
    assert there(ep_typed.takes, one=1, two=2) == {"one": 1, "two": 2}
    with pytest.raises(tractor.MsgTypeError, match="'one'"):
        there(ep_typed.takes, one="1")
    assert there(ep_typed.named, tags={"a"}, other=[1]) == {"tags": {"a"}, "other": [1]}


def test_a_decorated_function_has_the_annotations_of_what_it_wraps() -> None:
    @functools.wraps(ep_typed.gives_points)
    def wrapper(**kwargs: Any) -> Any: ...

    assert there(wrapper, n=1) == {"n": 1}
    assert and_back(wrapper, [Point(1)]) == [Point(1)]


def test_functions_that_tell_nothing() -> None:
    def bare(x, y=1): ...  # type: ignore[no-untyped-def]

    for fn in (bare, print, max, lambda x: x):
        assert conversions_of(fn) is NOTHING_KNOWN


def test_arguments_that_are_none() -> None:
    for known in (NOTHING_KNOWN, conversions_of(ep_typed.takes)):
        for sent in ([1], {1: 2}, None):
            with pytest.raises(tractor.MsgTypeError, match="arguments for m:f can't be decoded"):
                decode_arguments(Raw(msgspec.msgpack.encode(sent)), known, "m:f", 3)


class Key(msgspec.Struct, frozen=True):
    n: int


def test_an_annotation_may_take_what_the_plain_data_cannot_be() -> None:
    """A key that arrives as a dict can't be held by a dict, unless its type is known."""
    sent = Raw(msgspec.msgpack.encode({"x": {Key(1): 3}}))
    with pytest.raises(tractor.MsgTypeError):
        decode_arguments(sent, NOTHING_KNOWN, "m:f", None)
    known = conversions_of(function_of(dict[Key, int]))
    assert decode_arguments(sent, known, "m:f", None) == {"x": {Key(1): 3}}


def test_the_hooks_of_a_context_take_its_own_types() -> None:
    def dec_hook(wanted: Any, obj: Any) -> Any:
        return complex(*obj)

    fn = function_of(list[complex])
    known = conversions_of(fn, dec_hook=dec_hook, ext_types=(complex,))
    sent = Raw(msgspec.msgpack.encode({"x": [[1, 2]]}))
    assert decode_arguments(sent, known, "m:f", None) == {"x": [1 + 2j]}


def test_values_of_a_hook_are_encoded_beside_those_of_the_tasks_codec() -> None:
    codec = tractor.msg.mk_codec(enc_hook=lambda obj: [obj.real, obj.imag], ext_types=[complex])

    def fn(where: list[Path], other: Any) -> None: ...

    with tractor.msg.apply_codec(codec):
        packed = conversions_of(fn).pack({"where": [Path("a")], "other": 1j}, current_codec())
        sent = current_codec().encode(packed)
    found = decode_arguments(Raw(sent), conversions_of(fn), "m:f", None)
    assert found == {"where": [Path("a")], "other": [0.0, 1.0]}
