"""The error types of the package, their data in typed attributes.

All of them are public as ``tractor.<name>``, and can be pickled and copied.
:mod:`tractor._exceptions` is the stable path to them and to the functions that box and unbox them.
"""

from __future__ import annotations

import logging
import signal
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import msgspec
import trio

from tractor._error_registry import ErrType, find_err_type, one_main, public_error, type_path
from tractor._util._crash_text import (
    Line,
    actor_of,
    as_spans,
    as_text,
    box,
    fault,
    hops,
    short_uid,
)
from tractor._util._plain import safe_repr, safe_str

Uid = tuple[str, str]

STDERR_TAIL_BYTES = 16 * 1024
"""How much of a dead subactor's stderr an :class:`ActorFailure` keeps, in bytes."""

UNKNOWN_TYPE = "<unknown>"
"""The type name shown by an error that carries no message of a peer."""

_LEVELS: Mapping[str, int] = {"transport": 5, "runtime": 15, "devx": 17, "io": 21, "cancel": 22}
_log = logging.getLogger("tractor")


@public_error
class RuntimeFailure(RuntimeError):
    """The runtime cannot do what was asked."""


@public_error
class ActorBusy(RuntimeFailure):
    """An actor serves as much as it may; the request was refused, and nothing of it ran."""


@public_error
class ActorFailure(RuntimeFailure):
    """A subactor's process died before it was usable, or later without a word.

    Args:
        uid: the subactor's ``(name, uuid)``.
        returncode: its exit status; negative is the number of the signal that killed it; ``None``:
            not known.
        stderr_tail: the last that it wrote to stderr; the last 16 KiB of that are kept, and are in
            the message.
        message: replaces the default first line of the text.
    """

    uid: Uid | None = None
    returncode: int | None = None
    stderr_tail: str = ""

    def __init__(
        self,
        uid: Uid | None = None,
        returncode: int | None = None,
        stderr_tail: str = "",
        *,
        message: str = "",
    ) -> None:
        tail = stderr_tail.encode("utf-8", "backslashreplace")[-STDERR_TAIL_BYTES:]
        self.uid = uid
        self.returncode = returncode
        self.stderr_tail = tail.decode("utf-8", "ignore")
        text = message or f"subactor {uid} died: {describe_exit(returncode)}"
        if self.stderr_tail:
            text = f"{text}\nits stderr ended with:\n{self.stderr_tail}"
        super().__init__(text)


@public_error
class HostUnavailable(RuntimeFailure):
    """No actor can be started on another host; the text says why, with the engine's own last words.

    Nothing of the start is left there, or is known to end within the place's ``deadline`` and 2 s.
    """


@public_error
class HostLost(ActorFailure):
    """A subactor's host can't be reached any more; it must have ended there by now, how is not known.

    Args:
        uid: the subactor's ``(name, uuid)``.
        host: the host, as it was named in ``host=``.
        silent: seconds since the last sign of life of that host, when it was given up.
        why: what is known of the reason.
        stderr_tail: the last that the actor wrote to stderr, as far as it came here.
    """

    host: str = ""
    silent: float = 0.0

    def __init__(
        self,
        uid: Uid | None = None,
        *,
        host: str = "",
        silent: float = 0.0,
        why: str = "",
        stderr_tail: str = "",
    ) -> None:
        self.host = host
        self.silent = silent
        reason = f" ({why})" if why else ""
        super().__init__(
            uid,
            None,
            stderr_tail,
            message=f"subactor {uid} is lost with host {host!r}, of which nothing was heard for {silent:.1f} s"
            f"{reason}: it has ended by now, how is not known",
        )


def describe_exit(returncode: int | None) -> str:
    """A process's exit status in words: ``'exit code 1'``, ``'killed by SIGKILL (signal 9)'``."""
    if returncode is None:
        return "exit status unknown"
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        return f"killed by signal {-returncode}"
    return f"killed by {name} (signal {-returncode})"


@public_error
class ServiceEnded(RuntimeFailure):
    """A service is down, or was stopped while something waited for it; ``__cause__`` is its last error."""


@public_error
class ServiceNotReady(RuntimeFailure):
    """A service was not ready within its ``ready_timeout``, and was taken down."""


@public_error
class ServiceStuck(RuntimeFailure):
    """A service's event loop did not answer its watchdog, and its process was killed."""


@public_error
class RestartLimitExceeded(RuntimeFailure):
    """A supervisor has given up: a service ended more often than its intensity allows.

    Args:
        service: its name.
        count: how many restarts were decided within ``within`` seconds, the one that was too many included.
        within: seconds.
        errors: with which the service's incarnations, and others that count together with it, ended; the newest last,
            ``None`` for a normal end.
    """

    service: str = ""
    count: int = 0
    within: float = 0.0
    errors: tuple[BaseException | None, ...] = ()

    def __init__(
        self,
        service: str,
        count: int = 0,
        within: float = 0.0,
        errors: tuple[BaseException | None, ...] = (),
    ) -> None:
        last = f"; the last end: {one_line(errors[-1])}" if errors and errors[-1] else ""
        text = f"service {service!r} was to be restarted {count} times within {within:g} s, which is too often{last}"
        super().__init__(text)
        self.service, self.count, self.within, self.errors = service, count, within, errors


@public_error
class ActorTooSlowError(RuntimeFailure):
    """An actor did not acknowledge a cancel request in time; or it is registered, and did not answer a look-up."""


@public_error
class InternalError(RuntimeError):
    """An invariant of the runtime is broken."""


@public_error
class NoRuntime(RuntimeError):
    """There is no actor in this process."""


@public_error
class NoResult(RuntimeError):
    """The portal's actor has no main task whose result could be had."""


@public_error
class MessagingError(Exception):
    """A message that the dialog's state does not allow, or a frame over the limit."""


@public_error
class ModuleNotExposed(ModuleNotFoundError):
    """The requested endpoint's module is not enabled for peers in the actor that was asked."""


@public_error
class AsyncioCancelled(Exception):
    """The ``asyncio`` task of a link was cancelled, not at the request of the ``trio`` side."""


@public_error
class AsyncioTaskExited(Exception):
    """The ``asyncio`` task of a link returned while the ``trio`` side still needed it."""


@public_error
class TrioCancelled(Exception):
    """For the ``asyncio`` task of a link: its ``trio`` side was cancelled or failed (the cause)."""


@public_error
class TrioTaskExited(Exception):
    """For the ``asyncio`` task of a link: the ``trio`` side left its block while the task ran."""


@public_error
class AsyncioRuntimeTranslationError(RuntimeError):
    """The ``asyncio`` and the ``trio`` loop of one actor did not end in the order they must."""


@public_error
class DebugRequestError(RuntimeError):
    """The debugger's lock could not be had."""


@public_error
class DebugStateError(InternalError):
    """The debugger's state is impossible."""


@public_error
class TransportClosed(Exception):
    """The connection to a peer is gone.  Whether a request in flight was carried out is not known.

    Args:
        message: says which peer, and how it was lost.
        loglevel: name of the level at which :meth:`report_n_maybe_raise` logs.
        src_exc: the transport's own exception, if that is where the loss was seen.
        raise_on_report: make :meth:`report_n_maybe_raise` raise this error, too.
    """

    loglevel: str = "transport"
    src_exc: BaseException | None = None
    raise_on_report: bool = False

    def __init__(
        self,
        message: str = "",
        loglevel: str = "transport",
        src_exc: BaseException | None = None,
        raise_on_report: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.loglevel = loglevel
        self.src_exc = src_exc
        self.raise_on_report = raise_on_report
        if src_exc is not None:
            self.__cause__ = src_exc

    @classmethod
    def from_src_exc(
        cls,
        src_exc: BaseException,
        message: str = "",
        loglevel: str = "transport",
        raise_on_report: bool = False,
    ) -> TransportClosed:
        """The error for a loss seen as ``src_exc``, whose type and text follow ``message``."""
        message = message or "peer IPC channel closed abruptly?"
        text = f"{message} ({type(src_exc).__name__}: {safe_str(src_exc)})"
        return cls(text, loglevel, src_exc, raise_on_report)

    def report_n_maybe_raise(self, message: str = "") -> None:
        """Log this error, after ``message``, at its level.

        Raises:
            TransportClosed: this error itself, if it was built with ``raise_on_report``.
        """
        level = _LEVELS.get(self.loglevel.lower()) or logging.getLevelName(self.loglevel.upper())
        # An unknown level's name must not hide the loss itself.
        _log.log(level if isinstance(level, int) else logging.WARNING, "%s", f"{message}\n{self}")
        if self.raise_on_report:
            raise self


class ErrorMsg(Protocol):
    """What an error needs of the ``Error`` message that it was unpacked from."""

    src_uid: Uid
    src_type_str: str
    boxed_type_str: str
    src_type_path: str
    boxed_type_path: str
    relay_path: list[Uid]
    trail: list[tuple[int, str]]
    kinds: list[str]
    message: str
    tb_str: str
    canceller: Uid | None
    sender: Uid | None
    cid: int | None


@public_error
class RemoteActorError(Exception):
    """An exception that was raised in another actor.

    Built by :func:`tractor._exceptions.unpack_error` from an ``Error`` message.  Where it arrives
    over several actors (:meth:`is_inception`), the type, uid and text of the source stay as they
    were.

    Args:
        message: the text; default: the one of ``ipc_msg``.
        ipc_msg: the ``Error`` message; ``None`` for an error that this actor raises itself.
        boxed_type: the type that ``ipc_msg`` names as boxed; default: looked up by that name.
        extra: values for the attributes ``src_type, src_uid, relay_path, sender, canceller,
            tb_str, cid`` that differ from those of ``ipc_msg``; ``None`` is the same as not given.
            Those of other names are what a program wants to say besides:
            :attr:`extra_body_fields`, which stay in this process.
    """

    ipc_msg: ErrorMsg | None = None
    _caller: str = ""
    _caller_actor: str = ""
    _given: Mapping[str, Any] = {}
    _fields: ClassVar[frozenset[str]] = frozenset(
        ("src_type", "src_uid", "relay_path", "sender", "canceller", "tb_str", "cid")
    )

    def __init__(
        self,
        message: str = "",
        ipc_msg: ErrorMsg | None = None,
        boxed_type: ErrType | None = None,
        **extra: Any,
    ) -> None:
        if not message and ipc_msg is not None:
            message = ipc_msg.message
        super().__init__(message)
        self.ipc_msg = ipc_msg
        given = {"boxed_type": boxed_type, **extra}
        self._given = {name: value for name, value in given.items() if value is not None}

    def _field(self, name: str, default: Any = None) -> Any:
        value = self._given.get(name)
        if value is None and self.ipc_msg is not None:
            value = getattr(self.ipc_msg, name, None)
        return default if value is None else value

    def _own_type(self) -> ErrType | None:
        """The type to show when this actor raised the error itself."""
        return None

    @property
    def extra_body_fields(self) -> dict[str, Any]:
        """What was given to the constructor beside its own fields; shown by :meth:`pformat`."""
        own = self._fields | {"boxed_type"}
        return {name: value for name, value in self._given.items() if name not in own}

    @property
    def message(self) -> str:
        """The source's text."""
        return safe_str(self.args[0]) if self.args else ""

    @property
    def tb_str(self) -> str:
        """The source's traceback as text; empty without one."""
        return str(self._field("tb_str", ""))

    @property
    def boxed_type(self) -> ErrType | None:
        """The type that the last sender raised, or ``None`` where it is not known here."""
        given: ErrType | None = self._given.get("boxed_type")
        if given is None and self.ipc_msg is not None:
            return find_err_type(self.ipc_msg.boxed_type_str, self.ipc_msg.boxed_type_path)
        return given or self._own_type()

    @property
    def boxed_type_str(self) -> str:
        """The name of :attr:`boxed_type`, also where the type is not known here."""
        if self.ipc_msg is not None:
            return self.ipc_msg.boxed_type_str
        return _type_name(self.boxed_type)

    @property
    def src_type(self) -> ErrType | None:
        """The type that the source raised, or ``None`` where it is not known here."""
        given: ErrType | None = self._given.get("src_type")
        if given is None and self.ipc_msg is not None:
            return find_err_type(self.ipc_msg.src_type_str, self.ipc_msg.src_type_path)
        return given or self.boxed_type

    @property
    def src_type_str(self) -> str:
        """The name of :attr:`src_type`, also where the type is not known here."""
        return self.ipc_msg.src_type_str if self.ipc_msg is not None else _type_name(self.src_type)

    @property
    def src_uid(self) -> Uid | None:
        """The actor that raised the error in the first place."""
        return _as_uid(self._field("src_uid"))

    @property
    def relay_path(self) -> list[Uid]:
        """The actors that the error came through: the source first, the last sender last."""
        path: Sequence[Any] = self._field("relay_path", ())
        uids = [uid for uid in map(_as_uid, path) if uid is not None]
        return uids or ([self.src_uid] if self.src_uid is not None else [])

    @property
    def relay_uid(self) -> Uid | None:
        """The actor that sent the error here last; of an error of one hop the source."""
        path = self.relay_path
        return path[-1] if path else None

    @property
    def sender(self) -> Uid | None:
        """The actor that sent the message behind this error."""
        return _as_uid(self._field("sender"))

    @property
    def canceller(self) -> Uid | None:
        """The actor that asked for the cancellation, where the source was cancelled.

        Of an error that is no cancellation, but that of a lifespan or a background task: the actor that ended by it.
        """
        return _as_uid(self._field("canceller"))

    @property
    def msgdata(self) -> dict[str, Any]:
        """The fields of the ``Error`` message; empty without one."""
        message: Any = self.ipc_msg
        return msgspec.structs.asdict(message) if isinstance(message, msgspec.Struct) else {}

    def note_caller(self, caller: object, actor: str = "") -> None:
        """Remember the code of this actor that the failed call was made by; the first that is noted stays.

        Args:
            caller: it; ``None``: not known.
            actor: this actor, as texts name it.
        """
        if caller is not None and not self._caller:
            self._caller, self._caller_actor = str(caller), actor

    @property
    def caller(self) -> str:
        """Where in this actor's code the failed call was made, or its dialog opened; empty if that is not known."""
        return self._caller

    def is_inception(self) -> bool:
        """Did the error reach this actor through an actor that is not its source?"""
        if self.ipc_msg is None:
            return len(self.relay_path) > 1
        source = (self.ipc_msg.src_type_path, self.ipc_msg.src_type_str)
        boxed = (self.ipc_msg.boxed_type_path, self.ipc_msg.boxed_type_str)
        return source != boxed or len(self.relay_path) > 1

    def matches(self, *types: type[BaseException]) -> bool:
        """Is this error, what it boxes, or a member of the group that it boxes, of one of these types?

        Also where the source's own type is not known here: its actor has told which types that is a subtype of.  Types
        are the same when their modules and names are.

        Args:
            types: exception types, as for :func:`isinstance`.
        """
        if isinstance(self, types):
            return True
        kinds = set(map(one_main, self._field("kinds", ())))
        known = [cls for cls in (self.src_type, self.boxed_type) if cls is not None]
        return any(
            one_main(type_path(wanted)) in kinds or any(issubclass(cls, wanted) for cls in known)
            for wanted in types
        )

    def unwrap(self) -> BaseException:
        """An instance of the source's type, caused by this error.

        Where that type is not known here, or cannot be built from a text, it is a ``RuntimeError``
        with the type's name and the traceback text.
        """
        exc = self._rebuild_source()
        if exc is None:
            exc = RuntimeError(f"{self.src_type_str}: {self.message}\n{self.tb_str}".rstrip())
        exc.__cause__ = self
        return exc

    def _rebuild_source(self) -> BaseException | None:
        src_type = self.src_type
        if src_type is None:
            return None
        try:
            if issubclass(src_type, RemoteActorError):
                return src_type(self.message, ipc_msg=self.ipc_msg, boxed_type=src_type)
            if issubclass(src_type, ActorFailure):
                return src_type(message=self.message)
            exc = src_type(self.message)
        except Exception:
            return None
        return exc if isinstance(exc, src_type) else None

    def reprol(self) -> str:
        """This error on one line."""
        first, *way = [actor for actor, _ in self._steps()] or [""]
        source = f" in {first}" if first else ""
        more = [f"{len(way) - 3} more"] if len(way) > 3 else []
        relayed = f" by way of {', '.join([*way[:3], *more])}" if way else ""
        text = f": {line[0]}" if (line := self.message.splitlines()) else ""
        return f"{type(self).__name__}({self.src_type_str}{source}{relayed}{text})"

    def _trail(self) -> list[tuple[int, str]]:
        """The step of each actor in :attr:`relay_path`."""
        length = len(self.relay_path)
        trail = [*self._field("trail", ())][:length]
        return trail + [(0, "")] * (length - len(trail))

    def _steps(self) -> list[tuple[str, str]]:
        """Each actor that the error came through, and the place there."""
        path = zip(self.relay_path, self._trail(), strict=True)
        return [(actor_of(uid, pid), place) for uid, (pid, place) in path]

    def pformat(self, with_type_header: bool = True) -> str:
        """This error in words, on several lines: text, way, and the source's traceback in a box.

        Args:
            with_type_header: put that between ``<``, the error's own type, ``(`` and ``)>``.
        """
        text = as_text(self._lines())
        if not with_type_header:
            return text
        return f"<{type(self).__name__}(\n{textwrap.indent(text, '  ')}\n)>"

    def _lines(self) -> Iterator[Line]:
        """What :meth:`pformat` shows, with colours."""
        steps = self._steps()
        if self.ipc_msg is None and not self._given.get("boxed_type"):
            name = _type_name(self.src_type or type(self))
            yield [(f"{self.message} ({name})" if self.message else name, "")]
        else:
            source, place = steps[0] if steps else ("", "")
            yield from fault(self.src_type_str or UNKNOWN_TYPE, source, self.message, place)
        here = [(self._caller_actor, self._caller)] if self._caller else []
        yield from hops([*steps[1:], *here])
        canceller = _as_uid(self._field("canceller"))
        if canceller is not None:
            what = "canceller" if self.src_type_str == "Cancelled" else "the end of the actor"
            yield [(f"{what}: {short_uid(canceller)}", "")]
        for name, value in self.extra_body_fields.items():
            yield [(f"{name}={safe_repr(value)}", "")]
        if self.tb_str and self.tb_str != self.message:
            yield from box(self._title(), self.tb_str)

    def _title(self) -> str:
        """Of the box: who has sent what is in it, and what that is about."""
        raised = f"remote task raised a {self.src_type_str!r}"
        relay = self.relay_uid
        if relay is None:
            return raised
        pid = self._trail()[-1][0]
        ident = f" ({relay[1][:8]})" if pid else ""
        return f"{actor_of(relay, pid)}{ident}: {raised}"

    def __rich__(self) -> Any:
        """The same text in colour, where ``rich`` prints it."""
        from rich.text import Text

        return Text.assemble(*as_spans(self._lines()))

    def __str__(self) -> str:
        return self.pformat(with_type_header=False)

    def __repr__(self) -> str:
        return self.pformat()


@public_error
class ContextCancelled(RemoteActorError):
    """A context's task was cancelled on request; :attr:`canceller` says whose."""

    def _own_type(self) -> ErrType | None:
        return trio.Cancelled

    @property
    def tb_str(self) -> str:
        """The text: a cancellation has no place in the source's code that would be worth showing."""
        return str(self._field("tb_str", "")) or self.message

    @property
    def canceller(self) -> Uid | None:
        """The actor that asked for the cancellation.

        ``None`` where the peer ended without saying so; a warning is logged then.
        """
        uid = _as_uid(self._field("canceller"))
        if uid is None:
            _log.warning("context was cancelled, its canceller is unknown: %s", self.reprol())
        return uid


@public_error
class MsgTypeError(RemoteActorError):
    """A payload or a message violates the type that was declared for it.

    It boxes the codec's own error: :attr:`boxed_type` is ``msgspec.ValidationError``, or ``TypeError`` for a value
    that could not be encoded, in the actor that found it as in those that hear of it.

    Further fields: ``bad_msg``, ``bad_msg_as_dict``, ``expected_msg_type``.
    """

    _fields = RemoteActorError._fields | {"bad_msg", "bad_msg_as_dict", "expected_msg_type"}
    _codec_type: ErrType = msgspec.ValidationError

    @classmethod
    def from_decode(
        cls,
        message: str,
        bad_msg: Any = None,
        *,
        bad_msg_as_dict: dict[str, Any] | None = None,
        expected_msg_type: type | None = None,
        cid: int | None = None,
        src_exc: BaseException | None = None,
        boxed_type: ErrType = msgspec.ValidationError,
    ) -> MsgTypeError:
        """The error for a message that this actor could not decode or must not send.

        Args:
            message: says which message, with which value, and what was declared.
            bad_msg: the message, its payload as it came.
            bad_msg_as_dict: the same as a dict; default: made from ``bad_msg``.
            expected_msg_type: the class of the message; default: that of ``bad_msg``.
            cid: its dialog; default: that of ``bad_msg``.
            src_exc: the codec's own error, which becomes the cause.
            boxed_type: its kind: ``TypeError`` where the message could not be encoded.
        """
        exc = cls(
            message,
            bad_msg=bad_msg,
            bad_msg_as_dict=bad_msg_as_dict,
            expected_msg_type=expected_msg_type,
            cid=cid,
        )
        exc.__cause__ = src_exc
        exc._codec_type = boxed_type
        return exc

    def _own_type(self) -> ErrType | None:
        return self._codec_type

    @property
    def src_type(self) -> ErrType | None:
        """This type itself: the source is who found the violation."""
        return MsgTypeError

    def is_inception(self) -> bool:
        """Did the error reach this actor through an actor that is not its source?"""
        return len(self.relay_path) > 1

    @property
    def bad_msg(self) -> Any:
        """The message, or ``None`` where it cannot be had here."""
        return self._given.get("bad_msg")

    @property
    def bad_msg_as_dict(self) -> dict[str, Any] | None:
        """The message as a dict, its class named by ``msg_type``, or ``None`` where it cannot be
        had.
        """
        given: dict[str, Any] | None = self._given.get("bad_msg_as_dict")
        if given is None and isinstance(self.bad_msg, msgspec.Struct):
            return {"msg_type": type(self.bad_msg).__name__, **msgspec.structs.asdict(self.bad_msg)}
        return given

    @property
    def expected_msg_type(self) -> type | None:
        """The class of the message."""
        given: type | None = self._given.get("expected_msg_type")
        return type(self.bad_msg) if given is None and self.bad_msg is not None else given

    @property
    def cid(self) -> int | None:
        """The dialog that the message belongs to."""
        cid: int | None = self._field("cid")
        return getattr(self.bad_msg, "cid", None) if cid is None else cid


@public_error
class StreamOverrun(RemoteActorError, trio.TooSlowError):
    """A receiver's buffer was full; :attr:`sender` is the actor that sent too fast."""

    def _own_type(self) -> ErrType | None:
        return StreamOverrun


def one_line(exc: object) -> str:
    """An error, or any value, on one line: ``repr()`` of a remote error has its traceback."""
    return exc.reprol() if isinstance(exc, RemoteActorError) else safe_repr(exc)


def _type_name(cls: type | None) -> str:
    return UNKNOWN_TYPE if cls is None else cls.__name__


def _as_uid(value: Any) -> Uid | None:
    return None if value is None else (value[0], value[1])
