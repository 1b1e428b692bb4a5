"""Backend ``'zygote'``: a fork of a process that has loaded the runtime, and nothing of the user's."""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any

import trio

from tractor.process._frozen import is_frozen
from tractor.spawn._contract import SpawnRequest
from tractor.spawn._exec import BACKEND as EXEC
from tractor.spawn._exec import require_executable
from tractor.spawn._pipes import BootedChild, ChildPipes, forked_cmdline

if sys.platform == "linux":
    from tractor.spawn.zygote._zygote import Refused, order, warn_once, zygote
else:
    order: Any = None
    warn_once: Any = None
    Refused: Any = Exception
    zygote: Any = None


class ZygoteProcess(BootedChild):
    """A child that the zygote has forked; see :class:`~tractor.spawn._contract.ChildProcess`."""


class ZygoteBackend:
    """Has the tree's zygote fork; a child that needs what a fork can't give, or whose zygote is gone, is exec'd."""

    key = "zygote"

    def is_available(self) -> None:
        """Return when there can be a zygote here.

        Raises:
            RuntimeError: No Linux with pidfds, or a frozen program.
        """
        require_executable(self.key)
        if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
            raise RuntimeError(f"spawn backend {self.key!r} needs Linux 5.3, with pidfds")
        if not hasattr(socket, "SO_PASSCRED") or not hasattr(os, "memfd_create"):
            raise RuntimeError(f"spawn backend {self.key!r} needs a Python that knows SO_PASSCRED")
        if is_frozen():
            raise RuntimeError(
                f"spawn backend {self.key!r} needs an interpreter, which a frozen program has not"
            )

    async def start(self, request: SpawnRequest, nursery: trio.Nursery) -> BootedChild:
        """Start a child; see :meth:`tractor.spawn._contract.SpawnBackend.start`.

        Raises:
            OSError: No process could be forked.
        """
        if request.proc_kwargs:
            # They say what a process of its own is to be like.
            return await EXEC.start(request, nursery)
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            # First: the child is to know it, too.
            tie = zygote()
            with ChildPipes(request) as pipes:
                return _adopt(await order(tie, request, pipes), request, pipes, nursery)
        except Refused as exc:
            warn_once(request.name, str(exc))
        return await EXEC.start(request, nursery)


def _adopt(
    process: Any, request: SpawnRequest, pipes: ChildPipes, nursery: trio.Nursery
) -> ZygoteProcess:
    try:
        cmdline = forked_cmdline("fork of the zygote", request, pipes.boot_fd)
        return ZygoteProcess(process, pipes, cmdline, nursery)
    except BaseException:
        process.send_signal(signal.SIGKILL)  # type: ignore[attr-defined, unused-ignore]
        process.close()
        raise


class AutoBackend:
    """The zygote where there can be one, a fresh interpreter else."""

    key = "auto"

    def is_available(self) -> None:
        """Return when children can be started here, else RuntimeError."""
        EXEC.is_available()

    async def start(self, request: SpawnRequest, nursery: trio.Nursery) -> BootedChild:
        """Start a child; see :meth:`tractor.spawn._contract.SpawnBackend.start`."""
        try:
            BACKEND.is_available()
        except RuntimeError:
            return await EXEC.start(request, nursery)
        return await BACKEND.start(request, nursery)


BACKEND = ZygoteBackend()
AUTO = AutoBackend()
