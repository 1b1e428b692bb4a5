"""One round of the chaos over hosts: a root with a nursery for each host, whose actors are called all the time.

It tells of what happens by lines of JSON: ``ready``, with the pids over there; the ``end`` of a branch, and of a peer's
call to its actor (``told``), with the time; and at the end the outcomes of all operations.  A line on its stdin has it
end in order.  See `tests/hosts/hosts_chaos.py`.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

import tractor

sys.path.insert(0, str(Path(__file__).parent))

import ep_elsewhere

MODULES = ["ep_elsewhere"]


class Round:
    """What runs in it.

    Args:
        order: the hosts' urls by name, options of hosts and root, and the seconds after which an operation hangs.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self.urls: dict[str, str] = order["urls"]
        self.options: dict[str, Any] = order["options"]
        self.limit: float = order["limit"]
        self.peers: bool = order["peers"]
        self.outcomes: Counter[str] = Counter()
        self.slowest = 0.0
        self.portals: dict[str, tractor.Portal] = {}
        self.all_up = trio.Event()
        self.ending = False

    async def run(self) -> None:
        async with trio.open_nursery() as tn:
            for name in self.urls:
                tn.start_soon(self._branch, name)
            await self.all_up.wait()
            await trio.to_thread.run_sync(sys.stdin.readline)
            self.ending = True
            tn.cancel_scope.cancel()
        tell("done", outcomes=dict(self.outcomes), slowest=self.slowest)

    async def _branch(self, name: str) -> None:
        error: BaseException | None = None
        try:
            async with (
                tractor.open_nursery() as an,
                tractor.hosts.open_host(self.urls[name], **self.options) as host,
            ):
                portal = await an.start_actor(f"at-{name}", host=host, enable_modules=MODULES)
                async with portal.open_context(ep_elsewhere.below) as (_, pids):
                    self.portals[name] = portal
                    tell("ready", host=name, pids=pids)
                    if len(self.portals) == len(self.urls):
                        self.all_up.set()
                    await self.all_up.wait()
                    await self._operations(name, portal)
        except Exception as exc:
            error = exc
        finally:
            if not self.ending:
                self.all_up.set()
                tell("end", host=name, error=words(error), lost=is_loss(error))

    async def _operations(self, name: str, portal: tractor.Portal) -> None:
        async with trio.open_nursery() as tn:
            tn.start_soon(self._again, "call", lambda: portal.run(ep_elsewhere.pid))
            tn.start_soon(self._again, "error", lambda: portal.run(ep_elsewhere.boom, text="x"))
            tn.start_soon(self._again, "stream", lambda: stream(portal))
            if self.peers:
                others = [other for other in self.urls if other != name]
                tn.start_soon(self._await_peer, portal, name, others[0])

    async def _again(self, what: str, fn: Callable[[], Awaitable[object]]) -> None:
        """Again and again, until it ends as its branch does."""
        while True:
            began = time.monotonic()
            outcome = "HANG"
            try:
                with trio.fail_after(self.limit):
                    await fn()
                outcome = "value"
            except trio.TooSlowError:
                raise
            except BaseException as exc:
                outcome = words(exc)
                if outcome != "RemoteActorError[ValueError]":
                    raise
            finally:
                self.outcomes[f"{what}: {outcome}"] += 1
                self.slowest = max(self.slowest, time.monotonic() - began)
            await trio.sleep(0.01)

    async def _await_peer(self, portal: tractor.Portal, name: str, other: str) -> None:
        """A call of one host's actor to another's, which ends with either of them alone."""
        outcome = "value"
        try:
            await portal.run(ep_elsewhere.wait_for_peer, name=f"at-{other}")
        except BaseException as exc:
            outcome = words(exc)
            if not outcome.startswith("RemoteActorError["):
                # Its own host is lost, or all ends.
                raise
        finally:
            self.outcomes[f"peer's call: {outcome}"] += 1
            # As `ContextCancelled`, where that actor could still say so.
            if outcome.startswith("RemoteActorError["):
                tell("told", host=name, of=other)


async def stream(portal: tractor.Portal) -> None:
    async with portal.open_context(ep_elsewhere.echo) as (ctx, _), ctx.open_stream() as messages:
        for number in range(20):
            await messages.send(number)
            assert await messages.receive() == number


def words(exc: BaseException | None) -> str:
    """The kind of an error."""
    if isinstance(exc, BaseExceptionGroup):
        return f"group[{', '.join(sorted({words(one) for one in exc.exceptions}))}]"
    if isinstance(exc, tractor.RemoteActorError):
        return f"{type(exc).__name__}[{exc.boxed_type_str}]"
    return type(exc).__name__


def is_loss(exc: BaseException | None) -> bool:
    """Whether an error says that a host is lost."""
    if isinstance(exc, BaseExceptionGroup):
        return any(map(is_loss, exc.exceptions))
    return isinstance(exc, tractor.HostLost | tractor.HostUnavailable)


def tell(what: str, **more: Any) -> None:
    print(json.dumps({"what": what, "at": time.monotonic(), **more}), flush=True)


async def main(order: dict[str, Any]) -> None:
    root = order["root"]
    root["authkey"] = root["authkey"].encode()
    root["registry_addrs"] = [tuple(addr) for addr in root["registry_addrs"]]
    async with tractor.open_root_actor(**root):
        await Round(order).run()


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
