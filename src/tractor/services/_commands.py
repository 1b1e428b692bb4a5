"""What users at other terminals ask of the supervisors of this actor: ``tractor services``, ``stop``, ``restart``.

They ask at the actor's control socket.  A supervisor can be asked for the length of its block; several in one actor
answer as one.  What takes time is begun: who asks looks at the list for what comes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tractor import log as _log
from tractor._errors import RemoteActorError
from tractor._proto.services.service_life import DOWN, Member, ServiceState
from tractor.control._protocol import Code, Refusal
from tractor.control._socket import control_socket
from tractor.process._state import of_process
from tractor.services._carrier import Carrier
from tractor.services._service import Service
from tractor.trionics._ki import ki_protected

log = _log.get_logger()


@ki_protected
class Commands:
    """Those of one supervisor.

    Attributes:
        reload: reads its file anew, and says what that changes; raises Refusal.  ``None``: there is no file.
        about: more of what the list says: ``file``, ``reloading``.
    """

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self.reload: Callable[[], dict[str, Any]] | None = None
        self.about: Callable[[], dict[str, Any]] = dict

    def listed(self) -> dict[str, Any]:
        """What there is."""
        return {
            "file": None,
            "closing": self._carrier.is_closing,
            "reloading": False,
            "services": [
                _shown(Service(self._carrier, entry), self._carrier.rules.waits_in_vain(entry.unit))
                for entry in self._carrier.in_order
            ],
            **self.about(),
        }

    def waiting(self) -> list[Member]:
        """Those that have no process now, and are started again after their delay."""
        members = [member for entry in self._carrier.in_order for member in entry.options]
        return [one for one in members if one.state is ServiceState.BACKOFF]

    def find(self, name: object) -> Service | None:
        """The service of that name."""
        found = [entry for entry in self._carrier.in_order if entry.spec.name == name]
        return Service(self._carrier, found[0]) if found else None

    def act(self, action: str, service: Service) -> dict[str, Any]:
        """Begin; gives what is taken along, what is blocked by it, and which incarnations are to come."""
        carrier, name = self._carrier, service.name
        if carrier.is_closing:
            raise Refusal(Code.REFUSED, "the services are being stopped")
        if action == "start" and service.state not in DOWN:
            raise Refusal(Code.FAILED, f"service {name!r} is {service.state} already")
        waiting: list[str] = []
        if action == "stop":
            taken = [service]
            waiting = [
                entry.spec.name
                for entry in carrier.in_order
                if name in entry.spec.after
                and Service(carrier, entry).state in ("waiting", "backoff")
            ]
        else:
            taken = [Service(carrier, entry) for entry in carrier.taken_along(name)]
        goals = {one.name: _goal(one, one.name == name) for one in taken}
        carrier.children.tn.start_soon(
            _finish, service.stop if action == "stop" else service.restart, name=f"{action} {name}"
        )
        return {"taken": [one.name for one in taken], "blocked": waiting, "incarnations": goals}


_open: list[Commands] = of_process([])
"""Those of the supervisors of this actor."""


@contextmanager
def open_to_users(carrier: Carrier) -> Iterator[Commands]:
    """For the length of the block users may ask for a supervisor's services."""
    commands = Commands(carrier)
    control = control_socket()
    waiting = carrier.children.actor.services_waiting
    waiting.append(commands.waiting)
    _open.append(commands)
    if control is not None:
        control.answer("service", _answer)
    try:
        yield commands
    finally:
        _open.remove(commands)
        waiting.remove(commands.waiting)
        if not _open and control is not None:
            control.answer("service", None)


def _answer(request: Mapping[str, Any], pid: int | None) -> Any:
    """Answer one request; raises Refusal."""
    action, name = request.get("action"), request.get("name")
    if action == "list":
        return _all_listed()
    log.info("pid %s asks for: %s %s", pid, action, name or "")
    if action == "reload":
        reloads = [known.reload for known in _open if known.reload is not None]
        if not reloads:
            raise Refusal(Code.REFUSED, "its services are of no file that it could read anew")
        return reloads[0]()
    if action not in ("start", "stop", "restart"):
        raise Refusal(Code.BAD_REQUEST, f"services have no action {action!r}")
    found = [(known, one) for known in _open if (one := known.find(name)) is not None]
    if len(found) != 1:
        names = ", ".join(one["name"] for one in _all_listed()["services"])
        text = f"there is no service {name!r}, but: {names}"
        if found:
            text = f"{len(found)} supervisors of this actor have a service {name!r}"
        raise Refusal(Code.FAILED, text)
    commands, service = found[0]
    return commands.act(action, service)


def _all_listed() -> dict[str, Any]:
    each = [known.listed() for known in _open]
    return {
        "file": next((one["file"] for one in each if one["file"]), None),
        "closing": all(one["closing"] for one in each),
        "reloading": any(one["reloading"] for one in each),
        "services": [service for one in each for service in one["services"]],
    }


async def _finish(act: Callable[[], Any]) -> None:
    try:
        await act()
    except Exception as exc:
        # What has failed goes on as any failed start does; who has asked sees the state.
        log.error("%s", exc)


def _goal(service: Service, whole: bool) -> int:
    """The sum of the numbers of a service's incarnations once each replica that is to begin anew has done so."""
    replicas = service.replicas
    again = [one for one in replicas if whole or one.state not in DOWN]
    total: int = sum(one.incarnation for one in replicas)
    return total + len(again)


def _shown(service: Service, blocked: bool) -> dict[str, Any]:
    error = service.last_error
    return {
        "name": service.name,
        "state": service.state,
        "blocked": blocked,
        "restarts": service.restarts,
        "uptime": service.uptime,
        "last_error": None if error is None else _first_line(error),
        "replicas": [
            {
                "name": one.name,
                "state": one.state,
                "pid": one.pid,
                "incarnation": one.incarnation,
                "uptime": one.uptime,
            }
            for one in service.replicas
        ],
    }


def _first_line(error: BaseException) -> str:
    """What has happened in one line; of an error from the service's own code, what that was."""
    name, text = type(error).__name__, str(error)
    if type(error) is RemoteActorError:
        name, text = error.boxed_type_str, error.message
    lines = text.strip().splitlines()
    return f"{name}: {lines[0] if lines else ''}"[:200].rstrip(": ")
