"""What a service file may hold: its tables as records.  Editors get them as the JSON Schema beside this file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

MOST = 1e9
"""For ever, for whoever counts seconds: infinity is not a number that a limit can be."""
Seconds = Annotated[float, Meta(ge=0, le=MOST)]
Count = Annotated[int, Meta(ge=0)]
NAME_OF_CALL = r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*$"
NAME_OF_MODULE = r"^[^\W\d]\w*(\.[^\W\d]\w*)*$"


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table whose keys are all known."""


class BackoffTable(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a service waits before it is started again; see `tractor.Backoff`."""

    initial: Annotated[
        float, Meta(gt=0, le=MOST, description="seconds before the first restart")
    ] = 0.1
    factor: Annotated[float, Meta(ge=1, le=MOST, description="each is so many times longer")] = 2.0
    maximum: Annotated[float, Meta(gt=0, le=MOST, description="seconds, at the most")] = 30.0
    jitter: Annotated[float, Meta(ge=0, le=1, description="share that is left to chance")] = 0.1
    reset_after: Annotated[Seconds, Meta(description="seconds of being ready that reset it")] = 60.0


class RecycleTable(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a service is restarted by plan; see `tractor.Recycle`."""

    age: Annotated[float, Meta(gt=0, le=MOST, description="seconds")] | None = None
    rss: Annotated[int, Meta(gt=0, description="resident size in bytes")] | None = None
    jitter: Annotated[float, Meta(ge=0, le=0.999, description="share that is left to chance")] = 0.1


class LimitsTable(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of the kernel for the service's process and those below it."""

    nofile: Annotated[int, Meta(ge=16, description="open descriptors")] | None = None
    as_: Annotated[int, Meta(gt=0, description="bytes of address space")] | None = msgspec.field(
        name="as", default=None
    )
    core: Annotated[Count, Meta(description="bytes of a core dump; 0: none")] | None = None

    def made(self) -> dict[str, int]:
        """By the names that :mod:`resource` has, without ``RLIMIT_``, in lower case."""
        given = {"nofile": self.nofile, "as": self.as_, "core": self.core}
        return {k: v for k, v in given.items() if v is not None}


class SupervisorTable(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[supervisor]`."""

    strategy: Annotated[
        Literal["one_for_one", "rest_for_one", "one_for_all"],
        Meta(description="what a restart takes along"),
    ] = "one_for_one"
    max_restarts: (
        Annotated[Count, Meta(description="more than these within `within`: give up")] | None
    ) = None
    within: Annotated[float, Meta(gt=0, le=MOST, description="seconds")] = 60.0
    backoff: BackoffTable | Literal[False] = msgspec.field(default_factory=BackoffTable)
    auto_shutdown: Annotated[
        Literal["never", "any_significant", "all_significant"],
        Meta(description="whether significant services that have ended end all"),
    ] = "never"
    name: Annotated[str, Meta(min_length=1, description="the manager's, as an actor")] = "manager"
    registry: Annotated[list[str], Meta(description="multiaddrs of registrars")] | None = None
    transports: Annotated[list[str], Meta(min_length=1, description="of the tree")] | None = None
    loglevel: Annotated[str, Meta(description="of the manager and its services")] = "warning"
    hosts: (
        Annotated[
            str, Meta(min_length=1, description="the hosts table; from the file's directory on")
        ]
        | None
    ) = None


class ServiceTable(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table `[services.NAME]`."""

    call: (
        Annotated[
            str,
            Meta(
                pattern=NAME_OF_CALL,
                description="module:function, an async function or a @context endpoint; without it: a daemon of "
                "`modules`",
            ),
        ]
        | None
    ) = None
    args: Annotated[dict[str, Any], Meta(description="keyword arguments of `call`")] = {}
    modules: Annotated[
        list[Annotated[str, Meta(pattern=NAME_OF_MODULE)]], Meta(description="that peers call into")
    ] = []
    env: Annotated[
        dict[str, str], Meta(description="on top of the manager's; ${X} is the manager's X")
    ] = {}
    cwd: Annotated[str, Meta(description="its directory; from the file's on")] | None = None
    listen: Annotated[
        dict[str, str],
        Meta(description="multiaddrs of sockets, by name; see tractor.inherited_sockets()"),
    ] = {}
    limits: LimitsTable = LimitsTable()
    user: Annotated[str, Meta(min_length=1, description="runs it; root only")] | None = None
    transports: (
        Annotated[list[str], Meta(min_length=1, description="that it listens on")] | None
    ) = None
    host: (
        Annotated[
            str, Meta(min_length=1, description="another host that it runs on: a URL, or a name")
        ]
        | Annotated[
            list[Annotated[str, Meta(min_length=1)]],
            Meta(
                min_length=1, description="the first that takes it; when that is lost the next one"
            ),
        ]
        | None
    ) = None
    asyncio: Annotated[bool, Meta(description="trio as a guest of an asyncio loop")] = False
    log: Annotated[str, Meta(description="its log level")] | None = None
    restart: Annotated[
        Literal["permanent", "transient", "temporary"],
        Meta(description="after which ends it is started again"),
    ] = "permanent"
    shutdown: (
        Annotated[Seconds, Meta(description="seconds before SIGTERM")]
        | Annotated[Literal["kill"], Meta(description="SIGKILL at once")]
        | None
    ) = None
    drain: Annotated[Seconds, Meta(description="seconds for the requests that run")] = 0.0
    ready_timeout: Annotated[float, Meta(gt=0, le=MOST, description="seconds")] | None = None
    backoff: BackoffTable | Literal[False] | None = None
    escalate: Annotated[bool, Meta(description="false: its restarts are counted apart")] = True
    significant: Annotated[bool, Meta(description="for `auto_shutdown`")] = False
    after: Annotated[list[str], Meta(description="services that it waits for")] = []
    replicas: Annotated[int, Meta(ge=1, le=10_000, description="how many")] = 1
    watchdog: (
        Annotated[float, Meta(gt=0, le=MOST, description="seconds without an answer")] | None
    ) = None
    recycle: RecycleTable | None = None

    def __repr__(self) -> str:
        # Values of `env` are shown nowhere.
        shown = {
            field.encode_name: list(value) if field.name == "env" else value
            for field in msgspec.structs.fields(self)
            if (value := getattr(self, field.name)) not in (None, field.default)
        }
        return f"ServiceTable({', '.join(f'{key}={value!r}' for key, value in shown.items())})"


class FileTable(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A service file of `tractor run`."""

    supervisor: SupervisorTable = SupervisorTable()
    services: dict[str, ServiceTable]


def json_schema() -> bytes:
    """The JSON Schema of a service file, indented; the file `services.schema.json` holds it."""
    schema = msgspec.json.schema(FileTable)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tractor services",
        **schema,
    }
    return msgspec.json.format(msgspec.json.encode(schema), indent=2) + b"\n"
