"""What makes a function an endpoint, and finding one by name.

A function's kind, its context parameter and its payload spec are worked out once and kept.
"""

from __future__ import annotations

import enum
import inspect
import sys
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar, Union, get_args, get_origin, overload

import msgspec

from tractor._errors import ModuleNotExposed
from tractor._util._mains import main_modules
from tractor.msg._codec import MsgDec, ext_type_tuple, mk_dec, unknown_types
from tractor.msg._conversion import (
    NOTHING_KNOWN,
    Conversions,
    any_arguments,
    conversions_of,
    decode_arguments,
    own_signature,
)
from tractor.msg.bounded._undecodable import undecodable_arguments
from tractor.process._state import of_process

if sys.version_info >= (3, 14):
    import annotationlib

F = TypeVar("F", bound=Callable[..., Any])

CONTEXT_MARK = "__tractor_context__"
STREAM_MARK = "__tractor_stream__"


class Kind(enum.Enum):
    """The kind of dialog that a function serves."""

    CALL = "call"
    ASYNCGEN = "asyncgen"
    STREAM = "stream"
    CONTEXT = "context"

    __hash__ = object.__hash__

    def __init__(self, value: str) -> None:
        # The name of the dialog's kind on the wire; both one-way streams are of one kind there.
        self.wire = "asyncgen" if value == "stream" else value


class ContextSpec(msgspec.Struct, frozen=True):
    """What ``@context`` was told."""

    param: str
    pld_spec: Any = Any
    dec_hook: Callable[..., Any] | None = None
    enc_hook: Callable[..., Any] | None = None
    ext_types: tuple[Any, ...] | None = None


class Endpoint(msgspec.Struct, frozen=True):
    """An async function that peers may run."""

    fn: Callable[..., Any]
    kind: Kind
    name: str
    param: str | None = None
    # A context's: the decoder that its declaration asks for (`None`: anything goes), and the encoder, if it has a hook.
    pld_dec: MsgDec | None = None
    encoder: msgspec.msgpack.Encoder | None = None
    # What its annotations ask of its arguments and its result; and whether they ask nothing of the arguments.
    conversions: Conversions = NOTHING_KNOWN
    takes_anything: bool = True
    # The canonical name of the module that defines it.
    home: str = ""

    def arguments(self, given: msgspec.Raw, cid: int) -> dict[str, Any]:
        """What to call it with, in the dialog ``cid``.

        Raises:
            MsgTypeError: an argument is not what its parameter is annotated with, or they can't be decoded.
        """
        if self.takes_anything:
            try:
                return any_arguments(given)
            except RecursionError:
                # Once more, on a stack that is deep enough.
                pass
            except Exception as exc:
                raise undecodable_arguments(self.name, exc, cid) from exc
        return decode_arguments(given, self.conversions, self.name, cid)


@overload
def context(func: F) -> F: ...
@overload
def context(
    func: None = None,
    *,
    pld_spec: Any = Any,
    dec_hook: Callable[..., Any] | None = None,
    enc_hook: Callable[..., Any] | None = None,
    ext_types: list[Any] | None = None,
) -> Callable[[F], F]: ...
def context(
    func: F | None = None,
    *,
    pld_spec: Any = Any,
    dec_hook: Callable[..., Any] | None = None,
    enc_hook: Callable[..., Any] | None = None,
    ext_types: list[Any] | None = None,
) -> F | Callable[[F], F]:
    """Mark an async function as the endpoint of a two-way context.

    One of its parameters, of any name, must be annotated ``tractor.Context`` (a union with ``None`` will do), or the
    first one is called ``ctx`` and has no annotation.

    Args:
        func: the function, when used without arguments.
        pld_spec: the type that every payload of the context must have: what is started, streamed and returned.
        dec_hook: turns what msgpack carried into one of ``ext_types``; see ``msgspec``.
        enc_hook: turns one of ``ext_types`` into what msgpack carries.
        ext_types: the types that the hooks handle; default: the members of ``pld_spec`` that msgspec does not know.

    Raises:
        TypeError: there is no such parameter, or it can't be given by name; ``func`` is not an async function; a
            hook is not a function, or has no types to handle; ``ext_types`` is not a list of types.
    """

    def mark(fn: F) -> F:
        if not inspect.iscoroutinefunction(fn):
            raise TypeError(f"a context endpoint must be an async function, and {fn!r} is none")
        for what, hook in (("enc_hook", enc_hook), ("dec_hook", dec_hook)):
            if hook is not None and not callable(hook):
                raise TypeError(
                    f"the `{what}` of {fn.__qualname__!r} must be a function, not {hook!r}"
                )
        payloads = type(None) if pld_spec is None else pld_spec
        given = ext_type_tuple(f"@context of {fn.__qualname__!r}", ext_types)
        exts = given if ext_types is not None else _custom_members(payloads)
        if (dec_hook or enc_hook) and not exts:
            raise TypeError(
                f"{fn.__qualname__!r} was given an `enc_hook` or `dec_hook` but no `ext_types` for it to handle"
            )
        spec = ContextSpec(_context_param(fn), payloads, dec_hook, enc_hook, exts or None)
        setattr(fn, CONTEXT_MARK, spec)
        return fn

    return mark if func is None else mark(func)


def stream(func: F) -> F:
    """Mark an async function as a legacy one-way stream endpoint; it sends with ``stream.send()``.

    Raises:
        TypeError: it has no parameter ``stream`` (or ``ctx``, or ``to_trio``).
    """
    signature = own_signature(func)
    for name in ("stream", "ctx", "to_trio"):
        if signature is not None and name in signature.parameters:
            setattr(func, STREAM_MARK, name)
            return func
    raise TypeError(
        f"the first argument of the stream function {func.__name__!r} must be `stream: tractor.MsgStream`"
    )


def _annotations(fn: Callable[..., Any]) -> dict[str, Any]:
    if sys.version_info >= (3, 14):
        return annotationlib.get_annotations(fn, format=annotationlib.Format.FORWARDREF)
    return dict(getattr(fn, "__annotations__", {}))


def _context_param(fn: Callable[..., Any]) -> str:
    scope = getattr(inspect.unwrap(fn), "__globals__", {})
    for name, hint in _annotations(inspect.unwrap(fn)).items():
        if name != "return" and _names_context(hint, scope):
            return _by_name(fn, name)
    code = getattr(inspect.unwrap(fn), "__code__", None)
    if (
        code is not None
        and code.co_varnames[: code.co_argcount][:1] == ("ctx",)
        and "ctx" not in _annotations(inspect.unwrap(fn))
    ):
        return _by_name(fn, "ctx")
    raise TypeError(
        f"the context endpoint {fn.__qualname__!r} needs one parameter annotated as in `ctx: tractor.Context`"
    )


def _by_name(fn: Callable[..., Any], name: str) -> str:
    """The name of the context parameter.  Raises TypeError: no argument can be given by it."""
    code = getattr(inspect.unwrap(fn), "__code__", None)
    if code is not None and name not in _keyword_names(code):
        raise TypeError(
            f"the parameter {name!r} of the context endpoint {fn.__qualname__!r} must be one that can be given"
            f" by name, as in `{name}: tractor.Context`: no `/` behind it, no `*` before it"
        )
    return name


def _keyword_names(code: CodeType) -> tuple[str, ...]:
    end = code.co_argcount + code.co_kwonlyargcount
    return code.co_varnames[code.co_posonlyargcount : end]


def _names_context(hint: Any, scope: dict[str, Any]) -> bool:
    """Whether an annotation, evaluated or not, is ``tractor.Context`` or a union with it."""
    text = hint if isinstance(hint, str) else getattr(hint, "__forward_arg__", None)
    if isinstance(text, str):
        return any(_text_names_context(part, scope) for part in _union_parts(text))
    origin = get_origin(hint)
    if origin is Union or isinstance(hint, _UNION_TYPE):
        return any(_names_context(arg, scope) for arg in get_args(hint))
    return getattr(origin or hint, "__tractor_context_class__", False) is True


_UNION_TYPE = type(int | None)


def _union_parts(text: str) -> list[str]:
    text = text.strip().strip("'\"")
    for prefix in ("Optional[", "typing.Optional[", "Union[", "typing.Union["):
        if text.startswith(prefix) and text.endswith("]"):
            return [part.strip() for part in text[len(prefix) : -1].split(",")]
    return [part.strip() for part in text.split("|")]


def _text_names_context(text: str, scope: dict[str, Any]) -> bool:
    base = text.split("[", 1)[0].strip("'\" ")
    value: Any = scope.get(base.split(".", 1)[0])
    for attr in base.split(".")[1:]:
        value = getattr(value, attr, None)
    if value is not None:
        return getattr(value, "__tractor_context_class__", False) is True
    # Imported for type checking only, or defined in a function: the name has to do.
    return base.rsplit(".", 1)[-1] == "Context"


def _custom_members(spec: Any) -> tuple[Any, ...]:
    """The members of a payload spec that msgspec does not know."""
    try:
        return tuple(unknown_types(spec))
    except Exception:
        # Not known yet, such as a forward reference; `_payload_rules` tells of a type that never will be.
        return ()


def kind_of(fn: Any) -> Kind | None:
    """The kind of dialog that ``fn`` serves; ``None`` when it is not an endpoint."""
    if getattr(fn, CONTEXT_MARK, None) is not None:
        return Kind.CONTEXT
    if getattr(fn, STREAM_MARK, None) is not None:
        return Kind.STREAM
    if inspect.isasyncgenfunction(fn):
        return Kind.ASYNCGEN
    if inspect.iscoroutinefunction(fn):
        return Kind.CALL
    return None


_known: dict[Any, Endpoint] = of_process({})


def describe(fn: Any, name: str) -> Endpoint | None:
    """The endpoint that ``fn`` is; ``None`` when it is none.  Kept by function object.

    Raises:
        TypeError: its payload spec is a type that msgspec can't decode.
    """
    try:
        known = _known.get(fn)
    except TypeError:
        # Functions can be hashed; this is another kind of value.
        return None
    if known is not None:
        return known
    kind = kind_of(fn)
    if kind is None:
        return None
    spec: ContextSpec | None = getattr(fn, CONTEXT_MARK, None)
    param = spec.param if spec else getattr(fn, STREAM_MARK, None)
    pld_dec, encoder = (None, None) if spec is None else _payload_rules(spec, name)
    hooks = (spec.dec_hook, spec.ext_types or ()) if spec else (None, ())
    conversions = conversions_of(fn, param, *hooks)
    home = canonical(getattr(inspect.unwrap(fn), "__module__", None) or "")
    found = Endpoint(
        fn, kind, name, param, pld_dec, encoder, conversions, conversions.takes_anything, home
    )
    _known[fn] = found
    return found


def _payload_rules(
    spec: ContextSpec, name: str
) -> tuple[MsgDec | None, msgspec.msgpack.Encoder | None]:
    """Made on first use: when a function is decorated its payload types may not all be defined yet."""
    encoder = msgspec.msgpack.Encoder(enc_hook=spec.enc_hook) if spec.enc_hook else None
    if spec.pld_spec is Any and spec.ext_types is None:
        return None, encoder
    try:
        exts = spec.ext_types if spec.dec_hook is not None else None
        return mk_dec(spec.pld_spec, spec.dec_hook, exts), encoder
    except (TypeError, NameError) as exc:
        raise TypeError(f"the payload spec of {name} can't be decoded: {exc}") from exc


def canonical(ns: str) -> str:
    """The script that the root was started with has two names; requests may use either."""
    return "__main__" if ns == "__mp_main__" else ns


def find_endpoint(enabled: set[str], ns: str, func: str, kind: str) -> Endpoint:
    """The endpoint ``ns:func``, which must be in an enabled module and of the kind that was asked for.

    Args:
        enabled: canonical names of the modules that peers may call into.
        ns: module name.
        func: function name, or ``Class.name`` for a method.
        kind: the dialog's kind on the wire.

    Raises:
        ModuleNotExposed: the module is not enabled.
        AttributeError: it has no such function.
        TypeError: that is not an async function, or one of another kind.
    """
    own = canonical(ns)
    if own not in enabled or (module := _loaded(own, func)) is None:
        raise ModuleNotExposed(
            f"module {ns!r} is not exposed by this actor (asked for {ns}:{func}); "
            f"add it to `enable_modules`, which now has {sorted(enabled)}"
        )
    try:
        target = static_attribute(module, func)
    except LookupError as exc:
        raise AttributeError(f"{ns}:{func}: {exc.args[0]}") from None
    found = _known.get(target) if type(target) is FunctionType else None
    # Asked nothing that runs code of its own, unless it can be called: a decorator may have made it.
    if found is None and callable(target) and not issubclass(type(target), type):
        found = describe(target, f"{ns}:{func}")
    if found is None:
        raise TypeError(
            f"{ns}:{func} must be an async function, and is a {type(target).__name__!r}"
        )
    if found.home not in enabled:
        # What an enabled module has merely imported is not exposed with it.
        raise ModuleNotExposed(
            f"{ns}:{func} is defined in module {found.home!r}, which is not exposed by this actor; "
            f"add it to `enable_modules`, which now has {sorted(enabled)}"
        )
    if found.kind.wire != kind:
        raise TypeError(
            f"{ns}:{func} must be an async function of the kind {kind!r} to be used so; "
            f"it is of the kind {found.kind.value!r}"
        )
    return found


def static_attribute(module: Any, path: str) -> Any:
    """What ``path`` leads to from a module, through classes alone, without running anything on the way.

    No ``__getattr__`` of the module, no metaclass, no descriptor: a peer chooses the names.

    Raises:
        LookupError: it leads to nothing; the text says where.
    """
    if type(module) is ModuleType and type(found := module.__dict__.get(path)) is FunctionType:
        # Most are just that.
        return found
    *classes, name = path.split(".")
    try:
        spaces: list[Mapping[str, Any]] = [vars(module)]
    except TypeError:
        # What a program has put in its module's place.
        raise LookupError(
            f"a {type(module).__name__!r} object has no attributes of its own"
        ) from None
    holder: Any = module
    for part in classes:
        holder = _first(spaces, part, holder)
        # Its own class, not what a `__class__` says.
        if not issubclass(type(holder), type):
            raise LookupError(f"{part!r} is not a class")
        spaces = [_dict_of(cls) for cls in _mro_of(holder)]
    found = _first(spaces, name, holder)
    if type(found) is staticmethod:
        return found.__func__
    if type(found) is classmethod:
        return MethodType(found.__func__, holder)
    return found


def _first(spaces: list[Mapping[str, Any]], name: str, holder: Any) -> Any:
    for space in spaces:
        if name in space:
            return space[name]
    kind = "class" if issubclass(type(holder), type) else "module"
    raise LookupError(f"this {kind} has no attribute {name!r}")


# Whatever a metaclass defines.
_dict_of = type.__dict__["__dict__"].__get__
_mro_of = type.__dict__["__mro__"].__get__


def _loaded(ns: str, func: str) -> Any:
    modules = sys.modules
    if ns != "__main__":
        return modules.get(ns)
    registered = modules.get("__mp_main__") or modules.get("__main__")
    first = func.partition(".")[0]
    if first in vars(registered):
        return registered
    return next((main for main in main_modules() if first in vars(main)), registered)
