"""What an actor may be called."""

from __future__ import annotations

import pytest

from tractor._util._names import require_name


@pytest.mark.parametrize("name", ["a", " ", "../x", "x" * 255, "ü" * 127, "-x", "%s{}"])
def test_any_printable_text_is_a_name(name: str) -> None:
    assert require_name(name) == name


@pytest.mark.parametrize("name", ["x" * 256, "ü" * 128, "a\0b", "ü\n", "\x1b[31m"])
def test_what_cannot_stand_in_a_log_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="255 bytes of printable text"):
        require_name(name)


@pytest.mark.parametrize("name", ["", None, 5, b"x", ["x"]])
def test_what_is_no_text_is_none(name: object) -> None:
    with pytest.raises(TypeError, match="non-empty string, not "):
        require_name(name)


def test_what_no_message_can_carry_is_none() -> None:
    with pytest.raises(ValueError, match=r"ud800.*surrogates not allowed"):
        require_name("\ud800")
