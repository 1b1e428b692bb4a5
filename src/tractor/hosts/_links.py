"""An actor's links to other hosts: its side of the link process, and the processes that it has started there.

Theory of operation.  The first start on another host starts the link process (:mod:`tractor.hosts._link_main`), which
an actor keeps to its end.  One task reads what it says.  A :class:`~tractor.hosts._host.Host` is one link; its agent
over there is a process parent, and each :class:`~tractor.hosts._process.RemoteProcess` is one that it has started.

A process there has *ended* when its agent says so; when the agent says that nothing runs there any more; or when the
lease says that nothing can.  In the last case its exit status is not known, and `lost` tells of it.

Why the races are safe.  Those of one link are told in :mod:`tractor.hosts._host`.

- *The link process is killed*: its engines' commands lose their stdin, the agents see that or their lease ends.  All
  links then count as lost after the longest time that this can take.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from typing import Any, NoReturn

import msgspec
import trio

from tractor import log as _log
from tractor._proto.deadlines import LOSS_TIMEOUT, TEARDOWN_TIME
from tractor._util.dist._version import __version__
from tractor.address._policy import from_this_host, reaches_further
from tractor.address._types import TCPAddress, UnwrappedAddress
from tractor.hosts._engine import Target, get_engine
from tractor.hosts._frames import encode
from tractor.hosts._host import Host, Output, require_versions
from tractor.hosts._place import Place
from tractor.hosts._process import Agent
from tractor.hosts._streams import Incoming, LinkError, Outbox
from tractor.process._at_fork import close_in_child
from tractor.process._state import ProcessVar
from tractor.process.host._host_id import is_here
from tractor.runtime._actor import Actor
from tractor.spawn._command import program_command
from tractor.spawn._exec import PopenChild
from tractor.spawn._signal_help import held_off
from tractor.transport._addresses import wrap_address
from tractor.transport._settings import wire_settings

log = _log.get_logger()

_PART = 256 * 1024
"""Bytes of shipped code in one frame: between two of them a ping is answered."""
_MAX_UNPRINTED = 1024 * 1024


class Links:
    """The links of one actor.

    Args:
        actor: this process's.
    """

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.output = Output()
        self._hosts: dict[int, Host] = {}
        self._next = 0
        self._popen: subprocess.Popen[bytes] | None = None
        self._stream: trio.SocketStream | None = None
        self._outbox: Outbox | None = None
        self._lock = trio.Lock()

    # -- hosts ----------------------------------------------------------------------------------------

    async def open(self, place: Place) -> Host:
        """A link to a place that can be used: one that is open already, or a new one.

        Raises:
            HostUnavailable: it can't be opened within ``start_timeout``; says why, with the engine's own last words.
            ValueError, ImportError: the place's engine, target or options can't be used.
        """
        for host in self._hosts.values():
            if host.place == place and not host.is_dropped and not host.ended.is_set():
                break
        else:
            host = await self._begin(place)
        host.holders += 1
        try:
            await host.opened.wait()
            if not host.is_usable:
                raise host.error or host.unavailable("the link has ended")
            if not host.parent_addr[0]:
                await self._find_road(host)
        except BaseException:
            self.release(host)
            raise
        return host

    def release(self, host: Host) -> None:
        """Somebody who has opened a link does not need it any more."""
        host.holders -= 1
        if not host.opened.is_set() and not host.holders:
            self.drop(host)
        host.note_use()

    def drop(self, host: Host) -> None:
        """Close a link; from now on nobody joins it."""
        host.is_dropped = True
        self.send({"t": "drop", "link": host.number})

    def forget(self, host: Host) -> None:
        """A link has ended."""
        self._hosts.pop(host.number, None)

    async def _begin(self, place: Place) -> Host:
        engine = get_engine(place.engine)
        engine.check(place)
        self._next += 1
        host = Host(self, self._next, place)
        self._hosts[host.number] = host
        try:
            back: list[Target] = []
            if place.road == "tunnel" and not engine.can_tunnel:
                raise ValueError(
                    f"host {place.name!r}: {place.engine + '://'!r} has no tunnel; use road='direct'"
                )
            if engine.can_tunnel and place.road != "direct":
                back = [await self.listener("127.0.0.1"), *_far_registrars(self.actor)]
                back = [*dict.fromkeys(back)]
            await self._start()
        except BaseException:
            self._hosts.pop(host.number, None)
            host.error = host.unavailable("its link was not opened")
            host.ended.set()
            host.opened.set()
            raise
        versions = {"tractor": __version__, "msgspec": msgspec.__version__}
        self.send(
            {
                "t": "open",
                "link": host.number,
                "place": msgspec.to_builtins(place),
                "back": back,
                "tls": msgspec.to_builtins(wire_settings().tls),
                "hello": {**versions, "name": self.actor.aid.name},
            }
        )
        return host

    async def _find_road(self, host: Host) -> None:
        """Learn where an actor there reaches this one."""
        require_versions(host)
        if host.over_tunnel:
            host.own_host = "127.0.0.1"
            if host.place.advertise and not host.place.listen:
                raise host.unavailable(
                    f"advertise={host.place.advertise!r} has no effect over a tunnel, where actors listen on loopback;"
                    " give `listen`, too, or road='direct'"
                )
            # The first that was asked for.
            host.parent_addr = next(iter(host.over_tunnel.values()))
            return
        engine = get_engine(host.place.engine)
        try:
            here = await trio.to_thread.run_sync(engine.address_here, host.place)
            addr = await self.listener(here)
        except (OSError, ValueError, RuntimeError, subprocess.SubprocessError) as exc:
            raise host.unavailable(f"this actor can't listen for it: {exc}") from exc
        reply = await host.ask({"t": "reach", "addr": list(addr)}, "reached")
        if reply.get("error"):
            raise host.unavailable(
                f"an actor there can't connect to this one at {addr[0]}:{addr[1]}: {reply['error']}; have this "
                "actor listen at an address that it can reach (`tpt_bind_addrs`), or use road='tunnel' where the "
                "engine has it"
            )
        host.own_host = reply["own"]
        host.parent_addr = addr

    async def listener(self, here: str) -> tuple[str, int]:
        """An address of TCP at which this actor listens, on an address of this host; one is added if there is none.

        Raises:
            RuntimeFailure: an address beyond loopback without an explicit key or TLS.
            OSError: it can't be bound.
        """
        async with self._lock:
            given = [(a[0], a[1]) for a in self.actor.accept_addrs if isinstance(a[1], int)]
            loopback = here.startswith("127.") or here == "::1"
            if loopback:
                found = [a for a in given if a[0] in (here, "0.0.0.0")]
            else:
                # An address that the user has chosen is the right one.
                found = [a for a in given if not a[0].startswith("127.") and a[0] != "::1"]
            if found:
                host, port = found[0]
                return (here if host in ("0.0.0.0", "::") else host), int(port)
            (endpoint,) = await self.actor.ipc_server.listen_on(accept_addrs=[(here, 0)])
            bound = endpoint.addr.unwrap()
            return bound[0], int(bound[1])

    # -- the link process -----------------------------------------------------------------------------

    def send(self, frame: dict[str, Any], raw: bytes | None = None) -> None:
        """Send a frame to the link process; nothing after its end."""
        if self._outbox is not None:
            self._outbox.put(encode(frame, raw))

    async def _start(self) -> None:
        """Start the link process, if there is none."""
        if self._popen is not None:
            return
        ours, theirs = socket.socketpair()
        try:
            argv = [str(theirs.fileno()), str(os.getpid())]
            with program_command("tractor.hosts._link_main", argv) as (command, fds), held_off():
                self._popen = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), *fds),
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        close_in_child(ours)
        ours.setblocking(False)
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        self._outbox = Outbox(self._stream)
        self.actor.io_nursery.start_soon(self._run, name="links to other hosts")

    @trio.lowlevel.enable_ki_protection
    async def _run(self) -> None:
        """What the link process says, until the actor ends."""
        assert self._popen is not None
        assert self._stream is not None
        assert self._outbox is not None
        try:
            async with trio.open_nursery() as tn:
                tn.start_soon(self._outbox.run)
                tn.start_soon(self.output.run)
                try:
                    await self._read(Incoming(self._stream))
                except LinkError as exc:
                    lost = exc
                tn.cancel_scope.cancel()
            await self._lose_all(lost)
        finally:
            with trio.CancelScope(shield=True):
                await self._stream.aclose()
                await _end_process(self._popen)
                self._popen = self._outbox = None

    async def _read(self, frames: Incoming) -> NoReturn:
        """Take what the link process says.  Raises LinkError at its end."""
        while True:
            frame, _ = await frames.next()
            host = self._hosts.get(frame["link"])
            if host is not None:
                host.handle(frame)

    async def _lose_all(self, why: LinkError) -> None:
        """The link process has ended, unasked: what runs elsewhere ends by its leases."""
        began = time.monotonic()
        hosts = list(self._hosts.values())
        log.error("the link process has ended (%s); %s links are lost", why, len(hosts))
        for host in hosts:
            host.handle({"t": "silent", "silent": 0.0})
        for host in sorted(hosts, key=lambda host: host.place.deadline):
            left = began + host.place.deadline + TEARDOWN_TIME - time.monotonic()
            if host.facts:
                await trio.sleep(max(0.0, left))
            host.handle(
                {
                    "t": "lost",
                    "error": "the link process has ended",
                    "silent": time.monotonic() - began,
                }
            )


def _far_registrars(actor: Actor) -> list[Target]:
    """The registrars beside an actor itself that a tunnel can lead to: those on TCP."""
    if actor.is_registrar:
        return []
    wrapped = [from_this_host(wrap_address(addr)) for addr in actor.reg_addrs]
    return [(addr.host, addr.port) for addr in wrapped if isinstance(addr, TCPAddress)]


def registrars_there(actor: Actor, host: Agent) -> list[UnwrappedAddress]:
    """The addresses at which an actor on another host reaches the registrars of its parent.

    A parent that is one itself stands for all.  Else they are those to which the tunnel leads; without one those that
    are no addresses of this host alone.

    Args:
        actor: the parent.
        host: the link.

    Raises:
        HostUnavailable: there are registrars, but no way to any; names them, and says what to do.
    """
    if actor.is_registrar:
        return [host.parent_addr]
    if host.over_tunnel:
        found: list[UnwrappedAddress] = [
            host.over_tunnel[one] for one in _far_registrars(actor) if one in host.over_tunnel
        ]
        rest = "a tunnel leads to addresses of TCP alone: give the tree one, as by registry_addrs=[('127.0.0.1', 1616)]"
    else:
        wrapped = [wrap_address(addr) for addr in actor.reg_addrs]
        # An agent on this very host, as behind a command, is no other host.
        here = is_here(host.host_id)
        found = [
            a.unwrap() for a in wrapped if reaches_further(a) or (here and a.proto_key == "tcp")
        ]
        found = [addr for addr in found if wrap_address(addr).proto_key == "tcp"]
        rest = (
            "have the tree's registrar listen at an address of TCP that other hosts reach (registry_addrs=), or use "
            "road='tunnel' where the engine has it"
        )
    if actor.reg_addrs and not found:
        where = ", ".join(str(wrap_address(addr).unwrap()) for addr in actor.reg_addrs)
        raise host.unavailable(f"no actor there could reach the registrar at {where}: {rest}")
    return found


async def _end_process(popen: subprocess.Popen[bytes]) -> None:
    """Wait for the end of the link process, which has lost its actor, and reap it."""
    process = PopenChild(popen)
    with trio.move_on_after(LOSS_TIMEOUT + 0.5):
        await process.wait()
    if popen.poll() is None:
        popen.kill()
        popen.wait()
    process.close()


_links: ProcessVar[Links | None] = ProcessVar(lambda: None)


def links_of(actor: Actor) -> Links:
    """The links of this process's actor."""
    links = _links.value
    if links is None or links.actor is not actor:
        links = _links.value = Links(actor)
    return links
