"""A service whose user looks at it: nothing that watches over services runs meanwhile."""

from __future__ import annotations

import os
from typing import Any

import ep_repl
import pytest
import trio
from repl_user import User

import tractor
from tractor.testing import get_rando_addr

pytestmark = pytest.mark.usefixtures("forked_actors")

LIMIT = 0.8


def _supervised(**options: Any) -> Any:
    return tractor.open_supervisor(
        debug_mode=True,
        maybe_enable_greenback=False,
        registry_addrs=[get_rando_addr("uds")],
        backoff=None,
        **options,
    )


def test_a_service_at_its_prompt_is_not_stuck(user: User) -> None:
    """Its loop stands still there for many times its watchdog."""

    async def main() -> None:
        let_go = user.keep_next()
        async with _supervised() as sup:
            service = await sup.start_service(
                "looked_at", ep_repl.pause, restart="transient", watchdog=LIMIT
            )
            prompt = await user.wait_for(1)
            await trio.sleep(3 * LIMIT)
            os.kill(prompt["pid"], 0)
            assert (service.state, service.incarnation) == ("ready", 1)
            let_go()
            assert await service.wait() == "looked_at"

    trio.run(main)


def test_a_crash_counts_when_the_prompt_is_left(user: User) -> None:
    """The prompt is first; the restart comes after it."""

    async def main() -> None:
        let_go = user.keep_next()
        async with _supervised(max_restarts=1) as sup:
            with sup.events() as events:
                service = await sup.start_service(
                    "crashes", ep_repl.crash, text="look", watchdog=LIMIT
                )
                await user.wait_for(1)
                await trio.sleep(3 * LIMIT)
                assert (service.state, service.incarnation) == ("ready", 1)
                let_go()
                async for event in events:
                    if event.kind == "crashed":
                        break
                assert isinstance(event.error, tractor.RemoteActorError)
                await sup.stop("crashes")

    trio.run(main)


def test_a_prompt_of_a_start_has_no_limit(user: User) -> None:
    async def main() -> None:
        let_go = user.keep_next()
        async with _supervised() as sup:
            service = sup.start_soon("slow", ep_repl.pause_then_start, ready_timeout=LIMIT)
            await user.wait_for(1)
            await trio.sleep(3 * LIMIT)
            assert (service.state, service.incarnation) == ("starting", 1)
            let_go()
            await service.portal()
            assert service.incarnation == 1

    trio.run(main)
