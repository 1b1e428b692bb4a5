"""What the page has actors do, where `--control` allows it; in the thread of whoever calls.

Each act goes by the actor's own control socket, so the actor logs it with the pid of this command.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tractor.control._client import Asked
from tractor.control._protocol import Refusal
from tractor.observe._ending import end_actors, ended_text
from tractor.observe._naming import called, with_all_below
from tractor.observe.page._looks import ASK_LIMIT, Looks, Unknown
from tractor.runtime.seen._samples import Sample

END_LIMIT = 30.0
"""Seconds for the end of an actor and all below it."""

OF_SERVICES = ("restart", "stop", "start")

OPS = ("cancel", "log", *OF_SERVICES)


class NotMeant(Exception):
    """What was confirmed is not what would be done."""


def act(looks: Looks, request: Mapping[str, Any]) -> str:
    """Do what is asked, and say what became of it.

    Args:
        looks: knows the actors.
        request: ``op``; ``uuid``, of whom; ``confirm``, what the user was asked about, as ``name@pid``; ``spec``, of
            ``log``.

    Raises:
        NotMeant: ``confirm`` does not name the actor.
        Unknown: there is none, it refused, or it can't be asked.
    """
    op, uuid = str(request.get("op")), str(request.get("uuid"))
    if op not in OPS:
        raise Unknown(f"there is no act {op!r}, but {', '.join(OPS)}")
    one = looks.actors.get(uuid)
    if one is None:
        raise Unknown("there is no such actor any more")
    if request.get("confirm") != called(one):
        raise NotMeant(f"{op} of {called(one)} was not confirmed")
    try:
        if op == "cancel":
            return _cancel(looks, one)
        if op == "log":
            return _log(looks, one, str(request.get("spec") or ""))
        return _of_service(looks, one, op)
    except Refusal as exc:
        raise Unknown(f"{called(one)}: {exc.text}") from None
    except (OSError, ValueError) as exc:
        raise Unknown(f"{called(one)}: {exc}") from None


def _cancel(looks: Looks, one: Sample) -> str:
    looks.path_of(one.uuid)
    below = with_all_below([one], looks.actors.values())[1:]
    ended = end_actors([one], below, dict(looks.paths), hard=False, limit=END_LIMIT)
    return "\n".join(map(ended_text, ended)) or f"{called(one)} has no process here"


def _log(looks: Looks, one: Sample, spec: str) -> str:
    if not spec:
        raise Unknown("a level, or a log spec, is missing")
    with Asked(looks.path_of(one.uuid), ASK_LIMIT) as asked:
        levels = asked.ask("log", spec=spec)["levels"]
    return f"{called(one)}: " + ", ".join(f"{name}: {level}" for name, level in levels.items())


def _of_service(looks: Looks, one: Sample, op: str) -> str:
    """Its parent has the service that it is, or is a replica of."""
    if one.parent is None or one.restarts is None:
        raise Unknown(f"{called(one)} is no service")
    with Asked(looks.path_of(one.parent), ASK_LIMIT) as asked:
        for service in asked.ask("service", action="list")["services"]:
            names = {service["name"], *(replica["name"] for replica in service["replicas"])}
            if one.name in names:
                told = asked.ask("service", action=op, name=service["name"])
                others = [name for name in told["taken"] if name != service["name"]]
                more = f", and with it {', '.join(others)}" if others else ""
                return f"{op} of {service['name']} is under way{more}"
    raise Unknown(f"{called(one)} is no service of its parent's any more")
