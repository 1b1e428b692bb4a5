"""Why a TLS connection came to nothing, in words: which of both sides' settings do not go together."""

from __future__ import annotations

import ssl

from tractor._proto.connection.auth import MAGIC
from tractor.transport.tls._io import RECORDS

_NO_ISSUER = (18, 19, 20, 21)
"""OpenSSL's codes for a certificate that no trusted authority has issued."""

_NOT_FOR_HOST = (62, 64)
"""... and for one of another host name or address."""

_ALERTS = {
    "CERTIFICATE_REQUIRED": "the peer requires a certificate of this side, and got none (require_client_cert there)",
    "UNKNOWN_CA": "the peer refused this side's certificate: no authority of its cafile has issued it",
    "CERTIFICATE_EXPIRED": "the peer refused this side's certificate: it has expired",
    "CERTIFICATE_REVOKED": "the peer refused this side's certificate: it was revoked",
    "BAD_CERTIFICATE": "the peer refused this side's certificate, say because it is not for the name that was dialled",
    "CERTIFICATE_UNKNOWN": "the peer refused this side's certificate",
    "UNSUPPORTED_CERTIFICATE": "the peer refused this side's certificate",
    "HANDSHAKE_FAILURE": "the peer broke it off, say because it requires a certificate of this side, and got none",
    "PROTOCOL_VERSION": "the two sides have no version of TLS in common",
}
"""What the peer's alert says, by the end of its name."""


def why_tls_failed(exc: OSError, first: bytes, host: str | None, cafile: str | None) -> str:
    """The reason in words, OpenSSL's own at the end.

    Args:
        exc: what TLS has raised.
        first: the first bytes that the peer has sent.
        host: what was dialled; ``None``: this side has accepted.
        cafile: this side's authorities; ``None``: the system's.
    """
    if first and MAGIC.startswith(first[: len(MAGIC)]):
        return (
            "the peer speaks tractor's protocol without TLS, and this side with it: "
            "give tls= on both sides, or on none"
        )
    if first and first[:1] not in RECORDS:
        return f"the peer does not speak TLS: it began with {first[:16]!r}"
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the peer's certificate was refused: {exc.verify_message}" + _what_to_do(
            exc.verify_code, host, cafile
        )
    if not isinstance(exc, ssl.SSLError):
        return f"{exc}; one that does not speak TLS does so, or refuses this side's certificate"
    reason = exc.reason or ""
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return f"the peer has shown no certificate, which this side requires (require_client_cert): {exc}"
    for end, words in _ALERTS.items():
        if "ALERT" in reason and reason.endswith(end):
            return f"{words}: {exc}"
    return str(exc)


def _what_to_do(code: int, host: str | None, cafile: str | None) -> str:
    if code in _NO_ISSUER:
        known = f"cafile {cafile!r}" if cafile else "the system's authorities"
        return f"; none of {known} has issued it"
    if code in _NOT_FOR_HOST:
        return f"; {host!r} was dialled, so that must be among the names in it (subjectAltName)"
    return ""


def is_tls_mismatch(exc: BaseException | None) -> bool:
    """Whether it was the two sides' TLS settings that kept a peer out, as far as this side can tell."""
    return isinstance(exc, ssl.SSLError) or getattr(exc, "speaks_tls", False)
