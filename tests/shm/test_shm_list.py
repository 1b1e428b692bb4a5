"""Shared lists."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from multiprocessing.shared_memory import ShareableList
from typing import Any

import ep_shm
import pytest
from ep_run import run
from hypothesis import given, settings
from hypothesis import strategies as st

import tractor
from tractor.ipc import ShmList, attach_shm_list, get_shm_token, open_shm_list

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="no named shared memory"),
    pytest.mark.usefixtures("no_segment_is_left", "forked_actors"),
]

KEY = f"{ep_shm.PREFIX}-list"


@pytest.fixture
def make() -> Iterator[Callable[..., ShmList]]:
    made: list[ShmList] = []

    def opened(*args: Any, **kwargs: Any) -> ShmList:
        made.append(open_shm_list(KEY, *args, **kwargs))
        return made[-1]

    yield opened
    for found in made:
        found.destroy()


Make = Callable[..., ShmList]


@pytest.mark.parametrize(
    ("dtype", "first"),
    [(float, 0.0), (int, 0), (bool, False), (str, ""), (bytes, b""), (None, None)],
)
def test_a_list_of_zeros(make: Make, dtype: Any, first: Any) -> None:
    found = make(size=7, dtype=dtype)
    assert list(found) == [first] * 7
    assert type(found[0]) is type(first)
    assert isinstance(found, ShareableList)
    assert (found.key, found.shm.name, found.readonly, len(found)) == (KEY, KEY, True, 7)


def test_defaults(make: Make) -> None:
    found = make()
    assert len(found) == 1024
    assert set(found) == {0.0}
    named = open_shm_list(None, size=1, prefix="mine_")
    assert named.key.startswith("mine_")
    named.destroy()


VALUES = [1, -(2**63), 2.5, True, False, "text", "größer 🦊", b"bytes", None, "", b""]


def test_values_of_every_kind(make: Make) -> None:
    found = make(VALUES, readonly=False)
    assert list(found) == VALUES
    other = attach_shm_list(KEY)
    assert other[:] == VALUES
    assert not other.readonly
    other[0] = 99
    other[5] = "other"
    other[3] = None
    assert (found[0], found[5], found[3]) == (99, "other", None)
    assert found.count(None) == 2
    assert found.index("other") == 5
    other.close()


@settings(deadline=None, max_examples=40)
@given(
    begin=st.none() | st.integers(-12, 12),
    end=st.none() | st.integers(-12, 12),
    step=st.none() | st.integers(-4, 4).filter(bool),
)
def test_slices_are_those_of_a_list(begin: int | None, end: int | None, step: int | None) -> None:
    plain = list(range(10))
    found = open_shm_list(None, plain, readonly=False)
    try:
        where = slice(begin, end, step)
        assert found[where] == plain[where]
        new = [-v for v in plain[where]]
        plain[where] = new
        found[where] = new
        assert list(found) == plain
        with pytest.raises(ValueError, match="keeps its length"):
            found[where] = [0] * (len(new) + 1)
    finally:
        found.destroy()


def test_writes_that_are_refused(make: Make) -> None:
    found = make([1, "12345678"], readonly=False)
    for position in (2, -3, 100, -100):
        with pytest.raises(IndexError, match="out of range"):
            found[position]
        with pytest.raises(IndexError, match="out of range"):
            found[position] = 1
    with pytest.raises(TypeError, match="can't hold"):
        found[0] = [1]
    with pytest.raises(ValueError, match="exceeds available storage"):
        found[1] = "x" * 17
    reader = attach_shm_list(KEY, readonly=True)
    for where in (0, slice(0, 1)):
        with pytest.raises(ValueError, match="read-only here"):
            reader[where] = [5]
    assert list(found) == [1, "12345678"]
    reader.close()


@pytest.mark.parametrize(
    ("kwargs", "error", "text"),
    [
        ({"dtype": list}, ValueError, "not <class 'list'>"),
        ({"size": -1}, ValueError, "-1 elements"),
        ({"sequence": [1, [2]]}, TypeError, r"can't hold \[2\]"),
    ],
)
def test_lists_that_can_not_be(kwargs: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        open_shm_list(KEY, **kwargs)
    with pytest.raises(FileNotFoundError):
        attach_shm_list(KEY)


def test_it_travels_by_its_key(make: Make) -> None:
    found = make([1.5])
    assert get_shm_token(KEY) == KEY
    with pytest.raises(TypeError, match="travels by its `key`"):
        pickle.dumps(found)
    found.destroy()
    found.destroy()
    assert get_shm_token(KEY) is None
    assert found in {found}


def test_a_key_that_is_taken(make: Make) -> None:
    make([1])
    with pytest.raises(FileExistsError):
        open_shm_list(KEY)


# -- between actors --


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("frame", [1, 4])
def test_an_actor_reads_what_its_parent_writes(make: Make, as_text: bool, frame: int) -> None:
    async def main() -> None:
        size = 64
        found = make(size=size, dtype=str if as_text else float, readonly=False)
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("reader", enable_modules=["ep_shm"])
            opening = portal.open_context(ep_shm.follow_list, key=KEY, frame=frame)
            async with opening as (ctx, key), ctx.open_stream() as stream:
                assert key == KEY
                for i in range(0, size, frame):
                    values = [str(float(v)) if as_text else float(v) for v in range(i, i + frame)]
                    found[i : i + frame] = values
                    await stream.send(i + frame)
                    assert await stream.receive() == (values if frame > 1 else values[0])
            await an.cancel()

    run(main)


def test_attaching_again_and_again_removes_and_leaks_nothing(make: Make) -> None:
    async def main() -> None:
        found = make(size=5, dtype=int, readonly=False)
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("reader", enable_modules=["ep_shm"])
            assert await portal.run(ep_shm.attach_often, key=KEY, times=1500) == 1500
            assert found[0] == 1499
            await an.cancel()
        # The end of an actor that has attached is nothing to the list.
        assert attach_shm_list(KEY)[0] == 1499

    run(main)
