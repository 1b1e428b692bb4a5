"""The contract between the runtime and whatever starts a process for it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast, runtime_checkable

import msgspec

from tractor._util._entry_points import EntryPointTable, faults_of, part_or_made
from tractor.process._state import ProcessVar
from tractor.spawn._boot import release_all_lifelines as release_all_lifelines
from tractor.transport.tls._config import TLSConfig

if TYPE_CHECKING:
    import trio

ENTRY_POINT_GROUP = "tractor.spawn_backends"
"""Where other packages name theirs: ``key = "module:backend"``, an object or a class that makes one."""

SpawnMethodKey: TypeAlias = Literal[
    "trio",
    "mp_spawn",
    "mp_forkserver",
    "main_thread_forkserver",
    "zygote",
    "auto",
    "subint",
    "subint_fork",
    "subint_forkserver",
]
"""Every built-in spawn backend's key, whether or not this Python and platform can run it."""


@runtime_checkable
class OutputOfChildren(Protocol):
    """What may be given as a child's ``stdout`` in place of a descriptor: it takes what each child prints."""

    def for_child(self, name: str) -> int:
        """The descriptor for the child of that name; it stays open here."""

    def take(self, name: str, data: bytes) -> None:
        """The child of that name, on another host, has printed something."""


CHILD_MODULE = "tractor._child"
"""The program of every subactor."""


class SpawnRequest(msgspec.Struct, frozen=True, kw_only=True):
    """All that a backend is told about the child it starts; the rest follows as a message."""

    name: str
    uuid: str
    parent_addr: tuple[str, int | str]
    """The unwrapped address on which the parent awaits the child."""
    loglevel: str | None = None
    infect_asyncio: bool = False
    claim: bytes = b""
    """The one-time secret of this start, by which the parent knows the child; travels over the boot pipe only."""
    authkey: bytes | None = None
    """The tree's key; travels over the boot pipe, never in argv or the environment."""
    key_is_explicit: bool = False
    """Somebody chose the key, so that the child may listen beyond this host with it."""
    tls: TLSConfig | None = None
    """Where the certificates for TCP are; travels beside the key."""
    proc_kwargs: Mapping[str, Any] = {}
    """The user's own options for the backend; those of :class:`subprocess.Popen` for ``'trio'``."""

    def argv(self, boot_fd: int | str) -> list[str]:
        """The arguments of ``python -m tractor._child``.

        Args:
            boot_fd: The boot pipe's read end, as the child will see it, or what stands for it.
        """
        argv = ["--uid", repr((self.name, self.uuid))]
        argv += ["--parent_addr", repr(tuple(self.parent_addr))]
        if self.loglevel is not None:
            argv += ["--loglevel", self.loglevel]
        if self.infect_asyncio:
            argv.append("--asyncio")
        return [*argv, "--boot_fd", str(boot_fd)]

    def __repr__(self) -> str:
        # The key must not reach a log or a traceback.
        return f"<SpawnRequest {self.name!r} [{self.uuid[:6]}] parent_addr={self.parent_addr!r}>"


class ChildProcess(Protocol):
    """A running or ended child of this process."""

    @property
    def pid(self) -> int:
        """The child's process id; our own one for a child that shares this process."""

    @property
    def returncode(self) -> int | None:
        """The exit status (``-N``: killed by signal ``N``), or ``None`` while the child runs."""

    @property
    def cmdline(self) -> str:
        """The command line, quoted for a shell, for messages."""

    async def wait(self) -> int | None:
        """Wait for the child's end, reap it, return ``returncode``.  Any number of tasks may.

        ``None`` where it must have ended, and how can't be known: its host is lost.
        """

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
        """The backend's key: a :data:`SpawnMethodKey`, or the name of its entry point."""

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


# Backends by key: the module to import and the name to take.  Imported on selection only, so that a
# leaf actor pays for none.
_BUILT_IN: dict[str, tuple[str, str]] = {
    "trio": ("tractor.spawn._exec", "BACKEND"),
    "mp_spawn": ("tractor.spawn.mp._backends", "SPAWN"),
    "mp_forkserver": ("tractor.spawn.mp._backends", "FORKSERVER"),
    "main_thread_forkserver": ("tractor.spawn.fork._backend", "BACKEND"),
    "zygote": ("tractor.spawn.zygote._backend", "BACKEND"),
    "auto": ("tractor.spawn.zygote._backend", "AUTO"),
    "subint": ("tractor.spawn.subint._backend", "BACKEND"),
}

_RESERVED: dict[str, str] = {
    "subint_fork": "CPython aborts a child that was forked off another interpreter than the main one",
    "subint_forkserver": (
        "msgspec does not support interpreters with a GIL of their own;"
        " 'main_thread_forkserver' is the key to use instead"
    ),
}

_selected = ProcessVar(lambda: "trio")


def get_backend(key: str) -> SpawnBackend:
    """The backend of that key, known to work here.

    Args:
        key: A :data:`SpawnMethodKey`; every other one is looked up among the entry points of the group
            ``tractor.spawn_backends``.

    Raises:
        ValueError: No backend has this key.
        NotImplementedError: The key is reserved.
        RuntimeError: This Python or platform cannot run it.
        ImportError: Another package says that it has this backend, but it can't be loaded.
    """
    if key in _RESERVED:
        raise NotImplementedError(
            f"spawn backend {key!r} is reserved: {_RESERVED[key]}; {_usable_here()}"
        )
    backend = _load(key)
    if backend is None:
        raise ValueError(
            f"unknown spawn backend {key!r}; choose one of {_listed(known_start_methods())}"
            f" ({_usable_here()})"
        )
    try:
        backend.is_available()
    except RuntimeError as exc:
        raise RuntimeError(f"{exc}; {_usable_here()}") from exc
    return backend


def known_start_methods() -> list[str]:
    """Every key: the built-in ones, the reserved ones, and those of installed packages."""
    return [*_BUILT_IN, *_RESERVED, *(key for key in _plugins.names() if not _is_ours(key))]


def usable_start_methods() -> list[str]:
    """The keys of the backends that this Python and platform can run; ``'auto'`` is a choice among them, and none."""
    return [
        key
        for key in known_start_methods()
        if key not in _RESERVED and key != "auto" and _is_usable(key)
    ]


DEBUG_BACKENDS = ("trio", "main_thread_forkserver", "zygote", "auto")


def require_debug_support(key: str) -> None:
    """Return where actors of this backend, if it is one, can be debugged.

    Raises:
        RuntimeError: they can't.
    """
    if key not in DEBUG_BACKENDS and key in known_start_methods():
        raise RuntimeError(
            f"`debug_mode` is not supported on {key!r}; supported: {list(DEBUG_BACKENDS)}"
        )


def try_set_start_method(key: str) -> SpawnBackend:
    """Select the backend with which this process starts its subactors from now on.

    Returns:
        The selected backend.

    Raises:
        ValueError, NotImplementedError, RuntimeError, ImportError: As :func:`get_backend`; the selection is then
            unchanged.
    """
    backend = get_backend(key)
    select_start_method_later(key)
    return backend


def select_start_method_later(key: str) -> None:
    """Select a backend that is looked for when the first subactor is started."""
    _selected.value = key


def selected_start_method() -> str:
    """The key of the backend with which this process starts its subactors, at first ``'trio'``."""
    return _selected.value


def forget_plugins() -> None:
    """Look for entry points again, say after ``sys.path`` has changed."""
    _plugins.forget()


def _load(key: str) -> SpawnBackend | None:
    if key in _BUILT_IN:
        module, name = _BUILT_IN[key]
        return cast("SpawnBackend", getattr(importlib.import_module(module), name))
    return _plugins.load(key)


def _is_ours(key: str) -> bool:
    return key in _BUILT_IN or key in _RESERVED


def _is_usable(key: str) -> bool:
    try:
        backend = _load(key)
        if backend is not None:
            backend.is_available()
    except Exception:
        # Another package's may fail in any way.
        return False
    return backend is not None


def _usable_here() -> str:
    return f"usable here: {_listed(usable_start_methods())}"


def _listed(keys: list[str]) -> str:
    return ", ".join(map(repr, keys))


_plugins: EntryPointTable[SpawnBackend] = EntryPointTable(
    ENTRY_POINT_GROUP,
    "spawn backend",
    faults_of("SpawnBackend", ("key", "is_available", "start")),
    make=part_or_made,
)
