"""The messages that travel between two actors.

Every message is an array-like :class:`msgspec.Struct` with an integer tag, so that an envelope
costs a few bytes and well under a microsecond.  A payload (``pld``) stays :class:`msgspec.Raw` in
the envelope until the side that owns the dialog reads it; see :mod:`tractor.msg` for payload
decoders.
"""

from __future__ import annotations

from functools import cache, reduce
from operator import or_
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Raw

from tractor.msg.bounded._bounded import Bounded, refuse_keys
from tractor.msg.bounded._keys import refuse_meeting
from tractor.msg.pretty_struct import Struct as PrettyStruct

__all__ = [
    "Aid",
    "CancelAck",
    "Credit",
    "Error",
    "Msg",
    "MsgType",
    "PayloadMsg",
    "PayloadT",
    "Return",
    "SpawnSpec",
    "Start",
    "StartAck",
    "Started",
    "Stop",
    "Uid",
    "Yield",
    "__msg_spec__",
    "__msg_types__",
    "from_dict_msg",
    "mk_msg_spec",
]

PayloadT = TypeVar("PayloadT")
"""The type of a message's payload."""

Uid: TypeAlias = tuple[str, str]
"""An actor's ``(name, uuid)``."""


class Aid(msgspec.Struct, frozen=True, array_like=True, tag=1, eq=False):
    """An actor's identity record.  Two are equal when their uuids are; names need not be unique.

    Attributes:
        max_served: dialogs that it serves for a peer at a time, as it tells that peer at the handshake.
        claim: in a subactor's first hello to its parent the one-time secret of its boot pipe; ``None`` everywhere else.
        host: the id of the host on which its pid is one; ``None``: it does not say.
        channel: from the side that connects: a number that it gives to no other of its channels.
        shares: at the handshake: it takes large messages in shared memory; ``None``: it does not say.
    """

    name: str
    uuid: str
    pid: int | None = None
    is_registrar: bool | None = None
    is_probe: bool = False
    max_served: int | None = None
    claim: bytes | None = None
    host: str | None = None
    channel: int | None = None
    shares: bool | None = None

    @property
    def uid(self) -> Uid:
        """The pair ``(name, uuid)``."""
        return (self.name, self.uuid)

    def reprol(self, sin_uuid: bool = True) -> str:
        """On one line: ``name@pid``, or ``name[uuid6]@pid`` with ``sin_uuid=False``."""
        name = self.name if sin_uuid else f"{self.name}[{self.uuid[:6]}]"
        return f"{name}@{self.pid}"

    def __eq__(self, other: object) -> bool:
        return self.uuid == other.uuid if isinstance(other, Aid) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.uuid)


class SpawnSpec(msgspec.Struct, array_like=True, tag=2):
    """Everything that a parent configures in a fresh child; sent once, after the handshake.

    Attributes:
        started: when the child was started, in seconds since 1970 by the parent's clock; of two children of one parent
            the one that was started later has the later time.
    """

    _parent_main_data: dict[str, Any]
    _runtime_vars: dict[str, Any]
    enable_modules: dict[str, str | None]
    reg_addrs: list[tuple[str, int | str]]
    bind_addrs: list[tuple[str, int | str]] | None
    lifespan: str = ""
    logconfig: dict[str, Any] | None = None
    drain: float = 0.0
    started: float = 0.0
    writes_stacks: bool = False


class Start(msgspec.Struct, array_like=True, tag=3):
    """A request to run ``ns:func`` as a task of the receiving actor, under the dialog ``cid``.

    Attributes:
        headers: what instruments of the sender have to say to those of the receiver; ``None``: nothing.
    """

    cid: int
    ns: str
    func: str
    kwargs: dict[str, Any]
    uid: Uid
    pld_spec: str | None = None
    kind: Literal["call", "asyncgen", "context"] = "call"
    headers: dict[str, str] | None = None


class Request(msgspec.Struct, array_like=True, tag=3):
    """A :class:`Start` as a channel gives it to its actor: nothing in its arguments has been decoded."""

    cid: int
    ns: str
    func: str
    kwargs: Raw
    uid: Uid
    pld_spec: str | None = None
    kind: Literal["call", "asyncgen", "context"] = "call"
    headers: Raw = Raw(b"\xc0")


class StartAck(msgspec.Struct, array_like=True, tag=4):
    """The request was accepted; says which kind of dialog follows."""

    cid: int
    functype: Literal["asyncgen", "context"]


class PayloadMsg(msgspec.Struct, Generic[PayloadT], array_like=True):
    """Base of the messages that carry a user's value."""

    cid: int
    pld: PayloadT


class Started(PayloadMsg[PayloadT], Generic[PayloadT], array_like=True, tag=5):
    """The value that a context's child side hands to its opener."""


class Yield(PayloadMsg[PayloadT], Generic[PayloadT], array_like=True, tag=6):
    """One message of a stream."""


class Stop(msgspec.Struct, array_like=True, tag=7):
    """The sender will send nothing more on the dialog's stream."""

    cid: int


class Return(PayloadMsg[PayloadT], Generic[PayloadT], array_like=True, tag=8):
    """The result of a dialog; its last message."""


class CancelAck(PayloadMsg[bool], array_like=True, tag=9):
    """The answer to a cancel request; decodable under every payload spec."""


class Credit(msgspec.Struct, array_like=True, tag=10):
    """Grants ``n`` more messages and ``size`` more bytes of payloads of a stream.

    ``(-1, 0)`` says that the dialog is strict: nothing is granted, and what the buffer can't hold is an overrun.
    """

    cid: int
    n: int
    size: int


class Error(msgspec.Struct, array_like=True, tag=11, kw_only=True):
    """An exception as data, boxed by the actor ``sender``.

    Attributes:
        trail: of each actor in ``relay_path`` its pid, and where the error was raised in the first one, where the
            failed call was made in others; 0 and an empty text: not known.
        kinds: the paths of all types that the source is an instance of; of a group's members, too.
    """

    src_uid: Uid
    src_type_str: str
    boxed_type_str: str
    src_type_path: str = ""
    boxed_type_path: str = ""
    relay_path: list[Uid] = []
    message: str = ""
    tb_str: str = ""
    canceller: Uid | None = None
    sender: Uid | None = None
    cid: int | None = None
    _bad_msg: bytes | None = None
    _bad_msg_as_dict: dict[str, Any] | None = None
    trail: list[tuple[int, str]] = []
    kinds: list[str] = []


Msg = PayloadMsg
MsgType: TypeAlias = (
    Aid
    | SpawnSpec
    | Start
    | StartAck
    | Started[Raw]
    | Yield[Raw]
    | Stop
    | Return[Raw]
    | CancelAck
    | Credit
    | Error
)
"""Every message, its payload undecoded."""

__msg_types__: list[type[msgspec.Struct]] = [
    Aid,
    SpawnSpec,
    Start,
    StartAck,
    Started,
    Yield,
    Stop,
    Return,
    CancelAck,
    Credit,
    Error,
]
"""The class of every message."""


def mk_msg_spec(payload_type_union: Any = Any) -> Any:
    """The union of all messages where a payload has the type ``payload_type_union``."""
    classes: list[Any] = list(__msg_types__)
    generic = (Started, Yield, Return)
    members = (cls[payload_type_union] if cls in generic else cls for cls in classes)
    return reduce(or_, members)


Incoming: TypeAlias = (
    Aid
    | SpawnSpec
    | Request
    | StartAck
    | Started[Raw]
    | Yield[Raw]
    | Stop
    | Return[Raw]
    | CancelAck
    | Credit
    | Error
)
"""Every message as a channel gives it to its actor."""

INCOMING: msgspec.msgpack.Decoder[Incoming] = msgspec.msgpack.Decoder(Incoming)
"""Decodes what arrives for an actor; one for all, because making one takes long."""


def decode_large(frame: Any) -> Incoming:
    """As :data:`INCOMING`, for a frame of any size: those fields of a message that hold anything are looked at before.

    Raises:
        msgspec.DecodeError: it is not a message, or has, outside of a payload, a dict with a list as a key, or with
            keys that meet.
    """
    head = bytes(frame[:2])
    if head[:1] not in _SHORT_ARRAYS or head[1:] not in _CLOSED_TAGS:
        refuse_keys(frame)
        refuse_meeting(frame)
    return INCOMING.decode(frame)


_SHORT_ARRAYS = frozenset(bytes([0x90 + n]) for n in range(16))
_CLOSED_TAGS = frozenset(bytes([tag]) for tag in (1, *range(3, 11)))
"""Of the messages whose every field is undecoded or has a type that says all of it."""

_arguments = Bounded(dict[str, Any])


def as_message(msg: Incoming) -> MsgType:
    """An incoming message as whoever reads a channel by hand gets it, with the arguments of a request decoded.

    Raises:
        msgspec.ValidationError: they can't be decoded.
    """
    if type(msg) is not Request:
        return msg  # type: ignore[return-value]
    kwargs = _arguments.decode(msg.kwargs)
    return Start(msg.cid, msg.ns, msg.func, kwargs, msg.uid, msg.pld_spec, msg.kind)


class _Envelope:
    def decode(self, buf: Any, /) -> MsgType:
        return as_message(decode_large(buf))


ENVELOPE = _Envelope()
"""Decodes messages, and leaves payloads undecoded."""


__msg_spec__: TypeAlias = MsgType
"""The union of all messages, under the name that a codec gives it."""


def from_dict_msg(
    d: dict[str, Any],
    msgT: type[msgspec.Struct] | None = None,
    tag_field: str = "msg_type",
    use_pretty: bool = False,
) -> msgspec.Struct:
    """The message that a dict of its fields describes.

    Args:
        d: the fields; ``d[tag_field]`` names the class.
        msgT: the class, where the dict does not name it.
        tag_field: the key of the class's name.
        use_pretty: give a struct of the same name and fields that renders on several lines, for
            display only.

    Raises:
        ValueError: the dict names no class, or none of a message, or another than ``msgT``.
        TypeError: a field is missing or unknown.
    """
    fields = dict(d)
    name = fields.pop(tag_field, None)
    if name is None and msgT is None:
        raise ValueError(f"a message's dict needs the key {tag_field!r} where `msgT` is not given")
    by_name = {cls.__name__: cls for cls in __msg_types__}
    known = name if isinstance(name, str) else ""
    cls = by_name.get(known) if msgT is None else msgT
    if cls is None or (name is not None and cls.__name__ != name):
        expected = ", ".join(by_name) if msgT is None else msgT.__name__
        raise ValueError(f"{tag_field!r} is {name!r}, expected one of: {expected}")
    return (_pretty_variant(cls) if use_pretty else cls)(**fields)


@cache
def _pretty_variant(cls: type[msgspec.Struct]) -> type[msgspec.Struct]:
    fields: list[Any] = []
    for info in msgspec.structs.fields(cls):
        annotation = Any if isinstance(info.type, TypeVar) else info.type
        if info.required:
            fields.append((info.name, annotation))
        elif info.default is not msgspec.NODEFAULT:
            fields.append((info.name, annotation, info.default))
        else:
            factory = msgspec.field(default_factory=info.default_factory)
            fields.append((info.name, annotation, factory))
    return msgspec.defstruct(cls.__name__, fields, bases=(PrettyStruct,), kw_only=True)
