"""Finding this user's actors on this host, and what each has to say, within one limit."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tractor.address._types import HAS_UDS, UnwrappedAddress
from tractor.control._protocol import Refusal
from tractor.ipc._debug_sock import control_socks
from tractor.observe._asking import Kept, Reply, ask_all
from tractor.observe._processes import Facts, Stray, can_tell, facts_of, strays
from tractor.observe.afar._by_message import find_registered
from tractor.observe.afar._elsewhere import Elsewhere, Road, look_elsewhere
from tractor.process.host._host_id import is_here
from tractor.runtime.seen._samples import Sample, Who

LIMIT = 1.0
"""Seconds in which the actors must have answered."""

_FILE = re.compile(r"(?P<name>.*)@(?P<pid>[0-9]+)\.sock")


class Answered(NamedTuple):
    """An actor that has said who it is.

    Attributes:
        path: of its control socket.
        who: what it is.
        sample: how it does; ``None``: it was not asked, or did not say.
        more: its answers to what else was asked; a Refusal for one that it refused.
        why: why something is missing; empty: nothing is.
    """

    path: Path
    who: Who
    sample: Sample | None
    more: list[Any]
    why: str = ""


class Silent(NamedTuple):
    """An actor with a socket that did not answer, and is there."""

    path: Path
    name: str
    pid: int
    why: str


@dataclass
class Found:
    """What a look has brought together.

    Attributes:
        time: when, in seconds since 1970.
        host: the name of this host.
        answered: who has answered.
        silent: who has not.
        strays: processes that look like actors.
        facts: what the system says of the processes of all these, and of their children.
        facts_known: the system tells of processes; one without facts is gone, then.
        elsewhere: what is known of those that no socket of this host leads to.
        addrs: where each listens for its peers, by uuid, as far as that is known.
    """

    time: float
    host: str
    answered: list[Answered] = field(default_factory=list)
    silent: list[Silent] = field(default_factory=list)
    strays: list[Stray] = field(default_factory=list)
    facts: dict[int, Facts] = field(default_factory=dict)
    facts_known: bool = False
    elsewhere: Elsewhere = field(default_factory=Elsewhere)
    addrs: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def by_uuid(self) -> dict[str, Answered]:
        """Those who have answered."""
        return {one.who.uuid: one for one in self.answered}

    @property
    def roads(self) -> dict[str, Road]:
        """The way to each actor that can be asked, by uuid."""
        return {**self.elsewhere.roads, **{one.who.uuid: Road(one.path) for one in self.answered}}


def find(
    dirs: Iterable[Path],
    more: Sequence[Mapping[str, Any]] = (),
    *,
    limit: float = LIMIT,
    dialogs: bool = False,
    kept: Kept | None = None,
    known_strays: Sequence[Stray] | None = None,
) -> Found:
    """Look for actors, and ask each who it is and how it does.

    Args:
        dirs: runtime directories.
        more: further requests for each of them.
        limit: seconds that the answers may take in all.
        dialogs: have the samples list open dialogs.
        kept: connections of the look before, and for the next one.
        known_strays: what another look has found just now; ``None``: every process is looked at.
    """
    files = [file for path in control_socks(dirs) if HAS_UDS if (file := _file(path)) is not None]
    found = Found(time.time(), socket.gethostname())
    found.facts_known = can_tell()
    found.facts = facts_of({pid for _, _, pid in files})
    asked: list[tuple[Path, str, int]] = []
    for path, name, pid in files:
        facts = found.facts.get(pid)
        if facts is None and found.facts_known:
            # Nobody listens any more, or it is of another pid namespace, with which this one shares the directory.
            continue
        if facts is not None and facts.state != "run":
            found.silent.append(Silent(path, name, pid, ""))
        else:
            asked.append((path, name, pid))
    sample: dict[str, Any] = {"op": "sample", "dialogs": dialogs}
    replies = ask_all(
        [path for path, _, _ in asked], [{"op": "hello"}, sample, *more], limit, kept=kept
    )
    for path, name, pid in asked:
        reply = replies[path]
        one = _answered(path, reply, found.facts)
        if one is not None:
            found.answered.append(one)
            found.addrs[one.who.uuid] = one.who.addrs
        elif reply.listens is not False and reply.pid in (None, pid) and _says_nothing(reply):
            found.silent.append(Silent(path, name, pid, _problem(reply)))
    known = [(one.path, one.sample) for one in found.answered if one.sample is not None]
    found.elsewhere = look_elsewhere(known, limit)
    found.strays = strays() if known_strays is None else list(known_strays)
    _look_at_others(found)
    return found


def find_at(registrars: Sequence[UnwrappedAddress], limit: float) -> Found:
    """Look for the actors that registrars know, and all of their trees, over their own transports.

    Args:
        registrars: their addresses.
        limit: seconds for each answer.

    Raises:
        NoRegistrar: none of them answers.
    """
    known = find_registered(registrars, limit)
    found = Found(time.time(), socket.gethostname(), elsewhere=known.elsewhere)
    found.addrs = {uuid: list(addrs) for uuid, addrs in known.addrs.items()}
    return found


def _look_at_others(found: Found) -> None:
    """Add what the system says of processes that were named meanwhile, and of those that did not answer: why so?"""
    pids = {stray.pid for stray in found.strays}
    for one in found.answered:
        if one.sample is not None:
            pids |= {
                child.pid
                for child in one.sample.children
                if child.pid is not None and (not child.host or is_here(child.host))
            }
    silent = {one.pid for one in found.silent}
    # One that was stopped in the middle of its answers.
    silent |= {one.who.pid for one in found.answered if one.sample is None}
    found.facts.update(facts_of(pids - found.facts.keys() | silent))


def _says_nothing(reply: Reply) -> bool:
    """Whether it did not say who it is: it may be flooded."""
    return not reply.answers or isinstance(reply.answers[0], Refusal)


def _problem(reply: Reply) -> str:
    refused = [one.text for one in reply.answers if isinstance(one, Refusal)]
    return refused[0] if refused else reply.problem


def _file(path: Path) -> tuple[Path, str, int] | None:
    match = _FILE.fullmatch(path.name)
    return None if match is None else (path, match["name"], int(match["pid"]))


def _answered(path: Path, reply: Reply, facts: Mapping[int, Facts]) -> Answered | None:
    if not reply.answers or isinstance(reply.answers[0], Refusal):
        return None
    sample: Sample | None = None
    with contextlib.suppress(msgspec.ValidationError):
        who = msgspec.convert(reply.answers[0], Who)
        if not is_here(who.host_id) or reply.pid not in (None, who.pid):
            return None
        known = facts.get(who.pid)
        begun = None if known is None else known.start_time
        if None not in (begun, who.start_time) and begun != who.start_time:
            # A pid that is used again is nobody's.
            return None
        why = reply.problem
        if len(reply.answers) > 1:
            if isinstance(reply.answers[1], Refusal):
                why = reply.answers[1].text
            else:
                sample = msgspec.convert(reply.answers[1], Sample)
        return Answered(path, who, sample, reply.answers[2:], why)
    return None
