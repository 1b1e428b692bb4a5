"""Publish and subscribe between actors: one function of an actor feeds any number of subscribers.

A feed is an async function that is decorated with :func:`publisher` and sends what it has by its
:class:`Publisher`.  Any actor that has a portal to it opens a :func:`subscribe` block, and says there what becomes of
values that it is too slow for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor.topics._exports import *
else:
    __getattr__, __dir__ = lazy_exports(__name__)
