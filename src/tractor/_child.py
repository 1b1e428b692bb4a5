"""The entry point of a subactor: ``python -m tractor._child``, started by a parent actor only."""

from __future__ import annotations

import ast
import atexit
import contextlib
import importlib
import os
import signal
import sys
import threading
from typing import NoReturn

import trio

from tractor import log as _log
from tractor._errors import InternalError, TransportClosed
from tractor.discovery._registration import Registration
from tractor.ipc._addr import UnwrappedAddress, get_address_cls
from tractor.ipc._chan import Channel, transport_from_addr
from tractor.ipc._server import bind_endpoints
from tractor.ipc._settings import WireSettings, set_wire_settings
from tractor.msg._boxing import pack_error
from tractor.msg.types import Aid, SpawnSpec
from tractor.runtime._actor import Actor
from tractor.runtime._lifecycle import open_runtime
from tractor.runtime._vars import runtime_vars, set_runtime_vars
from tractor.spawn._boot import BootRecord, read_boot_record, restore_stderr
from tractor.spawn._lifeline import Lifeline
from tractor.spawn._parent_main import apply_parent_main_data

__all__ = ["main"]

log = _log.get_logger()

HANDSHAKE_TIMEOUT = 10.0
"""Seconds in which the parent must have answered."""


class Arguments:
    """The command line."""

    def __init__(self, argv: list[str]) -> None:
        self.infect_asyncio = "--asyncio" in argv
        values = {flag: argv[i + 1] for i, flag in enumerate(argv[:-1]) if flag.startswith("--")}
        try:
            self.name, self.uuid = ast.literal_eval(values["--uid"])
            self.parent_addr: UnwrappedAddress = ast.literal_eval(values["--parent_addr"])
            self.boot_fd = int(values["--boot_fd"])
        except (KeyError, ValueError, SyntaxError) as exc:
            raise SystemExit(
                f"tractor._child is started by a parent actor, not by hand (bad argument: {exc})"
            ) from exc
        self.loglevel = values.get("--loglevel")


def main(argv: list[str]) -> NoReturn:
    """Run this process as a subactor; never returns."""
    args = Arguments(argv)
    record = read_boot_record(args.boot_fd)
    set_wire_settings(
        WireSettings(authkey=record.authkey, key_is_explicit=record.authkey is not None)
    )
    if args.loglevel:
        _log.get_console_log(args.loglevel)
    # Quiet also before and after the time in which `_watch_signals` takes it.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    code = 1
    try:
        code = trio.run(_child_main, args, record, strict_exception_groups=True)
    except BaseException as exc:
        sys.excepthook(type(exc), exc, exc.__traceback__)
    finally:
        leave(code)


def leave(code: int) -> NoReturn:
    """End the process: exit handlers and buffers as usual, without tearing every module down."""
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


async def _child_main(args: Arguments, record: BootRecord) -> int:
    chan = Channel(await transport_from_addr(args.parent_addr), "connect")
    aid = Aid(args.name, args.uuid, os.getpid())
    with trio.fail_after(HANDSHAKE_TIMEOUT):
        await chan.handshake(aid)
    spec = await chan.recv()
    if not isinstance(spec, SpawnSpec):
        raise TransportClosed(
            f"the parent began with a {type(spec).__name__!r} message instead of its configuration"
        )
    set_runtime_vars(spec._runtime_vars)
    chan.transport.set_max_frame_size(runtime_vars()._max_frame_size)
    actor = Actor(
        aid,
        enable_modules=spec.enable_modules,
        loglevel=args.loglevel,
        reg_addrs=[_pair(a) for a in spec.reg_addrs],
    )
    actor.parent_chan = chan
    registration = Registration(actor)
    token = trio.lowlevel.current_trio_token()

    def parent_lost() -> None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(actor.cancel_soon)

    def remove_files() -> None:
        for endpoint in actor.ipc_server.endpoints:
            endpoint.close_listener()

    lifeline = Lifeline(args.boot_fd, parent_lost, last_words=remove_files)
    code = 0
    async with open_runtime(actor, registration.stop):
        await actor.io_nursery.start(actor.serve_channel, chan)
        await actor.io_nursery.start(_watch_signals, actor)
        try:
            await _configure(actor, args, spec, registration)
        except Exception as exc:
            chan.transport.put(pack_error(exc, cid=0, src_uid=aid.uid))
            code = 1
        else:
            restore_stderr(record)
            actor.note_to_parent("_ready", accept_addrs=actor.accept_addrs)
            await trio.sleep_forever()
    lifeline.stop()
    return code


async def _configure(
    actor: Actor, args: Arguments, spec: SpawnSpec, registration: Registration
) -> None:
    """Make a connected child a serving actor."""
    if runtime_vars()._is_infected_aio != args.infect_asyncio:
        raise InternalError(
            f"the parent's configuration says infected={runtime_vars()._is_infected_aio}, "
            f"the command line {args.infect_asyncio}"
        )
    apply_parent_main_data(spec._parent_main_data)
    for name in spec.enable_modules:
        if name != "__main__":
            importlib.import_module(name)
    addrs = [_pair(a) for a in spec.bind_addrs or ()] or own_addrs(actor)
    endpoints = await bind_endpoints(addrs)
    actor.ipc_server.serve_endpoints(endpoints)
    await registration.start()


def own_addrs(actor: Actor) -> list[UnwrappedAddress]:
    """A random address for each transport that this actor listens on."""
    aid = actor.aid
    return [
        get_address_cls(key).get_random(name=aid.name, pid=aid.pid, uuid=aid.uuid).unwrap()
        for key in runtime_vars()._enable_tpts
    ]


def _pair(addr: tuple[str, int | str]) -> UnwrappedAddress:
    host, second = addr
    return (host, second)  # type: ignore[return-value]


async def _watch_signals(
    actor: Actor, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """SIGINT and SIGTERM cancel this actor's runtime, with itself as canceller."""
    caught = {signal.SIGINT, signal.SIGTERM}
    with trio.open_signal_receiver(*caught) as signals:
        if hasattr(signal, "pthread_sigmask"):
            # Blocked by the parent when it started this process, so that none hits a half-made runtime.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        task_status.started()
        async for number in signals:
            log.cancel("%s got %s", actor.aid.reprol(), signal.Signals(number).name)
            actor.cancel_soon()


if __name__ == "__main__":
    main(sys.argv[1:])
