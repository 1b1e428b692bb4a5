"""The small record of settings that a parent hands down to each child."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, overload

import msgspec

from tractor._proto.connection.framing import DEFAULT_MAX_FRAME_SIZE
from tractor._util._runs import Run, current_run
from tractor.process._state import ProcessVar


class RuntimeVars(msgspec.Struct):
    """Settings of this actor's runtime; see ``semantics.md`` §8 for each."""

    _is_root: bool = False
    _root_mailbox: tuple[str | None, str | int | None] = (None, None)
    _root_addrs: list[tuple[str, str | int]] = []
    _root_host: str | None = None
    _enable_tpts: list[str] = []
    _registry_addrs: list[tuple[str, str | int]] = []
    _debug_mode: bool = False
    repl_fixture: Any = False
    use_greenback: bool = False
    use_stackscope: bool = False
    _is_infected_aio: bool = False
    _max_frame_size: int = DEFAULT_MAX_FRAME_SIZE
    _limits: dict[str, Any] = {}
    _hosts: dict[str, dict[str, Any]] = {}
    _terminal_elsewhere: bool = False
    # The host on which `_registry_addrs` are of use, where that is not the root's.
    _registry_host: str | None = None
    # The host's name or address for its peers; empty: as it has it itself.
    _advertise: str = ""
    # The factories of instruments, as `'module:function'`.
    _instruments: list[str] = []
    # What the tree's OpenTelemetry is told; empty: it is not instrumented.
    _otel: dict[str, Any] = {}

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return {name: getattr(self, name) for name in self.__struct_fields__}

    def for_child(self) -> dict[str, Any]:
        """What a child gets: everything but what is local to this actor."""
        handed = self.to_dict()
        handed.pop("repl_fixture")
        handed["_is_root"] = False
        return handed


_vars = RuntimeVars()
_run: ProcessVar[Run | None] = ProcessVar(lambda: None)
"""The run that the values are for; ``None``: none in particular."""


@overload
def get_runtime_vars(
    as_dict: Literal[True] = True, clear_values: bool = False
) -> dict[str, Any]: ...


@overload
def get_runtime_vars(as_dict: Literal[False], clear_values: bool = False) -> RuntimeVars: ...


@overload
def get_runtime_vars(as_dict: bool, clear_values: bool = False) -> dict[str, Any] | RuntimeVars: ...


def get_runtime_vars(
    as_dict: bool = True, clear_values: bool = False
) -> dict[str, Any] | RuntimeVars:
    """A copy of this actor's runtime vars; in another trio run of the process, which is not an actor, the defaults.

    Args:
        as_dict: as a dict by name, else as a :class:`RuntimeVars`.
        clear_values: give the defaults instead of the values in force.
    """
    run = current_run()
    foreign = _run.value is not None and run is not None and run is not _run.value
    now = RuntimeVars() if clear_values or foreign else RuntimeVars(**_vars.to_dict())
    return now.to_dict() if as_dict else now


def runtime_vars() -> RuntimeVars:
    """The vars in force; the runtime's own code may change them."""
    return _vars


def is_root_process() -> bool:
    """Whether the calling code's run is the root of the actor tree."""
    return bool(get_runtime_vars()["_is_root"])


def debug_mode() -> bool:
    """Whether the multi-process debugger is armed in this actor."""
    return bool(get_runtime_vars()["_debug_mode"])


def enabled_transports() -> list[str]:
    """The transports that this actor listens on, by key."""
    return _vars._enable_tpts


def set_run_of_vars(run: Run | None) -> None:
    """Note which run the values are for; ``None``: none in particular."""
    _run.value = run


def set_runtime_vars(values: Mapping[str, Any] | RuntimeVars) -> None:
    """Put values in force in this process; its runtime, and the children that it starts later, see them.

    Args:
        values: by name, or a whole record.  Names that this version does not know are ignored.
    """
    if isinstance(values, RuntimeVars):
        values = values.to_dict()
    for name in RuntimeVars.__struct_fields__:
        if name in values:
            setattr(_vars, name, values[name])


def reset_runtime_vars() -> None:
    """Back to the defaults."""
    set_runtime_vars(RuntimeVars().to_dict())
