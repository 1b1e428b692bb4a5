"""Carries a plan out, and tells how each operation ended."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import ep_chaos
import trio
from chaos_faults import Killer, break_link
from chaos_hosts import Host, Hosts
from chaos_outcomes import (
    Figures,
    NotThereError,
    PlannedError,
    describe,
    end_of_branch,
    expect,
)
from chaos_plan import INSIDE, LINKS, Fault, Node, Operation, Plan
from chaos_shapes import event_of, note_branch, shape_of
from chaos_tally import DEADLINE, Tally
from chaos_work import perform
from ep_chaos import name_of

import tractor
from tractor.address._types import UnwrappedAddress
from tractor.supervise._arguments import StartOptions
from tractor.testing import (
    AFKAlarmTimeout,
    afk_alarm_w_trace,
    fail_after_w_trace,
    get_rando_addr,
)
from tractor.testing._leaks import Resources, clean_up, leaks_since

__all__ = ["Round", "carry_out"]

LEAK_GRACE = 2.5
"""Seconds until what SIGKILL of an ancestor has left must be gone: the promised 2, and a little for us to see it."""


CONNECT_TO: dict[str, UnwrappedAddress] = {}
"""Where actors of these names find their parent: behind a proxy."""

_address_of = StartOptions._address_of


def _address_through_proxy(options: StartOptions, actor: tractor.Actor) -> UnwrappedAddress:
    return CONNECT_TO.get(options.name) or _address_of(options, actor)


StartOptions._address_of = _address_through_proxy  # type: ignore[assignment, method-assign]


class Round:
    """One plan, carried out; what was seen is in `figures` afterwards."""

    def __init__(self, plan: Plan, backend: str, tpt: str, out_dir: Path) -> None:
        self.plan = plan
        self._tally = Tally(plan, out_dir)
        self.figures = self._tally.figures
        self._backend = backend
        self._tpt = tpt
        self._out_dir = out_dir
        self._killer = Killer()
        self._over = trio.Event()
        self._over_at = 0.0
        self._happened: list[Fault] = []
        self._hosts: Hosts

    async def run(self) -> None:
        """Everything from the first start to the end of the last process."""
        root = tractor.open_root_actor(
            registry_addrs=[get_rando_addr(self._tpt)],
            start_method=self._backend,
            loglevel="critical",
        )
        with contextlib.closing(self._killer):
            async with root, trio.open_nursery() as io, trio.open_nursery() as tn:
                self._hosts = Hosts(self.plan, self.figures, io)
                for host in self._hosts.by_path.values():
                    tn.start_soon(self._run_branch, host)
                for host in self._hosts.by_path.values():
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

    # -- the tree -------------------------------------------------------------------------------------

    async def _run_branch(self, host: Host) -> None:
        """A branch from start to end; its outcome is what its nursery makes of all that has happened."""
        began = trio.current_time()
        outcome = "value"
        ended_with: BaseException | None = None
        try:
            # Its parts are starting, waiting for the round's operations, and ending.
            async with fail_after_w_trace(3 * DEADLINE, label="chaos", out_dir=self._out_dir):
                with trio.CancelScope() as scope:
                    await self._branch(host, scope)
        except BaseException as exc:
            outcome = self._tally.outcome(host.branch, exc, end_of_branch(exc))
            ended_with = exc
            if outcome == "Cancelled":
                raise
        finally:
            host.end()
        event = event_of(self.plan, host.branch, self._happened)
        note_branch(self.figures, event, shape_of(ended_with), self.plan.seed)
        self._tally.count("branch", outcome, host.branch, max(began, self._over_at))

    async def _branch(self, host: Host, scope: trio.CancelScope) -> None:
        branch = host.branch
        async with contextlib.AsyncExitStack() as stack:
            if branch.proxied:
                host.proxy = await stack.enter_async_context(self._hosts.proxy_to_root())
            an = await stack.enter_async_context(tractor.open_nursery())
            name = name_of(branch.node.path)
            if host.proxy is not None:
                CONNECT_TO[name] = host.proxy.addr
            try:
                portal = await self._start(an, branch.node.path)
            finally:
                CONNECT_TO.pop(name, None)
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
                self._tally.counted(f"fault: {kind}", fault),
                self._hosts.portal_to(fault.path, "look-up") as portal,
            ):
                self._note_fault(fault)
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
        self._note_fault(fault)
        if kind == "SIGSTOP":
            await trio.sleep(fault.seconds)
            with contextlib.suppress(NotThereError):
                self._killer.send(fault.path, signal.SIGCONT)

    def _note_fault(self, fault: Fault) -> None:
        self.figures.faults[fault.kind] += 1
        self._happened.append(fault)

    def _break_link(self, fault: Fault) -> None:
        proxy = self._hosts.by_path[fault.path].proxy
        if proxy is None or not proxy.connections:
            raise NotThereError(fault.path)
        # The child has connected: it is the client.
        break_link(proxy, fault, child="client")

    # -- operations -----------------------------------------------------------------------------------

    async def _begin(self, operation: Operation) -> None:
        tasks = self._hosts.by_path[operation.path.partition(".")[0]].tasks
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
        async with self._tally.counted(operation.kind, operation) as note:
            if operation.kind == "start":
                await self._start_one(operation)
                return
            async with self._hosts.portal_to(
                operation.path, operation.via, operation.breaks
            ) as portal:
                note(await perform(operation.kind, portal, operation.size))

    async def _start_one(self, operation: Operation) -> None:
        an = self._hosts.by_path[operation.path].an
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


def spec_of(node: Node) -> ep_chaos.Spec:
    """What `ep_chaos.grow` is told."""
    return [node.path, [spec_of(child) for child in node.children]]


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
