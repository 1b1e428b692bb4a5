"""`tractor certs`: a CA and certificates that two sides of a mutual TLS handshake accept."""

from __future__ import annotations

import os
import ssl
import stat
import sys
from pathlib import Path

import pytest

from tractor.cli import main

pytest.importorskip("trustme", reason="the extra `certs` is not installed")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs") / "made"
    hosts = ["--host", "actors.example.org", "--host", "192.0.2.7"]
    assert main(["certs", str(folder), *hosts, "--name", "one", "--name", "two"]) == 0
    return folder


def context(folder: Path, name: str, purpose: ssl.Purpose) -> ssl.SSLContext:
    """As an actor builds its own: its certificate, the CA, and a peer must show one, too."""
    ctx = ssl.create_default_context(purpose, cafile=str(folder / "ca.pem"))
    ctx.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    ctx.verify_mode = ssl.CERT_REQUIRED
    return ctx


def shake(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> None:
    """A TLS handshake in memory.  Raises ssl.SSLError where one side refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)


def test_the_files_are_what_was_asked_for(made: Path) -> None:
    names = sorted(path.name for path in made.iterdir())
    assert names == ["ca.pem", "one.key", "one.pem", "two.key", "two.pem"]
    # The CA's own key is not kept.
    assert b"PRIVATE KEY" not in (made / "ca.pem").read_bytes()
    assert (made / "one.key").read_bytes() != (made / "two.key").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_keys_are_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert main(["certs", str(tmp_path / "c")]) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "c" / "actor.key").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "::1", "actors.example.org", "192.0.2.7"]
)
def test_both_sides_accept_each_other_at_every_host(made: Path, host: str) -> None:
    shake(
        context(made, "one", ssl.Purpose.SERVER_AUTH),
        context(made, "two", ssl.Purpose.CLIENT_AUTH),
        host,
    )


def test_another_host_or_another_ca_is_refused(made: Path, tmp_path: Path) -> None:
    server = context(made, "two", ssl.Purpose.CLIENT_AUTH)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(context(made, "one", ssl.Purpose.SERVER_AUTH), server, "elsewhere.example.org")
    assert main(["certs", str(tmp_path)]) == 0
    stranger = context(tmp_path, "actor", ssl.Purpose.SERVER_AUTH)
    with pytest.raises(ssl.SSLError):
        shake(stranger, server, "localhost")


def test_the_lines_to_use_are_printed_and_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["certs", str(tmp_path / "c")]) == 0
    out = capsys.readouterr().out
    (line,) = [line.strip() for line in out.splitlines() if "TLSConfig(" in line]
    for name in ("actor.pem", "actor.key", "ca.pem"):
        assert repr(str(tmp_path / "c" / name)) in line
    assert "PRIVATE" not in out


@pytest.mark.parametrize("present", ["ca.pem", "actor.pem", "actor.key"])
def test_nothing_is_overwritten_unless_asked(
    present: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / present).write_text("in use")
    assert main(["certs", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert present in err
    assert "--force" in err
    assert [p.name for p in tmp_path.iterdir()] == [present]
    assert (tmp_path / present).read_text() == "in use"
    assert main(["certs", str(tmp_path), "--force"]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["actor.key", "actor.pem", "ca.pem"]
    assert (tmp_path / present).read_text() != "in use"


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_force_replaces_a_link_and_does_not_write_through_it(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("somebody's")
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / "actor.key").symlink_to(tmp_path / "target")
    assert main(["certs", str(folder), "--force"]) == 0
    assert (tmp_path / "target").read_text() == "somebody's"
    assert not (folder / "actor.key").is_symlink()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--host", "??"], "'??'"),
        (["--name", "../x"], "'../x'"),
        (["--name", "ca"], "'ca'"),
        (["--name", "CA"], "'CA'"),
        (["--host", "10.0.0.0/8"], "'10.0.0.0/8'"),
        (["--host", "127.1"], "'127.1'"),
        (["--host", ""], "''"),
        (["--name", ""], "''"),
        (["--days", "0"], "'0'"),
        (["--days", "soon"], "'soon'"),
        (["--days", "1" * 40], "whole number"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_made(
    args: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["certs", str(tmp_path / "c"), *args])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_days_bound_the_certificates(tmp_path: Path) -> None:
    assert main(["certs", str(tmp_path), "--days", "3"]) == 0
    cert = ssl._ssl._test_decode_cert(str(tmp_path / "actor.pem"))  # type: ignore[attr-defined]
    span = ssl.cert_time_to_seconds(cert["notAfter"]) - ssl.cert_time_to_seconds(cert["notBefore"])
    assert span > 0
    default = tmp_path / "default"
    assert main(["certs", str(default)]) == 0
    longer = ssl._ssl._test_decode_cert(str(default / "actor.pem"))  # type: ignore[attr-defined]
    ends = [ssl.cert_time_to_seconds(c["notAfter"]) for c in (cert, longer)]
    assert abs(ends[1] - ends[0] - 362 * 86_400) < 86_400


def test_without_trustme_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)
    assert main(["certs", str(tmp_path / "c")]) == 1
    assert "pip install 'trio-tractor[certs]'" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_a_directory_that_can_not_be_made_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    assert main(["certs", str(tmp_path / "file" / "c")]) == 1
    assert str(tmp_path / "file" / "c") in capsys.readouterr().err
