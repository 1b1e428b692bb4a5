"""Codecs for the envelope and decoders for payloads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import msgspec
from msgspec import Raw
from msgspec.inspect import CustomType, type_info
from msgspec.msgpack import Decoder, Encoder

from ._union import join_union, spec_text, union_members
from .types import mk_msg_spec

EncHook = Callable[[Any], Any]
"""Gives a value that msgspec can encode for one that it cannot."""

DecHook = Callable[[type, Any], Any]
"""Makes an object of the given type from what was decoded; raises ``TypeError`` or ``ValueError``
if it cannot.
"""


class _Decoder(Protocol):
    def decode(self, buf: Any, /) -> Any: ...


class MsgCodec(msgspec.Struct, frozen=True, eq=False):
    """Encodes and decodes whole messages.  Made by :func:`mk_codec`."""

    pld_spec: Any
    msg_spec: Any
    enc: Encoder
    dec: Decoder[Any]
    enc_hook: EncHook | None = None
    ext_types: tuple[Any, ...] = ()

    @property
    def pld_spec_str(self) -> str:
        """:attr:`pld_spec` for people."""
        return spec_text(self.pld_spec)

    @property
    def msg_spec_str(self) -> str:
        """:attr:`msg_spec` for people."""
        return spec_text(self.msg_spec)

    def encode(self, obj: Any) -> bytes:
        """``obj`` as msgpack.

        Raises:
            TypeError, ValueError, OverflowError, RecursionError: it cannot be encoded; nothing was
                sent.
        """
        return self.enc.encode(obj)

    def decode(self, buf: bytes) -> Any:
        """The message in ``buf``.

        Raises:
            msgspec.DecodeError: it is no msgpack.
            msgspec.ValidationError: it is no message of :attr:`msg_spec`.
        """
        return self.dec.decode(buf)


def mk_codec(
    ipc_pld_spec: Any = Raw,
    libname: str = "msgspec",
    enc_hook: EncHook | None = None,
    ext_types: Iterable[Any] | None = None,
    ext_dec: DecHook | None = None,
) -> MsgCodec:
    """A codec for the envelope.

    Args:
        ipc_pld_spec: the type of payloads that it decodes; ``Raw`` leaves them undecoded for their
            reader.
        libname: the library that encodes; there is ``'msgspec'`` only.
        enc_hook: encodes the types that msgspec does not know.
        ext_types: the types that the hooks handle; payloads may have them besides ``ipc_pld_spec``.
        ext_dec: decodes them; used where payloads are decoded with the envelope.

    Raises:
        ValueError: another ``libname``.
        TypeError: a hook without ``ext_types``, or a union that msgspec cannot decode.
    """
    if libname != "msgspec":
        raise ValueError(f"libname {libname!r} is not known; there is 'msgspec' only")
    extra = _checked_ext_types("mk_codec", ext_types, enc_hook=enc_hook, ext_dec=ext_dec)
    pld_spec = ipc_pld_spec
    if extra and pld_spec is not Raw:
        pld_spec = join_union((ipc_pld_spec, *extra))
    msg_spec = mk_msg_spec(pld_spec)
    decoder: Decoder[Any] = Decoder(msg_spec, dec_hook=ext_dec)
    return MsgCodec(pld_spec, msg_spec, Encoder(enc_hook=enc_hook), decoder, enc_hook, extra)


class MsgDec(msgspec.Struct, frozen=True, eq=False):
    """Decodes payloads.  Made by :func:`mk_dec`."""

    spec: Any
    hook: DecHook | None
    dec: _Decoder

    @property
    def spec_str(self) -> str:
        """:attr:`spec` for people."""
        return spec_text(self.spec)

    def decode(self, raw: Raw | bytes) -> Any:
        """The value in ``raw``.

        Raises:
            msgspec.DecodeError: it is no msgpack.
            msgspec.ValidationError: it is no value of :attr:`spec`.
        """
        return self.dec.decode(raw)


def mk_dec(
    spec: Any, dec_hook: DecHook | None = None, ext_types: Iterable[Any] | None = None
) -> MsgDec:
    """A decoder for payloads of type ``spec``, or of any of ``ext_types``.

    On the wire an extension type looks like the plain value that its hook made.  Where both a plain
    type and an extension type could have been meant, the extension types are tried first, in their
    order; a ``dec_hook`` declines a value with ``TypeError`` or ``ValueError``.

    Args:
        spec: the type, or union of types; ``None`` together with ``ext_types``: these or ``None``.
        dec_hook: makes objects of the types that msgspec does not know.
        ext_types: those types.

    Raises:
        TypeError: a hook without ``ext_types``; ``None`` without ``ext_types``; a type that msgspec
            cannot decode.
    """
    extra = _checked_ext_types("mk_dec", ext_types, dec_hook=dec_hook)
    if spec is None and not extra:
        raise TypeError(
            "mk_dec(None) without `ext_types` decodes nothing; for no value use type(None)"
        )
    union = join_union((spec, *extra)) if extra else spec
    return MsgDec(union, dec_hook, _mk_decoder(spec, extra, dec_hook))


def unknown_types(spec: Any) -> list[type]:
    """The members of a union that msgspec does not know, so that hooks must handle them."""
    return [member for member in union_members(spec) if _is_custom(member)]


def _is_custom(member: Any) -> bool:
    return member is not Any and isinstance(type_info(member), CustomType)


def _checked_ext_types(
    caller: str, ext_types: Iterable[Any] | None, **hooks: object
) -> tuple[Any, ...]:
    types = tuple(ext_types or ())
    names = [f"`{name}`" for name, hook in hooks.items() if hook is not None]
    if names and not types:
        raise TypeError(
            f"{caller}() got {' and '.join(names)} without `ext_types`, the types that it handles"
        )
    return types


class _FirstMatch:
    """Tries several decoders in turn, for unions that msgspec cannot decode as one."""

    def __init__(self, spec: Any, decoders: list[Decoder[Any]]) -> None:
        self._spec = spec
        self._decoders = decoders

    def decode(self, buf: Any, /) -> Any:
        failures = []
        for decoder in self._decoders:
            try:
                return decoder.decode(buf)
            except msgspec.ValidationError as exc:
                failures.append(str(exc))
        raise msgspec.ValidationError(
            f"Expected `{spec_text(self._spec)}`: {'; '.join(dict.fromkeys(failures))}"
        )


def _mk_decoder(spec: Any, extra: tuple[Any, ...], hook: DecHook | None) -> _Decoder:
    members = list(dict.fromkeys((*extra, *union_members(spec))))
    custom = [member for member in members if _is_custom(member)]
    plain = [member for member in members if member not in custom]
    alone = not plain or plain in ([None], [type(None)])
    if not custom or (len(custom) == 1 and alone):
        return Decoder(join_union(members), dec_hook=hook)
    parts = [*custom, join_union(plain)] if plain else custom
    return _FirstMatch(join_union(members), [Decoder(part, dec_hook=hook) for part in parts])


_default_codec = mk_codec()
_codec_var: ContextVar[MsgCodec] = ContextVar("tractor_codec", default=_default_codec)


class CodecHolder(Protocol):
    """What a dialog must have to be given a codec of its own: an attribute that is ``None`` without
    one.
    """

    _codec: MsgCodec | None


def current_codec() -> MsgCodec:
    """The codec of this task: the one that it, or the task that started it, applied last."""
    return _codec_var.get()


@contextmanager
def apply_codec(codec: MsgCodec, ctx: CodecHolder | None = None) -> Iterator[MsgCodec]:
    """Use ``codec`` within the block, in this task and in those that it starts there.

    Args:
        codec: made by :func:`mk_codec`.
        ctx: a dialog; the codec is then used for that one only, by whatever task.
    """
    if ctx is not None:
        former, ctx._codec = ctx._codec, codec
        try:
            yield codec
        finally:
            ctx._codec = former
        return
    token = _codec_var.set(codec)
    try:
        yield codec
    finally:
        _codec_var.reset(token)


@contextmanager
def limit_msg_spec(payload_spec: Any, **codec_kwargs: Any) -> Iterator[MsgCodec]:
    """Apply a codec for payloads of type ``payload_spec`` to this task; see :func:`mk_codec`."""
    with apply_codec(mk_codec(payload_spec, **codec_kwargs)) as codec:
        yield codec
