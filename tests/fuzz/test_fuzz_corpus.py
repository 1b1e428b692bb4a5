"""Every input that fuzzing has kept, and changed ones of each: what decodes a peer's bytes holds."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_targets import MAX_FRAME, TARGETS

CORPUS = Path(__file__).parent / "corpus"
VARIANTS = 30
"""Of each input; the long search is `make fuzz`."""


def changed(data: bytes, dice: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(out) + 1)
        what = dice.randrange(4)
        if what == 0 and at < len(out):
            out[at] = dice.randrange(256)
        elif what == 1:
            del out[at : at + dice.randint(1, 6)]
        elif what == 2:
            out[at:at] = dice.randbytes(dice.randint(1, 6))
        else:
            out[at:at] = out[at : at + 40]
    return bytes(out)


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_and_what_is_like_it(name: str) -> None:
    kept = sorted((CORPUS / name).iterdir())
    assert len(kept) >= 10
    dice = random.Random(616)
    for path in kept:
        data = path.read_bytes()
        for one in (data, *(changed(data, dice) for _ in range(VARIANTS))):
            try:
                TARGETS[name](one)
            except Exception as exc:
                exc.add_note(f"input {one!r}, of {path.name}")
                raise


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 65_536


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("frames", b"\0" + (MAX_FRAME + 1).to_bytes(4, "little") + b"x"),
        ("frames", b"\x01\0" + b"\x03\0\0\0abc" * 3),
        ("envelope", b"\x93\x06\x01\x90"),
        # An acceptor, with a key, to somebody who holds it.
        ("handshake", bytes([1 | 2 | 4 | 8, 1, 0]) + b"n" * 32),
        ("handshake", bytes([2 | 4 | 8, 0]) + b"n" * 32),
    ],
)
def test_a_target_goes_all_the_way(name: str, data: bytes) -> None:
    TARGETS[name](data)


def test_a_target_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that holds whatever happens would find nothing."""
    import fuzz_targets

    monkeypatch.setattr(fuzz_targets, "MAX_FRAME", 1)
    monkeypatch.setattr(fuzz_targets, "plain_frames", lambda data: ([], False))
    with pytest.raises(AssertionError):
        TARGETS["frames"](b"\0\x01\0\0\0x")
