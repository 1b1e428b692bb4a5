"""What may still change: publish and subscribe over one-way streams."""

from __future__ import annotations

from tractor.experimental._pubsub import msgpub as msgpub

__all__ = ["msgpub"]
