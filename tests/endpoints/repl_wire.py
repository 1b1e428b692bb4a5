"""As much of a channel as the debugger's dialogs use."""

from __future__ import annotations

from typing import Any

import msgspec

from tractor._errors import TransportClosed
from tractor.msg.types import MsgType


class Wire:
    """As much of a channel as the two ends of the dialog use."""

    def __init__(self) -> None:
        self.dialogs: dict[int, Any] = {}
        self.sent: list[MsgType] = []
        self.transport = self
        self.local_uid = ("me", "1")
        self.aid = None
        self.process = None
        self.peer = "the peer"
        self.broken = False

    def open(self, end: Any, cid: int = 7) -> int:
        self.dialogs[cid] = end
        return cid

    def forget(self, cid: int) -> None:
        self.dialogs.pop(cid, None)

    def tell(self, msg: MsgType) -> None:
        if not self.broken:
            self.sent.append(msg)

    def put(self, msg: MsgType, _encoder: object = None) -> None:
        if self.broken:
            raise TransportClosed("gone")
        self.sent.append(msg)

    def take(self) -> list[MsgType]:
        sent, self.sent = self.sent, []
        return sent


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))
