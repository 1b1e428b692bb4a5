"""From the raw tables of a file to records, with everything that is wrong with them."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec

from tractor._util._names import require_name
from tractor.address._policy import require_bindable, require_connectable
from tractor.log import level_value
from tractor.services.file._positions import KeyPath
from tractor.services.file._problems import Findings
from tractor.services.file._tables import (
    NAME_OF_CALL,
    NAME_OF_MODULE,
    FileTable,
    ServiceTable,
    SupervisorTable,
)
from tractor.transport._addresses import wrap_address
from tractor.transport._table import known_transports

T = TypeVar("T", bound=msgspec.Struct)


def read_tables(raw: Mapping[str, Any], found: Findings) -> FileTable:
    """The records of a document; what is wrong goes to ``found``, and is left out of them."""
    for key in [key for key in raw if key not in ("supervisor", "services")]:
        found.note((key,), "unknown table", wrong=key, known=("supervisor", "services"))
    supervisor = _record(raw.get("supervisor", {}), SupervisorTable, ("supervisor",), found)
    tables = raw.get("services", {})
    services: dict[str, ServiceTable] = {}
    if not isinstance(tables, dict):
        found.note(("services",), "must be a table of services", value=tables)
    else:
        for name, table in tables.items():
            services[name] = _record(table, ServiceTable, ("services", name), found)
    if not services:
        found.note(("services",), "there is no service: the file needs a table [services.NAME]")
    _check_supervisor(supervisor, found)
    for name, service in services.items():
        _check_service(name, service, supervisor, found)
    _check_names(services, found)
    _check_order(services, found)
    return FileTable(supervisor=supervisor, services=services)


def _record(raw: Any, kind: type[T], path: KeyPath, found: Findings) -> T:
    """A record of what is right in a table."""
    if not isinstance(raw, dict):
        found.note(path, "must be a table", value=raw)
        return kind()
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    for key, value in raw.items():
        field, place = fields.get(key), (*path, key)
        if field is None:
            found.note(place, "unknown key", value=value, wrong=key, known=fields)
            continue
        hint = hints[field.name]
        nested = _record_type(hint)
        if nested is not None and isinstance(value, dict):
            values[field.name] = _record(value, nested, place, found)
        else:
            _convert(value, hint, place, found, values, field.name)
    return kind(**values)


def _convert(
    value: Any, hint: Any, place: KeyPath, found: Findings, into: Any, key: str | int
) -> None:
    """Put a value, as ``hint`` asks for it, at ``key`` of a record or of a list; what is wrong is left out."""
    (inner, *others) = [one for one in _members(hint) if one is not type(None)]
    of, is_one = get_args(inner), not others
    if is_one and get_origin(inner) is dict and isinstance(value, dict) and of[1] is not Any:
        members: dict[str, Any] = {}
        into[key] = members
        for name, member in value.items():
            _convert(member, of[1], (*place, name), found, members, name)
        return
    if is_one and get_origin(inner) is list and isinstance(value, list):
        elements: dict[int, Any] = {}
        for i, element in enumerate(value):
            _convert(element, of[0], (*place, i), found, elements, i)
        into[key] = list(elements.values())
        return
    try:
        into[key] = msgspec.convert(value, hint)
    except msgspec.ValidationError as exc:
        # Literals are told by their members, not by msgspec's words for them.
        words = _literals(hint)
        text = f"must be one of {', '.join(map(repr, words))}" if words else _plain(str(exc))
        found.note(place, text, value=value, known=words)


def _record_type(hint: Any) -> type[msgspec.Struct] | None:
    for one in _members(hint):
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            return one
    return None


def _members(hint: Any) -> list[Any]:
    if get_origin(hint) is Annotated:
        return _members(get_args(hint)[0])
    if isinstance(hint, types.UnionType) or get_origin(hint) is typing.Union:
        return [one for arg in get_args(hint) for one in _members(arg)]
    return [hint]


def _literals(hint: Any) -> list[str]:
    members = [one for one in _members(hint) if one is not type(None)]
    if any(get_origin(one) is not typing.Literal for one in members):
        return []
    return [word for one in members for word in get_args(one)]


def _plain(text: str) -> str:
    for pattern, words in (
        (NAME_OF_CALL, "'module:function'"),
        (NAME_OF_MODULE, "the name of a module"),
    ):
        text = text.replace(f"`str` matching regex {pattern!r}", words)
    text = text.replace(" | null", "").replace("`object`", "a table").replace("`array`", "a list")
    return text[:1].lower() + text[1:]


def _check_supervisor(table: SupervisorTable, found: Findings) -> None:
    path = ("supervisor",)
    _try(require_name, table.name, (*path, "name"), found)
    _try(level_value, table.loglevel, (*path, "loglevel"), found)
    for addr in table.registry or ():
        _try(_require_connectable, addr, (*path, "registry"), found)
    if table.transports is not None:
        _try(known_transports, table.transports, (*path, "transports"), found)
    backoff = table.backoff
    if backoff and backoff.maximum < backoff.initial:
        found.note((*path, "backoff", "maximum"), "is below `initial`", value=backoff.maximum)


def _check_service(
    name: str, table: ServiceTable, supervisor: SupervisorTable, found: Findings
) -> None:
    path = ("services", name)
    _try(require_name, name, path, found)
    if table.call is None:
        if not table.modules and not found.has(path, "call", "modules"):
            found.note(path, "there is nothing to run: it needs `call` or `modules`")
        if table.args and not found.has(path, "call"):
            found.note((*path, "args"), "there is no `call` that they could be given to")
    if table.log is not None:
        _try(level_value, table.log, (*path, "log"), found)
    if table.transports is not None:
        _try(known_transports, table.transports, (*path, "transports"), found)
    for key, addr in table.listen.items():
        _try(_require_listenable, addr, (*path, "listen", key), found)
    if table.backoff and table.backoff.maximum < table.backoff.initial:
        found.note((*path, "backoff", "maximum"), "is below `initial`", value=table.backoff.maximum)
    if table.recycle is not None and table.recycle.age is None and table.recycle.rss is None:
        found.note((*path, "recycle"), "needs `age` or `rss`")
    if table.significant and table.restart == "permanent" and not found.has(path, "restart"):
        found.note((*path, "significant"), "a permanent service never ends for good", value=True)
    elif (
        table.significant
        and supervisor.auto_shutdown == "never"
        and not found.has(("supervisor",), "auto_shutdown")
    ):
        found.note((*path, "significant"), 'means nothing with auto_shutdown = "never"', value=True)


def _require_listenable(text: str) -> None:
    addr = wrap_address(text)
    if addr.proto_key not in ("tcp", "uds"):
        raise ValueError(f"{text!r} is no socket that can be handed down: give /ip4, /ip6 or /unix")
    require_bindable(addr)


def _require_connectable(text: str) -> None:
    require_connectable(wrap_address(text))


def _try(check: Callable[[Any], object], value: Any, path: KeyPath, found: Findings) -> None:
    try:
        check(value)
    except (ValueError, TypeError, ImportError, RuntimeError) as exc:
        found.note(path, str(exc), value=value)


def _check_names(services: Mapping[str, ServiceTable], found: Findings) -> None:
    for name, table in services.items():
        unit, _, number = name.rpartition(".")
        other = services.get(unit)
        replicas = 0 if other is None or other.replicas == 1 else other.replicas
        if number in map(str, range(replicas)):
            found.note(("services", name), f"is the name of a replica of {unit!r}")
        for wanted in table.after:
            path = ("services", name, "after")
            if wanted == name:
                found.note(path, "a service can't wait for itself", value=wanted)
            elif wanted not in services:
                others = [one for one in services if one != name]
                found.note(path, "there is no such service", value=wanted, known=others)


def _check_order(services: Mapping[str, ServiceTable], found: Findings) -> None:
    for circle in circles({name: table.after for name, table in services.items()}):
        text = f"a circle, in which each waits for the next: {' -> '.join([*circle, circle[0]])}"
        found.note(("services", circle[0], "after"), text, value=circle[1])


def circles(after: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Groups of two and more that wait for each other, one way round through each.

    Args:
        after: for each name those that it waits for; unknown ones, and itself, count for nothing.
    """
    found: list[list[str]] = []
    done: set[str] = set()

    for start in after:
        way: list[str] = []
        # Depth first, without recursion: a file may have a chain of thousands.
        stack = [iter([start])]
        while stack:
            name = next(stack[-1], None)
            if name is None:
                stack.pop()
                if way:
                    done.add(way.pop())
            elif name in way:
                if way[-1] != name:
                    found.append(way[way.index(name) :])
            elif name in after and name not in done:
                way.append(name)
                stack.append(iter(after[name]))
    return found


def in_order(after: Mapping[str, Iterable[str]]) -> list[str]:
    """The names in their order, but each behind those that it waits for; there must be no circle."""
    ordered: dict[str, None] = {}
    for start in after:
        stack = [start]
        while stack:
            name = stack[-1]
            missing = [one for one in after[name] if one not in ordered and one in after]
            if missing:
                stack.append(missing[0])
            else:
                ordered[name] = None
                stack.pop()
    return list(ordered)
