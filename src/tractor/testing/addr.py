"""Addresses for tests, under the name that tests of older programs import."""

from __future__ import annotations

from tractor.testing._addrs import get_rando_addr as get_rando_addr

__all__ = ["get_rando_addr"]
