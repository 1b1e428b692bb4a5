"""What every connection of this process is made with: the tree's key and the frame limit.

Set once at boot (by the root's arguments, or by what the parent handed down) and reset when the runtime ends.
"""

from __future__ import annotations

from dataclasses import dataclass

from tractor._proto.framing import DEFAULT_MAX_FRAME_SIZE
from tractor.ipc._authkey import load_authkey

__all__ = ["WireSettings", "reset_wire_settings", "set_wire_settings", "wire_settings"]


@dataclass(slots=True)
class WireSettings:
    """Settings of all connections.

    Attributes:
        authkey: what TCP peers must hold; read from the user's key file on first use when not given.
        key_is_explicit: the key was given by argument or environment, so binding beyond loopback is allowed.
        max_frame_size: bytes; bound for one message, both ways.
    """

    authkey: bytes | None = None
    key_is_explicit: bool = False
    max_frame_size: int = DEFAULT_MAX_FRAME_SIZE

    def key(self) -> bytes:
        """The tree's key.

        Raises:
            ValueError, PermissionError, OSError: the key (file) can't be used; see ``load_authkey``.
        """
        if self.authkey is None:
            self.authkey, self.key_is_explicit = load_authkey(None)
        return self.authkey


_current = WireSettings()


def wire_settings() -> WireSettings:
    """The settings in force."""
    return _current


def set_wire_settings(settings: WireSettings) -> None:
    """Put settings in force for every connection made from now on."""
    global _current
    _current = settings


def reset_wire_settings() -> None:
    """Back to the defaults."""
    set_wire_settings(WireSettings())
