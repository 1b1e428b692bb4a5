"""`tractor keygen`: makes a key file, never shows the key, never changes one that is there."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

import pytest

from tractor.cli import _keygen, main
from tractor.transport._authkey import KEY_FILE_VARIABLE, KEY_SIZE, load_authkey, read_key_file

posix_only = pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX")


def test_a_key_file_is_made_and_its_path_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "a key"
    assert main(["keygen", str(path)]) == 0
    key = path.read_bytes()
    assert len(key) == KEY_SIZE
    out, err = capsys.readouterr()
    # For `export X=$(tractor keygen PATH)`.
    assert out == f"{path}\n"
    assert f"export {KEY_FILE_VARIABLE}={shlex.quote(str(path))}" in err
    for form in (repr(key), key.hex(), key.decode("latin-1")):
        assert form not in out + err
    monkeypatch.setenv(KEY_FILE_VARIABLE, out.rstrip("\n"))
    assert load_authkey(None) == (key, True)


@posix_only
def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert main(["keygen", str(tmp_path / "sub" / "k")]) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "sub" / "k").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "sub").stat().st_mode) == 0o700


@pytest.mark.parametrize("what", ["file", "directory", "dangling link"])
def test_what_is_there_is_left_as_it_is(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "k"
    if what == "file":
        path.write_bytes(b"the key in use: 123")
    elif what == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    assert main(["keygen", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "there already" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["k"]
    if what == "file":
        assert path.read_bytes() == b"the key in use: 123"


def test_without_a_path_it_is_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "tractor" / "authkey"
    monkeypatch.setattr(_keygen, "user_key_path", lambda: own)
    assert main(["keygen"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{own}\n"
    assert "unless told otherwise" in err
    assert "is set" not in err
    assert len(read_key_file(own)) == KEY_SIZE
    own.unlink()
    monkeypatch.setenv(KEY_FILE_VARIABLE, "/another")
    assert main(["keygen"]) == 0
    assert f"{KEY_FILE_VARIABLE} is set" in capsys.readouterr().err


def test_relative_paths_and_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert main(["keygen", "here"]) == 0
    assert main(["keygen", "~/home"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'here'}\n{tmp_path / 'home'}\n"


@posix_only
def test_a_directory_that_others_may_change_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    assert main(["keygen", str(folder / "k")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "chmod o-w" in err
    assert list(folder.iterdir()) == []


def test_a_file_in_the_way_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    assert main(["keygen", str(tmp_path / "file" / "k")]) == 1
    assert str(tmp_path / "file" / "k") in capsys.readouterr().err
