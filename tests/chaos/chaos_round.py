"""Carries a plan out, and tells how each operation ended."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ep_chaos
import trio
from chaos_plan import INSIDE, LINKS, Branch, Fault, Node, Operation, Plan
from ep_chaos import name_of
from fault_proxy import FaultProxy, open_fault_proxy

import tractor
from tractor._util._groups import is_multi_cancelled
from tractor.discovery._portals import maybe_open_portal
from tractor.ipc._addr import UnwrappedAddress
from tractor.testing import (
    AFKAlarmTimeout,
    afk_alarm_w_trace,
    fail_after_w_trace,
    get_rando_addr,
)
from tractor.testing._leaks import Resources, clean_up, leaks_since

__all__ = ["Figures", "Round", "carry_out", "outcome_of"]

DEADLINE = 15.0
"""Seconds that each operation, each start and each end of a branch may take."""

LEAK_GRACE = 2.5
"""Seconds until what SIGKILL of an ancestor has left must be gone: the promised 2, and a little for us to see it."""

SETTLED = ("ActorFailure", "TransportClosed", "RuntimeFailure", "ContextCancelled")
"""What actors may fail with here, so that it may arrive in a `RemoteActorError`."""

GROUPS = ("ExceptionGroup", "BaseExceptionGroup")


BUGS = ("InternalError", "AssertionError")
"""What no disaster excuses, also deep within a remote traceback."""

UNTOUCHED = ("value", "cancelled by us", "RemoteActorError[ValueError]", "planned error")
"""How operations on branches end that nothing bad was planned for."""


class PlannedError(Exception):
    """The body of a branch's nursery fails, because the plan says so."""


class NotThereError(Exception):
    """Whom an operation or a fault was meant for is gone already: it does not take place."""


class WrongAnswerError(Exception):
    """A value arrived that is not the one that was sent."""


def expect(got: object, wanted: object) -> None:
    """Raise WrongAnswerError unless both are the same."""
    if got != wanted:
        raise WrongAnswerError(f"{str(got)[:200]!r} arrived instead of {str(wanted)[:200]!r}")


@dataclass
class Figures:
    """What was seen, in one round or in many."""

    operations: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    actors: int = 0
    hangs: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "none")

    def add(self, other: Figures) -> None:
        """Count another round in."""
        self.operations.update(other.operations)
        self.faults.update(other.faults)
        self.outcomes.update(other.outcomes)
        self.rounds += other.rounds
        self.actors += other.actors
        self.hangs += other.hangs
        self.wrong += other.wrong
        self.leaks += other.leaks
        self.slowest = max(self.slowest, other.slowest)

    @property
    def failed(self) -> bool:
        """Whether a promise was broken."""
        return bool(self.hangs or self.wrong or self.leaks)


def outcome_of(exc: BaseException) -> str | None:
    """The class of G3's outcomes that an operation's exception is of; ``None``: of none."""
    if isinstance(exc, tractor.ContextCancelled):
        return "ContextCancelled"
    if isinstance(exc, tractor.RemoteActorError):
        if type(exc) is not tractor.RemoteActorError:
            return None
        if any(name in exc.tb_str for name in BUGS):
            return None
        boxed = exc.boxed_type_str
        return f"RemoteActorError[{boxed}]" if boxed in (*SETTLED, *GROUPS) else None
    if isinstance(exc, tractor.TransportClosed):
        return "TransportClosed"
    return "ActorFailure" if isinstance(exc, tractor.ActorFailure) else None


def end_of_branch(exc: BaseException) -> str | None:
    """The same for a branch's nursery, which may end with several errors at once."""
    if isinstance(exc, PlannedError):
        return "planned error"
    if isinstance(exc, BaseExceptionGroup):
        known = all(end_of_branch(one) for one in exc.exceptions)
        return "several of these" if known else None
    return outcome_of(exc)


class Killer:
    """Sends signals to the actors of a tree, and to no process that got the pid of one afterwards."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}
        self._pids: dict[str, int] = {}

    def learn(self, pids: dict[str, int]) -> None:
        """Note who lives where; they must be alive, or not reaped yet."""
        for path, pid in pids.items():
            self._pids[path] = pid
            if sys.platform == "linux":
                with contextlib.suppress(ProcessLookupError):
                    self._fds[path] = os.pidfd_open(pid)

    def send(self, path: str, number: signal.Signals) -> None:
        """Raises NotThereError when it has ended, or was never up."""
        try:
            if sys.platform == "linux":
                signal.pidfd_send_signal(self._fds[path], number)
            else:
                os.kill(self._pids[path], number)
        except (KeyError, ProcessLookupError):
            raise NotThereError(path) from None

    def close(self) -> None:
        """Forget all."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()


class Host:
    """One branch while it runs: its nursery and the portal to its actor."""

    def __init__(self, branch: Branch) -> None:
        self.branch = branch
        self.settled = trio.Event()
        """Its actors are up, or it has ended."""
        self.an: tractor.ActorNursery | None = None
        self.portal: tractor.Portal | None = None
        self.tasks: trio.Nursery | None = None
        self.proxy: FaultProxy | None = None

    def end(self) -> None:
        """Nothing of it is there any more."""
        self.an = self.portal = self.tasks = self.proxy = None
        self.settled.set()


class Round:
    """One plan, carried out; what was seen is in `figures` afterwards."""

    def __init__(self, plan: Plan, backend: str, tpt: str, out_dir: Path) -> None:
        self.plan = plan
        self.figures = Figures(actors=plan.actors)
        self._backend = backend
        self._tpt = tpt
        self._out_dir = out_dir
        self._killer = Killer()
        self._hosts = {branch.node.path: Host(branch) for branch in plan.branches}
        self._over = trio.Event()
        self._over_at = 0.0
        self._io: trio.Nursery

    async def run(self) -> None:
        """Everything from the first start to the end of the last process."""
        root = tractor.open_root_actor(
            registry_addrs=[get_rando_addr(self._tpt)],
            start_method=self._backend,
            loglevel="critical",
        )
        with contextlib.closing(self._killer):
            async with root, trio.open_nursery() as self._io, trio.open_nursery() as tn:
                for host in self._hosts.values():
                    tn.start_soon(self._run_branch, host)
                for host in self._hosts.values():
                    await host.settled.wait()
                async with trio.open_nursery() as busy:
                    began = trio.current_time()
                    for fault in self.plan.faults:
                        busy.start_soon(self._at, began + fault.at, self._inflict, fault)
                    for operation in self.plan.operations:
                        busy.start_soon(self._at, began + operation.at, self._begin, operation)
                self._over_at = trio.current_time()
                self._over.set()

    async def _at(self, when: float, what: Callable[[Any], Awaitable[None]], arg: Any) -> None:
        await trio.sleep_until(when)
        await what(arg)

    # -- outcomes -------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _counted(
        self, kind: str, what: Operation | Fault
    ) -> AsyncIterator[Callable[[str], None]]:
        """Count what the block does as an operation, with its one outcome; the block's errors end here.

        Yields:
            What tells the outcome of a block that ends without an error, ``'value'`` by default.
        """
        began = trio.current_time()
        outcome = "value"

        def note(given: str) -> None:
            nonlocal outcome
            outcome = given

        try:
            async with fail_after_w_trace(DEADLINE, label="chaos", out_dir=self._out_dir):
                yield note
        except NotThereError as exc:
            if self._is_untouched(what):
                self.figures.wrong.append(f"{what} found nobody: {describe(exc)}")
            return
        except BaseException as exc:
            outcome = self._outcome(what, exc, outcome_of(exc))
            if outcome == "Cancelled":
                self._count(kind, outcome, what, began)
                raise
        self._count(kind, outcome, what, began)

    def _outcome(
        self, what: Operation | Fault | Branch, exc: BaseException, known: str | None
    ) -> str:
        """The outcome of what has ended with an exception; noted where it breaks a promise."""
        if type(exc) is trio.TooSlowError:
            self.figures.hangs.append(f"{what} did not end in time")
            return "hang"
        outcome = "Cancelled" if is_multi_cancelled(exc) else known
        if outcome in UNTOUCHED or (outcome and not self._is_untouched(what)):
            return outcome
        # A context that is open while we cancel its actor ends as cancelled by us.
        by_us = isinstance(exc, tractor.ContextCancelled) and (
            exc.canceller == tractor.current_actor().aid.uid
        )
        if by_us and isinstance(what, Branch) and what.ending == "cancel nursery":
            return "ContextCancelled"
        self.figures.wrong.append(f"{what} ended with {describe(exc)}")
        return "wrong"

    def _is_untouched(self, what: Operation | Fault | Branch) -> bool:
        if isinstance(what, Operation) and what.breaks is not None:
            return False
        path = what.node.path if isinstance(what, Branch) else what.path
        return path.partition(".")[0] not in self.plan.touched

    def _count(self, kind: str, outcome: str, what: object, began: float) -> None:
        self.figures.operations[kind] += 1
        self.figures.outcomes[outcome] += 1
        took = trio.current_time() - began
        self.figures.slowest = max(self.figures.slowest, (took, f"{what} of {self.plan.seed}"))

    # -- the tree -------------------------------------------------------------------------------------

    async def _run_branch(self, host: Host) -> None:
        """A branch from start to end; its outcome is what its nursery makes of all that has happened."""
        began = trio.current_time()
        outcome = "value"
        try:
            # Its parts are starting, waiting for the round's operations, and ending.
            async with fail_after_w_trace(3 * DEADLINE, label="chaos", out_dir=self._out_dir):
                with trio.CancelScope() as scope:
                    await self._branch(host, scope)
        except BaseException as exc:
            outcome = self._outcome(host.branch, exc, end_of_branch(exc))
            if outcome == "Cancelled":
                raise
        finally:
            host.end()
        self._count("branch", outcome, host.branch, max(began, self._over_at))

    async def _branch(self, host: Host, scope: trio.CancelScope) -> None:
        branch = host.branch
        async with contextlib.AsyncExitStack() as stack:
            if branch.proxied:
                host.proxy = await stack.enter_async_context(self._proxy_to(self._root_addr()))
            an = await stack.enter_async_context(tractor.open_nursery())
            with contextlib.ExitStack() as patched:
                if host.proxy is not None:
                    addr = host.proxy.addr
                    patched.enter_context(
                        patch.object(an, "_address_for_child", lambda _transports: addr)
                    )
                portal = await self._start(an, branch.node.path)
            host.an, host.portal = an, portal
            async with portal.open_context(ep_chaos.grow, spec=spec_of(branch.node)) as (ctx, pids):
                self._killer.learn(pids)
                async with trio.open_nursery() as host.tasks:
                    host.settled.set()
                    try:
                        await self._over.wait()
                    finally:
                        host.tasks = None
                if branch.ending == "error":
                    raise PlannedError
                if branch.ending == "cancel scope":
                    scope.cancel()
                elif branch.ending == "cancel nursery":
                    await an.cancel()
                await ctx.cancel()
            await portal.cancel_actor()

    def _root_addr(self) -> UnwrappedAddress:
        return tractor.current_actor().accept_addrs[0]

    def _proxy_to(self, target: UnwrappedAddress) -> AbstractAsyncContextManager[FaultProxy]:
        proto = "tcp" if isinstance(target[1], int) else "uds"
        return open_fault_proxy(get_rando_addr(proto), target, self._io)

    async def _start(self, an: tractor.ActorNursery, path: str) -> tractor.Portal:
        return await an.start_actor(
            name_of(path), enable_modules=["ep_chaos"], inherit_parent_main=False
        )

    # -- faults ---------------------------------------------------------------------------------------

    async def _inflict(self, fault: Fault) -> None:
        kind = fault.kind
        if kind in INSIDE:
            # A call like any other: it counts as an operation, too.
            async with (
                self._counted(f"fault: {kind}", fault),
                self._portal_to(fault.path, "look-up") as portal,
            ):
                self.figures.faults[kind] += 1
                if kind == "blocked loop":
                    await portal.run(ep_chaos.block, seconds=fault.seconds)
                else:
                    await portal.run(ep_chaos.die, how=kind)
            return
        try:
            if kind in LINKS:
                self._break_link(fault)
            elif kind == "SIGKILL":
                self._killer.send(fault.path, signal.SIGKILL)
            else:
                self._killer.send(fault.path, signal.SIGSTOP)
        except NotThereError:
            self.figures.faults["too late"] += 1
            return
        self.figures.faults[kind] += 1
        if kind == "SIGSTOP":
            await trio.sleep(fault.seconds)
            with contextlib.suppress(NotThereError):
                self._killer.send(fault.path, signal.SIGCONT)

    def _break_link(self, fault: Fault) -> None:
        proxy = self._hosts[fault.path].proxy
        if proxy is None or not proxy.connections:
            raise NotThereError(fault.path)
        # The child has connected: it is the client.
        break_link(proxy, fault, child="client")

    # -- operations -----------------------------------------------------------------------------------

    async def _begin(self, operation: Operation) -> None:
        tasks = self._hosts[operation.path.partition(".")[0]].tasks
        if not operation.inside:
            await self._operate(operation)
        elif tasks is not None:
            done = trio.Event()
            tasks.start_soon(self._operate_inside, operation, done)
            await done.wait()

    async def _operate_inside(self, operation: Operation, done: trio.Event) -> None:
        try:
            await self._operate(operation)
        finally:
            done.set()

    async def _operate(self, operation: Operation) -> None:
        async with self._counted(operation.kind, operation) as note:
            if operation.kind == "start":
                await self._start_one(operation)
                return
            async with self._portal_to(operation.path, operation.via, operation.breaks) as portal:
                note(await perform(operation.kind, portal, operation.size))

    async def _start_one(self, operation: Operation) -> None:
        an = self._hosts[operation.path].an
        if an is None:
            raise NotThereError(operation.path)
        try:
            portal = await self._start(an, f"{operation.path}-more")
        except tractor.RuntimeFailure as exc:
            if type(exc) is tractor.RuntimeFailure:
                raise NotThereError(str(exc)) from exc  # the nursery was closed, or cancelled
            raise
        expect(await portal.run(ep_chaos.echo, value=operation.size), operation.size)
        await portal.cancel_actor()

    @asynccontextmanager
    async def _portal_to(
        self, path: str, via: str, breaks: Fault | None = None
    ) -> AsyncIterator[tractor.Portal]:
        """Raises NotThereError when nobody is found there."""
        portal = self._hosts[path].portal if via == "portal" else None
        if portal is not None:
            yield portal
            return
        async with contextlib.AsyncExitStack() as stack:
            found = await self._find(path, via == "dial", breaks, stack)
            if found is None:
                raise NotThereError(path)
            yield found

    async def _find(
        self, path: str, dial: bool, breaks: Fault | None, stack: contextlib.AsyncExitStack
    ) -> tractor.Portal | None:
        name = name_of(path)
        if not dial:
            found = await stack.enter_async_context(tractor.find_actor(name))
            assert not isinstance(found, list)
            return found
        async with tractor.query_actor(name) as (addr, _):
            if addr is None:
                return None
        # A connection of its own, that bad things may happen to in the meantime.
        proxy = await stack.enter_async_context(self._proxy_to(addr))
        own = await stack.enter_async_context(maybe_open_portal(proxy.addr, name))
        if own is not None and breaks is not None:
            self._io.start_soon(self._break_later, proxy, breaks)
        return own

    async def _break_later(self, proxy: FaultProxy, fault: Fault) -> None:
        await trio.sleep(fault.at)
        if proxy.connections:
            self.figures.faults[fault.kind] += 1
            break_link(proxy, fault, child="server")


def break_link(proxy: FaultProxy, fault: Fault, child: str) -> None:
    """Do to a proxy's connections what a fault says; *child*: the end that is not the root."""
    towards = child if fault.towards == "child" else {"client": "server", "server": "client"}[child]
    if fault.kind == "delay":
        proxy.delay(fault.seconds)
    elif fault.kind == "half-close":
        proxy.half_close(towards)
    elif fault.kind == "truncate":
        proxy.truncate(towards, fault.size)
    else:
        proxy.reset()


def spec_of(node: Node) -> ep_chaos.Spec:
    """What `ep_chaos.grow` is told."""
    return [node.path, [spec_of(child) for child in node.children]]


def describe(exc: BaseException) -> str:
    """An exception that should not have come, with where it came from."""
    return "".join(traceback.format_exception(exc))[-4000:]


async def perform(kind: str, portal: tractor.Portal, size: int) -> str:
    """One operation.

    Returns:
        Its outcome: ``'value'``, or ``'cancelled by us'``.

    Raises:
        WrongAnswerError: a wrong value, or no error where one was due.
        BaseException: what ended it.
    """
    match kind:
        case "call":
            expect(await portal.run(ep_chaos.echo, value=size), size)
        case "big call":
            text = "x" * size * 10_000
            expect(await portal.run(ep_chaos.echo, value=text), text)
        case "slow call":
            expect(await portal.run(ep_chaos.slow, seconds=size / 200), size / 200)
        case "failing call":
            try:
                await portal.run(ep_chaos.fail, text=str(size))
            except tractor.RemoteActorError as exc:
                if exc.boxed_type is ValueError:
                    return "RemoteActorError[ValueError]"
                raise
            raise WrongAnswerError("a call that must fail has returned")
        case "cancelled call":
            with trio.move_on_after(size / 200):
                await portal.run(ep_chaos.slow, seconds=60.0)
                raise WrongAnswerError("a call of a minute has returned")
            return "cancelled by us"
        case "stream" | "left stream":
            await receive(portal, size, size if kind == "stream" else size // 2)
        case "dialog" | "cancelled dialog":
            return await talk(portal, size, cancel=kind == "cancelled dialog")
        case "cancel actor":
            await portal.cancel_actor()
        case _:
            raise ValueError(f"no operation is called {kind!r}")
    return "value"


async def receive(portal: tractor.Portal, size: int, most: int) -> None:
    """Read *most* values of a stream of *size*."""
    got: list[int] = []
    async with portal.open_stream_from(ep_chaos.count, n=size) as stream:
        while len(got) < most:
            got.append(await stream.receive())
        if most == size:
            with contextlib.suppress(trio.EndOfChannel):
                got.append(await stream.receive())
    expect(got, list(range(most)))


async def talk(portal: tractor.Portal, size: int, cancel: bool) -> str:
    """Send values that come back; *cancel* the context in the middle of it."""
    async with portal.open_context(ep_chaos.dialog, n=size) as (ctx, first):
        expect(first, size)
        async with ctx.open_stream() as stream:
            for number in range(size // 2 if cancel else size):
                await stream.send(number)
                expect(await stream.receive(), number)
            if cancel:
                await ctx.cancel()
        if not cancel:
            expect(await ctx.wait_for_result(), size)
    return "cancelled by us" if cancel else "value"


def carry_out(plan: Plan, backend: str, tpt: str, out_dir: Path) -> Figures:
    """One round, and what it has left behind; what lives on is killed, so that the next one begins clean.

    Args:
        plan: what is to happen.
        backend: how actors are started.
        tpt: ``'tcp'`` or ``'uds'``.
        out_dir: where snapshots of what hangs go.
    """
    before = Resources.now()
    one = Round(plan, backend, tpt, out_dir)
    try:
        with afk_alarm_w_trace(6 * DEADLINE, label="chaos", out_dir=out_dir):
            trio.run(one.run)
    except AFKAlarmTimeout as exc:
        one.figures.hangs.append(f"the round: {exc}")
    except Exception as exc:
        one.figures.wrong.append(f"the round ended with {describe(exc)}")
    one.figures.leaks += leaks_since(before, LEAK_GRACE)
    if one.figures.leaks:
        clean_up(before)
    return one.figures
