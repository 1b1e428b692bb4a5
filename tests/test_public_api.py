"""Every public name, with its signature, is in one table: a change of either is seen, and meant.

The table is `public_api.txt` beside this file; ``python tests/test_public_api.py`` writes it anew from the code.  Its
lines are ``module: name(arguments)``; members of classes follow their class.
"""

from __future__ import annotations
import __future__

import difflib
import enum
import importlib
import inspect
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

import tractor

TABLE = Path(__file__).with_name("public_api.txt")

MODULES = (
    "tractor",
    "tractor._exceptions",
    "tractor.msg",
    "tractor.msg.types",
    "tractor.msg.hooks",
    "tractor.msg.pretty_struct",
    "tractor.ipc",
    "tractor.ipc.fd_share",
    "tractor.discovery",
    "tractor.spawn",
    "tractor.trionics",
    "tractor.trionics.patches",
    "tractor.to_asyncio",
    "tractor.log",
    "tractor.devx",
    "tractor.devx.debug",
    "tractor.devx.pformat",
    "tractor.devx.cli",
    "tractor.devx.events",
    "tractor.topics",
    "tractor.experimental",
    "tractor.testing",
)

HANDLES = {
    *(
        "Actor",
        "Registrar",
        "ActorNursery",
        "Portal",
        "Context",
        "MsgStream",
        "Channel",
        "PldRx",
    ),
    *(
        "Server",
        "Endpoint",
        "LinkedTaskChannel",
        "BroadcastReceiver",
        "WorkerPool",
        "Publisher",
        "Subscription",
        "MsgCodec",
        "MsgDec",
    ),
}
"""Classes that users do not build: how they are built is nobody's concern."""

INTERNAL = {
    "Actor": "add_request add_requests asking_child attach child_at intakes io_nursery"
    " is_trusted_with_time limits_reached note_served note_serving note_to_parent on_channel_lost note_reset"
    " part_from_peers refuse report_descendants requests service_nursery start_cancel",
    "ActorNursery": "finish",
    "Channel": "abort forget handshake lose_dialogs new_cid open role send_eof tell",
    "Context": "drain",
    "Portal": "actor",
    "PldRx": "fixed_decode fixed_encoder",
    "RemoteActorError": "note_caller",
    "MsgpackTransport": "abort authenticate flush put put_bytes put_now put_unwritten recv_batch run_flusher"
    " can_share lend set_max_frame_size share_memory slot_freed slot_refused take_lent tell unsent wait_below_mark"
    " wait_drained wait_written write_is_due write_now",
    "Server": "add_peer note_departure peer_channels remove_peer serve_endpoints"
    " wait_for_departure wait_for_no_more_peers_but",
    "Endpoint": "accept wrap",
}
"""What other parts of the runtime use of a public class."""


def public_names(module: types.ModuleType) -> list[str]:
    listed = getattr(module, "__all__", None)
    if listed is None:
        listed = [name for name in vars(module) if not name.startswith("_")]
    return sorted({*listed, *(["__version__"] if module is tractor else [])})


def lines() -> Iterator[str]:
    """The table, from the code."""
    seen: dict[int, str] = {}
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        # A class under its own name comes before its aliases.
        for name in sorted(
            public_names(module),
            key=lambda name: (getattr(getattr(module, name), "__name__", name) != name, name),
        ):
            value = getattr(module, name)
            if isinstance(value, types.ModuleType):
                yield f"{module_name}: {name} (module)"
                continue
            if _is_foreign(value) or isinstance(value, __future__._Feature):
                continue
            home = seen.get(id(value))
            if home is not None and not isinstance(value, str | int | float | tuple):
                yield f"{module_name}: {name} = {home}"
                continue
            seen[id(value)] = f"{module_name}.{name}"
            yield f"{module_name}: {name}{_signature(value)}"
            if isinstance(value, type):
                yield from (f"{module_name}: {name}.{member}" for member in _members(value))


def _is_foreign(value: object) -> bool:
    """Whether a module has only imported it, from outside of the package."""
    home = getattr(value, "__module__", None)
    return callable(value) and isinstance(home, str) and home.partition(".")[0] != "tractor"


def _members(cls: type) -> Iterator[str]:
    found: dict[str, str] = {}
    hidden: set[str] = set()
    for base in reversed(cls.__mro__):
        hidden |= set(INTERNAL.get(base.__name__, "").split())
        if base.__module__.partition(".")[0] != "tractor" or (
            # What it inherits from another public class stands there.
            base is not cls and getattr(tractor, base.__name__, None) is base
        ):
            continue
        for name, member in vars(base).items():
            if name.startswith("_"):
                continue
            if isinstance(member, classmethod | staticmethod):
                found[name] = _signature(getattr(cls, name))
            elif inspect.isfunction(member):
                found[name] = _signature(member)
            elif isinstance(member, property | types.MemberDescriptorType):
                found[name] = ""
    # A struct's fields are in its signature.
    fields = getattr(cls, "__struct_fields__", ())
    return (
        f"{name}{text}"
        for name, text in sorted(found.items())
        if name not in fields and name not in hidden
    )


def _signature(value: Any) -> str:
    if not callable(value) or (isinstance(value, type) and not _has_own_init(value)):
        return ""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    parameters = []
    for parameter in signature.parameters.values():
        default = parameter.default
        if default is not inspect.Parameter.empty:
            default = _Shown(_default(default))
        parameters.append(parameter.replace(annotation=inspect.Parameter.empty, default=default))
    if parameters and parameters[0].name in ("self", "cls"):
        del parameters[0]
    return str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


def _has_own_init(cls: type) -> bool:
    """Whether a class of the package says how it is built."""
    if cls.__name__ in HANDLES:
        return False
    if issubclass(cls, enum.Enum) or getattr(cls, "_is_protocol", False):
        return False
    if issubclass(cls, msgspec.Struct) or hasattr(cls, "__dataclass_fields__"):
        return True
    made_by = [base for base in cls.__mro__ if {"__init__", "__new__"} & vars(base).keys()]
    return bool(made_by) and made_by[0].__module__.partition(".")[0] == "tractor"


class _Shown:
    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _default(value: Any) -> str:
    """A default value, the same on every machine."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, types.ModuleType):
        return f"<module {value.__name__}>"
    if isinstance(value, frozenset | set):
        return "{" + ", ".join(sorted(map(_default, value))) + "}"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_default, value)) + ")"
    if isinstance(value, Mapping):
        return repr(dict(value))
    if callable(value):
        return f"<{getattr(value, '__qualname__', type(value).__name__)}>"
    text = repr(value)
    return f"<{type(value).__name__}>" if " at 0x" in text else text


def test_names_and_signatures_are_those_of_the_table() -> None:
    pytest.importorskip("pdbp")
    written, found = TABLE.read_text().splitlines(), list(lines())
    changes = "\n".join(difflib.unified_diff(written, found, "public_api.txt", "the code", n=0))
    assert not changes, (
        f"{changes}\nwhere it is meant: `python {Path(__file__).name}` writes the table anew; a name or "
        "argument that is gone, or changed, also needs a news fragment of kind `breaking`"
    )


@pytest.mark.parametrize("name", MODULES)
def test_every_name_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)
    bare = [
        one
        for one in public_names(module)
        if (inspect.isfunction(getattr(module, one)) or inspect.isclass(getattr(module, one)))
        and not _is_foreign(getattr(module, one))
        and not inspect.getdoc(getattr(module, one))
    ]
    assert bare == []


if __name__ == "__main__":
    TABLE.write_text("".join(f"{line}\n" for line in lines()))
