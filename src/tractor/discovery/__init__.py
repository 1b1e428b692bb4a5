"""Names and addresses: registrars, look-ups, and the forms that an address may have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor.discovery._exports import *
else:
    __getattr__, __dir__ = lazy_exports(__name__)
