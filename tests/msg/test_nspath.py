"""References by name."""

from __future__ import annotations

import collections
import copy
import functools
import json
import pickle
import sys
from types import ModuleType
from typing import Any

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
        (str.upper, "builtins:str.upper"),
        (object.__init__, "builtins:object.__init__"),
        (dict.fromkeys, "builtins:dict.fromkeys"),
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


class Meta(type):
    def of_the_class(cls) -> None: ...


class Outer(metaclass=Meta):
    class Inner:
        def method(self) -> None: ...

        @staticmethod
        def static() -> None: ...

        @classmethod
        def of_class(cls) -> type:
            return cls

        @functools.lru_cache  # noqa: B019
        def cached(self) -> None: ...

    class Heir(Inner):
        pass

    @property
    def attribute(self) -> int:
        return 1


a_lambda = lambda: None  # noqa: E731


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest imports test modules by path, not by name."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__, this_module()))


def this_module() -> ModuleType:
    module = ModuleType(__name__)
    vars(module).update(globals())
    return module


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize(
    ("ref", "name"),
    [
        (Outer, "Outer"),
        (Outer.Inner, "Outer.Inner"),
        (Outer.Inner.method, "Outer.Inner.method"),
        (Outer.Inner().method, "Outer.Inner.method"),
        (Outer.Inner.static, "Outer.Inner.static"),
        (Outer.Inner.of_class, "Outer.Inner.of_class"),
        (Outer.Heir.of_class, "Outer.Heir.of_class"),
        (Outer.Heir.method, "Outer.Inner.method"),
        (Outer.Inner.cached, "Outer.Inner.cached"),
        (Outer.of_the_class, "Outer.of_the_class"),
        (functools.partial(Outer.Inner.static), "Outer.Inner.static"),
    ],
)
def test_members_of_classes(ref: Any, name: str) -> None:
    path = NamespacePath.from_ref(ref)
    assert path.to_tuple() == (__name__, name)
    loaded = path.load_ref()
    function = ref.func if isinstance(ref, functools.partial) else ref
    if getattr(ref, "__self__", None) is not None and not isinstance(ref.__self__, type):
        function = ref.__func__
    assert loaded == function


def maker() -> Any:
    def inner() -> None: ...

    return inner


@pytest.mark.parametrize(
    ("ref", "error", "text"),
    [
        (42, TypeError, "42"),
        (None, TypeError, "None"),
        (json, TypeError, "module 'json'"),
        (Outer(), TypeError, "not a function, method or class"),
        (Outer.__dict__["attribute"], TypeError, "not a function, method or class"),
        (list[int], TypeError, r"list\[int\]"),
        (int | str, TypeError, r"int \| str"),
        ([].append, TypeError, "append"),
        (functools.partial(a_lambda), ValueError, "lambda; use a function with a name"),
        (a_lambda, ValueError, "lambda"),
        (maker(), ValueError, "local to a function; move it to the top of"),
        (functools.partial(maker()), ValueError, "local to a function"),
    ],
)
def test_what_has_no_path(ref: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        NamespacePath.from_ref(ref)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "json",
        ":dumps",
        "json:",
        "json:dumps:x",
        "json:.dumps",
        "json:a..b",
        "json:dumps()",
        "json:<lambda>",
        ".json:dumps",
        "..:dumps",
        "json.:dumps",
    ],
)
def test_malformed(text: str) -> None:
    with pytest.raises(ValueError, match="module:name"):
        NamespacePath(text).to_tuple()
    with pytest.raises(ValueError, match="module:name"):
        NamespacePath(text).load_ref()


def test_the_script_of_the_root_has_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    main, replayed = ModuleType("__main__"), ModuleType("__mp_main__")
    exec("def work(): ...", vars(main))
    exec("def work(): ...", vars(replayed))
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.delitem(sys.modules, "__mp_main__", raising=False)
    # In the root ...
    assert NamespacePath.from_ref(main.work) == "__main__:work"
    for path in ("__main__:work", "__mp_main__:work"):
        assert NamespacePath(path).load_ref() is main.work
    # ... and in a child, where `__main__` may still be the runtime's.
    monkeypatch.setitem(sys.modules, "__mp_main__", replayed)
    assert NamespacePath.from_ref(replayed.work) == "__main__:work"
    for path in ("__main__:work", "__mp_main__:work"):
        assert NamespacePath(path).load_ref() is replayed.work


def test_copies_and_pickles() -> None:
    path = NamespacePath("json:dumps")
    for again in (copy.copy(path), copy.deepcopy(path), pickle.loads(pickle.dumps(path))):
        assert again == path
        assert type(again) is NamespacePath


def test_missing_target() -> None:
    with pytest.raises(AttributeError):
        NamespacePath("json:nothing").load_ref()
    with pytest.raises(ImportError):
        NamespacePath("no_such_module_at_all:x").load_ref()
    assert "no_such_module_at_all" not in sys.modules
