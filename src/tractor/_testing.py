"""The outdated name of :mod:`tractor.testing`."""

from __future__ import annotations

import sys

from tractor import testing

sys.modules[__name__] = testing
