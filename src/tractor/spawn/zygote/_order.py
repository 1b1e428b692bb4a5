"""What an actor tells the zygote of a subactor: all that a process which it starts by itself would inherit."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping

import msgspec

from tractor.spawn._contract import SpawnRequest
from tractor.spawn._import_path import import_path

if sys.platform != "linux":
    raise ImportError("there is a zygote on Linux only")

AT_START = ("PYTHON", "LD_", "MALLOC_", "GLIBC_", "ASAN_", "OPENSSL_", "SSL_", "LC_", "LANG")
"""How the names of variables begin that only a starting interpreter, or its loader, looks at."""


class Place(msgspec.Struct, frozen=True):
    """What no process can take over from another than its own parent: a child that needs another one is exec'd.

    Attributes:
        ids: user and group ids: real, effective, and further groups.
        session, group: of processes.
        root: device and inode of ``/``.
        namespaces: those of the kernel, by their inodes.
        variables: those of the environment that :data:`AT_START` names.
        program: the interpreter.
        rights: what the kernel lets it do and have: capabilities, filters of system calls, nodes of memory.
        control_groups: those that it is in.
        scheduling: policy, and what it is to the killer of a machine that is out of memory.
    """

    ids: tuple[int, ...]
    session: int
    group: int
    root: tuple[int, int]
    namespaces: tuple[int, ...]
    variables: tuple[tuple[str, str], ...]
    program: str
    rights: tuple[str, ...]
    control_groups: str
    scheduling: tuple[int, str]

    @classmethod
    def here(cls) -> Place:
        """That of this process."""
        root = os.stat("/")
        return cls(
            (os.getuid(), os.geteuid(), os.getgid(), os.getegid(), *os.getgroups()),
            os.getsid(0),
            os.getpgrp(),
            (root.st_dev, root.st_ino),
            tuple(map(_namespace, ("mnt", "net", "pid_for_children", "ipc", "uts", "user"))),
            tuple(sorted((n, v) for n, v in os.environ.items() if n.startswith(AT_START))),
            sys.executable,
            tuple(line for line in _read("status").splitlines() if line.startswith(_RIGHTS)),
            _read("cgroup"),
            (os.sched_getscheduler(0), _read("oom_score_adj")),
        )

    def difference(self, other: Place) -> str | None:
        """What another place differs in, as a word; ``None``: in nothing."""
        for name in self.__struct_fields__:
            if getattr(self, name) != getattr(other, name):
                return name
        return None


_RIGHTS = ("Cap", "NoNewPrivs:", "Seccomp:", "Mems_allowed_list:")


def _read(name: str) -> str:
    with contextlib.suppress(OSError), open(f"/proc/self/{name}") as file:
        return file.read()
    return ""


def _namespace(name: str) -> int:
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/self/ns/{name}").st_ino
    return 0


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One process to be forked, which is to be as if its orderer had started it.

    Attributes:
        name, uuid, parent_addr, boot_fd, loglevel, infect_asyncio: as in :class:`tractor._child.ChildArgs`.
        place: the orderer's.
        numbers: what the descriptors that come with the order are to be called in the process.
        path: ``sys.path``.
        environment: all variables.
        umask, nice, affinity, limits: of the orderer; limits are soft and hard ones by their numbers.
        ignored, blocked: signals.
    """

    name: str
    uuid: str
    parent_addr: tuple[str, int | str]
    boot_fd: int
    loglevel: str | None
    infect_asyncio: bool
    place: Place
    numbers: list[int]
    path: list[bytes]
    environment: list[tuple[bytes, bytes]]
    umask: int
    nice: int
    affinity: list[int]
    limits: dict[int, tuple[int, int]]
    ignored: list[int]
    blocked: list[int]


def order_of(request: SpawnRequest, boot_fd: int, numbers: list[int]) -> Order:
    """What to order for a request, by this process as it is now."""
    signals = [n for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN]
    return Order(
        name=request.name,
        uuid=request.uuid,
        parent_addr=request.parent_addr,
        boot_fd=boot_fd,
        loglevel=request.loglevel,
        infect_asyncio=request.infect_asyncio,
        place=Place.here(),
        numbers=numbers,
        path=[entry.encode("utf-8", "surrogateescape") for entry in import_path()],
        environment=list(os.environb.items()),
        umask=_umask(),
        nice=os.getpriority(os.PRIO_PROCESS, 0),
        affinity=sorted(os.sched_getaffinity(0)),
        limits={number: resource.getrlimit(number) for number in _LIMITS},
        ignored=[int(n) for n in signals],
        blocked=[int(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
    )


_LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})


def _umask() -> int:
    for line in _read("status").splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    before = os.umask(0o077)
    os.umask(before)
    return before


def out_of_reach(order: Order) -> str | None:
    """What a process that this one forks could not take over; ``None``: nothing."""
    if os.geteuid() == 0:
        return None
    if order.nice < os.getpriority(os.PRIO_PROCESS, 0):
        return f"a niceness of {order.nice}"
    for number, (_, hard) in order.limits.items():
        own = resource.getrlimit(number)[1]
        if own != resource.RLIM_INFINITY and (hard == resource.RLIM_INFINITY or hard > own):
            return f"the kernel's limit {number} at {hard}"
    return None


def take_over(order: Order) -> None:
    """In the process that was forked for an order, whose streams and other descriptors are there.

    Raises:
        OSError: The kernel refuses what :func:`out_of_reach` has let pass.
    """
    os.umask(order.umask)
    if (more := order.nice - os.getpriority(os.PRIO_PROCESS, 0)) != 0:
        os.nice(more)
    if order.affinity != sorted(os.sched_getaffinity(0)):
        os.sched_setaffinity(0, order.affinity)
    for number, pair in order.limits.items():
        if resource.getrlimit(number) != pair:
            resource.setrlimit(number, pair)
    wanted: Mapping[bytes, bytes] = dict(order.environment)
    if wanted != dict(os.environb):
        os.environ.clear()
        os.environb.update(wanted)
        time.tzset()
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if number in order.ignored and handler is signal.SIG_DFL:
            signal.signal(number, signal.SIG_IGN)
        elif number not in order.ignored and handler is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    sys.path[:] = [entry.decode("utf-8", "surrogateescape") for entry in order.path]
