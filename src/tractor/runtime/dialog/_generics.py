"""Type variables of contexts and streams, for type checkers.

A parameter that is left out is the one before it, as one payload spec holds for all payloads of a context; without any
all are ``Any``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    FirstT = TypeVar("FirstT", default=Any)
    SendT = TypeVar("SendT", default=FirstT)
    RecvT = TypeVar("RecvT", default=SendT)
    ResultT = TypeVar("ResultT", default=FirstT)
    StreamSendT = TypeVar("StreamSendT", default=Any)
    StreamRecvT = TypeVar("StreamRecvT", default=StreamSendT)
else:
    # Defaults exist from Python 3.13 on; at run time they are of no use.
    from typing import TypeVar

    FirstT = TypeVar("FirstT")
    SendT = TypeVar("SendT")
    RecvT = TypeVar("RecvT")
    ResultT = TypeVar("ResultT")
    StreamSendT = TypeVar("StreamSendT")
    StreamRecvT = TypeVar("StreamRecvT")
