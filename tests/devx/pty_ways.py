"""In which ways each debugging example is run, and how much of that belongs to this run of the suite."""

from __future__ import annotations

import itertools
import os
import zlib
from dataclasses import dataclass

import pytest

from tractor.address._types import UnwrappedAddress
from tractor.testing import get_rando_addr

COMPLETE = os.environ.get("TRACTOR_TEST_DEBUG_MATRIX") == "1"
"""Whether everything is run (``make debug-matrix``), or each test in one of its ways."""

TRANSPORTS = ("tcp", "uds")


@dataclass(frozen=True)
class Way:
    """A transport, and whether ctrl-c is pressed at each prompt."""

    transport: str
    ctrl_c: bool

    def address(self) -> UnwrappedAddress | None:
        """A registry address of the test's own; on the default transport that is in a private directory anyway."""
        return get_rando_addr("tcp") if self.transport == "tcp" else None

    def __str__(self) -> str:
        return f"{self.transport}-ctrl_c" if self.ctrl_c else self.transport


WAYS = tuple(Way(*pair) for pair in itertools.product(TRANSPORTS, (False, True)))


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Give a test its ways: all of them, or the one that its name stands for.

    The short run has every test, and both transports, with and without ctrl-c, over its whole length.
    """
    if "way" not in metafunc.fixturenames:
        return
    name = metafunc.function.__name__
    ways = WAYS if COMPLETE else (WAYS[zlib.crc32(name.encode()) % len(WAYS)],)
    metafunc.parametrize("way", ways, ids=str)


def some(values: list[tuple[object, ...]], few: int) -> list[tuple[object, ...]]:
    """All values of a parameter in the complete run, else the first *few*."""
    return values if COMPLETE else values[:few]
