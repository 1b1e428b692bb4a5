"""What may still change: publish and subscribe over one-way streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor.experimental._pubsub import msgpub as msgpub

__getattr__, __dir__, __all__ = lazy_exports(
    __name__, {"tractor.experimental._pubsub": ("msgpub",)}
)
