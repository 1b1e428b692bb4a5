"""Decoders whose values cannot harm the process that decodes them.

Theory of operation.  msgspec decodes whatever fits the type, in one step that nothing interrupts.  Two things make
that step long for few bytes:

- Many small containers.  Payloads over :data:`COUNTED_ABOVE` bytes are counted before they are decoded: what is
  mostly long texts or numbers takes a few steps, then an upper bound decides, and only then every header is looked at.
- Dicts whose keys are lists.  They become tuples, whose hashes their sender can choose.  Such keys are taken only
  where the type has them, and few.  Where the type takes anything, a small payload is decoded and its keys are looked
  at by a JSON encoder, which refuses tuples at C speed.  A larger one is decoded as :data:`Plain`: numbers and text in
  lists and dicts, to a depth of :data:`DEPTH`.  What that refuses is looked at in full before it is decoded.
- Dicts whose keys are numbers, or hashed like them, see ``_keys``.  Where the type takes anything, a payload over
  :data:`SMALL` is first decoded as :data:`Texts`, in which all keys are text: most are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeAlias, Union, get_args, get_origin

from msgspec import ValidationError
from msgspec.json import Encoder as JSONEncoder
from msgspec.msgpack import Decoder, Ext

from tractor import log as _log
from tractor._proto.connection.containers import (
    containers_in,
    is_container,
    most_containers,
    shape_of,
)
from tractor._proto.limits import Limits
from tractor.msg._arrays import BLOB
from tractor.msg.bounded._keys import KeyCheck, KeyTypes

log = _log.get_logger()

COUNTED_ABOVE = 2**20
"""Bytes; a smaller payload can't hold many more containers than the limit."""

MAX_ARRAY_KEYS = 10_000
"""Keys of dicts, in one payload, that are lists."""

FIRST_LOOK = 4
"""Steps of a count that is made before the upper bound: what holds little but long texts and bytes is settled by it."""

SMALL = 4096
"""Bytes; a payload of so many decodes within a millisecond, whatever its keys are: it is looked at afterwards."""

DEPTH = 4
"""How many containers deep :data:`Plain` goes."""


class PayloadBounds:
    """The limit in force, and how often it was reached; one for the process, as decoders are.

    Attributes:
        max_containers: in one payload.
        reached: counts, by the limit's name.
    """

    __slots__ = ("max_containers", "reached")

    def __init__(self) -> None:
        self.use(Limits())

    def use(self, limits: Limits) -> None:
        """Put limits in force, and count from zero."""
        self.max_containers = limits.max_containers
        self.reached: Counter[str] = Counter()

    def count(self) -> None:
        """Count that the limit was reached; the first time it is logged."""
        if not self.reached:
            log.warning("a payload has reached the limit max_containers=%s", self.max_containers)
        self.reached["max_containers"] += 1


bounds = PayloadBounds()


class Crowded(ValidationError, TypeError):
    """A payload holds too many containers, at its receiver as at its sender."""


def refuse_crowded(data: Any, around: int = 0) -> None:
    """Refuse a payload with too many containers.

    Args:
        data: msgpack.
        around: containers in it that do not count.

    Raises:
        Crowded: it has more than ``max_containers``.
    """
    most = bounds.max_containers + around
    if not is_container(data):
        return
    found, is_whole = containers_in(data, most, FIRST_LOOK)
    if found <= most:
        if is_whole:
            return
        # `Raw` and views have no `translate()`.
        plain = data if isinstance(data, bytes | bytearray) else bytes(data)
        if most_containers(plain) <= most or containers_in(plain, most)[0] <= most:
            return
    bounds.count()
    raise Crowded(
        f"it holds more than {bounds.max_containers} lists and dicts, which is `max_containers`: send it in parts, as"
        " bytes, or in fewer containers, or give the root `limits=tractor.Limits(max_containers=...)`"
    )


def _refuse_items(data: Any) -> None:
    """Refuse a payload for a type with sets of lists that holds too many.  Raises ValidationError."""
    if containers_in(data, MAX_ARRAY_KEYS)[0] > MAX_ARRAY_KEYS:
        raise ValidationError(
            f"it holds more than {MAX_ARRAY_KEYS} lists and dicts, and sets of them"
        )


def refuse_keys(data: Any, most: int = 0) -> None:
    """Refuse msgpack with more than ``most`` dict keys that are lists.  Raises ValidationError."""
    if shape_of(data, len(data), most).array_keys <= most:
        return
    if most:
        raise ValidationError(f"it holds more than {most} dict keys that are lists or tuples")
    raise ValidationError(
        "it holds a dict with a list or tuple as a key, which is taken only where the declared type has it: annotate"
        " the parameter or the result, or give a payload spec, as in `dict[tuple[int, int], str]`"
    )


_Key: TypeAlias = bool | int | float | str | None


def _plain(depth: int, key: Any) -> Any:
    """Lists and dicts of numbers and text that nest no deeper."""
    made: Any = _Key
    for _ in range(depth):
        made = Union[_Key, list[made], dict[key, made]]  # noqa: UP007 - of types made here
    return made


if TYPE_CHECKING:
    Plain: TypeAlias = Any
    Texts: TypeAlias = Any
else:
    Plain = _plain(DEPTH, _Key)
    Texts = _plain(DEPTH, str)

_decode_plain = Decoder(Plain).decode
_decode_texts = Decoder(Texts).decode

_refuse_other_keys = JSONEncoder().encode
"""Raises for a dict whose keys are not text and no numbers, and for values that JSON does not have."""

_ATOMS = frozenset((type(None), bool, int, float, str, bytes))


ext_hook: ContextVar[Callable[[int, memoryview], Any] | None] = ContextVar("ext_hook", default=None)
"""What makes objects of msgpack's extensions, while it is set; else they are ``msgspec.msgpack.Ext``."""


def _on_ext(code: int, data: memoryview) -> Any:
    if code == BLOB:
        # As if it had come as a `bin`.
        return bytes(data)
    hook = ext_hook.get()
    return Ext(code, bytes(data)) if hook is None else hook(code, data)


def _with_views(code: int, data: memoryview) -> Any:
    return data if code == BLOB else _on_ext(code, data)


class Bounded:
    """A msgpack decoder of one type.

    Args:
        spec: the type.
        dec_hook: makes what msgspec does not know; see ``msgspec``.
        views: what it makes is for a hook, which takes the bytes of large arrays as views.

    Attributes:
        decode: the value in a buffer.  Raises as that of ``msgspec.msgpack.Decoder``; ``ValidationError`` also for a
            payload beyond the limits.

    Raises:
        TypeError: a type that msgspec can't decode.
    """

    __slots__ = ("decode",)

    decode: Callable[[Any], Any]

    def __init__(
        self,
        spec: Any = Any,
        dec_hook: Callable[[type, Any], Any] | None = None,
        views: bool = False,
    ) -> None:
        on_ext = _with_views if views or dec_hook is not None else _on_ext
        slow = Decoder(spec, dec_hook=dec_hook, ext_hook=on_ext).decode
        keys = KeyTypes(spec)
        check = KeyCheck(keys, dec_hook).refuse if keys.can_meet else None
        if check is not None and keys.is_open and not keys.has_arrays:
            texts = _closed_decoder(spec, dec_hook, Texts, str)
            fast = _closed_decoder(spec, dec_hook, Plain, _Key)
            self.decode = _open_decoder(slow, texts, fast, keys, check)
        else:
            self.decode = _strict_decoder(slow, keys, check)


def _open_decoder(
    slow: Callable[[Any], Any],
    texts: Callable[[Any], Any] | None,
    fast: Callable[[Any], Any] | None,
    keys: KeyTypes,
    check: Callable[[Any], None],
) -> Callable[[Any], Any]:
    """Of a type that takes anything somewhere.

    Args:
        slow: decodes all.
        texts: all of it whose keys are text, if that is known.
        fast: all of it that is :data:`Plain`, if that is known.
        keys: of the type.
        check: refuses keys that meet.
    """
    first = fast or _decode_plain
    has_sets = keys.has_sets
    # Text can become another key, and a list a set.
    can_pass = not keys.chosen and not keys.any_sets
    # Looked up once: this is on the way of each message.
    small, atoms = SMALL, _ATOMS

    def decode(buf: Any) -> Any:
        if len(buf) <= small:
            value = slow(buf)
            if type(value) not in atoms:
                try:
                    _refuse_other_keys(value)
                except Exception:
                    refuse_keys(buf, 0)
            return value
        if len(buf) > COUNTED_ABOVE:
            refuse_crowded(buf)
        if not is_container(buf):
            return slow(buf)
        if has_sets:
            _refuse_items(buf)
        if can_pass:
            try:
                value = (texts or _decode_texts)(buf)
            except ValidationError:
                pass
            else:
                return slow(buf) if texts is None else value
        check(buf)
        try:
            value = first(buf)
        except ValidationError:
            # Bytes in it, deeper, of another type, or against the rules.
            refuse_keys(buf, 0)
            return slow(buf)
        return slow(buf) if fast is None else value

    return decode


_decode_any = Decoder().decode
_AT_ONCE = 32


def plain_values(raws: Sequence[Any]) -> list[Any] | None:
    """Payloads of any type, decoded at once, if all of them are small and none holds another; else ``None``."""
    try:
        # Before the first is decoded: a large one is not to be without what :class:`Bounded` looks at.
        if len(raws[0]) > SMALL or type(_decode_any(raws[0])) not in _ATOMS:
            return None
        if max(map(len, raws)) > SMALL:
            return None
        values: list[Any] = []
        # Containers take time and memory: few of them are decoded for nothing.
        for start in range(0, len(raws), _AT_ONCE):
            some = list(map(_decode_any, raws[start : start + _AT_ONCE]))
            if not _ATOMS.issuperset(map(type, some)):
                return None
            values += some
    except Exception:
        # Told by whoever decodes them one by one.
        return None
    return values


def _strict_decoder(
    slow: Callable[[Any], Any], keys: KeyTypes, check: Callable[[Any], None] | None
) -> Callable[[Any], Any]:
    """Of a type that says all, or that has dicts keyed by lists."""

    def decode(buf: Any) -> Any:
        if len(buf) > COUNTED_ABOVE:
            refuse_crowded(buf)
        if check is not None and len(buf) > SMALL:
            check(buf)
        return slow(buf)

    def decode_keys(buf: Any) -> Any:
        if len(buf) > MAX_ARRAY_KEYS and is_container(buf):
            if keys.has_sets:
                _refuse_items(buf)
            if keys.has_arrays:
                refuse_keys(buf, MAX_ARRAY_KEYS)
        return decode(buf)

    return decode_keys if keys.has_arrays or keys.has_sets else decode


def _closed_decoder(spec: Any, dec_hook: Any, plain: Any, key: Any) -> Callable[[Any], Any] | None:
    """Decodes ``spec`` with ``plain`` in place of ``Any``, and ``key`` where that is one.

    ``None``: it is not written of plain generics alone, or has other keys where all are to be text.
    """
    closed = _closed(spec, plain, key)
    try:
        # With text in place of ``plain``, which adds neither sets nor, where all keys are to be text, other keys:
        # msgspec describes each of its hundreds of nodes anew.
        keys = KeyTypes(_closed(spec, str, key))
        if closed is spec or keys.is_open or (key is str and keys.can_meet):
            return None
        return Decoder(closed, dec_hook=dec_hook).decode
    except TypeError:
        # A union with `Any`, say: several kinds of dicts.
        return None


def _closed(spec: Any, plain: Any, key: Any) -> Any:
    if spec is Any:
        return plain
    if spec is list or spec is dict:
        return list[plain] if spec is list else dict[key, plain]
    origin, args = get_origin(spec), get_args(spec)
    if origin is dict:
        given, value = args
        return dict[key if given is Any else given, _closed(value, plain, key)]  # type: ignore[misc]
    if origin is list:
        return list[_closed(args[0], plain, key)]  # type: ignore[misc]
    if origin in (Union, UnionType):
        return Union[tuple(_closed(one, plain, key) for one in args)]  # noqa: UP007 - of types made here
    return spec
