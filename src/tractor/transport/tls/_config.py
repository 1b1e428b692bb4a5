"""What TLS is set up from: paths that travel from parent to child, and the contexts that each actor makes of them."""

from __future__ import annotations

import os
import ssl

import msgspec


class TLSConfig(msgspec.Struct, frozen=True):
    """Where the certificates of a tree are; given as ``tls`` to :func:`tractor.open_root_actor`.

    Every actor of the tree reads the files itself, on the first use of TCP.  Each side of a connection shows
    ``certfile`` and checks the other's: the connecting side that the certificate is issued by ``cafile`` and valid for
    the host or IP address that it has dialled (by the certificate's subjectAltName), the accepting side that it is
    issued by ``cafile``.  TLS 1.2 is the oldest version that is spoken.

    Args:
        certfile: PEM file with this tree's certificate, followed by the intermediate ones, if any.
        keyfile: PEM file with its private key, not encrypted.
        cafile: PEM file with the certificates of the authorities that peers' certificates are issued by; ``None``:
            listeners' are checked against the system's authorities, and no client certificate is asked for.
        require_client_cert: whether a connecting peer, too, must show a certificate that ``cafile`` vouches for.

    Relative paths are taken from the working directory at the time, and kept as absolute ones.

    Raises:
        TypeError: a path is not a string or path, or ``require_client_cert`` no bool.
    """

    certfile: str
    keyfile: str
    cafile: str | None
    require_client_cert: bool = True

    def __post_init__(self) -> None:
        for name in ("certfile", "keyfile", "cafile"):
            given = getattr(self, name)
            if name == "cafile" and given is None:
                continue
            if not isinstance(given, str | os.PathLike):
                raise TypeError(f"TLSConfig.{name} is a path, not {given!r}")
            path = os.path.abspath(os.fsdecode(given))
            msgspec.structs.force_setattr(self, name, path)
        if not isinstance(self.require_client_cert, bool):
            raise TypeError(
                f"TLSConfig.require_client_cert is a bool, not {self.require_client_cert!r}"
            )


class TLSContexts:
    """The two contexts of one process.

    Args:
        config: where the files are; they are read now.

    Raises:
        OSError: a file is missing or can't be read; the text names it.
        ValueError: a file does not hold what it must, or the key is another certificate's; the text names it.
    """

    __slots__ = ("accept", "connect")

    def __init__(self, config: TLSConfig) -> None:
        for what, path in (
            ("certfile", config.certfile),
            ("keyfile", config.keyfile),
            ("cafile", config.cafile),
        ):
            if path is not None:
                _require_readable(what, path)
        self.accept = _context(config, ssl.PROTOCOL_TLS_SERVER)
        # Nobody resumes sessions, and tickets would only be bytes that no reader expects.
        self.accept.num_tickets = 0
        self.accept.options |= ssl.OP_NO_TICKET
        if config.cafile is not None and config.require_client_cert:
            self.accept.verify_mode = ssl.CERT_REQUIRED
        # Checks the host name and requires a certificate.
        self.connect = _context(config, ssl.PROTOCOL_TLS_CLIENT)
        if config.cafile is None:
            self.connect.load_default_certs(ssl.Purpose.SERVER_AUTH)


def _context(config: TLSConfig, protocol: ssl._SSLMethod) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION

    def no_password() -> str:
        raise ValueError(
            f"TLSConfig.keyfile {config.keyfile!r} is encrypted: give one without a passphrase"
        )

    try:
        context.load_cert_chain(config.certfile, config.keyfile, no_password)
    except ssl.SSLError as exc:
        raise ValueError(_why_unusable(config, exc)) from exc
    if config.cafile is not None:
        try:
            context.load_verify_locations(config.cafile)
        except ssl.SSLError as exc:
            raise ValueError(
                f"TLSConfig.cafile {config.cafile!r} holds no certificate in PEM form: {exc}"
            ) from exc
    return context


def _why_unusable(config: TLSConfig, exc: ssl.SSLError) -> str:
    if exc.reason == "KEY_VALUES_MISMATCH":
        return (
            f"TLSConfig.keyfile {config.keyfile!r} is not the key of the certificate "
            f"in {config.certfile!r}"
        )
    return (
        f"TLSConfig.certfile {config.certfile!r} and keyfile {config.keyfile!r} "
        f"hold no certificate and key in PEM form: {exc}"
    )


def _require_readable(what: str, path: str) -> None:
    """OpenSSL's own errors do not name the file."""
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as exc:
        raise type(exc)(exc.errno, f"TLSConfig.{what} can't be read: {exc.strerror}", path) from exc
