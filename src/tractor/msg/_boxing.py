"""Exceptions into :class:`~tractor.msg.types.Error` messages and back."""

from __future__ import annotations

import os
import traceback
from collections.abc import Collection
from types import TracebackType
from typing import Any

import msgspec
import trio

from tractor._error_registry import find_err_type, type_path
from tractor._errors import (
    UNKNOWN_TYPE,
    ContextCancelled,
    ErrorMsg,
    MsgTypeError,
    RemoteActorError,
    StreamOverrun,
)
from tractor._util._frames import RUNTIME_PACKAGES, is_of, module_of
from tractor._util._plain import class_name, safe_str
from tractor.msg.bounded._bounded import Bounded
from tractor.msg.types import ENVELOPE, Error, Uid, __msg_types__

NO_UID: Uid = ("", "")
"""The source of an error that was packed without saying by which actor."""

BAD_MSG_BYTES = 16 * 1024
"""A larger offending message is not sent back with the error about it, in bytes: to pack an error is to look at
its keys, which may take 6 ms.
"""

MAX_TEXT = 64 * 1024
"""Bytes of an error's message, and of its traceback's text, that travel; it is cut in the middle."""

ROOM_FOR_COUNT = 128

MAX_KINDS = 64
"""Types of an error, and of a group's members, that travel."""

_NO_PLACES = RUNTIME_PACKAGES | {"bdb"}
"""What has raised an error on behalf of somebody else's code; the debugger when it is left."""

MAX_PLACE = 400
"""Characters of a place, or of a type's path, that travel."""

_as_dict = Bounded(dict[str, Any] | None)
_msg_types = {cls.__name__: cls for cls in __msg_types__}

_CODEC_TYPES: tuple[type[BaseException], ...] = (msgspec.ValidationError, TypeError)
"""What a ``MsgTypeError`` boxes."""

_AS_THEMSELVES: dict[type[BaseException] | None, type[RemoteActorError]] = {
    trio.Cancelled: ContextCancelled,
    ContextCancelled: ContextCancelled,
    MsgTypeError: MsgTypeError,
    StreamOverrun: StreamOverrun,
}


def pack_error(
    exc: BaseException,
    cid: int | None = None,
    src_uid: Uid | None = None,
    tb: TracebackType | None = None,
    tb_str: str = "",
    message: str = "",
    *,
    canceller: Uid | None = None,
) -> Error:
    """The message that tells a peer of ``exc``.  It never fails, whatever ``exc`` is.

    An error that came from another actor is relayed: type, uid and text of its source stay, and
    this actor is appended to its path.

    Args:
        exc: the exception.
        cid: the dialog that it ends; ``None``: the whole channel is meant.
        src_uid: the actor that packs it, the own one; default: a pair of empty strings.
        tb: the traceback to show; default: the exception's own.
        tb_str: the traceback as text, instead of ``tb``.
        message: the text, instead of ``str(exc)``.
        canceller: who asked for the cancellation, if ``exc`` is one; default: as ``exc`` itself has
            it.
    """
    own_uid = src_uid or NO_UID
    try:
        if not isinstance(exc, RemoteActorError):
            return _box(exc, cid, own_uid, tb, tb_str, message, canceller)
        if exc.ipc_msg is not None:
            error = _relay(exc, exc.ipc_msg, cid, own_uid, canceller)
        else:
            error = _box(exc, cid, own_uid, tb, tb_str, message, canceller)
            _add_fields(error, exc, canceller)
        # An application may have put anything into these: what the peer can't decode costs the whole channel.
        ENVELOPE.decode(msgspec.msgpack.encode(error))
    except KeyboardInterrupt:
        raise
    except BaseException:
        return _box(exc, cid, own_uid, tb, tb_str, message, canceller, plain=True)
    return error


def _box(
    exc: BaseException,
    cid: int | None,
    own_uid: Uid,
    tb: TracebackType | None,
    tb_str: str,
    message: str,
    canceller: Uid | None,
    *,
    plain: bool = False,
) -> Error:
    """The message for an error of this actor's own; ``plain``: its text is its first argument, and no more is asked."""
    # A ctxc that this actor raises itself stands for the cancellation of its own task.
    boxed = trio.Cancelled if isinstance(exc, ContextCancelled) else type(exc)
    name, path = _names(boxed)
    held, held_path = name, path
    if isinstance(exc, MsgTypeError):
        held, held_path = _names(exc.boxed_type or boxed)
    text = message or (_first_arg(exc) if plain else _message_of(exc))
    # A cancellation has no place in the code that would be worth showing.
    shown = text if boxed is trio.Cancelled else ""
    return Error(
        src_uid=own_uid,
        src_type_str=name,
        boxed_type_str=held,
        src_type_path=path,
        boxed_type_path=held_path,
        relay_path=[own_uid],
        message=_cut(_encodable(text)),
        tb_str=_cut(_encodable(tb_str or shown or _format_traceback(exc, tb))),
        canceller=canceller,
        sender=own_uid,
        cid=cid,
        trail=[(os.getpid(), "" if shown or plain else _place_of(tb or exc.__traceback__))],
        kinds=[] if plain else _kinds_of(exc, boxed),
    )


def _add_fields(error: Error, exc: RemoteActorError, canceller: Uid | None) -> None:
    """What an error of this actor's own, of one of the package's types, carries besides."""
    error.canceller = canceller or exc._field("canceller")
    error.sender = exc.sender or error.sender
    if isinstance(exc, MsgTypeError):
        error._bad_msg, error._bad_msg_as_dict = _bad_msg_fields(exc)


def _relay(
    exc: RemoteActorError, source: ErrorMsg, cid: int | None, own_uid: Uid, canceller: Uid | None
) -> Error:
    """The message for an error that is none of our own.

    Who sent too fast is part of an overrun's data and stays; any other error is now sent by this
    actor.
    """
    return Error(
        src_uid=source.src_uid,
        src_type_str=source.src_type_str,
        boxed_type_str="RemoteActorError",
        src_type_path=source.src_type_path,
        boxed_type_path=type_path(RemoteActorError),
        relay_path=[*exc.relay_path, own_uid],
        message=_cut(source.message),
        tb_str=_cut(source.tb_str),
        canceller=source.canceller or canceller,
        sender=source.sender if source.src_type_path == type_path(StreamOverrun) else own_uid,
        cid=cid,
        _bad_msg=getattr(source, "_bad_msg", None),
        _bad_msg_as_dict=getattr(source, "_bad_msg_as_dict", None),
        trail=[
            *_trail_of(source, len(exc.relay_path)),
            (os.getpid(), _encodable(exc.caller)[:MAX_PLACE]),
        ],
        kinds=source.kinds,
    )


def _trail_of(source: ErrorMsg, length: int) -> list[tuple[int, str]]:
    """One step for each actor that an error came through, also where some have told of none."""
    return [*source.trail[:length], *[(0, "")] * (length - len(source.trail))]


def _place_of(tb: TracebackType | None) -> str:
    """Where an error was raised: the innermost frame that is not the runtime's, if there is one."""
    steps = []
    while tb is not None:
        steps.append(tb)
        tb = tb.tb_next
    users = [step for step in steps if not is_of(module_of(step.tb_frame), _NO_PLACES)]
    for step in (users or steps)[-1:]:
        code = step.tb_frame.f_code
        text = f"{os.path.basename(code.co_filename)}:{step.tb_lineno} in {code.co_qualname}()"
        return _encodable(text)[:MAX_PLACE]
    return ""


def _kinds_of(exc: BaseException, boxed: type[BaseException]) -> list[str]:
    """The paths of all types that an error is of, and that a group's members are of, each once."""
    kinds = dict.fromkeys(_paths_of(boxed))
    rest = [exc]
    while rest and len(kinds) < MAX_KINDS:
        one = rest.pop()
        if isinstance(one, RemoteActorError) and one.ipc_msg is not None:
            kinds |= dict.fromkeys(one.ipc_msg.kinds)
        elif one is not exc:
            kinds |= dict.fromkeys(_paths_of(type(one)))
        if isinstance(one, BaseExceptionGroup):
            rest += reversed(one.exceptions)
    return list(kinds)[:MAX_KINDS]


def _paths_of(cls: type[BaseException]) -> list[str]:
    paths = (_names(base)[1] for base in type.mro(cls) if base is not object)
    return [path for path in paths if 0 < len(path) <= MAX_PLACE]


def unpack_error(
    msg: object, chan: Any = None, *, enabled_modules: Collection[str] = ()
) -> RemoteActorError | None:
    """The exception to raise for an ``Error`` message, or ``None`` if ``msg`` is another one.

    ``ContextCancelled``, ``MsgTypeError`` and ``StreamOverrun`` come as themselves, anything else,
    and these when they were relayed, as :class:`~tractor.RemoteActorError`.

    Args:
        msg: the message.
        chan: the channel that it came over; its peer is the sender where the message names none.
        enabled_modules: names of the modules, enabled in this actor, whose exception types may be
            found.
    """
    if not isinstance(msg, Error):
        return None
    boxed_type = find_err_type(msg.boxed_type_str, msg.boxed_type_path, enabled_modules)
    fields: dict[str, Any] = {
        "src_type": find_err_type(msg.src_type_str, msg.src_type_path, enabled_modules)
    }
    if msg.sender is None and chan is not None:
        fields["sender"] = getattr(getattr(chan, "aid", None), "uid", None)
    # By identity: an application's metaclass may fail to hash its classes.
    own = (cls for known, cls in _AS_THEMSELVES.items() if known is boxed_type)
    cls = next(own, RemoteActorError)
    if fields["src_type"] is MsgTypeError and any(boxed_type is known for known in _CODEC_TYPES):
        cls = MsgTypeError
    if cls is MsgTypeError:
        fields |= _unpack_bad_msg(msg)
    return cls("", ipc_msg=msg, boxed_type=boxed_type, **fields)


def _names(cls: type[BaseException]) -> tuple[str, str]:
    try:
        return _encodable(cls.__name__), _encodable(type_path(cls))
    except KeyboardInterrupt:
        raise
    except BaseException:
        # A metaclass may answer for these names, and may fail.
        return UNKNOWN_TYPE, ""


def _message_of(exc: BaseException) -> str:
    return exc.message if isinstance(exc, RemoteActorError) else safe_str(exc)


def _first_arg(exc: BaseException) -> str:
    args = BaseException.args.__get__(exc)  # type: ignore[attr-defined]
    return safe_str(args[0]) if args else ""


def _visible_part(tb: TracebackType | None) -> TracebackType | None:
    """The traceback from its first frame on that is not the runtime's; the whole one if all are."""
    rest = tb
    while rest is not None:
        if not is_of(module_of(rest.tb_frame), RUNTIME_PACKAGES):
            return rest
        rest = rest.tb_next
    return tb


def _format_traceback(exc: BaseException, tb: TracebackType | None) -> str:
    try:
        shown = _visible_part(tb or exc.__traceback__)
        lines = traceback.format_exception(type(exc), exc, shown)
    except KeyboardInterrupt:
        raise
    except BaseException as failure:
        lines = [
            *traceback.format_tb(tb or exc.__traceback__),
            f"{class_name(type(exc))}: {safe_str(exc)}\n",
            f"(the full traceback could not be formatted: {class_name(type(failure))})\n",
        ]
    return "".join(lines)


def _encodable(text: str) -> str:
    """``text`` without lone surrogates, which the wire cannot carry, and as a plain ``str``."""
    return str.encode(text, "utf-8", "backslashreplace").decode()


def _cut(text: str) -> str:
    """``text`` in at most :data:`MAX_TEXT` bytes: what is over is taken out of its middle, and counted."""
    if len(text) <= MAX_TEXT // 4:
        return text
    data = text.encode()
    if len(data) <= MAX_TEXT:
        return text
    half = (MAX_TEXT - ROOM_FOR_COUNT) // 2
    note = f"\n[... {len(data) - 2 * half} of {len(data)} bytes cut out ...]\n"
    # A character that a cut has split is dropped.
    head, tail = data[:half].decode(errors="ignore"), data[-half:].decode(errors="ignore")
    return head + note + tail


def _bad_msg_fields(exc: MsgTypeError) -> tuple[bytes | None, dict[str, Any] | None]:
    """The offending message as bytes and as a dict, as far as it can be sent back."""
    as_dict = exc.bad_msg_as_dict
    try:
        raw = msgspec.msgpack.encode(exc.bad_msg)
        if len(raw) > BAD_MSG_BYTES:
            # Before it is decoded, which can take as long as to refuse it did.
            return None, None
        plain: Any = _as_dict.decode(msgspec.msgpack.encode(as_dict))
    except Exception:
        raw = b""
        plain = as_dict and {
            _encodable(safe_str(key)): _plain(value) for key, value in as_dict.items()
        }
    return (raw if exc.bad_msg is not None and raw else None), plain


def shorten(error: Error, size: int) -> None:
    """Leave ``size`` characters of each text, and nothing of a bad message; below 501 also less of the rest."""
    error._bad_msg = error._bad_msg_as_dict = None
    error.tb_str = error.tb_str[max(0, len(error.tb_str) - size) :] if size else ""
    error.message = error.message[:size]
    if size <= 500:
        error.src_type_str = error.src_type_str[:100]
        error.boxed_type_str = error.boxed_type_str[:100]
        # A path that is cut would name another type.
        error.src_type_path = error.src_type_path if len(error.src_type_path) <= 200 else ""
        error.boxed_type_path = error.boxed_type_path if len(error.boxed_type_path) <= 200 else ""
        error.relay_path = [*error.relay_path[:1], *error.relay_path[1:][-1:]]
        error.trail = [
            (pid, place[:size]) for pid, place in (*error.trail[:1], *error.trail[1:][-1:])
        ]
        error.kinds = []


def _plain(value: object) -> object:
    if value is None or (type(value) in (int, bool) and -(2**63) <= value < 2**64):  # type: ignore[operator]
        return value
    return _encodable(safe_str(value))[:BAD_MSG_BYTES]


def _unpack_bad_msg(msg: Error) -> dict[str, Any]:
    as_dict = msg._bad_msg_as_dict
    fields: dict[str, Any] = {"bad_msg_as_dict": as_dict}
    if as_dict is not None:
        name = as_dict.get("msg_type")
        fields["expected_msg_type"] = _msg_types.get(name) if isinstance(name, str) else None
    if (raw := msg._bad_msg) is not None:
        try:
            fields["bad_msg"] = ENVELOPE.decode(raw)
        except Exception:
            # Beside its own errors msgspec lets UnicodeDecodeError and RecursionError through.
            return fields
    return fields
