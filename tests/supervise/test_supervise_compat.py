"""Outdated names: each works, and each warns."""

from __future__ import annotations

import ep_supervise
import pytest
from ep_supervise_tools import free_uds, one_daemon, run

import tractor
from tractor.log import get_logger

pytestmark = pytest.mark.usefixtures("forked_actors")


def test_of_actors_channels_and_portals() -> None:
    async def main() -> None:
        async with one_daemon() as (an, portal):
            actor = tractor.current_actor()
            with pytest.warns(DeprecationWarning, match="uid"):
                assert actor.uid == actor.aid.uid
            with pytest.warns(DeprecationWarning, match="is_registrar"):
                assert actor.is_arbiter is True
            with pytest.warns(DeprecationWarning, match="chan"):
                chan = portal.channel
            assert chan is portal.chan
            assert chan.aid is not None
            with pytest.warns(DeprecationWarning, match="uid"):
                assert chan.uid == chan.aid.uid
            with pytest.warns(DeprecationWarning, match="msgstream"):
                assert chan.msgstream is not None
            with pytest.warns(DeprecationWarning, match="wait_for_result"):
                assert await portal.result() is tractor.NoResult
            with pytest.warns(DeprecationWarning, match="run"):
                assert await portal.run("ep_supervise", "add", one=1) == 11
            with pytest.warns(DeprecationWarning, match="cancel_called"):
                assert an.cancelled is False
            await portal.cancel_actor()

    run(main)


def test_of_keywords_of_the_nursery() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            with pytest.warns(DeprecationWarning, match="enable_modules"):
                portal = await an.start_actor("old", rpc_module_paths=["ep_supervise"])
            assert await portal.run(ep_supervise.add, one=1) == 11
            await portal.cancel_actor()
            with pytest.warns(DeprecationWarning, match="enable_modules"):
                portal = await an.run_in_actor(
                    ep_supervise.add, one=2, rpc_module_paths=["ep_peer"]
                )
            assert await portal.wait_for_result() == 12

    run(main)


def test_of_keywords_of_the_root() -> None:
    addr = free_uds()

    async def main() -> None:
        with pytest.warns(DeprecationWarning, match="registry_addrs"):
            async with tractor.open_root_actor(arbiter_addr=addr) as actor:
                assert actor.reg_addrs == [addr]
        with pytest.warns(DeprecationWarning, match="enable_modules"):
            async with tractor.open_root_actor(rpc_module_paths=["ep_supervise"]) as actor:
                assert actor.enable_modules == ["ep_supervise"]

    run(main)


def test_of_discovery() -> None:
    async def main() -> None:
        async with tractor.open_root_actor():
            with pytest.warns(DeprecationWarning, match="get_registry"):
                async with tractor.get_arbiter() as portal:
                    assert await portal.run_from_ns("self", "find_actor", name="nobody") is None

    run(main)


def test_of_logging() -> None:
    with pytest.warns(DeprecationWarning, match="_root_name"):
        log = get_logger("some.module", _root_name="tractor")
    log.debug("nothing")
