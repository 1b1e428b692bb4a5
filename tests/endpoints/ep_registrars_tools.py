"""Registrars that are killed and started again, for tests and the storm; not imported by children."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

import tractor

Addr = Any


class Keeper:
    """Keeps a registrar at an address, in an actor that it starts anew whenever that has ended and it may.

    Attributes:
        may_run: whether another one is to be started.
        up: set while one listens.
        portal: to the actor of the one that is or was there last.
        lives: how many there have been.
    """

    def __init__(self, name: str, addr: Addr) -> None:
        self.name = name
        self.addr = addr
        self.may_run = trio.Event()
        self.may_run.set()
        self.up = trio.Event()
        self.down = trio.Event()
        self.portal: tractor.Portal | None = None
        self.lives = 0

    @property
    def pid(self) -> int:
        """The process of the one that is there."""
        assert self.portal is not None
        assert self.portal.chan.aid is not None
        assert self.portal.chan.aid.pid is not None
        return self.portal.chan.aid.pid

    async def run(self) -> None:
        """Start one after the other, until cancelled."""
        while True:
            await self.may_run.wait()
            try:
                async with tractor.open_nursery() as an:
                    try:
                        await self._one_life(an)
                    finally:
                        self.up = trio.Event()
                        self.down.set()
            except (tractor.TransportClosed, tractor.ActorFailure, tractor.ContextCancelled):
                pass
            except tractor.RemoteActorError as exc:
                # A port that the system gives to anybody: somebody may have it for a moment.
                if exc.boxed_type is not OSError:
                    raise
                await trio.sleep(0.1)

    async def _one_life(self, an: tractor.ActorNursery) -> None:
        self.portal = await an.start_actor(self.name)
        async with self.portal.open_context(tractor.registrar, addr=self.addr) as (ctx, first):
            assert tuple(first) == tuple(self.addr)
            self.lives += 1
            self.down = trio.Event()
            self.up.set()
            await ctx.wait_for_result()

    async def end(self, number: int = signal.SIGKILL, again: bool = True) -> None:
        """End the one that is there, and wait until it is gone."""
        down = self.down
        if not again:
            self.may_run = trio.Event()
        os.kill(self.pid, number)
        await down.wait()

    async def start(self) -> None:
        """Have one there."""
        self.may_run.set()
        await self.up.wait()

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


@asynccontextmanager
async def keepers(addrs: Sequence[Addr]) -> AsyncIterator[list[Keeper]]:
    """A registrar at each address, under the root that there is."""
    kept = [Keeper(f"registry.{number}", addr) for number, addr in enumerate(addrs)]
    try:
        async with trio.open_nursery() as tn:
            for one in kept:
                tn.start_soon(one.run)
            for one in kept:
                await one.up.wait()
            yield kept
            tn.cancel_scope.cancel()
    finally:
        for addr in addrs:
            # Of a killed one that nobody came after.
            if isinstance(addr[1], str):
                Path(*addr).unlink(missing_ok=True)
