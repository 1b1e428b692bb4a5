"""Shared arrays."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import ep_shm
import msgspec
import pytest
import trio
from ep_run import run
from hypothesis import given, settings
from hypothesis import strategies as st

import tractor
from tractor.ipc import (
    NDToken,
    ShmArray,
    attach_shm_ndarray,
    get_shm_token,
    maybe_open_shm_ndarray,
    open_shm_ndarray,
)
from tractor.shm._segment import Segment

np = pytest.importorskip("numpy")
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="no named shared memory"),
    pytest.mark.usefixtures("no_segment_is_left", "forked_actors"),
]

KEY = f"{ep_shm.PREFIX}-array"
DTYPE = [("index", "<i8"), ("a", "<i4"), ("b", "<f8"), ("tag", "S3")]

Make = Callable[..., ShmArray]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[ShmArray] = []

    def opened(size: int = 20, **kwargs: Any) -> ShmArray:
        made.append(open_shm_ndarray(size, KEY, **kwargs))
        return made[-1]

    yield opened
    for found in made:
        found.destroy()


def values(*numbers: float) -> Any:
    rows = np.zeros(len(numbers), dtype=[("value", "<f8")])
    rows["value"] = numbers
    return rows


# -- making --


def test_a_new_array_is_empty_and_knows_its_places(make: Make) -> None:
    found = make(100)
    assert len(found.array) == 0
    assert found.index == 62
    assert (found.key, found.size, found.readonly) == (KEY, 100, False)
    assert len(found.last(5)) == 0
    assert found.ustruct().shape == (0, 2)
    assert found.push(values(1.5, 2.5)) == 64
    assert found.array["index"].tolist() == [62, 63]
    assert found.array["value"].tolist() == [1.5, 2.5]
    assert repr(found) == f"<ShmArray '{KEY}': rows 62 to 64 of 100>"


@pytest.mark.parametrize(
    ("kwargs", "error", "text"),
    [
        ({"size": 0}, ValueError, "at least 1 row, not 0"),
        ({"append_start_index": 21}, ValueError, "append_start_index=21 is not in an array of 20"),
        ({"append_start_index": -1}, ValueError, "append_start_index=-1"),
        ({"dtype": "f8"}, TypeError, "have a field 'index'"),
        ({"dtype": [("x", "f8")]}, TypeError, "have a field 'index'"),
        ({"dtype": [("index", "f8")]}, TypeError, "have a field 'index'"),
        ({"dtype": [("index", "i8"), ("x", "O")]}, TypeError, "do not travel"),
        ({"key": "a/b"}, ValueError, "can't name a segment"),
    ],
)
def test_arrays_that_can_not_be(kwargs: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        open_shm_ndarray(**{"size": 20, "key": KEY, **kwargs})


def test_a_key_that_is_taken_is_left_alone(make: Make) -> None:
    found = make(append_start_index=0)
    found.push(values(7))
    with pytest.raises(FileExistsError):
        open_shm_ndarray(20, KEY)
    # The third of its segments is what is taken here: the first two are removed again.
    other = Segment.create(f"{KEY}-other", 10)
    with pytest.raises(FileExistsError):
        open_shm_ndarray(20, f"{KEY}-other")
    other.close()
    other.unlink()
    assert found.array["value"].tolist() == [7]


def test_without_numpy_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ImportError, match=r"pip install 'trio-tractor\[shm\]'"):
        open_shm_ndarray(5)


# -- writing --


def test_rows_at_both_ends(make: Make) -> None:
    found = make(20, append_start_index=10)
    assert found.push(values(1, 2)) == 12
    assert found.prepend(values(-1, 0)) == 10
    assert found.push(values(3)) == 13
    assert found.array["value"].tolist() == [-1, 0, 1, 2, 3]
    assert found.array["index"].tolist() == [8, 9, 10, 11, 12]
    assert found.last()["value"].tolist() == [3]
    assert found.last(2)["value"].tolist() == [2, 3]
    assert found.last(99)["value"].tolist() == [-1, 0, 1, 2, 3]
    assert len(found.last(0)) == 0
    with pytest.raises(ValueError, match="-1 rows"):
        found.last(-1)


def test_rows_that_are_written_before_they_are_published(make: Make) -> None:
    found = make(20, append_start_index=10)
    assert found.push(values(5), prepend=True, update_first=False) == 10
    assert found.push(values(3, 4), prepend=True, update_first=False, start=9) == 9
    assert len(found.array) == 0
    found.push(values(2), prepend=True, update_first=True, start=10)
    assert found.array["value"].tolist() == [2]
    found.push(values(3, 4, 5), prepend=True)
    assert found.array["value"].tolist() == [3, 4, 5, 2]


def test_rows_that_are_replaced(make: Make) -> None:
    found = make(20, append_start_index=5)
    found.push(values(1, 2, 3, 4))
    assert found.push(values(20, 30), start=6) == 8
    assert found.array["value"].tolist() == [1, 20, 30, 4]
    assert found.push(values(40, 50), start=8) == 10
    assert found.array["value"].tolist() == [1, 20, 30, 40, 50]
    assert found.index == 10


@pytest.mark.parametrize(
    ("kwargs", "count", "text"),
    [
        ({}, 6, "6 rows at 15 overrun .* 10 are free before its first row and 5 behind"),
        ({"prepend": True}, 11, "11 rows at -1 overrun"),
        ({"start": 19}, 2, "overrun"),
        ({"start": -1}, 1, "overrun"),
        ({"prepend": True, "start": 25}, 2, "overrun"),
        ({"start": 16}, 1, "would leave a gap"),
        ({"prepend": True, "start": 9}, 1, "would leave a gap"),
    ],
)
def test_rows_that_do_not_fit(make: Make, kwargs: dict[str, Any], count: int, text: str) -> None:
    found = make(20, append_start_index=10)
    found.push(values(1, 2, 3, 4, 5))
    with pytest.raises(ValueError, match=text):
        found.push(values(*range(count)), **kwargs)
    assert found.array["value"].tolist() == [1, 2, 3, 4, 5]


def test_structures_of_several_types(make: Make) -> None:
    found = make(20, dtype=DTYPE, append_start_index=0)
    rows = np.array([(7, 1, 1.5, b"x"), (8, 2, 2.5, b"yes")], dtype=DTYPE)
    found.push(rows)
    assert found.array.tolist() == rows.tolist()
    found.push(rows[0])
    found.push(rows[::-1])
    found.push(rows[["b", "tag", "a"]])
    assert found.array[2:].tolist() == [
        (7, 1, 1.5, b"x"),
        (8, 2, 2.5, b"yes"),
        (7, 1, 1.5, b"x"),
        (5, 1, 1.5, b"x"),
        (6, 2, 2.5, b"yes"),
    ]
    plain = found.ustruct(["b", "a"], "f4")
    assert plain.dtype == np.dtype("f4")
    assert plain[:2].tolist() == [[1.5, 1], [2.5, 2]]
    with pytest.raises(TypeError, match=r"has no fields \['c'\]"):
        found.ustruct(["c"])


def test_fields_by_a_map(make: Make) -> None:
    found = make(20, dtype=DTYPE, append_start_index=0)
    rows = np.array([(1, 2.5), (3, 4.5)], dtype=[("x", "i4"), ("y", "f8")])
    found.push(rows, field_map={"x": "a", "y": "b"})
    assert found.array[["a", "b"]].tolist() == [(1, 2.5), (3, 4.5)]
    assert found.array["index"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("dtype", "field_map", "text"),
    [
        ("f8", None, "one-dimensional structured array"),
        ([("value", "f8"), ("other", "f8")], None, r"has no fields \['other'\]"),
        ([("index", "i8")], None, r"have no fields \['value'\]"),
        ([("x", "f8")], {"x": "y"}, r"has no fields \['y'\]"),
        ([("x", "f8")], {"y": "value"}, r"have no fields \['y'\]"),
    ],
)
def test_wrong_fields(make: Make, dtype: Any, field_map: Any, text: str) -> None:
    found = make()
    with pytest.raises(TypeError, match=text):
        found.push(np.zeros(2, dtype=dtype), field_map=field_map)
    with pytest.raises(TypeError, match="one-dimensional"):
        found.push(np.zeros((2, 2), dtype=[("value", "f8")]))
    assert len(found.array) == 0


@settings(deadline=None, max_examples=40)
@given(
    size=st.integers(1, 30),
    start=st.floats(0, 1),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=20),
)
def test_it_holds_what_a_list_would(size: int, start: float, steps: list[tuple[bool, int]]) -> None:
    first = last = int(size * start)
    plain: list[float] = []
    number = 0.0
    found = open_shm_ndarray(size, append_start_index=first)
    reader = attach_shm_ndarray(found.token)
    try:
        for prepend, count in steps:
            rows = [number + i for i in range(count)]
            number += count
            fits = first - count >= 0 if prepend else last + count <= size
            if not fits:
                with pytest.raises(ValueError, match="overrun"):
                    found.push(values(*rows), prepend=prepend)
                continue
            found.push(values(*rows), prepend=prepend)
            plain = rows + plain if prepend else plain + rows
            first, last = (first - count, last) if prepend else (first, last + count)
            assert reader.array["value"].tolist() == plain
            assert reader.array["index"].tolist() == list(range(first, last))
    finally:
        reader.close()
        found.destroy()


# -- attaching --


def test_a_reader_sees_what_comes_and_can_not_write(make: Make) -> None:
    found = make()
    reader = attach_shm_ndarray(found.token)
    found.push(values(1))
    assert reader.array["value"].tolist() == [1]
    assert not reader.array.flags.writeable
    with pytest.raises(ValueError, match="read-only here"):
        reader.push(values(1))
    with pytest.raises(ValueError, match="WRITEABLE"):
        reader.array.flags.writeable = True
    second = attach_shm_ndarray(found.token.as_msg(), readonly=False)
    second.push(values(2))
    assert found.array["value"].tolist() == [1, 2]
    reader.close()
    second.close()
    for use in (lambda: reader.array, lambda: reader.index, lambda: second.push(values(1))):
        with pytest.raises(ValueError, match="closed on this side"):
            use()
    assert "closed" in repr(reader)


def test_rows_that_are_looked_at_outlive_the_close() -> None:
    found = open_shm_ndarray(5, append_start_index=0)
    found.push(values(1, 2))
    rows = found.array
    found.destroy()
    assert rows["value"].tolist() == [1, 2]


def test_a_token_travels(make: Make) -> None:
    token = make(dtype=DTYPE).token
    assert token.dtype == np.dtype(DTYPE)
    plain = msgspec.msgpack.decode(msgspec.msgpack.encode(token.as_msg()))
    assert NDToken.from_msg(plain) == NDToken.from_msg(token) == token
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(token), type=NDToken) == token
    assert len({token, NDToken.from_msg(plain)}) == 1
    assert get_shm_token(KEY) == token
    assert get_shm_token("nothing") is None
    with pytest.raises(msgspec.ValidationError):
        attach_shm_ndarray({"shm_name": KEY})


def test_tokens_that_lie(make: Make) -> None:
    token = make(20).token
    with pytest.raises(ValueError, match=r"has 320 bytes, the token says 21 rows of 16"):
        attach_shm_ndarray(msgspec.structs.replace(token, size=21))
    for size in (0, -5):
        with pytest.raises(ValueError, match=f"the token says {size} rows"):
            attach_shm_ndarray(msgspec.structs.replace(token, size=size))
    objects = {"fields": [["index", "<i8", 0], ["x", "|O", 8]], "size": 16}
    with pytest.raises(ValueError, match="not a type of array elements"):
        attach_shm_ndarray(msgspec.structs.replace(token, dtype_descr=objects))
    with pytest.raises(ValueError, match="can't name a segment"):
        attach_shm_ndarray(msgspec.structs.replace(token, shm_name="../passwd"))


def test_attaching_waits_a_little_for_the_maker(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = make().token
    gone = msgspec.structs.replace(token, shm_name="nothing")
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    with pytest.raises(FileNotFoundError):
        attach_shm_ndarray(gone)
    assert pauses == [0.1, 0.1]


def test_opened_or_attached(make: Make) -> None:
    first, opened = maybe_open_shm_ndarray(KEY, 20)
    assert opened
    first.push(values(1))
    assert first.array["index"].tolist() == [0]
    second, opened = maybe_open_shm_ndarray(KEY, 20)
    assert not opened
    assert second.readonly
    assert second.array["value"].tolist() == [1]
    third, opened = maybe_open_shm_ndarray(KEY, 10, readonly=False)
    assert (third.readonly, opened) == (False, False)
    with pytest.raises(ValueError, match="has rows of"):
        maybe_open_shm_ndarray(KEY, 20, DTYPE)
    for found in (second, third):
        found.close()
    first.destroy()
    first.destroy()


def test_half_of_an_array_is_an_error_not_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    left = Segment.create(f"{KEY}_first", 8)
    with pytest.raises(FileExistsError):
        maybe_open_shm_ndarray(KEY, 20)
    left.close()
    left.unlink()


# -- between actors --


def test_an_array_reaches_another_actor_by_its_token() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("reader", enable_modules=["ep_shm"])
            found = open_shm_ndarray(1000, append_start_index=0)
            found.push(values(*range(1000)))
            for token in (found.token, found.token.as_msg()):
                answer = await portal.run(ep_shm.sum_array, token=token)
                assert list(answer) == [499500.0, 1000, False]
            theirs = attach_shm_ndarray(
                await portal.run(ep_shm.make_array, key=f"{KEY}-theirs", size=10)
            )
            assert len(theirs.array) == 0
            theirs.close()
            await an.cancel()

    run(main)


def test_a_reader_sees_whole_rows_only_while_they_come() -> None:
    """Each row is written in two fields that must agree; the reader looks as fast as it can."""
    size = 30_000

    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("reader", enable_modules=["ep_shm"])
            found = open_shm_ndarray(
                size, dtype=[("index", "<i8"), ("a", "<i8"), ("b", "<i8")], append_start_index=0
            )
            opening = portal.open_context(ep_shm.watch_rows, token=found.token, until=size)
            async with opening as (ctx, _):
                done = 0
                while done < size:
                    rows = np.zeros(min(10, size - done), dtype=[("a", "<i8"), ("b", "<i8")])
                    rows["a"] = rows["b"] = np.arange(done + 1, done + 1 + len(rows))
                    found.push(rows)
                    done += len(rows)
                    if done % 1000 == 0:
                        await trio.lowlevel.checkpoint()
                assert await ctx.wait_for_result() > 0
            await an.cancel()

    run(main)
