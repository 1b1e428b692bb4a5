"""The payloads of one dialog: what they must be, how they are encoded and decoded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from msgspec import Raw
from msgspec.msgpack import Encoder

from tractor.msg._codec import ANY_DEC, DecHook, MsgCodec, MsgDec, current_codec, mk_dec
from tractor.msg._payload import payload_type_error
from tractor.msg.types import Error, PayloadMsg, Return, Yield
from tractor.trionics._ki import ki_protected_manager


class PldRx:
    """The payload decoder of one dialog.

    Of the rules that may be in force the first of these decides on what a payload must be and how it is decoded:

    1. the innermost :func:`limit_plds` of the dialog;
    2. a codec applied to the dialog, ``apply_codec(codec, ctx)``, if it has a payload type;
    3. what the endpoint declared, ``@context(pld_spec=..., dec_hook=..., ext_types=...)``; without that the
       decoding hook of the dialog's codec;
    4. the codec of the task that reads, ``apply_codec(codec)``; without one everything is allowed.

    Payloads are encoded with the ``enc_hook`` of the dialog's codec, else of the endpoint, else of the task's codec.

    Not built by users: see ``Context.pld_rx``.
    """

    __slots__ = (
        "_codec",
        "_declared",
        "_declared_encoder",
        "_limits",
        "fixed_decode",
        "fixed_encoder",
    )

    def __init__(self, declared: MsgDec | None = None, encoder: Encoder | None = None) -> None:
        self._declared = declared
        self._declared_encoder = encoder
        self._codec: MsgCodec | None = None
        self._limits: tuple[MsgDec, ...] = ()
        # What decodes and encodes whatever the task that reads or sends; `None` where its codec decides.
        self.fixed_decode: Callable[[Any], Any] | None = (
            None if declared is None else declared.dec.decode
        )
        self.fixed_encoder = encoder

    def _settle(self) -> None:
        fixed = self._fixed_dec()
        self.fixed_decode = None if fixed is None else fixed.dec.decode
        codec = self._codec
        if codec is not None and codec.enc_hook is not None:
            self.fixed_encoder = codec.enc
        else:
            self.fixed_encoder = self._declared_encoder

    def _fixed_dec(self) -> MsgDec | None:
        if self._limits:
            return self._limits[-1]
        codec = self._codec
        if codec is not None and (codec.pld_spec is not Raw or self._declared is None):
            return None if codec.pld_dec is ANY_DEC else codec.pld_dec
        return self._declared

    @property
    def pld_dec(self) -> MsgDec:
        """The decoder in force, for the calling task."""
        return self._fixed_dec() or current_codec().pld_dec

    @property
    def spec(self) -> Any:
        """The payload type in force, for the calling task."""
        return self.pld_dec.spec

    @property
    def encoder(self) -> Encoder:
        """The encoder in force, for the calling task."""
        return self.fixed_encoder or current_codec().enc

    @property
    def codec(self) -> MsgCodec | None:
        """The codec that was applied to this dialog alone."""
        return self._codec

    @codec.setter
    def codec(self, codec: MsgCodec | None) -> None:
        self._codec = codec
        self._settle()

    def decode(self, raw: Any) -> Any:
        """The value of a payload.

        Raises:
            msgspec.DecodeError: it is not msgpack.
            msgspec.ValidationError: it is not of :attr:`spec`.
        """
        return (self.fixed_decode or current_codec().pld_dec.dec.decode)(raw)

    def decode_pld(self, msg: PayloadMsg[Any]) -> Any:
        """The value that a message of this dialog carries.

        Args:
            msg: ``Started``, ``Yield`` or ``Return``, its payload as it came (``Raw``); a value is given back as it is.

        Raises:
            MsgTypeError: it is not of :attr:`spec`.  The dialog goes on.
        """
        if type(msg.pld) is not Raw:
            return msg.pld
        try:
            return self.decode(msg.pld)
        except Exception as exc:
            raise payload_type_error(
                type(msg), msg.pld, self.pld_dec.spec_str, bad_msg=msg, cause=exc
            ) from exc

    async def recv_msg(self, ipc: Readable) -> Yield[Any]:
        """The next message of a context's open stream, undecoded.

        Args:
            ipc: the stream.

        Raises:
            BaseException: as ``MsgStream.receive()``.
        """
        return await ipc.receive_msg()

    def recv_msg_nowait(self, ipc: Readable) -> Yield[Any]:
        """As :meth:`recv_msg`, if one is there.  Raises also trio.WouldBlock."""
        return ipc.receive_msg_nowait()

    async def recv_pld(self, ipc: Readable) -> Any:
        """The value of the next message of a context's open stream.

        Args:
            ipc: the stream.

        Raises:
            BaseException: as ``MsgStream.receive()``.
        """
        return await ipc.receive()

    @contextmanager
    def limit_plds(self, spec: Any, **dec_kwargs: Any) -> Iterator[MsgDec]:
        """Decode with ``spec`` within the block, whoever reads; see :func:`limit_plds`."""
        decoder = mk_dec(spec, **dec_kwargs)
        self._limits = (*self._limits, decoder)
        self._settle()
        try:
            yield decoder
        finally:
            # By identity: blocks of two tasks may end in any order.
            self._limits = tuple(limit for limit in self._limits if limit is not decoder)
            self._settle()

    def __repr__(self) -> str:
        return f"<PldRx {self.pld_dec.spec_str}>"


class Readable(Protocol):
    """The reading end of a dialog: a ``MsgStream``."""

    async def receive(self) -> Any: ...

    async def receive_msg(self) -> Yield[Any]: ...

    def receive_msg_nowait(self) -> Yield[Any]: ...


class DialogWithPayloads(Protocol):
    """A dialog whose payloads have rules."""

    @property
    def pld_rx(self) -> PldRx: ...


class DrainableDialog(Protocol):
    """A dialog that can be read to its end."""

    async def drain(self, keep: int) -> tuple[Return[Any] | Error | None, list[Yield[Any]]]: ...


current_dialog: ContextVar[Any] = ContextVar("tractor_ipc_ctx", default=None)
"""The innermost open context of a task, ``None`` outside one; inherited by the tasks that it starts."""


@contextmanager
def limit_plds(spec: Any, **dec_kwargs: Any) -> Iterator[MsgDec]:
    """Decode, and check before sending, the payloads of the current context with ``spec`` within the block.

    It holds for that dialog whatever task reads from it, and takes precedence over what the endpoint declared.

    Args:
        spec: the type, or union of types, that every payload must have.
        dec_kwargs: ``dec_hook`` and ``ext_types``; see ``mk_dec()``.

    Yields:
        The decoder.

    Raises:
        RuntimeError: no context is open in this task.
        TypeError: as ``mk_dec()``.
    """
    ctx: DialogWithPayloads | None = current_dialog.get()
    if ctx is None:
        raise RuntimeError(
            f"limit_plds({spec!r}) needs an active context: use it in an endpoint marked with `@tractor.context`, "
            "or in the block of `portal.open_context()`"
        )
    with ctx.pld_rx.limit_plds(spec, **dec_kwargs) as decoder:
        yield decoder


@ki_protected_manager
async def maybe_limit_plds(
    ctx: DialogWithPayloads, spec: Any = None, dec_hook: DecHook | None = None, **kw: Any
) -> AsyncIterator[MsgDec | None]:
    """Like :func:`limit_plds` for the context ``ctx``, unless neither ``spec`` nor ``ext_types`` are given.

    Args:
        ctx: the context.
        spec: the type that every payload must have; ``None``: no limit (or, with ``ext_types``, these or ``None``).
        dec_hook: makes objects of ``ext_types``.
        kw: ``ext_types``; see ``mk_dec()``.

    Yields:
        The decoder; ``None`` without a limit.

    Raises:
        TypeError: as ``mk_dec()``; also a hook without anything to limit.
    """
    if spec is None and dec_hook is None and not kw.get("ext_types"):
        yield None
        return
    with ctx.pld_rx.limit_plds(spec, dec_hook=dec_hook, **kw) as decoder:
        yield decoder


async def drain_to_final_msg(
    ctx: DrainableDialog, msg_limit: int = 6
) -> tuple[Return[Any] | Error | None, list[Yield[Any]]]:
    """Discard what the peer still streams until the dialog's final message has come.

    Parent side of a context.  It takes as long as the remote task does, and nothing bounds the number of messages
    that are discarded.  Senders that wait for credit go on.

    Args:
        ctx: the context.
        msg_limit: how many of the discarded messages, the first ones, are returned.

    Returns:
        The final message, and the discarded ones.  The message is ``None`` when the dialog ended without one: the
        peer was lost, or broke the rules; ``ctx.maybe_error`` says which.

    Raises:
        RuntimeError: on the child side.
        ValueError: a negative ``msg_limit``.
    """
    if msg_limit < 0:
        raise ValueError(f"`msg_limit` is a number of messages, not {msg_limit}")
    return await ctx.drain(msg_limit)
