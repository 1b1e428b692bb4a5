"""The runtime directory keeps others out."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from tractor.process._dirs import ensure_private_dir, get_runtime_dir, runtime_dir_path

pytestmark = pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="XDG_RUNTIME_DIR is read on Linux")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runtime directory's path, somewhere in the test's own directory."""
    path = tmp_path / "tractor"
    monkeypatch.setattr("tractor.process._dirs.runtime_dir_path", lambda: path)
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@linux_only
def test_the_place_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/somewhere")
    assert runtime_dir_path() == Path("/run/somewhere/tractor")
    fallback = Path(f"/tmp/tractor-{os.getuid()}")
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", ignored)
        assert runtime_dir_path() == fallback
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert runtime_dir_path() == fallback


def test_macos_ignores_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/somewhere")
    assert runtime_dir_path() == Path(f"/tmp/tractor-{os.getuid()}")


def test_it_is_made_private_whatever_the_umask_lets_through(base: Path) -> None:
    before = os.umask(0)
    try:
        assert get_runtime_dir() == base
        assert get_runtime_dir("a/b") == base / "a" / "b"
    finally:
        os.umask(before)
    assert [mode(p) for p in (base, base / "a", base / "a/b")] == [0o700] * 3
    # It is there now, and that is fine.
    assert get_runtime_dir("a/b") == base / "a/b"


@linux_only
def test_a_missing_parent_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "xdg"))
    assert get_runtime_dir().is_dir()
    assert mode(tmp_path / "xdg") == 0o700


@pytest.mark.parametrize("bad", ["/etc", "..", "a/../b", "a/..", "x\0", Path("/")])
def test_a_subdirectory_stays_inside(base: Path, bad: str | Path) -> None:
    with pytest.raises(ValueError, match="leads out"):
        get_runtime_dir(bad)
    assert not base.exists()


def test_a_symlink_is_refused(base: Path, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir(mode=0o700)
    base.symlink_to(tmp_path / "target")
    with pytest.raises(PermissionError, match="symlink"):
        get_runtime_dir()


def test_a_symlinked_subdirectory_is_refused(base: Path, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir(mode=0o700)
    get_runtime_dir()
    (base / "sub").symlink_to(tmp_path / "target")
    with pytest.raises(PermissionError, match="sub"):
        get_runtime_dir("sub")


def test_a_file_is_refused(base: Path) -> None:
    base.touch(mode=0o700)
    with pytest.raises(PermissionError, match="symlink or a file"):
        get_runtime_dir()


@pytest.mark.parametrize("bits", [0o701, 0o710, 0o755, 0o777])
def test_a_directory_open_to_others_is_refused_and_left_alone(base: Path, bits: int) -> None:
    base.mkdir()
    base.chmod(bits)
    with pytest.raises(PermissionError, match=f"{bits:04o}"):
        get_runtime_dir()
    assert mode(base) == bits


def test_a_directory_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = os.getuid()
    ensure_private_dir(tmp_path / "d")
    monkeypatch.setattr(os, "getuid", lambda: own + 1)
    with pytest.raises(PermissionError, match=f"belongs to uid {own}"):
        ensure_private_dir(tmp_path / "d")


@pytest.mark.parametrize("bits", [0o777, 0o775, 0o2770])
def test_a_way_that_others_can_change_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    above = tmp_path / "above"
    base = above / "deep" / "tractor"
    base.parent.mkdir(parents=True)
    monkeypatch.setattr("tractor.process._dirs.runtime_dir_path", lambda: base)
    above.chmod(bits)
    with pytest.raises(PermissionError, match=f"above'.*mode {bits:04o}.*XDG_RUNTIME_DIR"):
        get_runtime_dir()
    assert not base.exists()
    # As /tmp is: nobody can replace what is another's there.
    above.chmod(0o1777)
    assert get_runtime_dir() == base


def test_a_way_through_a_directory_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a directory away")
    foreign = tmp_path / "foreign"
    (foreign / "run").mkdir(parents=True)
    os.chown(foreign, 12345, 12345)
    (tmp_path / "link").symlink_to(foreign / "run")
    for base in (foreign / "run" / "tractor", tmp_path / "link" / "tractor"):
        monkeypatch.setattr("tractor.process._dirs.runtime_dir_path", lambda base=base: base)
        with pytest.raises(PermissionError, match=r"foreign'.*uid 12345.*XDG_RUNTIME_DIR"):
            get_runtime_dir()
    os.chown(tmp_path / "link", 12345, 12345, follow_symlinks=False)
    os.chown(foreign, 0, 0)
    with pytest.raises(PermissionError, match=r"link'.*uid 12345"):
        get_runtime_dir()
