"""Actors whose trio runs as a guest of an asyncio loop, and the links between their trio and asyncio tasks."""

from __future__ import annotations

from tractor._errors import AsyncioCancelled as AsyncioCancelled
from tractor._errors import AsyncioRuntimeTranslationError as AsyncioRuntimeTranslationError
from tractor._errors import AsyncioTaskExited as AsyncioTaskExited
from tractor._errors import TrioCancelled as TrioCancelled
from tractor._errors import TrioTaskExited as TrioTaskExited
from tractor.to_asyncio._chan import LinkedTaskChannel as LinkedTaskChannel
from tractor.to_asyncio._chan import LinkedTaskStatistics as LinkedTaskStatistics
from tractor.to_asyncio._deliver import maybe_signal_aio_task as maybe_signal_aio_task
from tractor.to_asyncio._futures import run_trio_task_in_future as run_trio_task_in_future
from tractor.to_asyncio._host import run_as_asyncio_guest as run_as_asyncio_guest
from tractor.to_asyncio._open import open_channel_from as open_channel_from
from tractor.to_asyncio._open import run_task as run_task

__all__ = [
    "AsyncioCancelled",
    "AsyncioRuntimeTranslationError",
    "AsyncioTaskExited",
    "LinkedTaskChannel",
    "LinkedTaskStatistics",
    "TrioCancelled",
    "TrioTaskExited",
    "maybe_signal_aio_task",
    "open_channel_from",
    "run_as_asyncio_guest",
    "run_task",
    "run_trio_task_in_future",
]
