"""What every connection of this process is made with: the tree's key, certificates and frame limit.

Set once at boot (by the root's arguments, or by what the parent handed down) and reset when the runtime ends.  Beside
it, for what is not a connection: what this process's actor takes with it at its end.
"""

from __future__ import annotations

from contextlib import ExitStack

from tractor._errors import RuntimeFailure
from tractor._proto.limits import Limits
from tractor._util._runs import Run, current_run
from tractor.msg.bounded._bounded import bounds
from tractor.process._state import ProcessVar
from tractor.transport._authkey import load_authkey
from tractor.transport.tls._config import TLSConfig, TLSContexts


class WireSettings:
    """Settings of all connections.

    Attributes:
        authkey: what TCP peers must hold; read from the user's key file on first use when not given.
        key_is_explicit: the key was given by argument or environment, so binding beyond loopback is allowed.
        limits: what peers can't pass; those of the whole tree.
        tls: where the certificates for TCP are; ``None``: TCP is plain.
    """

    __slots__ = ("_contexts", "authkey", "key_is_explicit", "limits", "tls")

    def __init__(
        self,
        authkey: bytes | None = None,
        key_is_explicit: bool = False,
        limits: Limits | None = None,
        tls: TLSConfig | None = None,
    ) -> None:
        self.authkey = authkey
        self.key_is_explicit = key_is_explicit
        self.limits = limits or Limits()
        self.tls = tls
        self._contexts: TLSContexts | None = None

    def __repr__(self) -> str:
        # The key must not reach a log or a traceback.
        return (
            f"<WireSettings key_is_explicit={self.key_is_explicit} "
            f"limits={self.limits!r} tls={self.tls!r}>"
        )

    def key(self) -> bytes:
        """The tree's key.

        Raises:
            ValueError, PermissionError, OSError: the key (file) can't be used; see ``load_authkey``.
        """
        if self.authkey is None:
            self.authkey, self.key_is_explicit = load_authkey(None)
        return self.authkey

    def connection_key(self) -> bytes:
        """As :meth:`key`, for a connection that is being made.

        Raises:
            RuntimeFailure: the key can't be used; not OSError, which would tell something of the peer's address.
        """
        try:
            return self.key()
        except (OSError, ValueError) as exc:
            raise RuntimeFailure(f"this actor has no key to prove: {exc}") from exc

    def connection_tls(self) -> TLSContexts | None:
        """As :meth:`tls_contexts`, for a connection that is being made.

        Raises:
            RuntimeFailure: a file can't be used; not OSError, which would tell something of the peer's address.
        """
        try:
            return self.tls_contexts()
        except (OSError, ValueError) as exc:
            raise RuntimeFailure(f"this actor has no certificate to show: {exc}") from exc

    def tls_contexts(self) -> TLSContexts | None:
        """What TCP connections are encrypted with, made of :attr:`tls` on first use; ``None``: they are plain.

        Raises:
            OSError, ValueError: a file is missing, or does not hold what it must; see ``TLSContexts``.
        """
        if self._contexts is None and self.tls is not None:
            self._contexts = TLSContexts(self.tls)
        return self._contexts


_current = ProcessVar(WireSettings)


def wire_settings() -> WireSettings:
    """The settings in force."""
    return _current.value


def set_wire_settings(settings: WireSettings) -> None:
    """Put settings in force for every connection made from now on."""
    _current.value = settings
    bounds.use(settings.limits)


def set_limits(limits: Limits) -> None:
    """Put other limits in force; the rest of the settings stays."""
    _current.value.limits = limits
    bounds.use(limits)


def reset_wire_settings() -> None:
    """Back to the defaults."""
    set_wire_settings(WireSettings())


_lifetime: ProcessVar[ExitStack | None] = ProcessVar(lambda: None)
_lifetime_run: ProcessVar[Run | None] = ProcessVar(lambda: None)


def lifetime() -> ExitStack | None:
    """The ``lifetime_stack`` of the actor of the calling code's run; ``None`` while it is none."""
    run = current_run()
    return _lifetime.value if run is None or run is _lifetime_run.value else None


def set_lifetime(stack: ExitStack | None) -> None:
    """Note the stack that is closed at the end of this process's actor; ``None``: it is not an actor any more."""
    _lifetime.value = stack
    _lifetime_run.value = None if stack is None else current_run()
