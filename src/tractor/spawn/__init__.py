"""How subactors come to life: the spawn backends and what they share."""

from __future__ import annotations

from ._contract import SpawnMethodKey as SpawnMethodKey
from ._contract import try_set_start_method as try_set_start_method

__all__ = ["SpawnMethodKey", "try_set_start_method"]
