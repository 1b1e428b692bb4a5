"""The caller's side of a request: is this the function that a peer will find, and do the arguments fit it?

Worked out once a function; what is left for each call are a few look-ups.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tractor._util._mains import main_modules
from tractor._util._plain import safe_repr
from tractor.msg._codec import codec_in_force
from tractor.msg._conversion import own_signature
from tractor.msg._nspath import NamespacePath
from tractor.process._state import of_process
from tractor.runtime.dialog._endpoints import (
    Endpoint,
    Kind,
    canonical,
    describe,
    kind_of,
    static_attribute,
)


class Unreachable(Exception):
    """No peer could find a function by its module and name; the text says why, and the way out."""


class Parameters(msgspec.Struct, frozen=True, eq=False):
    """What a function takes, as far as that is known here.

    Attributes:
        order: those that may be given by position, in their order; ``None``: none may, and ``by_name_only`` says why.
        required: must be given.
        names: may be given.
        takes_any: others may be given, too.
        by_name_only: why none may be given by position.
    """

    order: tuple[str, ...] | None
    required: frozenset[str]
    names: frozenset[str]
    takes_any: bool
    by_name_only: str = ""

    def keywords(self, what: str, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """All arguments by keyword.

        Args:
            what: the function, for people.
            args: given by position.
            kwargs: given by keyword.

        Raises:
            TypeError: they do not fit the function.
        """
        if args:
            kwargs = self._named(what, args, kwargs)
        given = kwargs.keys()
        if self.required <= given and (self.takes_any or given <= self.names):
            return kwargs
        raise self._misfit(what, given)

    def _named(self, what: str, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        order = self.order
        if order is None:
            raise TypeError(
                f"pass the arguments of {what} by keyword: {self.by_name_only}, and"
                f" {safe_repr(tuple(args))} were given by position"
            )
        if len(args) > len(order):
            raise TypeError(
                f"{what} takes {len(order)} arguments by position, {order}, and {len(args)} were given"
            )
        named = dict(zip(order, args, strict=False))
        if twice := named.keys() & kwargs.keys():
            raise TypeError(
                f"{what} got two values for the argument {min(twice)!r}, by position and by keyword"
            )
        return named | kwargs

    def _misfit(self, what: str, given: Iterable[str]) -> TypeError:
        wrong = [
            f"is missing a required argument: {n!r}"
            for n in sorted(self.required)
            if n not in given
        ]
        if not self.takes_any:
            wrong += [
                f"got an unexpected keyword argument {name!r}; it takes {sorted(self.names)}"
                for name in given
                if name not in self.names
            ]
        return TypeError(f"{what} {', and '.join(wrong)}")


def parameters_of(fn: Callable[..., Any], skip: str | None = None) -> Parameters:
    """What ``fn`` takes, without the parameter ``skip``.

    A wrapper that says by ``functools.wraps`` that it is another function, and takes any keywords, may well take or
    supply others than that one: the other's parameters tell of positions alone.
    """
    shown = own_signature(fn)
    own = own_signature(fn, follow_wrapped=False)
    if shown is None or own is None:
        return Parameters(None, frozenset(), frozenset(), True, "it does not tell its parameters")
    takes_any = any(p.kind is p.VAR_KEYWORD for p in own.parameters.values())
    if not takes_any:
        shown = own
    params = [p for p in shown.parameters.values() if p.name != skip]
    by_name = [p.name for p in params if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    order, why = _order(params)
    required: list[str] = []
    for p in own.parameters.values():
        if p.name != skip and p.default is p.empty:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
                required.append(p.name)
            elif p.kind is p.POSITIONAL_ONLY:
                # No name that could be given: no request gives anything by position.
                required.append(f"{p.name}, by position alone")
    return Parameters(order, frozenset(required), frozenset(by_name), takes_any, why)


def _order(params: list[inspect.Parameter]) -> tuple[tuple[str, ...] | None, str]:
    for p in params:
        if p.kind is p.POSITIONAL_ONLY:
            return None, f"its parameter {p.name!r} can be given by position alone"
        if p.kind is p.VAR_POSITIONAL:
            return None, f"it takes any number by position, `*{p.name}`"
    return tuple(p.name for p in params if p.kind is p.POSITIONAL_OR_KEYWORD), ""


class Place(msgspec.Struct, frozen=True, eq=False):
    """Where a function was found: module and name, and what the namespace that holds it has there."""

    ns: str
    name: str
    holder: Mapping[str, Any]
    leaf: str
    value: Any


def find_place(fn: Any) -> Place:
    """Where a peer finds ``fn``.

    Raises:
        Unreachable: its module and name lead to nothing, or to something else.
    """
    if isinstance(fn, types.MethodType) and not isinstance(fn.__self__, type):
        raise Unreachable(
            f"{fn!r} is a method of an object, which does not travel: use a function, and pass what it needs"
        )
    try:
        path = NamespacePath.from_ref(fn)
        ns, name = path.to_tuple()
    except TypeError:
        raise Unreachable(
            f"{fn!r} has no module and name under which a peer could find it; use a function made by `def` at the"
            " top of a module"
        ) from None
    except ValueError as exc:
        hint = (
            ""
            if "lambda" in str(exc)
            else "; if a decorator made it, let that use `functools.wraps`"
        )
        raise Unreachable(f"{exc}{hint}") from None
    misses: list[str] = []
    for module in _modules(ns):
        found, place = _walk(module, ns, name)
        # Methods of classes are made anew each time: equal, and not identical.
        if place is not None and (found is fn or (type(found) is type(fn) and found == fn)):
            return place
        misses.append("nothing" if place is None else repr(found))
    leads_to = misses[0] if misses else "a module that is not imported here"
    raise Unreachable(
        f"a peer would not find {fn!r}: its name is {str(path)!r}, which leads to {leads_to}; set its `__module__`"
        " and `__qualname__` to where it can be found (a wrapper made with `functools.wraps` has the name of what it"
        " wraps, and must take its place there)"
    )


def _modules(ns: str) -> list[Any]:
    if canonical(ns) == "__main__":
        return main_modules()
    return [sys.modules[ns]] if ns in sys.modules else []


def _walk(module: Any, ns: str, name: str) -> tuple[Any, Place | None]:
    """What ``name`` leads to from a module, through classes alone."""
    *classes, leaf = name.split(".")
    try:
        found = static_attribute(module, name)
        holder = static_attribute(module, ".".join(classes)) if classes else module
    except LookupError:
        return None, None
    spaces = [vars(c) for c in holder.__mro__] if isinstance(holder, type) else [vars(holder)]
    space: Mapping[str, Any] = next((one for one in spaces if leaf in one), {leaf: found})
    return found, Place(canonical(ns), name, space, leaf, space[leaf])


class Target(Place, frozen=True, eq=False):
    """A function that a peer is asked to run.

    Attributes:
        kind: of the dialog that it serves.
        packs: whether some arguments need to be encoded by themselves.
        required, names: as of ``parameters``; ``None``: any name may be given.
    """

    kind: Kind
    endpoint: Endpoint
    parameters: Parameters
    packs: bool
    required: frozenset[str]
    names: frozenset[str] | None

    def arguments(self, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """What to send for the arguments.

        Raises:
            TypeError: they do not fit the function.
            MsgTypeError: one can't be encoded.
        """
        given = kwargs.keys()
        names = self.names
        if args or not self.required <= given or (names is not None and not given <= names):
            kwargs = self.parameters.keywords(self.endpoint.name, args, kwargs)
        if self.packs:
            return self.endpoint.conversions.pack(kwargs, codec_in_force())
        return kwargs


_known: dict[Any, Target] = of_process({})
"""Of functions that a peer can find: they live as long as their modules do."""

_WANTED = {
    Kind.CALL: "must be an async function that does not stream",
    Kind.ASYNCGEN: "must be an async generator function, or decorated with `@tractor.stream`",
    Kind.CONTEXT: "must be decorated with `@tractor.context`",
}


def plain_function(fn: Any) -> tuple[Any, dict[str, Any]]:
    """The function in a ``functools.partial``, and the keywords that it adds.

    Raises:
        TypeError: it has arguments by position, too.
    """
    keywords: dict[str, Any] = {}
    while isinstance(fn, functools.partial):
        if fn.args:
            raise TypeError(
                f"pass the arguments of {fn.func!r} by keyword: {fn!r} has {fn.args!r} by position"
            )
        keywords = {**fn.keywords, **keywords}
        fn = fn.func
    return fn, keywords


def target_of(fn: Any, want: Kind) -> Target:
    """What a peer is to run for ``fn``.

    Raises:
        TypeError: it is not a function of the kind that is wanted, or a peer could not find it by its name.
    """
    try:
        known = _known.get(fn)
    except TypeError:
        known = None
    # Its name may mean another one by now.
    if known is None or known.holder.get(known.leaf) is not known.value:
        known = _describe(fn, want)
    if known.kind is not want and known.kind.wire != want.wire:
        raise _of_another_kind(fn, want, known.kind)
    return known


def _describe(fn: Any, want: Kind) -> Target:
    kind = kind_of(fn)
    if kind is None or kind.wire != want.wire:
        raise _of_another_kind(fn, want, kind)
    try:
        place = find_place(fn)
    except Unreachable as exc:
        raise TypeError(str(exc)) from None
    endpoint = describe(fn, f"{place.ns}:{place.name}")
    assert endpoint is not None
    conversions = endpoint.conversions
    packs = bool(conversions.hooked) or (
        conversions.rest is not None and conversions.rest.is_hooked
    )
    parameters = parameters_of(fn, endpoint.param)
    made = Target(
        **msgspec.structs.asdict(place),
        kind=endpoint.kind,
        endpoint=endpoint,
        parameters=parameters,
        packs=packs,
        required=parameters.required,
        names=None if parameters.takes_any else parameters.names,
    )
    _known[fn] = made
    return made


def _of_another_kind(fn: Any, want: Kind, kind: Kind | None) -> TypeError:
    name = getattr(fn, "__qualname__", fn)
    is_ = f"is {kind.value!r}" if kind else "is none"
    hint = "" if kind else _way_out(fn, name, want)
    return TypeError(f"{name!r} {_WANTED[want]}; it {is_}{hint}")


def _way_out(fn: Any, name: Any, want: Kind) -> str:
    """What to write instead, where that can be told."""
    if inspect.iscoroutine(fn):
        fn.close()
        return ", but what calling one has returned: pass the function, and its arguments after it"
    if want is Kind.CALL and inspect.isfunction(fn):
        return (
            f". A plain function would block its actor: write `async def {fn.__name__}(...)`, call it there by"
            f" `await trio.to_thread.run_sync({fn.__name__}, ...)`, or give it to a pool"
            " (`tractor.trionics.open_worker_pool()`)"
        )
    return ""


def refuse_swallowed(
    target: Target,
    own: Mapping[str, bool],
    args: Sequence[Any],
    keywords: Mapping[str, Any],
    by: str,
) -> None:
    """Refuse keywords of the caller ``by`` itself that were given, and that the function has a parameter for.

    Args:
        target: the function.
        own: those keywords, and whether they were given.
        args: the function's arguments by position.
        keywords: those by keyword, which ``by`` has not taken.
        by: the caller.

    Raises:
        TypeError: there is one.
    """
    parameters = target.parameters
    names = {*(parameters.order or ())[: len(args)], *keywords}
    for name, is_given in own.items():
        if is_given and name in parameters.names and name not in names:
            raise TypeError(
                f"{target.endpoint.name} has a parameter {name!r}, and {by} takes `{name}=` for itself: give the"
                f" function's by position, or as `functools.partial({target.leaf}, {name}=...)`"
            )
