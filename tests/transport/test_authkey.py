"""The tree's key, and binds that need one given on purpose."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from tractor._errors import RuntimeFailure
from tractor.address._types import Address, TCPAddress, UDSAddress
from tractor.transport import _authkey
from tractor.transport._authkey import (
    KEY_FILE_VARIABLE,
    KEY_SIZE,
    check_bind_allowed,
    load_authkey,
    read_key_file,
    user_key_path,
    write_key_file,
)

posix_only = pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX")


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or makes the user's own key."""
    monkeypatch.delenv(KEY_FILE_VARIABLE, raising=False)
    monkeypatch.setattr(
        _authkey, "user_key_path", lambda: tmp_path / "state" / "tractor" / "authkey"
    )
    return tmp_path / "state"


def key_file(path: Path, key: bytes = b"x" * 20, mode: int = 0o600) -> Path:
    path.write_bytes(key)
    path.chmod(mode)
    return path


def test_an_argument_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(key_file(tmp_path / "k")))
    assert load_authkey(b"a" * 16) == (b"a" * 16, True)


@pytest.mark.parametrize("explicit", [20, "a text of 16 byt", [1] * 20])
def test_an_argument_that_is_no_bytes_is_refused(explicit: object) -> None:
    """A number above all: bytes(20) is a key that everybody knows."""
    with pytest.raises(TypeError, match="authkey must be bytes"):
        load_authkey(explicit)  # type: ignore[arg-type]


def test_then_the_file_of_the_variable(
    tmp_path: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(key_file(tmp_path / "k", b"y" * 16 + b"\n")))
    assert load_authkey(None) == (b"y" * 16 + b"\n", True)
    assert not state_dir.exists()


def test_then_the_users_own_made_on_first_use(state_dir: Path) -> None:
    key, explicit = load_authkey(None)
    assert (len(key), explicit) == (KEY_SIZE, False)
    assert load_authkey(None) == (key, False)
    directory = state_dir / "tractor"
    assert [p.name for p in directory.iterdir()] == ["authkey"]
    assert (directory / "authkey").read_bytes() == key


@posix_only
def test_a_made_key_is_private(state_dir: Path) -> None:
    before = os.umask(0)
    try:
        load_authkey(None)
    finally:
        os.umask(before)
    directory = state_dir / "tractor"
    assert stat.S_IMODE((directory / "authkey").stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_the_place_is_the_users_state_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    path = user_key_path()
    assert path.parts[-2:] == ("tractor", "authkey")
    assert path.is_relative_to(tmp_path)


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_FILE_VARIABLE, "")
    assert load_authkey(None)[1] is False


def test_short_keys_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="15 bytes"):
        load_authkey(b"a" * 15)
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(key_file(tmp_path / "k", b"z" * 15)))
    with pytest.raises(ValueError, match=r"k'.* 15 bytes"):
        load_authkey(None)


def test_a_missing_named_file_is_no_reason_to_use_another_key(
    tmp_path: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "missing"))
    with pytest.raises(FileNotFoundError) as caught:
        load_authkey(None)
    assert KEY_FILE_VARIABLE in caught.value.__notes__[0]
    assert not state_dir.exists()


@posix_only
@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o602])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(PermissionError, match=f"{mode:04o}"):
        read_key_file(key_file(tmp_path / "k", mode=mode))


@posix_only
def test_another_users_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = key_file(tmp_path / "k")
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    with pytest.raises(PermissionError, match=f"belongs to uid {own}"):
        read_key_file(path)
    with pytest.raises(PermissionError, match=f"belongs to uid {own}"):
        write_key_file(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@posix_only
def test_a_directory_that_anybody_may_change_is_refused_unless_sticky(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    path = key_file(directory / "k")
    directory.chmod(0o777)
    with pytest.raises(PermissionError, match="chmod o-w"):
        read_key_file(path)
    for mode in (0o775, 0o770, 0o2775):
        directory.chmod(mode)
        with pytest.raises(PermissionError, match=r"every member of group .*/d'.*chmod o-w,g-w"):
            read_key_file(path)
        with pytest.raises(PermissionError, match="every member of group"):
            write_key_file(directory / "new")
    directory.chmod(0o1777)
    assert read_key_file(path) == b"x" * 20


@posix_only
def test_what_is_no_file_is_refused_without_hanging(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(PermissionError, match="not a regular file"):
        read_key_file(tmp_path / "fifo")
    os.symlink("/dev/zero", tmp_path / "zero")
    with pytest.raises(PermissionError, match=r"zero' is not a regular file.*tractor keygen"):
        read_key_file(tmp_path / "zero")


def test_an_oversized_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = key_file(tmp_path / "k", b"k" * 65_536)
    assert len(read_key_file(longest)) == 65_536
    longest.write_bytes(b"k" * 65_537)
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(longest))
    with pytest.raises(ValueError, match=r"k' has 65537 bytes.*tractor keygen"):
        load_authkey(None)


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "k"
    assert write_key_file(path)
    key = path.read_bytes()
    assert not write_key_file(path)
    assert path.read_bytes() == key
    assert [p.name for p in tmp_path.iterdir()] == ["k"]


def test_racing_first_uses_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """All have found no key file before any makes one."""
    count = 8
    barrier = threading.Barrier(count)
    keys: list[bytes] = []
    made: list[bool] = []
    write = write_key_file

    def write_together(path: Path) -> bool:
        barrier.wait(10)
        made.append(write(path))
        return made[-1]

    monkeypatch.setattr(_authkey, "write_key_file", write_together)
    threads = [
        threading.Thread(target=lambda: keys.append(load_authkey(None)[0])) for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(keys) == count
    assert len(set(keys)) == 1
    assert made.count(True) == 1


LOCAL = [
    TCPAddress("127.0.0.1", 1),
    TCPAddress("::1", 1),
    TCPAddress("localhost", 1),
    UDSAddress("/run", "a.sock"),
]
WIDE = [
    TCPAddress(host, 1)
    for host in (
        "0.0.0.0",
        "::",
        "10.0.0.1",
        "8.8.8.8",
        "2001:db8::1",
        "example.com",
        "::ffff:0.0.0.0",
    )
]


@pytest.mark.parametrize("addr", LOCAL)
def test_local_binds_need_nothing(addr: Address) -> None:
    check_bind_allowed(addr, explicit_key=False, tls=False)


@pytest.mark.parametrize("addr", WIDE)
def test_other_binds_need_a_key_or_tls(addr: TCPAddress) -> None:
    check_bind_allowed(addr, explicit_key=True, tls=False)
    check_bind_allowed(addr, explicit_key=False, tls=True)
    with pytest.raises(RuntimeFailure, match=r"authkey=.*tls=") as caught:
        check_bind_allowed(addr, explicit_key=False, tls=False)
    assert addr.host in str(caught.value)
