"""Values of pools that no annotation tells of: objects, paths, arrays, frames; memory that is lent."""

from __future__ import annotations

import dataclasses
import gc
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ep_pool_values as ep
import pytest
from ep_peer import run
from ep_pool_values import Cloud, Point
from msgspec.msgpack import Ext, decode

import tractor
from tractor.msg._codec import ANY_DEC
from tractor.pool._values import Packer, Unpacker
from tractor.transport.lent._memory import Lent, borrow, can_lend
from tractor.trionics import WorkerDied, WorkerPool, open_worker_pool

FORKED = "main_thread_forkserver" if sys.platform != "win32" else "trio"

BIG = 200_000
"""Elements of 8 bytes: more than is sent."""

lends = pytest.mark.skipif(not can_lend(), reason="memory without a name is lent on Linux alone")
needs_numpy = pytest.mark.skipif(
    importlib.util.find_spec("numpy") is None, reason="numpy is not installed"
)


def with_pool(test: Any, workers: int = 1, **kwargs: Any) -> None:
    async def main() -> None:
        async with open_worker_pool(workers, start_method=FORKED, **kwargs) as pool:
            await test(pool)

    run(main, limit=60)


def lent_here() -> list[str]:
    return ep.descriptors() if sys.platform == "linux" else []


def there_and_back(value: Any, share_above: int | None = None) -> Any:
    packer = Packer(share_above)
    return Unpacker(os.getpid(), imports=False).decode(
        ANY_DEC.dec.decode, packer.pack(value, "Start")
    )


@dataclasses.dataclass
class Here:
    inner: Any


# -- the wire --


@pytest.mark.parametrize(
    "value",
    [
        Path("/a/b"),
        [Path("a"), {"p": Path("b")}],
        Point(1, Path("c")),
        {"all": [Point(1), Cloud([Point(2)], {"a": 1})]},
        Cloud([], [1, 2]),
        Here([1, "a"]),
    ],
)
def test_values_that_nothing_is_known_of_come_back(value: Any) -> None:
    assert there_and_back(value) == value


def test_what_is_local_to_a_function_arrives_as_a_dict() -> None:
    @dataclasses.dataclass
    class Local:
        x: int

    assert there_and_back(Local(1)) == {"x": 1}


def test_deep_and_strange_values() -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep, Path("a")]
    assert there_and_back(deep) == deep
    with pytest.raises(tractor.MsgTypeError, match="cannot be encoded"):
        Packer(None).pack([object()], "Start")
    circle: list[Any] = [Path("a")]
    circle.append(circle)
    with pytest.raises(tractor.MsgTypeError):
        Packer(None).pack(circle, "Start")


def hostile(code: int, payload: Any) -> bytes:
    import msgspec

    return msgspec.msgpack.encode(Ext(code, msgspec.msgpack.encode(payload)))


@pytest.mark.parametrize(
    ("code", "payload", "text"),
    [
        (0x53, ["subprocess:Popen", {}], "neither a dataclass nor a struct"),
        (0x53, ["no_such_module:Cls", {}], "not loaded here"),
        (0x53, ["ep_pool_values:kept", {}], "neither a dataclass nor a struct"),
        (0x53, ["ep_pool_values:Point", {"x": "text"}], "Expected `int`"),
        (0x53, [1, 2, "three, and so on"], "Expected"),
        (0x50, ["tractor.path", "str", "a"], "'str' is no class of paths"),
    ],
)
def test_extensions_that_a_worker_makes_up_are_refused(code: int, payload: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Unpacker(os.getpid(), imports=False).decode(ANY_DEC.dec.decode, hostile(code, payload))


def test_outside_of_pools_extensions_stay_what_they_are() -> None:
    made = ANY_DEC.dec.decode(hostile(0x53, ["ep_pool_values:Point", {"x": 1}]))
    assert isinstance(made, Ext)
    assert made.code == 0x53
    assert decode(made.data) == ["ep_pool_values:Point", {"x": 1}]


# -- memory that is lent --


@lends
def test_lent_memory_is_the_same_memory_and_leaves_nothing() -> None:
    lent = Lent(b"abc" * 1000)
    view = borrow(os.getpid(), lent.place)
    other = borrow(os.getpid(), lent.place)
    view[0:1] = b"X"
    assert bytes(other[:3]) == b"Xbc"
    lent.close()
    lent.close()
    assert bytes(view[:3]) == b"Xbc"
    assert lent_here() == []
    with pytest.raises(OSError, match="No such file"):
        borrow(os.getpid(), lent.place)


@lends
def test_what_is_not_lent_can_not_be_borrowed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    with (
        (tmp_path / "file").open("r+b") as file,
        pytest.raises(ValueError, match="3 bytes that it"),
    ):
        borrow(os.getpid(), (file.fileno(), 3))
    fd = os.memfd_create("other", os.MFD_CLOEXEC)
    try:
        os.write(fd, b"abc")
        with pytest.raises(ValueError, match="3 bytes that it lends"):
            borrow(os.getpid(), (fd, 3))
    finally:
        os.close(fd)
    lent = Lent(b"abc")
    with pytest.raises(ValueError, match="4 bytes that it lends"):
        borrow(os.getpid(), (lent.place[0], 4))
    lent.close()


# -- over processes --


def test_objects_and_paths_without_annotations() -> None:
    async def main(pool: WorkerPool) -> None:
        values: list[Any] = [Point(1, Path("a")), Path("b"), {"c": Cloud([Point(2)])}, [Point(3)]]
        assert [v async for v in pool.map(ep.same, values)] == values
        assert [v async for v in pool.map(ep.asame, values)] == values
        assert [v async for v in pool.starmap(ep.same, [(v,) for v in values])] == values
        assert await pool.run(ep.kinds, values[3]) == ["list", "Point"]
        cloud = Cloud([Point(1, Path("a"))], {"p": Path("b")})
        assert await pool.run(ep.typed_same, cloud) == cloud
        assert await pool.run(ep.same, value=values) == values

    with_pool(main)


@needs_numpy
def test_arrays_without_annotations() -> None:
    import numpy as np

    async def main(pool: WorkerPool) -> None:
        small = np.arange(6.0).reshape(2, 3)
        found = await pool.run(ep.same, small)
        assert (found.dtype, found.shape, found.tolist()) == (small.dtype, (2, 3), small.tolist())
        found[0] = 1
        assert await pool.run(ep.same, np.float64(2.5)) == 2.5
        assert await pool.run(ep.kinds, {"a": small, "b": np.int8(3)}) == ["dict", "ndarray", "int"]
        assert (await pool.run(ep.typed_double, small)).tolist() == (small * 2).tolist()
        with pytest.raises(tractor.MsgTypeError, match="expected an array of float64"):
            await pool.run(ep.typed_double, small.astype("f4"))
        with pytest.raises(tractor.MsgTypeError, match=r"arrays of 'object' do not travel"):
            await pool.run(ep.same, np.array([object()]))
        record = np.zeros(2, dtype=[("a", "i4"), ("b", "f8")])
        assert (await pool.run(ep.same, record)).dtype == record.dtype

    with_pool(main, share_above=None)


@lends
@needs_numpy
def test_large_arrays_are_lent_and_nothing_stays() -> None:
    import numpy as np

    async def main(pool: WorkerPool) -> None:
        big = np.ones(BIG)
        assert await pool.run(ep.is_mapped, big)
        assert not await pool.run(ep.is_mapped, big[:10])
        doubled = await pool.run(ep.double, big)
        assert ep.is_mapped(doubled)
        assert doubled.sum() == 2 * BIG
        # The worker's was its own.
        assert big.sum() == BIG
        doubled += 1
        order = np.asfortranarray(np.arange(BIG * 2.0).reshape(2, BIG))
        found: Any = None
        for array in (order, order[:, ::2], order.T, np.zeros((BIG, 0)), np.array(3.0)):
            found = await pool.run(ep.same, array)
            assert found.shape == array.shape
            assert (found == array).all()
        assert (await pool.run(ep.typed_double, big)).sum() == 2 * BIG
        cloud = await pool.run(ep.same, Cloud([], big))
        assert cloud.heights.sum() == BIG
        # One that a worker keeps stays what it is.
        assert await pool.run(ep.keep, big) == [BIG]
        assert await pool.run(ep.keep, 2 * big) == [BIG, 2 * BIG]

        arrays = (np.full(BIG, n) for n in range(8))
        sums = [a.sum() async for a in pool.map(ep.double, arrays)]
        assert sums == [2 * n * BIG for n in range(8)]
        with pytest.raises(tractor.MsgTypeError, match="cannot be encoded"):
            await pool.run(ep.unsendable, big)
        with pytest.raises(tractor.MsgTypeError, match="cannot be encoded"):
            await pool.run(ep.same, [big, object()])
        with pytest.raises(WorkerDied):
            await pool.run(ep.die_with, big)
        values = pool.map(ep.double, [big] * 4)
        assert (await anext(values)).sum() == 2 * BIG
        await values.aclose()
        del doubled, found, cloud
        # Told by the next message at the latest.
        await pool.run(ep.same, 1)
        assert await pool.run(ep.descriptors) == []

    with_pool(main)
    gc.collect()
    assert lent_here() == []


def test_numpy_is_not_loaded_for_others() -> None:
    code = (
        "import sys, pathlib; from tractor.pool._values import Packer;"
        "Packer(1).pack([pathlib.Path('a'), {1: b'x' * 100}], 'Start'); print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


FRAMES = """
import sys, trio
sys.path.insert(0, sys.argv[1])
import ep_pool_values as ep
from tractor.trionics import open_worker_pool

async def main():
    async with open_worker_pool(1, share_above=100) as pool:
        import pandas, polars
        columns = {"a": [1, 2, 3], "b": ["x", "y", None]}
        frame = await pool.run(ep.describe_frame, pandas.DataFrame(columns, index=[7, 8, 9]))
        assert type(frame) is pandas.DataFrame, frame
        assert list(frame["total"]) == [2, 3, 4] and list(frame.index) == [7, 8, 9], frame
        [found] = [f async for f in pool.map(ep.describe_frame, [polars.DataFrame(columns)])]
        assert type(found) is polars.DataFrame and found["total"].to_list() == [2, 3, 4], found
        print("frames came back")

if __name__ == "__main__":
    trio.run(main)
"""


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("pandas", "polars", "pyarrow")),
    reason="pandas, polars and pyarrow are not installed",
)
def test_frames_travel_through_arrow(tmp_path: Path) -> None:
    (tmp_path / "prog.py").write_text(FRAMES)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "prog.py"), str(Path(ep.__file__).parent)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "frames came back\n"
