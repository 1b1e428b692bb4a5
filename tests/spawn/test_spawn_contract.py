from __future__ import annotations

from typing import get_args

import pytest

from tractor import spawn
from tractor.spawn import _contract


def test_all_keys_are_listed() -> None:
    assert get_args(spawn.SpawnMethodKey) == (
        "trio",
        "mp_spawn",
        "mp_forkserver",
        "main_thread_forkserver",
        "zygote",
        "auto",
        "subint",
        "subint_fork",
        "subint_forkserver",
    )


def test_unknown_key_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown spawn backend 'fork'") as info:
        spawn.try_set_start_method("fork")
    for key in get_args(spawn.SpawnMethodKey):
        assert repr(key) in str(info.value)


@pytest.mark.parametrize("key", ["subint_fork", "subint_forkserver"])
def test_reserved_keys_say_why(key: str) -> None:
    with pytest.raises(NotImplementedError, match=f"'{key}' is reserved"):
        spawn.try_set_start_method(key)


def test_every_key_is_either_usable_or_an_error() -> None:
    usable = spawn.usable_start_methods()
    for key in get_args(spawn.SpawnMethodKey):
        if key in (*usable, "auto"):
            assert _contract.get_backend(key).key == key
        else:
            with pytest.raises((NotImplementedError, RuntimeError), match=key):
                _contract.get_backend(key)


def test_selection_holds_and_survives_a_failed_one() -> None:
    backend = spawn.try_set_start_method("trio")
    assert backend is _contract.get_backend("trio")
    with pytest.raises(ValueError, match="nope"):
        spawn.try_set_start_method("nope")
    assert _contract.selected_start_method() == "trio"


def test_request_hides_the_key_and_is_frozen() -> None:
    request = _contract.SpawnRequest(
        name="ann", uuid="u" * 36, parent_addr=("127.0.0.1", 1), authkey=b"secret-key-bytes"
    )
    assert "secret" not in repr(request)
    with pytest.raises(AttributeError):
        request.name = "bob"  # type: ignore[misc]
