"""What a service is: its specification, checked before anything is spawned."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

import msgspec

from tractor._proto.services.restarts import Backoff
from tractor._proto.services.service_life import (
    AutoShutdown,
    RestartKind,
    ServiceRules,
    Strategy,
    member_names,
)
from tractor._util._names import require_name
from tractor.supervise._arguments import module_names

WordT = TypeVar("WordT", Strategy, RestartKind, AutoShutdown)


class Recycle(msgspec.Struct, frozen=True):
    """When a service is restarted by plan: before it has grown too old, or too large.

    Args:
        age: seconds since it was ready; ``None``: no limit.
        rss: bytes of memory that its process has resident; ``None``: no limit.
        jitter: from 0 to below 1: each limit is taken times a random factor within ``1 - jitter`` and ``1 + jitter``,
            for each incarnation anew.

    Raises:
        ValueError: one of them is out of its range.
        TypeError: one of them is no number.
    """

    age: float | None = None
    rss: int | None = None
    jitter: float = 0.1

    def __post_init__(self) -> None:
        for name in ("age", "rss"):
            if getattr(self, name) is not None:
                require_number(f"Recycle({name}=)", getattr(self, name), above=True)
        require_number("Recycle(jitter=)", self.jitter, most=0.999)


class ServiceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The specification of a service, as ``service.spec`` shows it; see :meth:`Supervisor.start_service`."""

    name: str
    restart: str = "permanent"
    shutdown: float | Literal["kill"] | None = None
    drain: float = 0.0
    ready_timeout: float | None = None
    backoff: Backoff | None = None
    escalate: bool = True
    significant: bool = False
    after: tuple[str, ...] = ()
    replicas: int = 1
    watchdog: float | None = None
    recycle: Recycle | None = None
    enable_modules: tuple[str, ...] = ()
    actor: dict[str, Any] = {}

    @classmethod
    def checked(cls, name: object, auto_shutdown: AutoShutdown, **options: Any) -> ServiceSpec:
        """Those of a call of ``start_service()``, which tells what is raised."""
        spec = cls(name=require_name(name), **options)
        restart = word(RestartKind, "restart", spec.restart)
        if spec.shutdown is not None and spec.shutdown != "kill":
            require_number("shutdown=", spec.shutdown)
        require_number("drain=", spec.drain)
        for option in ("ready_timeout", "watchdog"):
            if getattr(spec, option) is not None:
                require_number(f"{option}=", getattr(spec, option), above=True)
        for option, kind in (("backoff", Backoff), ("recycle", Recycle)):
            value = getattr(spec, option)
            if value is not None and not isinstance(value, kind):
                raise TypeError(
                    f"{option}={value!r}: it must be a `tractor.{kind.__name__}`, or None"
                )
        require_whole("replicas=", spec.replicas)
        if spec.replicas < 1:
            raise ValueError(f"replicas={spec.replicas!r}: it must be at least 1")
        if spec.significant and restart is RestartKind.PERMANENT:
            raise ValueError(
                f"significant=True on service {spec.name!r}: a permanent service never ends for good; make it "
                "`restart='transient'` or `'temporary'`"
            )
        if spec.significant and auto_shutdown is AutoShutdown.NEVER:
            raise ValueError(
                f"significant=True on service {spec.name!r}: this supervisor has `auto_shutdown='never'`"
            )
        after = _names("after", spec.after)
        modules = tuple(module_names(spec.enable_modules))
        actor = dict(_mapping("actor", spec.actor))
        if taken := sorted(actor.keys() & {"name", "enable_modules", "nursery"}):
            raise TypeError(f"actor={{{taken[0]!r}: ...}}: that is not for `actor`")
        if spec.recycle is not None and spec.recycle.rss is not None and actor.get("host"):
            raise ValueError(
                f"recycle={spec.recycle!r} on service {spec.name!r}: the size of a process on another host is not seen "
                "here; `age` can be used"
            )
        return msgspec.structs.replace(spec, after=after, enable_modules=modules, actor=actor)

    @property
    def member_names(self) -> list[str]:
        """The names of its actors."""
        return member_names(self.name, self.replicas)

    def rules(self) -> ServiceRules:
        """What the table has to know of it."""
        return ServiceRules(
            name=self.name,
            restart=RestartKind(self.restart),
            backoff=self.backoff,
            own_intensity=not self.escalate,
            significant=self.significant,
            after=self.after,
            replicas=self.replicas,
        )


def word(kind: type[WordT], option: str, value: str) -> WordT:
    """One of the words of an option.  Raises ValueError: it is none."""
    try:
        return kind(value)
    except ValueError:
        words = ", ".join(repr(one.value) for one in kind)
        raise ValueError(f"{option}={value!r}: it must be one of {words}") from None


def require_number(
    option: str, value: object, *, above: bool = False, most: float = math.inf
) -> None:
    """Refuse what is no number from 0 on, or above 0, up to ``most``.  Raises TypeError, ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{option}{value!r}: it must be a number")
    if not math.isfinite(value) or value < 0 or (above and value == 0) or value > most:
        least = "above 0" if above else "at least 0"
        limit = f" and at most {most}" if math.isfinite(most) else ""
        raise ValueError(f"{option}{value!r}: it must be finite, {least}{limit}")


def require_whole(option: str, value: object, otherwise: str = "") -> None:
    """Refuse what is no whole number; ``otherwise`` says what else may be given.  Raises TypeError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{option}{value!r}: it must be a whole number{otherwise}")


def _names(option: str, value: Any) -> tuple[str, ...]:
    is_list = isinstance(value, Iterable) and not isinstance(value, str)
    if not is_list or not all(isinstance(name, str) for name in value):
        raise TypeError(f"{option}={value!r}: it must be a list of names of services")
    return tuple(value)


def _mapping(option: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{option}={value!r}: it must be a dict of keywords of `start_actor()`")
    return value
