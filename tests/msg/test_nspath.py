"""References by name."""

from __future__ import annotations

import collections
import functools
import json
import sys

import pytest

from tractor.msg import NamespacePath


@pytest.mark.parametrize(
    ("ref", "path"),
    [
        (json.dumps, "json:dumps"),
        (json.JSONDecoder, "json.decoder:JSONDecoder"),
        (json.JSONDecoder.decode, "json.decoder:JSONDecoder.decode"),
        (json.JSONDecoder().decode, "json.decoder:JSONDecoder.decode"),
        (collections.OrderedDict.fromkeys, "collections:OrderedDict.fromkeys"),
        (functools.partial(functools.partial(json.dumps, indent=1), sort_keys=True), "json:dumps"),
    ],
)
def test_from_ref(ref: object, path: str) -> None:
    nsp = NamespacePath.from_ref(ref)
    assert type(nsp) is NamespacePath
    assert nsp == path
    assert callable(nsp.load_ref())


def test_round_trip() -> None:
    for ref in (json.dumps, json.JSONDecoder, json.JSONDecoder.decode, len):
        assert NamespacePath.from_ref(ref).load_ref() is ref
    assert NamespacePath("json.decoder:JSONDecoder.decode").to_tuple() == (
        "json.decoder",
        "JSONDecoder.decode",
    )


def test_what_has_no_path() -> None:
    with pytest.raises(TypeError, match="42"):
        NamespacePath.from_ref(42)
    with pytest.raises(ValueError, match="local to a function"):
        NamespacePath.from_ref(lambda: None)


@pytest.mark.parametrize("text", ["", "json", ":dumps", "json:"])
def test_malformed(text: str) -> None:
    with pytest.raises(ValueError, match="module:name"):
        NamespacePath(text).to_tuple()
    with pytest.raises(ValueError, match="module:name"):
        NamespacePath(text).load_ref()


def test_missing_target() -> None:
    with pytest.raises(AttributeError):
        NamespacePath("json:nothing").load_ref()
    with pytest.raises(ImportError):
        NamespacePath("no_such_module_at_all:x").load_ref()
    assert "no_such_module_at_all" not in sys.modules
