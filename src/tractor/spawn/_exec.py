"""Backend ``'trio'``: a fresh interpreter that runs :mod:`tractor._child`."""

from __future__ import annotations

import shlex
import subprocess
import sys

import msgspec
import trio

from tractor.process._frozen import require_support
from tractor.process._handed_down import limits_of, sockets_of
from tractor.process._stdio import to_hand_down
from tractor.spawn._command import program_command
from tractor.spawn._contract import CHILD_MODULE, OutputOfChildren, SpawnRequest
from tractor.spawn._own_child import OwnChild
from tractor.spawn._pipes import BootedChild, ChildPipes
from tractor.spawn._signal_help import held_off


class PopenChild(OwnChild):
    """A child that :class:`subprocess.Popen` started."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        super().__init__(popen.pid)
        self._popen = popen

    def poll(self) -> int | None:
        """Reap the process if it has ended; its exit status, ``None`` while it runs."""
        return self._popen.poll()

    def send_signal(self, number: int) -> None:
        """Send a signal; does nothing when the process is gone."""
        self._popen.send_signal(number)

    def close(self) -> None:
        """Free descriptors.  Idempotent."""
        super().close()
        for stream in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if stream is not None:
                stream.close()


class ExecProcess(BootedChild):
    """A child that runs a program of its own; see :class:`~tractor.spawn._contract.ChildProcess`."""


class ExecBackend:
    """Starts ``python … -m <module>``, with this process's import path in place before anything else is imported.

    Args:
        module: The program, which has a function ``main(argv)``; another one than the default only in tests.
    """

    key = "trio"

    def __init__(self, module: str = CHILD_MODULE) -> None:
        self._module = module

    def is_available(self) -> None:
        """Return when children can be started here.

        Raises:
            RuntimeError: No interpreter to start, or no descriptors to hand down.
        """
        require_executable(self.key)

    async def start(self, request: SpawnRequest, nursery: trio.Nursery) -> ExecProcess:
        """Start a child; see :meth:`tractor.spawn._contract.SpawnBackend.start`.

        Raises:
            RuntimeFailure: A frozen program has not called :func:`tractor.freeze_support`.
        """
        require_support(self.key)
        # The only checkpoint: from here on there is no point at which a process could get lost.
        await trio.lowlevel.checkpoint()
        return self._launch(request, nursery)

    @trio.lowlevel.enable_ki_protection
    def _launch(self, request: SpawnRequest, nursery: trio.Nursery) -> ExecProcess:
        kwargs = dict(request.proc_kwargs)
        limits, sockets = limits_of(kwargs), sockets_of(kwargs)
        for key in ("limits", "sockets"):
            # They are not for `subprocess.Popen`.
            kwargs.pop(key, None)
        stdout = kwargs.get("stdout")
        if isinstance(stdout, OutputOfChildren):
            kwargs["stdout"] = stdout.for_child(request.name)
        request = msgspec.structs.replace(request, proc_kwargs=kwargs)
        with (
            ChildPipes(
                request, capture="stderr" not in kwargs, limits=limits, sockets=sockets
            ) as pipes,
            program_command(self._module, request.argv(pipes.boot_fd)) as (command, fds),
        ):
            return start_program(command, request, pipes, nursery, (*fds, *sockets.values()))


def require_executable(key: str) -> None:
    """Return when a program can be started and descriptors handed down to it; else RuntimeError."""
    if not sys.executable:
        raise RuntimeError(
            f"spawn backend {key!r} needs sys.executable, which is empty in this program"
        )
    if sys.platform == "win32":
        raise RuntimeError(f"spawn backend {key!r} hands descriptors down, which needs POSIX")


def start_program(
    command: list[str],
    request: SpawnRequest,
    pipes: ChildPipes,
    nursery: trio.Nursery,
    fds: tuple[int, ...] = (),
) -> ExecProcess:
    """Run a command as a child; without a checkpoint, to be called with ``KeyboardInterrupt`` held off.

    Args:
        command: Program and arguments.
        request: Says what else :class:`subprocess.Popen` gets; unless told, the child keeps our process group,
            directory and stdin.
        pipes: What the child inherits.
        nursery: Hosts the relay of its stderr.
        fds: Further descriptors that it inherits.

    Raises:
        OSError, TypeError, ValueError: As :class:`subprocess.Popen`.
        RuntimeError: The nursery takes no more tasks; no process was left behind.
    """
    kwargs = dict(request.proc_kwargs)
    passed = (*kwargs.pop("pass_fds", ()), *pipes.inherited_fds(), *fds)
    if pipes.capture is not None:
        kwargs["stderr"] = pipes.capture.write_fd
    kwargs.update(to_hand_down(kwargs))
    # Popen runs right here: with vfork it takes 0.2 ms, less than the way to a thread and back,
    # and the child's parent *thread* is then one that lives as long as the runtime.
    with held_off():
        popen: subprocess.Popen[bytes] = subprocess.Popen(command, **kwargs, pass_fds=passed)
    try:
        return ExecProcess(PopenChild(popen), pipes, shlex.join(command), nursery)
    except BaseException:
        popen.kill()
        popen.wait()
        raise


BACKEND = ExecBackend()
