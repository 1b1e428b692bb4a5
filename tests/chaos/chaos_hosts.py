"""The branches of a round, and the ways to an actor in one of them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio
from chaos_faults import break_link
from chaos_outcomes import Figures, NotThereError
from chaos_plan import Branch, Fault, Plan
from ep_chaos import name_of
from fault_proxy import FaultProxy, open_fault_proxy

import tractor
from tractor.address._types import UnwrappedAddress
from tractor.discovery._portals import maybe_open_portal
from tractor.testing import get_rando_addr

__all__ = ["Host", "Hosts"]


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


class Hosts:
    """All branches of a plan, by the path of their first actor."""

    def __init__(self, plan: Plan, figures: Figures, io: trio.Nursery) -> None:
        self.by_path = {branch.node.path: Host(branch) for branch in plan.branches}
        self._figures = figures
        self._io = io

    def proxy_to_root(self) -> AbstractAsyncContextManager[FaultProxy]:
        """A fault proxy before the root's own address."""
        return self.proxy_to(tractor.current_actor().accept_addrs[0])

    def proxy_to(self, target: UnwrappedAddress) -> AbstractAsyncContextManager[FaultProxy]:
        """A fault proxy before any address."""
        proto = "tcp" if isinstance(target[1], int) else "uds"
        return open_fault_proxy(get_rando_addr(proto), target, self._io)

    @asynccontextmanager
    async def portal_to(
        self, path: str, via: str, breaks: Fault | None = None
    ) -> AsyncIterator[tractor.Portal]:
        """Raises NotThereError when nobody is found there."""
        portal = self.by_path[path].portal if via == "portal" else None
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
            try:
                found = await stack.enter_async_context(tractor.find_actor(name))
            except tractor.RuntimeFailure as exc:
                # Stopped, or its registrar is.
                raise NotThereError(f"{path}: {exc}") from exc
            assert not isinstance(found, list)
            return found
        async with tractor.query_actor(name) as (addr, _):
            if addr is None:
                return None
        # A connection of its own, that bad things may happen to in the meantime.
        proxy = await stack.enter_async_context(self.proxy_to(addr))
        own = await stack.enter_async_context(maybe_open_portal(proxy.addr, name))
        if own is not None and breaks is not None:
            self._io.start_soon(self._break_later, proxy, breaks)
        return own

    async def _break_later(self, proxy: FaultProxy, fault: Fault) -> None:
        await trio.sleep(fault.at)
        if proxy.connections:
            self._figures.faults[fault.kind] += 1
            break_link(proxy, fault, child="server")
