"""OpenTelemetry: spans, metrics and logs of every actor, by the API that the user's SDK implements.

Nothing of OpenTelemetry is imported before :func:`instrument` is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor.devx.otel._exports import *
else:
    __getattr__, __dir__ = lazy_exports(__name__)
