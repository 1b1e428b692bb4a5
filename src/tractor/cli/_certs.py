"""``tractor certs``: a test CA, and certificates that it has signed.  The X.509 is trustme's."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import ipaddress
import os
import secrets
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tractor._util.dist._name import pip_install
from tractor.cli._arguments import Parser
from tractor.cli._exit import fail
from tractor.cli._paths import absolute_path

LOCAL = ("localhost", "127.0.0.1", "::1")
"""What every certificate is good for."""

MAX_DAYS = 36_500


def main(argv: Sequence[str], prog: str) -> int:
    """Write ``ca.pem``, and ``NAME.pem`` and ``NAME.key`` for each name.

    What is true afterwards: all files are there, the keys with mode 0600, and the CA's own key is
    nowhere; or, where the exit code is 1, it was said on stderr what could not be written.

    Args:
        argv: the directory and options.
        prog: for messages.

    Returns:
        0, or 1 when a file is there already, could not be written, or trustme is not installed.

    Raises:
        SystemExit: wrong arguments (code 2), or ``--help``.
    """
    given = parser(prog)
    options = given.parse_args(argv)
    folder: Path = options.dir
    names: list[str] = list(dict.fromkeys(options.name or ["actor"]))
    wanted = ["ca.pem", *(f"{name}{ending}" for name in names for ending in (".pem", ".key"))]
    present = [name for name in wanted if os.path.lexists(folder / name)]
    if present and not options.force:
        return fail(
            f"{prog}: {', '.join(present)} in {str(folder)!r} would be overwritten; "
            "give another directory, or --force"
        )
    try:
        files = _make(names, [*LOCAL, *options.host], options.days)
    except ImportError as exc:
        return fail(f"{prog}: needs trustme: run `{pip_install('certs')}` ({exc})")
    except ValueError as exc:
        given.error(f"argument --host: not every one of {options.host} is a name or address: {exc}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in files.items():
            _write(folder / name, content, 0o600 if name.endswith(".key") else 0o644)
    except OSError as exc:
        return fail(f"{prog}: can't write to {str(folder)!r}: {exc}")
    _tell(folder, names, options)
    return 0


def parser(prog: str) -> Parser:
    """What the command takes."""
    made = Parser(
        prog=prog,
        description="Make a CA for tests, and certificates that actors show each other over TLS. "
        f"Each is good for {', '.join(LOCAL)} and every --host. The CA's key is not kept: to have "
        "another certificate, make all of them anew.",
    )
    made.add_argument(
        "dir",
        metavar="DIR",
        type=absolute_path,
        help="where to write; made if missing, mode 0700",
    )
    made.add_argument(
        "--host",
        action="append",
        default=[],
        type=_host,
        metavar="H",
        help="a further DNS name or IP address that actors are reached at; may be repeated",
    )
    made.add_argument(
        "--name",
        action="append",
        type=_file_name,
        metavar="NAME",
        help="make NAME.pem and NAME.key; may be repeated (default: actor)",
    )
    made.add_argument(
        "--days",
        type=partial(_whole_number, limit=MAX_DAYS),
        default=365,
        metavar="N",
        help="how long the certificates are valid (default: %(default)s)",
    )
    made.add_argument("--force", action="store_true", help="overwrite what is there")
    return made


def _file_name(text: str) -> str:
    plain = text.replace("-", "").replace("_", "").replace(".", "")
    if not plain.isalnum() or text.startswith((".", "-")) or text.lower() == "ca":
        raise argparse.ArgumentTypeError(
            f"a name is made of letters, digits, '-', '_' and '.', and is not 'ca'; not {text!r}"
        )
    return text


def _host(text: str) -> str:
    # What trustme takes for a network, or for a name, though nobody can connect to it.
    if "/" in text or (text.rpartition(".")[2].isdigit() and not _is_ip(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a DNS name nor an IP address")
    return text


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _whole_number(text: str, limit: int) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not 1 <= number <= limit:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 1 to {limit:,}, not {text!r}"
        )
    return number


def _make(names: list[str], hosts: list[str], days: int) -> dict[str, bytes]:
    """The files' names and contents.

    Raises:
        ImportError: trustme is not installed.
        ValueError: one of the hosts is neither a DNS name nor an IP address.
    """
    import trustme

    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    authority = trustme.CA(organization_name="tractor test CA")
    files = {"ca.pem": authority.cert_pem.bytes()}
    for name in names:
        cert = authority.issue_cert(
            *dict.fromkeys(hosts), organization_name="tractor test", not_after=end
        )
        files[f"{name}.pem"] = b"".join(blob.bytes() for blob in cert.cert_chain_pems)
        files[f"{name}.key"] = cert.private_key_pem.bytes()
    return files


def _write(path: Path, content: bytes, mode: int) -> None:
    """Put a whole file in its place.

    What is there, a link included, is replaced and not written through. Raises OSError.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(8)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    try:
        with open(fd, "wb") as file:
            file.write(content)
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def _tell(folder: Path, names: list[str], options: argparse.Namespace) -> None:
    hosts = ", ".join(dict.fromkeys([*LOCAL, *options.host]))
    print(f"{folder / 'ca.pem'}: the CA, which vouches for the others")
    for name in names:
        print(f"{folder / name}.pem, .key: for {hosts}, {options.days} days")
    print("\nTo use them:\n")
    for name in names:
        print(f"    tls = {_config(folder, name)}")
    print(
        "    tractor.open_nursery(tls=tls, ...)\n\n"
        "Every actor of a tree reads them from these paths: on another host put the files at the "
        "same place.\nThe .key files are secret. For tests; in production take your own CA's."
    )


def _config(folder: Path, name: str) -> str:
    files = {
        "certfile": folder / f"{name}.pem",
        "keyfile": folder / f"{name}.key",
        "cafile": folder / "ca.pem",
    }
    arguments = ", ".join(f"{key}={str(path)!r}" for key, path in files.items())
    return f"tractor.TLSConfig({arguments})"
