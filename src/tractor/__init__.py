"""Structured concurrency across processes and hosts: a trio nursery whose tasks are processes.

Every public name is loaded when it is first used, so that importing the package costs little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports
from tractor._util.dist._name import refuse_neighbour

refuse_neighbour(__path__[0])

if TYPE_CHECKING:
    from tractor import _exceptions as _exceptions
    from tractor import _testing as _testing
    from tractor._exports import *
    from tractor._util.dist._version import __version__ as __version__
else:
    __getattr__, __dir__ = lazy_exports(__name__)
