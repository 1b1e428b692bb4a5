"""Plain arrays of any shape in shared memory."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from typing import Any

import ep_shm
import msgspec
import pytest
from ep_run import run

import tractor
from tractor.ipc import ShmToken, attach_shm, destroy_shm, open_shm, shm_token
from tractor.shm import _plain
from tractor.shm._segment import Segment
from tractor.trionics import open_worker_pool

np = pytest.importorskip("numpy")
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="no named shared memory"),
    pytest.mark.usefixtures("no_segment_is_left", "forked_actors"),
]

KEY = f"{ep_shm.PREFIX}-plain"


@pytest.fixture(autouse=True)
def _removed(no_segment_is_left: None) -> Iterator[None]:
    # A fixture that gave an array would keep it for longer than the test.
    yield
    gc.collect()
    with contextlib.suppress(FileNotFoundError):
        Segment.attach(KEY).unlink()


def test_it_is_a_plain_array_that_others_see() -> None:
    shared = open_shm((3, 4), "i4", key=KEY)
    assert type(shared) is np.ndarray
    assert (shared.shape, shared.dtype, shared.sum()) == ((3, 4), np.dtype("i4"), 0)
    token = shm_token(shared)
    assert token == ShmToken(KEY, (3, 4), "<i4", token.host)
    assert hash(token)
    there = attach_shm(msgspec.msgpack.decode(msgspec.msgpack.encode(token)))
    shared[1] = 7
    assert there[1].tolist() == [7] * 4
    assert shm_token(there) == token
    with pytest.raises(ValueError, match="read-only"):
        there[0] = 1
    attach_shm(token, readonly=False)[0] = 2
    assert shared[0].tolist() == [2] * 4
    with pytest.raises(FileExistsError):
        open_shm(1, key=KEY)


def test_what_is_filled_is_there_at_once_and_stays_while_it_is_used() -> None:
    made = open_shm((2, 2), fill=[[1, 2], [3, 4]], key=KEY)
    there = attach_shm(shm_token(made))
    destroy_shm(made)
    destroy_shm(made)
    assert there.tolist() == [[1, 2], [3, 4]]
    with pytest.raises(FileNotFoundError):
        attach_shm(shm_token(made))
    view = there[1]
    del made, there
    gc.collect()
    assert view.tolist() == [3, 4]
    del view
    gc.collect()
    assert not _plain._open


@pytest.mark.parametrize(
    ("shape", "dtype", "fill", "error", "text"),
    [
        ((0, 3), float, None, ValueError, "nothing to share"),
        ((-1,), float, None, ValueError, "nothing to share"),
        (3, object, None, TypeError, "object"),
        (3, "S0", None, ValueError, "nothing to share"),
        ((2, 2), float, [1, 2, 3], ValueError, "broadcast"),
        ("ab", float, None, ValueError, "invalid literal"),
    ],
)
def test_what_can_not_be_made(
    shape: Any, dtype: Any, fill: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        open_shm(shape, dtype, fill=fill, key=KEY)


def test_what_can_not_be_attached_or_named() -> None:
    shared = open_shm((3, 4), "i4", key=KEY)
    token = shm_token(shared)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"shape": (300, 400)}, "the token says shape"),
        ({"shape": (0,)}, "the token says shape"),
        ({"dtype_descr": "|O"}, "not a type of array elements"),
    ]
    for wrong, text in cases:
        with pytest.raises(ValueError, match=text):
            attach_shm(msgspec.structs.replace(token, **wrong))
    with pytest.raises(RuntimeError, match="another-host"):
        attach_shm(msgspec.structs.replace(token, host="another-host"))
    for part in (shared[1:], shared.T, shared.reshape(12), shared.view("f4"), np.ones(3), "text"):
        with pytest.raises(ValueError, match="no whole array"):
            shm_token(part)


def test_a_pools_functions_are_given_it_as_it_is() -> None:
    async def main() -> None:
        async with tractor.open_nursery(), open_worker_pool(1) as pool:
            shared = open_shm((2, 3), key=KEY)
            shared[:] = 1
            assert await pool.run(ep_shm.add_one, shared) == 12
            assert shared.sum() == 12
            assert [v async for v in pool.map(ep_shm.add_one, [shared])] == [18]
            # A part of it goes as a copy.
            assert await pool.run(ep_shm.add_one, shared[1]) == 12
            assert shared.sum() == 18
        assert shared.sum() == 18
        with pytest.raises(FileNotFoundError):
            attach_shm(shm_token(shared))

    run(main, limit=60)
