"""Connections between actors: channels, the server, and the transports below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor.ipc._exports import *
else:
    __getattr__, __dir__ = lazy_exports(__name__)
