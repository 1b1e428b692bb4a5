"""numpy's arrays as payloads: what arrives, and what a hostile peer can send."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Encoder

from tractor.msg import _arrays, mk_dec
from tractor.msg.hooks import ndarray_hooks

np: Any = pytest.importorskip("numpy")
hnp: Any = pytest.importorskip("hypothesis.extra.numpy")

COPYING, VIEWING = ndarray_hooks(), ndarray_hooks(readonly=True)
encode = Encoder(enc_hook=COPYING.enc_hook).encode
decode = mk_dec(np.ndarray, **COPYING.dec_kwargs()).decode
decode_view = mk_dec(np.ndarray, **VIEWING.dec_kwargs()).decode


def assert_same(arrived: Any, sent: Any) -> None:
    assert type(arrived) is np.ndarray
    assert arrived.dtype == sent.dtype
    assert arrived.shape == sent.shape
    assert_same_bytes(arrived, sent)


def assert_same_bytes(a: Any, b: Any) -> None:
    """Equal, padding aside, to the bits of each NaN."""
    if a.dtype.names:
        for name in a.dtype.names:
            assert_same_bytes(a[name], b[name])
    else:
        assert a.tobytes() == b.tobytes()


def has_title(dtype: Any) -> bool:
    if dtype.subdtype:
        return has_title(dtype.base)
    fields = (dtype.fields or {}).values()
    return any(len(field) > 2 or has_title(field[0]) for field in fields)


# -- what arrives --

leaves = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="?", sizes=(64, 128)),
    hnp.datetime64_dtypes(endianness="?"),
    hnp.timedelta64_dtypes(endianness="?"),
    hnp.byte_string_dtypes(min_len=1),
    hnp.unicode_string_dtypes(endianness="?", min_len=1),
)
structures = hnp.nested_dtypes(leaves, max_leaves=6)
# Any bytes are an array: no need to draw each element.
arrays = st.builds(
    lambda dtype, shape, seed: (
        np.frombuffer(
            np.random.default_rng(seed).bytes(dtype.itemsize * int(np.prod(shape, dtype=int))),
            "u1",
        )
        .view(dtype)
        .reshape(shape)
        if np.prod(shape)
        else np.empty(shape, dtype)
    ),
    leaves | structures.filter(lambda dtype: dtype.subdtype is None and not has_title(dtype)),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    st.integers(0, 99),
)


@settings(max_examples=300)
@given(arrays, st.sampled_from("CF"))
def test_round_trip(array: Any, order: str) -> None:
    array = array.copy(order=order)
    arrived = decode(encode(array))
    assert_same(arrived, array)
    assert arrived.flags.writeable
    assert arrived.flags.owndata
    assert arrived.flags.c_contiguous == array.flags.c_contiguous
    assert arrived.flags.f_contiguous == array.flags.f_contiguous
    assert_same(decode_view(encode(array)), array)


BASE = np.arange(24, dtype="<i4").reshape(2, 3, 4)


@pytest.mark.parametrize(
    "array",
    [
        BASE[:, ::2],
        BASE[::-1],
        BASE.transpose(2, 0, 1),
        BASE[1, 2, 3:],
        np.broadcast_to(BASE[0, 0], (5, 4)),
        np.array(5.0),
        np.empty((0, 3)),
        np.empty((3, 0), order="F"),
        BASE.astype(">i4"),
        np.ones(4, dtype=[("a", "i1"), ("b", "f8")])["b"],
    ],
    ids=range(10),
)
def test_any_layout_of_memory(array: Any) -> None:
    before = array.copy()
    assert_same(decode(encode(array)), array)
    assert (array == before).all()


@pytest.mark.parametrize(
    "dtype",
    [
        np.dtype([("a", "<i4"), ("b", ">f8")]),
        np.dtype([("a", "i1"), ("b", "f8")], align=True),
        np.dtype(
            {"names": ["b", "a"], "formats": ["u1", "<u4"], "offsets": [8, 2], "itemsize": 32}
        ),
        np.dtype({"names": ["lo", "all"], "formats": ["<u1", "<u4"], "offsets": [0, 0]}),
        np.dtype([("a", "<f4", (2, 3)), ("in", [("x", "<M8[ns]"), ("y", "S3", (2,))])]),
        np.dtype("V5"),
        np.dtype("<M8[25s]"),
        np.dtype("<m8"),
    ],
    ids=str,
)
def test_any_structure(dtype: Any) -> None:
    array = np.frombuffer(bytes(range(dtype.itemsize)) * 3, dtype)
    arrived = decode(encode(array))
    assert_same(arrived, array)
    if dtype.names:
        assert arrived.dtype.fields == dtype.fields


@pytest.mark.parametrize(
    "dtype",
    [
        np.dtype([("a", "i1"), ("b", "f8")], align=True),
        np.dtype([("in", np.dtype([("a", "i1"), ("b", "f8")], align=True), (2,))]),
        np.dtype({"names": ["a"], "formats": ["u1"], "offsets": [3], "itemsize": 8}),
    ],
    ids=str,
)
@pytest.mark.parametrize("step", [1, 2])
def test_memory_between_fields_is_not_sent(dtype: Any, step: int) -> None:
    secret = np.frombuffer(b"s" * (dtype.itemsize * 4), dtype).reshape(2, 2)[::step]
    for array in (secret, secret.T):
        wire = msgspec.msgpack.decode(encode(array))
        assert 0 < wire[4].count(b"s") < len(wire[4])
        assert set(wire[4]) == {0, ord("s")}
        assert_same(decode(encode(array)), array)


def test_a_view_shares_what_came_and_cannot_be_written() -> None:
    array = decode_view(encode(np.arange(5)))
    assert isinstance(array.base, bytes)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True


def test_a_file_mapped_array_arrives_as_an_array(tmp_path: Any) -> None:
    mapped = np.memmap(tmp_path / "m", "u1", mode="w+", shape=(4,))
    mapped[:] = [1, 2, 3, 4]
    assert_same(decode(encode(mapped)), np.array([1, 2, 3, 4], "u1"))
    del mapped


@pytest.mark.parametrize(
    ("scalar", "plain"),
    [
        (np.float64(1.5), 1.5),
        (np.float16(0.5), 0.5),
        (np.int8(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.bytes_(b"a"), b"a"),
    ],
)
def test_a_scalar_arrives_as_plain_data(scalar: Any, plain: Any) -> None:
    arrived = msgspec.msgpack.decode(encode([scalar]))
    assert arrived == [plain]
    assert type(arrived[0]) is type(plain)


# -- declared element types and dimensions --

Floats = np.ndarray[Any, np.dtype[np.float64]]


class Batch(msgspec.Struct):
    values: np.ndarray[tuple[int, int], np.dtype[np.floating]]
    anything: np.ndarray[Any, Any] | None = None


def test_declared_arrays_are_checked() -> None:
    hooks = ndarray_hooks(Floats)
    assert hooks.ext_types == (Floats,)
    decoder = mk_dec(None, **hooks.dec_kwargs())
    assert_same(decoder.decode(encode(np.eye(2))), np.eye(2))
    assert decoder.decode(encode(None)) is None
    with pytest.raises(
        msgspec.ValidationError, match=r"array of float64, not of dtype\('float32'\)"
    ):
        decoder.decode(encode(np.eye(2, dtype="f4")))


def test_declared_fields_are_checked() -> None:
    decoder = mk_dec(Batch, **COPYING.dec_kwargs())
    for values in (np.eye(2), np.eye(2, dtype="f4")):
        batch = decoder.decode(encode(Batch(values, np.arange(3))))
        assert_same(batch.values, values)
        assert_same(batch.anything, np.arange(3))
    with pytest.raises(msgspec.ValidationError, match="floating, not of"):
        decoder.decode(encode(Batch(np.eye(2, dtype=int))))
    with pytest.raises(msgspec.ValidationError, match=r"2 dimensions, not of 1"):
        decoder.decode(encode(Batch(np.ones(3))))


# -- what is not sent --


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.array([{}], dtype=[("a", "O")]),
        np.array([1], dtype=np.longdouble),
        np.array([1], dtype=np.clongdouble),
        np.empty(3, dtype=[]),
        np.empty(3, dtype=[("a", "i4", (0,))]),
        np.empty(3, dtype=[(("title", "a"), "i4")]),
        np.ma.masked_array([1, 2], [True, False]),
        np.rec.array([(1,)], dtype=[("a", "i4")]),
        np.array([1], dtype="M8[s]")[0],
        np.longdouble(1),
        np.complex128(1j),
        np.void(b"ab"),
        np.dtype("f8"),
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_refused_by_the_sender(value: Any) -> None:
    with pytest.raises(TypeError):
        encode(value)


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="numpy 1 has no such type")
def test_variable_size_text_is_refused_by_the_sender() -> None:
    with pytest.raises(TypeError, match="do not travel"):
        encode(np.array(["a"], dtype=np.dtypes.StringDType()))


def test_deep_structures_are_refused_by_both() -> None:
    dtype: Any = np.dtype("u1")
    wire: Any = "|u1"
    for _ in range(_arrays.MAX_DEPTH + 1):
        dtype, wire = np.dtype([("a", dtype)]), {"fields": [["a", wire, 0]], "size": 1}
    with pytest.raises(TypeError, match="deep"):
        encode(np.empty(1, dtype))
    with pytest.raises(msgspec.ValidationError, match="deep"):
        decode(encode([_arrays.TAG, wire, [1], "C", b"x"]))


# -- what a hostile peer sends --

EIGHT = b"12345678"
ONE = ["a", "|u1", 0]


@pytest.mark.parametrize(
    "wire",
    [
        [],
        "x",
        None,
        {"shape": [1]},
        ["<f8", [1], "C", EIGHT],
        ["other", "<f8", [1], "C", EIGHT],
        [_arrays.TAG, "<f8", [1], "C"],
        [_arrays.TAG, "<f8", [1], "C", EIGHT, 1],
        [_arrays.TAG, "<f8", [1], "A", EIGHT],
        [_arrays.TAG, "<f8", [1], "C", "12345678"],
        [_arrays.TAG, "<f8", [1], "C", [1]],
        # shapes
        [_arrays.TAG, "<f8", 1, "C", EIGHT],
        [_arrays.TAG, "<f8", [2], "C", EIGHT],
        [_arrays.TAG, "<f8", [-1], "C", EIGHT],
        [_arrays.TAG, "<f8", [-1, -1], "C", EIGHT],
        [_arrays.TAG, "<f8", [1.0], "C", EIGHT],
        [_arrays.TAG, "<f8", [True], "C", EIGHT],
        [_arrays.TAG, "<f8", ["1"], "C", EIGHT],
        [_arrays.TAG, "<f8", [2**62], "C", EIGHT],
        [_arrays.TAG, "<f8", [2**63, 2**63, 0], "C", b""],
        [_arrays.TAG, "<f8", [2**64 - 1] * 64, "C", EIGHT],
        [_arrays.TAG, "<f8", [1] * 65, "C", EIGHT],
        [_arrays.TAG, "<f8", [1] * 100_000, "C", EIGHT],
        # element types
        [_arrays.TAG, "|O", [1], "C", EIGHT],
        [_arrays.TAG, "|O8", [1], "C", EIGHT],
        [_arrays.TAG, "object", [1], "C", EIGHT],
        [_arrays.TAG, "f8", [1], "C", EIGHT],
        [_arrays.TAG, "i4,i4", [1], "C", EIGHT],
        [_arrays.TAG, "<f16", [1], "C", EIGHT * 2],
        [_arrays.TAG, "|T16", [1], "C", EIGHT * 2],
        [_arrays.TAG, "<i4\n", [2], "C", EIGHT],
        [_arrays.TAG, "|S0", [8], "C", b""],
        [_arrays.TAG, "|V0", [2**40], "C", b""],
        [_arrays.TAG, "<U999999999", [0], "C", b""],
        [_arrays.TAG, "<M8[0s]", [1], "C", EIGHT],
        [_arrays.TAG, "<M8[999999999Y]", [1], "C", EIGHT * 2],
        [_arrays.TAG, "<M8[s]//7", [1], "C", EIGHT],
        [_arrays.TAG, 8, [1], "C", EIGHT],
        [_arrays.TAG, None, [1], "C", EIGHT],
        [_arrays.TAG, ["<f8"], [1], "C", EIGHT],
        # structures
        [_arrays.TAG, {}, [1], "C", EIGHT],
        [_arrays.TAG, {"fields": [], "size": 8}, [1], "C", EIGHT],
        [_arrays.TAG, {"fields": [], "size": 0}, [2**40], "C", b""],
        [_arrays.TAG, {"fields": [ONE]}, [8], "C", EIGHT],
        [_arrays.TAG, {"fields": [ONE], "size": 0}, [8], "C", b""],
        [_arrays.TAG, {"fields": [ONE], "size": 2**40}, [0], "C", b""],
        [_arrays.TAG, {"fields": [ONE], "size": 2**63}, [0], "C", b""],
        [_arrays.TAG, {"fields": [ONE], "size": -1}, [0], "C", b""],
        [_arrays.TAG, {"fields": [ONE], "size": 1, "aligned": True}, [8], "C", EIGHT],
        [_arrays.TAG, {"fields": [ONE, ONE], "size": 8}, [1], "C", EIGHT],
        [_arrays.TAG, {"fields": [["a", "|u1", 8]], "size": 8}, [1], "C", EIGHT],
        [_arrays.TAG, {"fields": [["a", "|u1", -1]], "size": 8}, [1], "C", EIGHT],
        [_arrays.TAG, {"fields": [["a", "|u1", True]], "size": 8}, [1], "C", EIGHT],
        [_arrays.TAG, {"fields": [["a", "|u1", 2**63]], "size": 8}, [1], "C", EIGHT],
        [_arrays.TAG, {"fields": [["a", "|O8", 0]], "size": 8}, [1], "C", EIGHT],
        [_arrays.TAG, {"fields": [[1, "|u1", 0]], "size": 8}, [1], "C", EIGHT],
        [_arrays.TAG, {"fields": ["a"], "size": 8}, [1], "C", EIGHT],
        [_arrays.TAG, {"fields": {"a": "|u1"}, "size": 8}, [1], "C", EIGHT],
        # fields that are arrays
        [_arrays.TAG, {"base": "|u1", "shape": [8]}, [1], "C", EIGHT],
        *(
            [_arrays.TAG, {"fields": [["a", inner, 0]], "size": 8}, [1], "C", EIGHT]
            for inner in (
                {"base": "|u1", "shape": []},
                {"base": "|u1", "shape": [0]},
                {"base": "|u1", "shape": [9]},
                {"base": "|u1", "shape": [-8]},
                {"base": "|u1", "shape": 8},
                {"base": "|u1", "shape": [2**31, 2**31]},
                {"base": "|u1", "shape": [2**64 - 1]},
                {"base": "|u1", "shape": [1] * 100},
                {"base": "|O8", "shape": [1]},
            )
        ),
    ],
    ids=lambda wire: str(wire)[:60],
)
def test_what_is_refused_by_the_reader(wire: Any) -> None:
    data = msgspec.msgpack.encode(wire)
    for decoder in (decode, decode_view):
        with pytest.raises(msgspec.ValidationError):
            decoder(data)


def test_a_deep_list_in_place_of_a_type_is_refused() -> None:
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    for wire in (
        [_arrays.TAG, deep, [1], "C", EIGHT],
        [_arrays.TAG, "<f8", deep, "C", EIGHT],
        [_arrays.TAG, {"fields": deep, "size": 8}, [1], "C", EIGHT],
        [_arrays.TAG, {"fields": [["a", deep, 0]], "size": 8}, [1], "C", EIGHT],
    ):
        with pytest.raises(msgspec.ValidationError) as caught:
            decode(msgspec.msgpack.encode(wire))
        assert len(str(caught.value)) < 500


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
texts = st.from_regex(_arrays._ELEMENT, fullmatch=True) | st.text(max_size=5)
sizes = st.integers(0, 9) | st.integers(-(2**63), 2**64 - 1)
types = st.recursive(
    texts,
    lambda inner: (
        st.fixed_dictionaries(
            {
                "fields": st.lists(st.tuples(st.sampled_from("abc"), inner, sizes), max_size=3),
                "size": sizes,
            }
        )
        | st.fixed_dictionaries({"base": inner, "shape": st.lists(sizes, max_size=3)})
    ),
    max_leaves=5,
)
hostile = st.tuples(
    st.just(_arrays.TAG),
    types | plain,
    st.lists(sizes, max_size=5) | plain,
    st.sampled_from(["C", "F"]),
    st.binary(max_size=64),
)


@settings(max_examples=400)
@given(hostile | plain)
def test_whatever_comes_is_a_harmless_array_or_refused(wire: Any) -> None:
    data = msgspec.msgpack.encode(wire)
    try:
        array = decode(data)
    except msgspec.ValidationError:
        return
    assert not array.dtype.hasobject
    assert array.nbytes == len(wire[4])
    assert_same(decode(encode(array)), array)


def test_no_elements_of_a_huge_type_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(dtype: Any) -> list[int]:
        raise AssertionError(f"looked for gaps in {dtype.itemsize} bytes")

    monkeypatch.setattr(_arrays, "_gaps", measured)
    wide = {"fields": [["a", {"base": "|V9999999", "shape": [9]}, 0]], "size": 99_999_999}
    array = decode(msgspec.msgpack.encode([_arrays.TAG, wide, [0], "C", b""]))
    assert_same(decode(encode(array)), array)


# -- numpy is optional --

WITHOUT_NUMPY = """
import sys
sys.modules["numpy"] = None
from tractor.msg import hooks
hooks.path_hooks(), hooks.nspath_hooks()
try:
    hooks.ndarray_hooks()
except ImportError as exc:
    print(exc)
"""


def test_without_numpy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NUMPY],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stdout == "arrays need numpy, which is not installed: pip install numpy\n"


def test_importing_the_hooks_does_not_import_numpy() -> None:
    code = "import sys, tractor.msg.hooks; print('numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout == "False\n"
