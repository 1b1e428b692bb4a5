"""What a function's annotations ask of its arguments and its result, worked out once a function."""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Any, Union, Unpack, get_args, get_origin

import msgspec
from msgspec import Raw
from msgspec.inspect import CustomType, Field, Type, type_info
from msgspec.msgpack import Decoder, Encoder

from tractor._errors import MsgTypeError
from tractor.msg._codec import ANY_DEC, DecHook, MsgCodec, MsgDec, mk_dec
from tractor.msg._payload import conversion_error, encode_payload
from tractor.msg._ready import SUBCLASSED, dec_ready, enc_ready, enc_subclass, is_ready
from tractor.msg._union import spec_text, union_members
from tractor.msg.bounded._bounded import COUNTED_ABOVE, Bounded, refuse_crowded
from tractor.msg.bounded._undecodable import decode_deep, undecodable_arguments
from tractor.process._state import of_process

if sys.version_info >= (3, 14):
    import annotationlib


class Converter(msgspec.Struct, frozen=True, eq=False):
    """Decodes values of one annotation.

    Attributes:
        decode: gives the value for the msgpack in a ``Raw``.
        text: the annotation, for messages.
        is_hooked: the sender must encode such a value by the ready hooks.
    """

    decode: Callable[[Any], Any]
    text: str
    is_hooked: bool


class Conversions(msgspec.Struct, frozen=True, eq=False):
    """What is known of a function's values; what has no converter stays as it came.

    Attributes:
        arguments: by the parameter's name; ``None`` or left out: it has none.
        rest: of keywords that no parameter is named by.
        result: of what it returns.
        hooked: parameters whose values the sender must encode by the ready hooks.
        first: of the one that is given by position first.
    """

    arguments: Mapping[str, Converter | None]
    rest: Converter | None
    result: Converter | None
    hooked: frozenset[str]
    first: Converter | None = None

    @property
    def takes_anything(self) -> bool:
        """Whether every argument stays as it comes."""
        return not self.arguments and self.rest is None

    def pack(self, kwargs: dict[str, Any], codec: MsgCodec) -> dict[str, Any]:
        """The arguments to send: those of types that need a hook are encoded by it, each by itself.

        Raises:
            MsgTypeError: one can't be encoded.
        """
        rest = self.rest is not None and self.rest.is_hooked
        if not self.hooked and not rest:
            return kwargs
        known = self.arguments.keys()
        return {
            name: packed(value, codec, "Start")
            if name in self.hooked or (rest and name not in known)
            else value
            for name, value in kwargs.items()
        }

    def pack_plainly(self, kwargs: dict[str, Any], codec: MsgCodec) -> dict[str, Any] | None:
        """The arguments to send if msgspec can't encode them: what is annotated may be, or hold, an object of a
        subclass.  ``None``: that is not what it can't encode.
        """
        encode = _encoder(codec, enc_subclass).encode
        known, rest = self.arguments, self.rest
        try:
            return {
                name: Raw(encode(value)) if known.get(name, rest) else value
                for name, value in kwargs.items()
            }
        except Exception:
            return None

    def pack_result(self, value: Any, codec: MsgCodec) -> Any:
        """The result to send.  Raises MsgTypeError: it can't be encoded."""
        if self.result is None:
            return value
        if self.result.is_hooked or (type(value) not in EXACT and isinstance(value, SUBCLASSED)):
            return packed(value, codec, "Return")
        return value


NOTHING_KNOWN = Conversions({}, None, None, frozenset())
"""Of a function without annotations."""


def packed(value: Any, codec: MsgCodec, what: str) -> Raw:
    """A value that may need the ready hooks, as msgpack.  Raises MsgTypeError: it can't be encoded."""
    return Raw(encode_payload(_encoder(codec, enc_ready), value, what))


EXACT = frozenset((type(None), bool, int, float, str, bytes))
"""Classes whose objects need no hook, and hold none that does."""


def _encoder(codec: MsgCodec, hook: Callable[[Any], Any]) -> Encoder:
    own = codec.enc_hook
    if own is None:
        return Encoder(enc_hook=hook)

    def enc_hook(obj: Any) -> Any:
        try:
            return hook(obj)
        except TypeError:
            return own(obj)

    return Encoder(enc_hook=enc_hook)


def decode_result(raw: Raw, to: Converter | None, name: str, cid: int | None = None) -> Any:
    """The result of the function ``name``, as it is annotated.

    Raises:
        MsgTypeError: it is no such value, or can't be decoded.
    """
    try:
        return decode_deep(any_value if to is None else to.decode, raw)
    except Exception as exc:
        raise result_error(raw, to, name, exc, cid) from exc


def result_error(
    raw: Raw, to: Converter | None, name: str, cause: Exception, cid: int | None = None
) -> MsgTypeError:
    """What :func:`decode_result` raises because of ``cause``, which ``raw`` was refused with."""
    text = "Any" if to is None else to.text
    return conversion_error("Return", f"the result of {name}", raw, text, cause, cid=cid)


any_arguments: Callable[[Any], dict[str, Any]] = Bounded(dict[str, Any]).decode
_raw_arguments = Decoder(dict[str, Raw]).decode
any_value = ANY_DEC.dec.decode


def decode_arguments(raw: Raw, known: Conversions, name: str, cid: int | None) -> dict[str, Any]:
    """The keyword arguments of a request for the function ``name``.

    Raises:
        MsgTypeError: they can't be decoded, or one is not what its parameter is annotated with.
    """
    if known.takes_anything:
        try:
            return decode_deep(any_arguments, raw)
        except Exception as exc:
            raise undecodable_arguments(name, exc, cid) from exc
    try:
        if len(raw) > COUNTED_ABOVE:
            # All of them count as one payload.
            refuse_crowded(raw)
        given = _raw_arguments(raw)
    except Exception as exc:
        raise undecodable_arguments(name, exc, cid) from exc
    arguments, rest = known.arguments, known.rest
    values = {}
    for key, value in given.items():
        to = arguments.get(key, rest)
        try:
            values[key] = any_value(value) if to is None else to.decode(value)
        except RecursionError:
            values[key] = decode_argument(value, to, f"the argument {key!r}", name, cid)
        except Exception as exc:
            raise argument_error(value, to, f"the argument {key!r}", name, exc, cid) from exc
    return values


def decode_argument(
    raw: Raw, to: Converter | None, what: str, name: str, cid: int | None = None
) -> Any:
    """One argument, called ``what``, of the function ``name``.  Raises MsgTypeError, as :func:`decode_arguments`."""
    try:
        return decode_deep(any_value if to is None else to.decode, raw)
    except Exception as exc:
        raise argument_error(raw, to, what, name, exc, cid) from exc


def argument_error(
    raw: Raw, to: Converter | None, what: str, name: str, cause: Exception, cid: int | None = None
) -> MsgTypeError:
    """What :func:`decode_argument` raises because of ``cause``, which ``raw`` was refused with."""
    if to is None:
        return undecodable_arguments(name, cause, cid)
    return conversion_error("Start", f"{what} of {name}", raw, to.text, cause, cid=cid)


# -- what a function declares --


def own_signature(fn: Callable[..., Any], follow_wrapped: bool = True) -> inspect.Signature | None:
    """A function's signature, its annotations unevaluated; ``None`` where it tells none."""
    options: dict[str, Any] = {"follow_wrapped": follow_wrapped}
    if sys.version_info >= (3, 14):
        options["annotation_format"] = annotationlib.Format.FORWARDREF
    try:
        return inspect.signature(fn, **options)
    except Exception:
        # Written in C, or by somebody's `__signature__`.
        return None


def conversions_of(
    fn: Callable[..., Any],
    skip: str | None = None,
    dec_hook: DecHook | None = None,
    ext_types: tuple[Any, ...] = (),
) -> Conversions:
    """What the annotations of ``fn`` ask for.

    An annotation that is ``Any`` or a type variable, that can't be evaluated, or that msgspec and the hooks know
    nothing of asks for nothing.

    Args:
        fn: the function.
        skip: a parameter that no value is sent for.
        dec_hook: makes objects of ``ext_types``, before the ready hooks are asked.
        ext_types: those types.
    """
    signature = own_signature(fn)
    if signature is None:
        return NOTHING_KNOWN
    maker = _Maker(getattr(inspect.unwrap(fn), "__globals__", {}), dec_hook, ext_types)
    arguments: dict[str, Converter | None] = {}
    rest: Converter | None = None
    first: str | None = None
    for param in signature.parameters.values():
        if param.name == skip:
            continue
        if first is None and param.kind in (param.POSITIONAL_ONLY, param.POSITIONAL_OR_KEYWORD):
            first = param.name
        if param.kind is param.VAR_KEYWORD:
            fields, rest = maker.of_rest(param.annotation)
            arguments = fields | arguments
        elif param.kind is not param.VAR_POSITIONAL:
            arguments[param.name] = maker.of(param.annotation, or_none=param.default is None)
    result = signature.return_annotation
    returned = None if result is signature.empty else maker.of(result)
    if not any(arguments.values()):
        if rest is None and returned is None:
            return NOTHING_KNOWN
        if rest is None:
            # One look at this is all that a call without such annotations pays.
            arguments = {}
    hooked = frozenset(name for name, one in arguments.items() if one and one.is_hooked)
    return Conversions(arguments, rest, returned, hooked, arguments.get(first or ""))


def converter_of(hint: Any) -> Converter | None:
    """How values of a type are decoded; ``None``: msgspec and the hooks know nothing of it."""
    try:
        return _converters[hint]
    except KeyError:
        return _converters.setdefault(hint, _Maker({}, None, ()).of(hint))


_converters: dict[Any, Converter | None] = of_process({})


class _Maker:
    """Makes converters of annotations that were written in one module."""

    def __init__(
        self, scope: dict[str, Any], dec_hook: DecHook | None, ext_types: tuple[Any, ...]
    ) -> None:
        self.scope = scope
        self.dec_hook = dec_hook
        self.own = tuple(get_origin(one) or one for one in ext_types) if dec_hook else ()

    def of_rest(self, annotation: Any) -> tuple[dict[str, Converter | None], Converter | None]:
        """Of ``**kwargs: annotation``: of single ones that it names, and of all others."""
        hint = None if annotation is _EMPTY else self._evaluated(annotation)
        if get_origin(hint) is not Unpack:
            return {}, self.of(annotation)
        try:
            fields = typing.get_type_hints(get_args(hint)[0])
        except Exception:
            return {}, None
        return {name: self.of(field) for name, field in fields.items()}, None

    def of(self, annotation: Any, or_none: bool = False) -> Converter | None:
        """Of one annotation; ``or_none``: it is that of a parameter whose default is ``None``."""
        hint = self._evaluated(annotation) if annotation is not _EMPTY else _UNKNOWN
        if hint is _UNKNOWN or hint is Any or hint is object or isinstance(hint, typing.TypeVar):
            return None
        try:
            if or_none:
                hint = Union[hint, None]  # noqa: UP007 - of whatever kind it is
            custom = {cls for one in union_members(hint) for cls in _custom_types(one)}
            if not all(is_ready(cls) or self._is_own(cls) for cls in custom):
                return None
            return Converter(
                self._decoder(hint, bool(custom)).dec.decode,
                spec_text(hint),
                any(map(is_ready, custom)),
            )
        except Exception:
            # The codec knows many kinds of types, and fails in many ways for all others.
            return None

    def _is_own(self, cls: type) -> bool:
        return any(isinstance(one, type) and issubclass(cls, one) for one in self.own)

    def _decoder(self, hint: Any, is_custom: bool) -> MsgDec:
        if not is_custom:
            return mk_dec(hint)
        members = union_members(hint)
        custom = [one for one in members if _is_custom(one)]
        # Where text may be meant as text, it is not a path.
        is_alone = not custom or all(one in custom or one is type(None) for one in members)
        hook = functools.partial(self._hook, is_alone)
        return mk_dec(hint, hook, custom or [hint])

    def _hook(self, is_alone: bool, wanted: Any, obj: Any) -> Any:
        cls = get_origin(wanted) or wanted
        if self.dec_hook is not None and self._is_own(cls):
            return self.dec_hook(wanted, obj)
        return dec_ready(wanted, obj, from_text=is_alone)

    def _evaluated(self, annotation: Any) -> Any:
        """An annotation whose names are looked up; ``_UNKNOWN`` where they lead nowhere."""
        holder = type("_", (), {"__annotations__": {"it": annotation}})
        try:
            return typing.get_type_hints(holder, self.scope, include_extras=True)["it"]
        except Exception:
            # Imported for type checkers alone, local to a function, or no type at all.
            return _UNKNOWN


_UNKNOWN: Any = object()
_EMPTY = inspect.Parameter.empty


def _is_custom(member: Any) -> bool:
    return isinstance(type_info(member), CustomType)


def _custom_types(hint: Any) -> set[type]:
    """The classes within an annotation that msgspec does not know.  Raises for what it knows nothing of."""
    found: set[type] = set()
    seen: set[int] = set()
    left: list[Any] = [type_info(hint)]
    while left:
        node = left.pop()
        if isinstance(node, tuple):
            left.extend(node)
        elif isinstance(node, CustomType):
            found.add(node.cls)
        elif isinstance(node, (Type, Field)) and id(node) not in seen:
            seen.add(id(node))
            left.extend(getattr(node, name) for name in node.__struct_fields__)
    return found
