"""Codecs for the envelope and decoders for payloads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, get_origin

import msgspec
from msgspec import Raw
from msgspec.inspect import CustomType, type_info
from msgspec.msgpack import Encoder

from tractor.msg._union import join_union, spec_text, union_members
from tractor.msg.bounded._bounded import Bounded
from tractor.msg.types import ENVELOPE, mk_msg_spec

EncHook = Callable[[Any], Any]
"""Gives a value that msgspec can encode for one that it cannot."""

DecHook = Callable[[type, Any], Any]
"""Makes an object of the given type from what was decoded; raises ``TypeError`` or ``ValueError``
if it cannot.
"""


class _Decoder(Protocol):
    @property
    def decode(self) -> Callable[[Any], Any]: ...


class MsgDec(msgspec.Struct, frozen=True, eq=False):
    """Decodes payloads.  Made by :func:`mk_dec`."""

    spec: Any
    hook: DecHook | None
    dec: _Decoder

    @property
    def spec_str(self) -> str:
        """:attr:`spec` in words."""
        return spec_text(self.spec)

    def decode(self, raw: Raw | bytes) -> Any:
        """The value in ``raw``.

        Raises:
            msgspec.DecodeError: it is not msgpack.
            msgspec.ValidationError: it is not a value of :attr:`spec`.
        """
        return self.dec.decode(raw)


class MsgCodec(msgspec.Struct, frozen=True, eq=False):
    """Encodes and decodes whole messages, and payloads by themselves.  Made by :func:`mk_codec`.

    Attributes:
        pld_spec: the type of payloads; ``Raw`` leaves those of a message undecoded for their reader.
        msg_spec: the union of messages that :meth:`decode` takes.
        enc, dec: the encoder and the decoder of messages.
        pld_dec: decodes a payload by itself, for a reader; of any type where ``pld_spec`` is ``Raw``.
    """

    pld_spec: Any
    msg_spec: Any
    enc: Encoder
    dec: _Decoder
    pld_dec: MsgDec
    enc_hook: EncHook | None = None
    ext_types: tuple[Any, ...] = ()

    @property
    def pld_spec_str(self) -> str:
        """:attr:`pld_spec` in words."""
        return spec_text(self.pld_spec)

    @property
    def msg_spec_str(self) -> str:
        """:attr:`msg_spec` in words."""
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
            msgspec.DecodeError: it is not msgpack.
            msgspec.ValidationError: it is not a message of :attr:`msg_spec`.
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
        ext_dec: decodes them.

    Raises:
        ValueError: another ``libname``.
        TypeError: a hook without ``ext_types``, ``ext_types`` that is not a list of types, or a union that msgspec
            cannot decode.
    """
    if libname != "msgspec":
        raise ValueError(f"libname {libname!r} is not known; there is 'msgspec' only")
    extra = _checked_ext_types("mk_codec", ext_types, enc_hook=enc_hook, ext_dec=ext_dec)
    pld_spec = ipc_pld_spec
    if extra and pld_spec is not Raw:
        pld_spec = join_union((ipc_pld_spec, *extra))
    msg_spec = mk_msg_spec(pld_spec)
    plain = pld_spec is Raw and ext_dec is None
    pld_dec = ANY_DEC
    if not plain:
        spec = type(None) if ipc_pld_spec is None else ipc_pld_spec
        spec = Any if spec is Raw else spec
        pld_dec = mk_dec(spec, ext_dec, extra if ext_dec is not None else None)
    decoder: _Decoder = ENVELOPE
    if pld_spec is not Raw:
        try:
            decoder = Bounded(msg_spec, ext_dec)
        except TypeError:
            # Several types that msgspec does not know, which it takes by themselves only.
            decoder = _TwoSteps(pld_dec)
    encoder = Encoder(enc_hook=enc_hook)
    return MsgCodec(pld_spec, msg_spec, encoder, decoder, pld_dec, enc_hook, extra)


def mk_dec(
    spec: Any, dec_hook: DecHook | None = None, ext_types: Iterable[Any] | None = None
) -> MsgDec:
    """A decoder for payloads of type ``spec``, or of any of ``ext_types``.

    On the wire an extension type looks like the plain value that its hook made.  Where both a plain
    type and an extension type could have been meant, the extension types are tried first, in their
    order: the value, decoded to plain objects, is offered to the hook as each of them.  A ``dec_hook`` declines one
    with ``TypeError`` or ``ValueError``, without having changed it; a value without the item or attribute that the
    hook looks for is declined, too.

    Args:
        spec: the type, or union of types; ``None`` together with ``ext_types``: these or ``None``.
        dec_hook: makes objects of the types that msgspec does not know.
        ext_types: those types.

    Raises:
        TypeError: a hook without ``ext_types``; ``ext_types`` that is not a list of types; ``None`` without
            ``ext_types``; a type that msgspec
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


def ext_type_tuple(caller: str, ext_types: Any) -> tuple[Any, ...]:
    """``ext_types`` as given to ``caller``, as a tuple.  Raises TypeError: it is not a list of types."""
    listed = () if ext_types is None else ext_types
    if isinstance(listed, (type, str)) or not isinstance(listed, Iterable):
        raise TypeError(f"{caller} takes `ext_types` as a list of types, not {ext_types!r}")
    types = tuple(listed)
    for member in types:
        if isinstance(member, (str, bytes, int)):
            raise TypeError(f"{caller} got {member!r} in `ext_types`, which is not a type")
    return types


def _checked_ext_types(
    caller: str, ext_types: Iterable[Any] | None, **hooks: object
) -> tuple[Any, ...]:
    types = ext_type_tuple(caller, ext_types)
    names = [f"`{name}`" for name, hook in hooks.items() if hook is not None]
    if names and not types:
        raise TypeError(
            f"{caller}() got {' and '.join(names)} without `ext_types`, the types that it handles"
        )
    return types


class _TwoSteps:
    """Decodes a message, then its payload, for payload types that msgspec cannot decode along with a message."""

    def __init__(self, pld_dec: MsgDec) -> None:
        self._pld_dec = pld_dec

    def decode(self, buf: Any, /) -> Any:
        msg: Any = ENVELOPE.decode(buf)
        if isinstance(getattr(msg, "pld", None), Raw):
            msg.pld = self._pld_dec.decode(msg.pld)
        return msg


class _FirstMatch:
    """Offers a value to the hook as each extension type in turn, then decodes it as the plain union.

    For unions that msgspec cannot decode as one.  Without a hook no value is of an extension type.
    """

    def __init__(
        self,
        spec: Any,
        custom: list[Any],
        hook: DecHook | None,
        plain: _Decoder | None,
    ) -> None:
        self._spec = spec
        self._custom = [(member, get_origin(member) or member) for member in custom]
        self._hook = hook
        self._plain = plain

    def decode(self, buf: Any, /) -> Any:
        failures = []
        hook = self._hook
        if hook is not None:
            # Once for all of them: a large payload is not copied for each.
            value = _for_hooks(buf)
            for member, cls in self._custom:
                try:
                    made = hook(member, value)
                except _DECLINED as exc:
                    failures.append(f"{type(exc).__name__}: {exc}")
                    continue
                if isinstance(made, cls):
                    return made
                failures.append(f"Expected `{spec_text(member)}`, got `{type(made).__name__}`")
        if self._plain is not None:
            try:
                return self._plain.decode(buf)
            except msgspec.ValidationError as exc:
                failures.append(str(exc))
        raise msgspec.ValidationError(
            f"Expected `{spec_text(self._spec)}`: {'; '.join(dict.fromkeys(failures))}"
        )


_DECLINED = (TypeError, ValueError, LookupError, AttributeError, NotImplementedError)
"""How a hook says that a value is of another type: on purpose, or because it is not of the shape that it looks into."""


def _mk_decoder(spec: Any, extra: tuple[Any, ...], hook: DecHook | None) -> _Decoder:
    members = list(dict.fromkeys((*extra, *union_members(spec))))
    custom = [member for member in members if _is_custom(member)]
    plain = [member for member in members if member not in custom]
    alone = not plain or plain in ([None], [type(None)])
    if not custom or (len(custom) == 1 and alone):
        return Bounded(join_union(members), hook)
    rest = Bounded(join_union(plain), hook) if plain else None
    return _FirstMatch(join_union(members), custom, hook, rest)


ANY_DEC = mk_dec(Any)
"""The decoder of payloads of any type."""

_for_hooks = Bounded(Any, views=True).decode
"""The same for a hook's eyes alone."""

_default_codec = mk_codec()
_codec_var: ContextVar[MsgCodec] = ContextVar("tractor_codec", default=_default_codec)

codec_in_force = _codec_var.get
""":func:`current_codec` for the way of each message: without a frame of its own."""


class CodecHolder(Protocol):
    """What a dialog must have to be given a codec of its own: an attribute that is ``None`` without
    one.
    """

    @property
    def _codec(self) -> MsgCodec | None: ...
    @_codec.setter
    def _codec(self, codec: MsgCodec | None) -> None: ...


def current_codec() -> MsgCodec:
    """The codec of this task: the one that it, or the task that started it, applied last."""
    return _codec_var.get()


_blocks: dict[int, list[list[MsgCodec | None]]] = {}
"""By the id of each dialog in such a block: what it had before, then the codec of each block, each in a list of its
own, which tells blocks of one codec apart.  A block keeps its dialog alive."""


@contextmanager
def _applied_to(ctx: CodecHolder, codec: MsgCodec) -> Iterator[None]:
    blocks = _blocks.setdefault(id(ctx), [[ctx._codec]])
    own: list[MsgCodec | None] = [codec]
    blocks.append(own)
    ctx._codec = codec
    try:
        yield
    finally:
        # Blocks of two tasks may end in any order: the last one that is still open decides.
        blocks[:] = [block for block in blocks if block is not own]
        ctx._codec = blocks[-1][0]
        if len(blocks) == 1:
            del _blocks[id(ctx)]


@contextmanager
def apply_codec(codec: MsgCodec, ctx: CodecHolder | None = None) -> Iterator[MsgCodec]:
    """Use ``codec`` within the block, in this task and in those that it starts there.

    Args:
        codec: made by :func:`mk_codec`.
        ctx: a dialog; the codec is then used for that one only, by whatever task.  Where blocks of several tasks
            overlap, the last one that was entered and is still open decides.

    Raises:
        TypeError: ``codec`` is no :class:`MsgCodec`.
    """
    if not isinstance(codec, MsgCodec):
        raise TypeError(f"apply_codec() takes a codec made by mk_codec(), not {codec!r}")
    if ctx is not None:
        with _applied_to(ctx, codec):
            yield codec
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
