"""Certificates for tests: an authority, and files signed by it, as `tractor.TLSConfig` wants them."""

from __future__ import annotations

import atexit
import datetime
import functools
import shutil
import tempfile
from pathlib import Path

import trustme

from tractor import TLSConfig

LOCAL = ("127.0.0.1", "::1", "localhost")


@functools.cache
def _directory() -> Path:
    path = Path(tempfile.mkdtemp(prefix="tr-tls-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@functools.cache
def authority(name: str = "ours") -> trustme.CA:
    """A certificate authority of that name; its file is `ca_file(name)`."""
    made = trustme.CA(organization_name=f"test authority {name}")
    made.cert_pem.write_to_path(str(ca_file(name)))
    return made


def ca_file(name: str = "ours") -> Path:
    """The file with the certificate of the authority of that name."""
    return _directory() / f"{name}-ca.pem"


@functools.cache
def config(
    signed_by: str = "ours",
    trusts: str | None = "ours",
    hosts: tuple[str, ...] = LOCAL,
    expired: bool = False,
    require_client_cert: bool = True,
) -> TLSConfig:
    """A configuration whose certificate is valid for ``hosts``, signed by one authority and trusting another."""
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    cert = authority(signed_by).issue_cert(
        *hosts,
        not_before=now - 2 * day if expired else None,
        not_after=now - day if expired else None,
    )
    stem = f"{signed_by}-{'-'.join(hosts)}-{expired}".replace(":", "_").replace("*", "any")
    certfile, keyfile = _directory() / f"{stem}.pem", _directory() / f"{stem}.key"
    for number, blob in enumerate(cert.cert_chain_pems):
        blob.write_to_path(str(certfile), append=number > 0)
    cert.private_key_pem.write_to_path(str(keyfile))
    if trusts is not None:
        authority(trusts)
    return TLSConfig(
        str(certfile),
        str(keyfile),
        None if trusts is None else str(ca_file(trusts)),
        require_client_cert,
    )
