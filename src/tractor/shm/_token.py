"""The name of a shared array, as it travels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tractor.msg._arrays import dtype_from_wire, dtype_to_wire
from tractor.process._state import of_process
from tractor.process.host._host_id import host_id


class NDToken(msgspec.Struct, frozen=True):
    """What names a shared array; a payload like any other, also as a ``pld_spec``.

    Attributes:
        shm_name: the key of the array's memory.
        shm_first_index_name, shm_last_index_name: the keys of the two indices.
        dtype_descr: the type of a row, as plain data.
        size: rows that it has room for.
        host: the id of the host whose memory it is; ``None``: it does not say.
    """

    shm_name: str
    shm_first_index_name: str
    shm_last_index_name: str
    dtype_descr: dict[str, Any]
    size: int
    host: str | None = None

    def __hash__(self) -> int:
        return hash((self.shm_name, self.size))

    @classmethod
    def of(cls, key: str, size: int, dtype: Any) -> NDToken:
        """The token of an array of that key.  Raises TypeError: the type of its rows can't be shared."""
        return cls(key, f"{key}_first", f"{key}_last", dtype_to_wire(dtype), size, host_id())

    @property
    def dtype(self) -> Any:
        """The ``numpy.dtype`` of a row.  Raises ValueError: the token says none."""
        return dtype_from_wire(self.dtype_descr)

    def as_msg(self) -> dict[str, Any]:
        """Plain data that msgpack can carry."""
        return msgspec.structs.asdict(self)

    @classmethod
    def from_msg(cls, msg: Mapping[str, Any] | NDToken) -> NDToken:
        """The token that :meth:`as_msg` was called on, as it arrives in an untyped payload; a token as it is.

        Raises:
            msgspec.ValidationError: ``msg`` is none.
        """
        return msg if isinstance(msg, cls) else msgspec.convert(msg, cls)


_known: dict[str, NDToken | str] = of_process({})


def note_token(key: str, token: NDToken | str | None) -> None:
    """This process has opened or attached what has that key; ``None``: it was destroyed here."""
    if token is None:
        _known.pop(key, None)
    else:
        _known[key] = token


def get_shm_token(key: str) -> NDToken | str | None:
    """The token of what this process has opened or attached: of a list it is its key, ``None`` if it knows none."""
    return _known.get(key)
