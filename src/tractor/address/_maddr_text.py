"""The text of multiaddrs: from a string to an unwrapped address and back.

Forms: ``/ip4/H/tcp/P``, ``/ip6/H/tcp/P``, ``/dns/H/tcp/P`` (also ``dns4``, ``dns6``), ``/unix/PATH`` and, for rings
that are handed over at a socket file, ``/shm/PATH``.

A port is a decimal number without leading zeros. An IPv6 zone follows its address (``fe80::1%eth0``). A path
is the rest of the string, with or without its own leading slash; ``%XX`` in it stands for a byte, which a
path must use for ``%`` itself.
"""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import Any

from tractor.address._hosts import parse_host

FORMS = "/ip4/H/tcp/P, /ip6/H/tcp/P, /dns/H/tcp/P (dns4, dns6), /unix/PATH, /shm/PATH"

SHM_SCHEME = "shm://"
"""What the directory of an unwrapped address of the ring transport begins with."""

_DNS_KINDS = ("dns", "dns4", "dns6")
_VERSIONS = {"ip4": 4, "ip6": 6}
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
# Bytes that are written as '%XX': what some reader of multiaddrs would not give back as it is.
_ESCAPED = re.compile(rb"[\x00-\x1f\x7f%\\]")


def split_maddr(maddr: str) -> tuple[str, tuple[str, Any]]:
    """The transport key and the unwrapped address of a multiaddr.

    Raises:
        ValueError: the string has none of the known forms; it is named in the text.
    """
    lead, _, rest = maddr.partition("/")
    kind, _, tail = rest.partition("/")
    try:
        if not lead and kind == "unix":
            return "uds", _split_path(tail)
        if not lead and kind == "shm":
            directory, filename = _split_path(tail)
            return "shm", (SHM_SCHEME + directory, filename)
        if not lead and (kind in _DNS_KINDS or kind in _VERSIONS):
            return "tcp", _split_tcp(kind, tail)
    except ValueError as error:
        raise ValueError(f"bad multiaddr {maddr!r}: {error}") from None
    raise ValueError(f"bad multiaddr {maddr!r}: not one of the forms {FORMS}")


def _split_tcp(kind: str, tail: str) -> tuple[str, int]:
    parts = tail.split("/")
    if len(parts) != 3 or parts[1] != "tcp":
        raise ValueError(f"expected /{kind}/HOST/tcp/PORT")
    host, _, port = parts
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError(f"{port!r} is not a TCP port")
    literal = parse_host(host)
    if literal is None and kind in _VERSIONS:
        raise ValueError(f"{host!r} is a DNS name, no IPv{_VERSIONS[kind]} literal")
    if literal is not None and _VERSIONS.get(kind) != literal.version:
        raise ValueError(
            f"{host!r} is an IPv{literal.version} literal: write /ip{literal.version}/"
        )
    return host, int(port)


def _split_path(tail: str) -> tuple[str, str]:
    path = _unescape(tail).lstrip("/")
    last = path.rpartition("/")[2]
    # Not left to `PurePosixPath`, for which 'dir/.' and 'dir/' are names of 'dir'.
    if last in ("", ".", ".."):
        raise ValueError("the path names no file")
    if "\0" in path:
        raise ValueError("there is a NUL byte in the path")
    return str(PurePosixPath("/", path).parent), last


def _unescape(text: str) -> str:
    def byte(found: re.Match[bytes]) -> bytes:
        digits = found[1]
        if digits is None:
            raise ValueError("a '%' without two hexadecimal digits; write '%25' for the character")
        return bytes.fromhex(digits.decode())

    return os.fsdecode(_ESCAPE.sub(byte, os.fsencode(text)))


def tcp_maddr(host: str, port: int) -> str:
    """The multiaddr of a TCP address."""
    literal = parse_host(host)
    kind = "dns" if literal is None else f"ip{literal.version}"
    return f"/{kind}/{host}/tcp/{port}"


def uds_maddr(path: PurePosixPath, kind: str = "unix") -> str:
    """The multiaddr of a socket file at an absolute path; ``kind`` is ``unix`` or ``shm``."""
    raw = _ESCAPED.sub(lambda found: b"%%%02X" % ord(found[0]), os.fsencode(path))
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        # No text in the system's encoding: each byte beyond ASCII is written as a number.
        text = re.sub(rb"[\x80-\xff]", lambda found: b"%%%02X" % ord(found[0]), raw).decode()
    return f"/{kind}/" + text.lstrip("/")
