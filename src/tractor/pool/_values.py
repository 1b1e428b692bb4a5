"""What a pool's values are on the wire: as of any call, and besides those that no annotation tells of.

msgpack has extensions: a code and some bytes.  Paths, arrays, frames and objects of dataclasses and structs travel as
such, so their receiver knows them wherever they stand, also where nothing is annotated; where something is, that
decides as it always does.  The bytes of large arrays and frames do not travel: their sender lends them
(``transport/lent/_memory.py``) until the call is over, or the value was taken.

The receiver trusts its peer to a bound.  A worker may import what its parent names, which could run anything there
anyway, and shares what that has made by ``open_shm()``.  The pool takes dataclasses and structs only of modules that
it has loaded, and memory of that worker alone.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import sys
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.msgpack import Encoder, Ext, decode, encode

from tractor._errors import MsgTypeError
from tractor._util.dist._name import pip_install
from tractor.msg import _arrays
from tractor.msg._codec import MsgCodec, codec_in_force
from tractor.msg._conversion import EXACT, converter_of
from tractor.msg._nspath import NamespacePath
from tractor.msg._payload import encode_payload
from tractor.msg._ready import PATHS, dec_ready, enc_ready
from tractor.msg.bounded._bounded import ext_hook
from tractor.msg.bounded._undecodable import decode_deep
from tractor.process._state import of_process
from tractor.shm._plain import ShmToken, attach_shm, is_shared, shm_token
from tractor.transport.lent._memory import Lent, borrow, can_lend

PATH, ARRAY, FRAME, OBJECT, SHARED = 0x50, 0x51, 0x52, 0x53, 0x54
"""Codes of the extensions."""

NUMBER = 9
"""Bytes of a number at most; each extension takes more."""

SHARE_ABOVE = 2**20
"""Bytes from which on an array is lent instead of sent."""


def is_plain(value: Any) -> bool:
    """Whether a value needs nothing but msgspec: a number, a text, or a container of these alone."""
    cls = type(value)
    if cls is list or cls is tuple:
        return EXACT.issuperset(map(type, value))
    if cls is dict:
        return EXACT.issuperset(map(type, value)) and EXACT.issuperset(map(type, value.values()))
    return cls in EXACT


class Packer:
    """Encodes one payload.

    Args:
        share_above: bytes from which on an array is lent; ``None``: never.
        names_shared: arrays of ``open_shm()`` go by their names: the receiver is one that takes them.

    Attributes:
        lent: what its receiver is to borrow; to be closed when that has, or will not any more.
    """

    def __init__(self, share_above: int | None, names_shared: bool = False) -> None:
        self.lent: list[Lent] = []
        self._names_shared = names_shared and share_above is not None
        self._share_above = share_above if can_lend() else None

    def pack(self, value: Any, what: str, *, is_known: bool = False) -> Any:
        """What to send of a value.

        Args:
            value: it.
            what: the message that carries it, for errors.
            is_known: its receiver has an annotation of it.

        Raises:
            MsgTypeError: it can't be encoded; nothing is lent.
        """
        if is_plain(value):
            return value
        encoder = Encoder(enc_hook=_with_own(self._hook, codec_in_force()))
        try:
            try:
                marked = value if is_known else self._marked(value)
            except Exception as exc:
                raise MsgTypeError(str(exc), boxed_type=type(exc)) from exc
            return Raw(encode_payload(encoder, marked, what))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lend nothing more."""
        for lent in self.lent:
            lent.close()
        self.lent.clear()

    def _hook(self, obj: Any) -> Any:
        if isinstance(obj, PurePath):
            return Ext(PATH, encode(enc_ready(obj)))
        np = sys.modules.get("numpy")
        if np is not None and isinstance(obj, np.ndarray):
            if self._names_shared and is_shared(obj):
                return Ext(SHARED, encode(shm_token(obj)))
            _, dtype, shape, order, data = _arrays.to_wire(obj)
            return Ext(ARRAY, encode([dtype, shape, order, *self._blob(data)]))
        frame = _frame_bytes(obj)
        if frame is not None:
            return Ext(FRAME, encode([frame[0], *self._blob(frame[1])]))
        return enc_ready(obj)

    def _blob(self, data: Any) -> tuple[Any, Any]:
        """Bytes as they travel: themselves, or nothing and where they are lent."""
        if self._share_above is not None and len(data) >= self._share_above:
            try:
                lent = Lent(data)
            except OSError:
                # No room or no descriptors for it: it may still fit through the connection.
                return data, None
            self.lent.append(lent)
            return None, lent.place
        return data, None

    def _marked(self, value: Any) -> Any:
        """A value in which objects are told from dicts; containers are copied where they hold something."""
        cls = type(value)
        if is_plain(value):
            return value
        if cls is list or cls is tuple:
            return list(map(self._marked, value))
        if cls is dict:
            return {key: self._marked(one) for key, one in value.items()}
        if _is_record(cls):
            path = _path_of(cls)
            if path is not None:
                encoder = Encoder(enc_hook=_with_own(self._hook, codec_in_force()))
                return Ext(OBJECT, encode([path, Raw(encoder.encode(value))]))
        return value


class Unpacker:
    """Decodes the payloads that come from one peer.

    Args:
        pid: the peer's process, which may lend memory.
        imports: objects may be of modules that are not loaded yet.
    """

    def __init__(self, pid: int | None, imports: bool) -> None:
        self._pid = pid
        self._imports = imports

    def decode(self, decoder: Callable[[Any], Any], raw: Any) -> Any:
        """The value.  Raises what ``decoder`` does, and ValueError, OSError, ImportError for an extension."""
        if len(raw) <= NUMBER:
            return decode_deep(decoder, raw)
        token = ext_hook.set(self._on_ext)
        try:
            return decode_deep(decoder, raw)
        finally:
            ext_hook.reset(token)

    def _on_ext(self, code: int, data: memoryview) -> Any:
        if code == PATH:
            tagged = decode(data, type=tuple[str, str, str])
            if tagged[1] not in _PATH_CLASSES:
                raise ValueError(f"{tagged[1]!r} is no class of paths")
            return dec_ready(_PATH_CLASSES[tagged[1]], list(tagged))
        if code == ARRAY:
            dtype, shape, order, octets, place = decode(data)
            wire = [_arrays.TAG, dtype, shape, order, self._bytes(octets, place)]
            return _arrays.from_wire(_arrays.array_types()[0], wire, readonly=place is not None)
        if code == SHARED and self._imports:
            return attach_shm(decode(data, type=ShmToken), readonly=False)
        if code == FRAME:
            library, octets, place = decode(data)
            return _frame_from(library, self._bytes(octets, place))
        if code == OBJECT:
            path, raw = decode(data, type=tuple[str, Raw])
            cls = self._class(path)
            converter = converter_of(cls)
            if converter is None:
                raise ValueError(
                    f"objects of {path!r} can't be decoded: it has fields of unknown types"
                )
            return converter.decode(raw)
        return Ext(code, bytes(data))

    def _bytes(self, octets: Any, place: Any) -> Any:
        if place is None:
            return octets
        if self._pid is None:
            raise ValueError("memory is lent by an unknown process")
        number, size = place
        return borrow(self._pid, (int(number), int(size)))

    def _class(self, path: str) -> Any:
        module = path.partition(":")[0]
        if not self._imports and module not in sys.modules:
            raise ValueError(f"{path!r} is of a module that is not loaded here")
        cls = NamespacePath(path).load_ref()
        if not isinstance(cls, type) or not _is_record(cls):
            raise ValueError(f"{path!r} is neither a dataclass nor a struct")
        return cls


_PATH_CLASSES = {cls.__name__: cls for cls in PATHS}


def _with_own(hook: Callable[[Any], Any], codec: MsgCodec) -> Callable[[Any], Any]:
    own = codec.enc_hook
    if own is None:
        return hook

    def either(obj: Any) -> Any:
        try:
            return hook(obj)
        except TypeError:
            return own(obj)

    return either


def _is_record(cls: type) -> bool:
    return dataclasses.is_dataclass(cls) or issubclass(cls, msgspec.Struct)


_paths: dict[type, str | None] = of_process({})


def _path_of(cls: type) -> str | None:
    """Where a class is found; ``None``: nowhere, so its objects arrive as dicts."""
    if cls not in _paths:
        try:
            path = NamespacePath.from_ref(cls)
            _paths[cls] = str(path) if path.load_ref() is cls else None
        except Exception:
            _paths[cls] = None
    return _paths[cls]


# -- frames --


def _frame_bytes(obj: Any) -> tuple[str, Any] | None:
    """A frame's library and its Arrow stream; ``None``: it is none.  Raises ImportError: pandas has no pyarrow."""
    library = type(obj).__module__.partition(".")[0]
    if library not in ("pandas", "polars", "pyarrow"):
        return None
    package: Any = sys.modules[library]
    if library == "polars":
        if type(obj) is not package.DataFrame:
            return None
        sink = io.BytesIO()
        obj.write_ipc_stream(sink)
        return library, sink.getbuffer()
    if type(obj) is not (package.DataFrame if library == "pandas" else package.Table):
        return None
    arrow = _arrow()
    table = arrow.Table.from_pandas(obj) if library == "pandas" else obj
    out = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return library, memoryview(out.getvalue())


def _frame_from(library: str, data: Any) -> Any:
    if library == "polars":
        return importlib.import_module("polars").read_ipc_stream(io.BytesIO(data))
    table = _arrow().ipc.open_stream(data).read_all()
    return table.to_pandas() if library == "pandas" else table


def _arrow() -> Any:
    try:
        importlib.import_module("pyarrow.ipc")
        return importlib.import_module("pyarrow")
    except ImportError as exc:
        raise ImportError(
            f"frames travel through Arrow, and pyarrow is not installed: {pip_install('arrow')}"
        ) from exc
