"""The contract between the runtime and whatever starts a process for it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast, get_args

import msgspec

from ._boot import release_all_lifelines as release_all_lifelines

if TYPE_CHECKING:
    import trio

__all__ = [
    "ChildProcess",
    "SpawnBackend",
    "SpawnMethodKey",
    "SpawnRequest",
    "get_backend",
    "release_all_lifelines",
    "selected_start_method",
    "try_set_start_method",
]

SpawnMethodKey: TypeAlias = Literal[
    "trio",
    "mp_spawn",
    "mp_forkserver",
    "main_thread_forkserver",
    "subint",
    "subint_fork",
    "subint_forkserver",
]
"""Every spawn backend's key, whether or not this Python and platform can run it."""


class SpawnRequest(msgspec.Struct, frozen=True, kw_only=True):
    """All that a backend is told about the child it starts; the rest follows as a message."""

    name: str
    uuid: str
    parent_addr: tuple[str, int | str]
    """The unwrapped address on which the parent awaits the child."""
    loglevel: str | None = None
    infect_asyncio: bool = False
    authkey: bytes | None = None
    """The tree's key; travels over the boot pipe, never in argv or the environment."""
    proc_kwargs: Mapping[str, Any] = {}
    """The user's own options for the backend; those of :class:`subprocess.Popen` for ``'trio'``."""

    def __repr__(self) -> str:
        # The key must not reach a log or a traceback.
        return f"<SpawnRequest {self.name!r} [{self.uuid[:6]}] parent_addr={self.parent_addr!r}>"


class ChildProcess(Protocol):
    """A running or ended child of this process."""

    @property
    def pid(self) -> int:
        """The child's process id."""

    @property
    def returncode(self) -> int | None:
        """The exit status (``-N``: killed by signal ``N``), or ``None`` while the child runs."""

    @property
    def cmdline(self) -> str:
        """The command line, quoted for a shell, for people to read."""

    async def wait(self) -> int:
        """Wait for the child's end, reap it, return ``returncode``.  Any number of tasks may."""

    def terminate(self) -> None:
        """Send SIGTERM; does nothing when the child is gone."""

    def kill(self) -> None:
        """Send SIGKILL; does nothing when the child is gone."""

    def stderr_tail(self) -> str:
        """Up to the last 16 KiB that the child wrote to stderr before it was configured."""

    async def drain_stderr(self) -> None:
        """After the child's death: wait, at most 0.2 s, until all of its stderr was captured."""

    def release_lifeline(self) -> None:
        """Close the lifeline's write end, so that the child sees its parent gone.  Idempotent."""

    async def aclose(self) -> None:
        """Free pipes and descriptors.  Idempotent; neither kills nor waits for the child."""


class SpawnBackend(Protocol):
    """One way of starting children."""

    @property
    def key(self) -> str:
        """The backend's key, a :data:`SpawnMethodKey`."""

    def is_available(self) -> None:
        """Return when children can be started here, else raise with the reason.

        Raises:
            RuntimeError: This Python or platform lacks what the backend needs.
        """

    async def start(self, request: SpawnRequest, nursery: trio.Nursery) -> ChildProcess:
        """Start a child process.

        Args:
            request: What to start.
            nursery: Hosts the task that passes the child's early stderr on; it ends by itself once
                the child is configured or dead, and with :meth:`ChildProcess.aclose`.

        Returns:
            The child, running.  If this raises (cancellation included) no process was left behind.

        Raises:
            OSError: The process could not be started.
            TypeError, ValueError: Unusable ``proc_kwargs`` or key.
        """


# Backends by key: the module to import and whose ``BACKEND`` to take.  Imported on selection only,
# so that a leaf actor pays for none.
_BUILT_IN: dict[str, str] = {"trio": "tractor.spawn._exec"}

_RESERVED: dict[str, str] = {
    "subint_fork": "CPython aborts a child that was forked off the main interpreter",
    "subint_forkserver": (
        "msgspec does not support interpreters with a GIL of their own;"
        " 'main_thread_forkserver' is the key to use instead"
    ),
}

_selected: SpawnMethodKey = "trio"


def get_backend(key: str) -> SpawnBackend:
    """The backend of that key, known to work here.

    Raises:
        ValueError: No backend has this key.
        NotImplementedError: The key is reserved, or not part of this release.
        RuntimeError: This Python or platform cannot run it.
    """
    keys = get_args(SpawnMethodKey)
    if key not in keys:
        choices = ", ".join(map(repr, keys))
        raise ValueError(f"unknown spawn backend {key!r}; choose one of {choices}")
    if key in _RESERVED:
        raise NotImplementedError(f"spawn backend {key!r} is reserved: {_RESERVED[key]}")
    if key not in _BUILT_IN:
        raise NotImplementedError(
            f"spawn backend {key!r} is not part of this release;"
            f" available here: {', '.join(map(repr, _BUILT_IN))}"
        )
    backend = cast("SpawnBackend", importlib.import_module(_BUILT_IN[key]).BACKEND)
    backend.is_available()
    return backend


def try_set_start_method(key: str) -> SpawnBackend:
    """Select the backend with which this process starts its subactors from now on.

    Returns:
        The selected backend.

    Raises:
        ValueError, NotImplementedError, RuntimeError: As :func:`get_backend`; the selection is then
            unchanged.
    """
    global _selected
    backend = get_backend(key)
    _selected = cast("SpawnMethodKey", key)
    return backend


def selected_start_method() -> SpawnMethodKey:
    """The key last given to :func:`try_set_start_method`, at first ``'trio'``."""
    return _selected
