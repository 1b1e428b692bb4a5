"""What is checked before a request is sent: the function, its name, and its arguments."""

from __future__ import annotations

import functools
import sys
import types
from typing import Any

import ep_calls
import ep_pubsub
import ep_typed
import pytest

import tractor
from tractor.runtime.dialog._endpoints import Kind
from tractor.runtime.dialog._targets import (
    Unreachable,
    find_place,
    parameters_of,
    plain_function,
    refuse_swallowed,
    target_of,
)


async def at_the_top(x: int = 1) -> int:
    return x


def local() -> Any:
    async def nested(x: int = 1) -> int:
        return x

    return nested


FOUND: list[tuple[Any, str]] = [
    (ep_typed.takes, "takes"),
    (ep_typed.decorated, "decorated"),
    (ep_typed.rebound, "rebound"),
    (ep_typed.Holder.static, "Holder.static"),
    (ep_typed.Holder.of_class, "Holder.of_class"),
    (ep_typed.Heir.of_class, "Heir.of_class"),
    (ep_typed.Holder.method, "Holder.method"),
    (ep_typed.points, "points"),
    (ep_typed.context_with_points, "context_with_points"),
]


def shown(value: object) -> str:
    """For a test's id, which must be the same in each collection: no address in it."""
    return str(getattr(value, "__qualname__", value)).partition(" at 0x")[0][:40]


@pytest.mark.parametrize(("fn", "name"), FOUND, ids=shown)
def test_what_is_found_by_its_name(fn: Any, name: str) -> None:
    place = find_place(fn)
    assert (place.ns, place.name) == ("ep_typed", name)
    assert place.holder[place.leaf] is place.value


NOT_FOUND: list[tuple[Any, str]] = [
    (ep_typed.alias, "'ep_typed:gives_points', which leads to <function gives_points"),
    (ep_typed.old_rebound, "'ep_typed:rebound', which leads to <function rebound"),
    (ep_typed.nameless, "local to a function.*`functools.wraps`"),
    (local(), "local to a function; move it to the top"),
    (lambda: 1, "is a lambda"),
    (ep_typed.Holder().method, "is a method of an object"),
    (ep_typed.Holder(), "no module and name"),
]


@pytest.mark.parametrize(("fn", "text"), NOT_FOUND, ids=shown)
def test_what_is_not_found(fn: Any, text: str) -> None:
    with pytest.raises(Unreachable, match=text):
        find_place(fn)


def test_a_module_that_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_the_top, "__module__", "no_such_module")
    with pytest.raises(Unreachable, match="a module that is not imported here"):
        find_place(at_the_top)


def test_functions_of_the_script_are_found_under_both_of_its_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = types.ModuleType("__mp_main__")
    exec("async def ours(): ...", script.__dict__)
    for name in ("__main__", "__mp_main__"):
        script.ours.__module__ = name
        with pytest.raises(Unreachable):
            find_place(script.ours)
    for loaded_as in ("__main__", "__mp_main__"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, loaded_as, script)
            for name in ("__main__", "__mp_main__"):
                script.ours.__module__ = name
                assert find_place(script.ours).ns == "__main__"


def test_what_was_found_is_looked_for_again_once_its_name_means_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = target_of(ep_calls.echo, Kind.CALL)
    assert target_of(ep_calls.echo, Kind.CALL) is first
    old = ep_calls.echo
    with monkeypatch.context() as patch:
        patch.setattr(ep_calls, "echo", ep_calls.two_of)
        with pytest.raises(TypeError, match="'ep_calls:echo', which leads to <function two_of"):
            target_of(old, Kind.CALL)
    assert target_of(old, Kind.CALL).name == "echo"


@pytest.mark.parametrize("kind", [Kind.CALL, Kind.ASYNCGEN, Kind.CONTEXT])
def test_each_kind_is_refused_for_the_others(kind: Kind) -> None:
    functions = {
        Kind.CALL: ep_typed.takes,
        Kind.ASYNCGEN: ep_typed.points,
        Kind.CONTEXT: ep_typed.context_with_points,
    }
    # One that was found already is refused, too.
    for is_, fn in [*functions.items(), *functions.items()]:
        if is_ is kind:
            assert target_of(fn, kind).endpoint.kind is kind
        else:
            with pytest.raises(TypeError, match="must be"):
                target_of(fn, kind)
    others: list[Any] = [ep_typed.sync_points, ep_typed.Holder(), 7, [], print, "takes"]
    for other in others:
        with pytest.raises(TypeError, match="it is none"):
            target_of(other, kind)


def test_of_a_plain_function_and_of_a_call_the_way_out_is_told() -> None:
    with pytest.raises(TypeError, match=r"`async def sync_points\(...\)`.*run_sync\(sync_points, "):
        target_of(ep_typed.sync_points, Kind.CALL)
    with pytest.raises(TypeError, match="pass the function, and its arguments after it"):
        target_of(ep_typed.fails(7), Kind.CALL)


def test_the_place_of_an_error_is_a_type_error_that_names_the_function() -> None:
    for fn in (ep_typed.alias, ep_typed.nameless, ep_typed.Holder().method, local()):
        with pytest.raises(TypeError, match=r"function|method"):
            target_of(fn, Kind.CALL)


# -- arguments --


def given(fn: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    return parameters_of(fn, skip="ctx").keywords("m:f", args, kwargs)


async def three(a: int, b: int = 2, *, c: int = 3) -> None: ...
async def context_first(ctx: Any, a: int, b: int = 2) -> None: ...
async def context_last(a: int, b: int, ctx: Any) -> None: ...
async def more(a: int, **others: int) -> None: ...


FITTING: list[tuple[Any, tuple[Any, ...], dict[str, Any], dict[str, Any]]] = [
    (three, (1,), {}, {"a": 1}),
    (three, (1, 5), {"c": 6}, {"a": 1, "b": 5, "c": 6}),
    (three, (), {"b": 5, "a": 1}, {"a": 1, "b": 5}),
    (context_first, (1, 2), {}, {"a": 1, "b": 2}),
    (context_last, (1,), {"b": 2}, {"a": 1, "b": 2}),
    (more, (1,), {"z": 1}, {"a": 1, "z": 1}),
    (ep_typed.any_number, (), {"key": 1}, {"key": 1}),
    (ep_typed.decorated, (1, {2}), {}, {"x": 1, "by": {2}}),
    (ep_typed.supplied, (1,), {}, {"x": 1}),
    (ep_typed.Holder.of_class, (1,), {}, {"p": 1}),
    (ep_typed.Point, (1,), {"y": 2}, {"x": 1, "y": 2}),
    (ep_pubsub.counter, (), {"topics": ["a"], "limit": 1}, {"topics": ["a"], "limit": 1}),
    (max, (), {"key": 1}, {"key": 1}),
]


@pytest.mark.parametrize(("fn", "args", "kwargs", "sent"), FITTING, ids=shown)
def test_arguments_that_fit_become_keywords(fn: Any, args: Any, kwargs: Any, sent: Any) -> None:
    assert given(fn, *args, **kwargs) == sent


MISFITS: list[tuple[Any, tuple[Any, ...], dict[str, Any], str]] = [
    (three, (), {}, "m:f is missing a required argument: 'a'"),
    (three, (), {"b": 1}, "missing a required argument: 'a'"),
    (three, (1,), {"d": 1}, "unexpected keyword argument 'd'; it takes .'a', 'b', 'c'.$"),
    (three, (1, 2, 3), {}, "takes 2 arguments by position"),
    (three, (1,), {"a": 1}, "two values for the argument 'a'"),
    (context_first, (1,), {"ctx": 1}, "unexpected keyword argument 'ctx'"),
    (context_last, (1, 2, 3), {}, "takes 2 arguments by position"),
    (more, (), {"z": 1}, "missing a required argument: 'a'"),
    (ep_typed.only_by_position, (1,), {}, "by keyword: its parameter 'x' can be given by position"),
    (
        ep_typed.only_by_position,
        (),
        {"x": 1},
        "missing a required argument: 'x, by position alone'",
    ),
    (ep_typed.any_number, (1,), {}, r"by keyword: it takes any number by position, `\*xs`"),
    (max, (1,), {}, "by keyword: it does not tell its parameters"),
]


@pytest.mark.parametrize(("fn", "args", "kwargs", "text"), MISFITS, ids=shown)
def test_arguments_that_do_not_fit(fn: Any, args: Any, kwargs: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        given(fn, *args, **kwargs)


def test_partials() -> None:
    fn = functools.partial(functools.partial(three, a=1, b=2), b=3)
    assert plain_function(fn) == (three, {"a": 1, "b": 3})
    assert plain_function(three) == (three, {})
    with pytest.raises(TypeError, match=r"by keyword.*has \(7,\) by position"):
        plain_function(functools.partial(functools.partial(three, 7), b=3))


def test_keywords_that_two_would_take() -> None:
    target = target_of(ep_typed.greets, Kind.CALL)
    own = {"name": True, "loglevel": False, "hide_tb": False}
    with pytest.raises(TypeError, match=r"functools.partial\(greets, name=...\)"):
        refuse_swallowed(target, own, (), {}, "run_in_actor()")
    refuse_swallowed(target, own, ("by position",), {}, "run_in_actor()")
    refuse_swallowed(target, own, (), {"name": "of a partial"}, "run_in_actor()")
    refuse_swallowed(target_of(ep_typed.fails, Kind.CALL), own, (), {}, "run_in_actor()")


# -- the parameter of a context --


def test_a_first_parameter_called_ctx_needs_no_annotation() -> None:
    @tractor.context
    async def bare(ctx, n: int = 1) -> None: ...  # type: ignore[no-untyped-def]

    assert bare.__tractor_context__.param == "ctx"  # type: ignore[attr-defined]

    @tractor.context
    async def other_is_annotated(ctx, real: tractor.Context) -> None: ...  # type: ignore[no-untyped-def]

    assert other_is_annotated.__tractor_context__.param == "real"  # type: ignore[attr-defined]

    async def not_the_first(n, ctx): ...  # type: ignore[no-untyped-def]
    async def another_name(context): ...  # type: ignore[no-untyped-def]
    async def of_another_type(ctx: int): ...  # type: ignore[no-untyped-def]
    async def by_keyword(*, ctx): ...  # type: ignore[no-untyped-def]
    async def by_position(ctx, /): ...  # type: ignore[no-untyped-def]

    for fn in (not_the_first, another_name, of_another_type, by_keyword, by_position):
        with pytest.raises(TypeError, match=r"`ctx: tractor.Context`"):
            tractor.context(fn)
