"""The ready hooks for paths and references, and combining hooks."""

from __future__ import annotations

import pathlib
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any

import msgspec
import pytest
from ep_travel import HOOKED, HOOKS, same
from hypothesis import given
from hypothesis import strategies as st
from msgspec.msgpack import Encoder

from tractor import msg
from tractor.msg import NamespacePath, hooks, mk_codec, mk_dec
from tractor.msg.hooks import Hooks, combine, nspath_hooks, path_hooks

LOCAL = type(Path())


class Angle:
    def __init__(self, degrees: int) -> None:
        self.degrees = degrees

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Angle) and other.degrees == self.degrees

    __hash__ = None  # type: ignore[assignment]


def dec_angle(wanted: Any, obj: Any) -> Angle:
    assert wanted is Angle
    if type(obj) is not int:
        raise ValueError("no angle")
    return Angle(obj)


ANGLES = Hooks(enc_hook=lambda angle: angle.degrees, dec_hook=dec_angle, ext_types=(Angle,))
BOTH = combine(path_hooks(), nspath_hooks(), ANGLES)


def there_and_back(value: Any, used: Hooks, spec: Any) -> Any:
    encoded = Encoder(enc_hook=used.enc_hook).encode(value)
    return mk_dec(spec, **used.dec_kwargs()).decode(encoded)


def test_hooks_is_a_public_name() -> None:
    assert msg.hooks is hooks
    assert "hooks" in dir(msg)


@pytest.mark.parametrize("name", HOOKED)
def test_each_sample(name: str) -> None:
    sample = HOOKED[name]
    assert same(there_and_back(sample.value, HOOKS[name], sample.type), sample.value)


# -- paths --

posix_text = st.text(st.characters(codec=None, exclude_characters="\0"))
# Before Python 3.12 a colon in a relative Windows path is read anew as a drive.
windows_text = st.text(st.characters(exclude_characters="\0:"))
paths = st.builds(PurePosixPath, posix_text) | st.builds(PureWindowsPath, windows_text)


@given(paths)
def test_a_pure_path_arrives_as_it_is(path: PurePath) -> None:
    arrived = there_and_back(path, path_hooks(), PurePath)
    assert arrived == path
    assert type(arrived) is type(path)


@given(posix_text)
def test_a_path_of_this_system_arrives_as_it_is(text: str) -> None:
    path = Path(text)
    assert same(there_and_back(path, path_hooks(Path), Path | None), path)


def test_a_subclass_arrives_as_the_path_that_it_is() -> None:
    class Mine(LOCAL):  # type: ignore[misc, valid-type]
        pass

    assert type(there_and_back(Mine("a"), path_hooks(), PurePath)) is LOCAL


@pytest.mark.parametrize(
    ("kind", "cls"), [("PosixPath", PurePosixPath), ("WindowsPath", PureWindowsPath)]
)
def test_a_concrete_path_of_another_system_arrives_pure(kind: str, cls: type[PurePath]) -> None:
    used = path_hooks()
    arrived = used.dec_hook(PurePath, [hooks.PATH_TAG, kind, "a/b"])
    assert type(arrived) is (LOCAL if kind == LOCAL.__name__ else cls)
    if kind != LOCAL.__name__:
        with pytest.raises(ValueError, match=f"expected a Path, and a {kind} came"):
            used.dec_hook(Path, [hooks.PATH_TAG, kind, "a/b"])


@pytest.mark.parametrize(
    ("declared", "path"),
    [
        (Path, PurePosixPath("a")),
        (PurePosixPath, PureWindowsPath("a")),
        (PosixPath if LOCAL is WindowsPath else WindowsPath, Path("a")),
    ],
)
def test_a_path_of_another_class_is_refused(declared: type[PurePath], path: PurePath) -> None:
    with pytest.raises(msgspec.ValidationError, match=f"expected a {declared.__name__}"):
        there_and_back(path, path_hooks(declared), declared)


@pytest.mark.parametrize("value", ["/tmp", ["a", "b"], {"a": "b"}, None, 5])
@pytest.mark.parametrize("spec", [Any, str | list[str] | dict[str, str] | None | int])
def test_plain_data_beside_paths_stays_plain(value: Any, spec: Any) -> None:
    assert same(there_and_back(value, path_hooks(), spec), value)


@pytest.mark.parametrize(
    "wire",
    [
        "/tmp",
        [],
        ["tractor.path"],
        ["tractor.path", "PosixPath"],
        ["tractor.path", "PosixPath", 5],
        ["tractor.path", "PosixPath", None],
        ["tractor.path", "PosixPath", "a", "b"],
        ["tractor.path", "Path", "a"],
        ["tractor.path", "__import__", "os"],
        ["tractor.path", [], "a"],
        ["tractor.path", "PurePosixPath", b"\xff"],
        ["other", "PosixPath", "a"],
        {"tractor.path": 1},
    ],
)
def test_what_is_no_path(wire: Any) -> None:
    decoder = mk_dec(PurePath, **path_hooks().dec_kwargs())
    with pytest.raises(msgspec.ValidationError):
        decoder.decode(msgspec.msgpack.encode(wire))


def test_a_reader_without_hooks_gets_the_tagged_list() -> None:
    encoded = Encoder(enc_hook=path_hooks().enc_hook).encode(PurePosixPath("a/b"))
    assert mk_dec(Any).decode(encoded) == ["tractor.path", "PurePosixPath", "a/b"]


# -- references --


def test_a_reference_arrives_unloaded() -> None:
    path = NamespacePath("no_such_module:name")
    assert same(there_and_back(path, nspath_hooks(), NamespacePath | str), path)
    assert same(there_and_back("a:b", nspath_hooks(), NamespacePath | str), "a:b")


@pytest.mark.parametrize(
    "wire", ["a:b", ["tractor.nspath", "ab"], ["tractor.nspath", 5], ["x", "a:b"], []]
)
def test_what_is_no_reference(wire: Any) -> None:
    decoder = mk_dec(NamespacePath, **nspath_hooks().dec_kwargs())
    with pytest.raises(msgspec.ValidationError):
        decoder.decode(msgspec.msgpack.encode(wire))


def test_a_malformed_reference_is_not_sent() -> None:
    with pytest.raises(ValueError, match="module:name"):
        nspath_hooks().enc_hook(NamespacePath("nothing"))


# -- records and combinations --


def test_combined_hooks_keep_types_apart() -> None:
    class All(msgspec.Struct):
        angle: Angle
        path: PurePosixPath
        run: NamespacePath

    value = All(Angle(5), PurePosixPath("a"), NamespacePath("a:b"))
    assert same(there_and_back(value, BOTH, All), value)
    for one in (Angle(3), PurePath("a"), NamespacePath("a:b")):
        assert there_and_back(one, BOTH, None) == one
    assert BOTH.ext_types == (PurePath, NamespacePath, Angle)


def test_combining_what_is_combined() -> None:
    again = combine(combine(path_hooks(Path)), ANGLES)
    assert again.ext_types == (Path, Angle)
    assert there_and_back(Angle(3), again, None) == Angle(3)
    # Also what is not a payload by itself, but may be a field of one, is handled.
    assert again.dec_hook(PurePath, [hooks.PATH_TAG, "PurePosixPath", "a"]) == PurePosixPath("a")


def test_arguments_for_each_taker() -> None:
    assert BOTH.as_kwargs() == {
        "enc_hook": BOTH.enc_hook,
        "dec_hook": BOTH.dec_hook,
        "ext_types": [PurePath, NamespacePath, Angle],
    }
    codec = mk_codec(Any, **BOTH.codec_kwargs())
    started = msg.Started(1, Angle(3))
    assert codec.decode(codec.encode(started)).pld == 3
    assert mk_codec(None, **ANGLES.codec_kwargs()).decode(codec.encode(started)).pld == Angle(3)


def test_hooks_that_overlap_are_not_combined() -> None:
    for pair in (
        (path_hooks(), path_hooks()),
        (path_hooks(), Hooks(enc_hook=str, dec_hook=max, ext_types=(PosixPath,))),
        (Hooks(enc_hook=str, dec_hook=max, ext_types=(object,)), path_hooks()),
    ):
        with pytest.raises(TypeError, match="both hooks for"):
            combine(*pair)
    with pytest.raises(TypeError, match="at least one"):
        combine()


def test_hooks_need_types() -> None:
    with pytest.raises(TypeError, match="ext_types"):
        Hooks(enc_hook=str, dec_hook=max, ext_types=())
    with pytest.raises(TypeError, match="one by one"):
        Hooks(enc_hook=str, dec_hook=max, ext_types=(Path | None,))


def test_a_record_is_frozen() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        ANGLES.ext_types = ()  # type: ignore[misc]


@pytest.mark.parametrize("used", [path_hooks(), nspath_hooks(), BOTH])
def test_foreign_objects_are_refused(used: Hooks) -> None:
    with pytest.raises(TypeError, match="range"):
        Encoder(enc_hook=used.enc_hook).encode([range(3)])
    with pytest.raises((TypeError, ValueError)):
        used.dec_hook(bytes, [hooks.PATH_TAG, "PurePosixPath", "a"])


def test_every_local_path_class_is_known() -> None:
    assert LOCAL.__name__ in {"PosixPath", "WindowsPath"}
    assert pathlib.Path(".") == there_and_back(Path("."), path_hooks(), Path)
