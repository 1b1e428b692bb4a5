"""What travels between actors: messages, codecs, payload specs, and references by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor.msg._exports import *
    from tractor.msg.types import __msg_spec__ as __msg_spec__
    from tractor.msg.types import __msg_types__ as __msg_types__
else:
    __getattr__, __dir__ = lazy_exports(__name__)
