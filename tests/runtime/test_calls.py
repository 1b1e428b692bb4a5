"""Every call ends in exactly one of: result, remote error, cancelled, peer lost."""

from __future__ import annotations

from typing import Any

import ep_calls
import ep_matrix
import ep_peer
import pytest
import trio
import trio.testing
from ep_peer import open_peer, own_uid, peer_uid, run

import tractor

pytestmark = pytest.mark.usefixtures("forked_actors")

VALUES = [
    None,
    True,
    -1,
    2**63,
    1.5,
    "text with ümlaut and \0",
    b"bytes",
    [1, [2, []]],
    {"a": {"b": None}},
    [{}, "", b"", 0],
]


def test_values_of_all_plain_types(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_calls", reg_addr=reg_addr) as portal:
            for value in VALUES:
                assert await portal.run(ep_calls.echo, value=value) == value

    run(main)


def test_keywords_and_defaults() -> None:
    async def main() -> None:
        async with open_peer("ep_calls") as portal:
            assert await portal.run(ep_calls.two_of, one=1) == [1, 2]
            assert await portal.run(ep_calls.two_of, one=1, two=3) == [1, 3]
            assert await portal.run(ep_calls.two_of, 1) == [1, 2]
            assert await portal.run(ep_calls.two_of, 1, two=3) == [1, 3]

    run(main)


def test_a_method_as_endpoint() -> None:
    async def main() -> None:
        async with open_peer("ep_calls") as portal:
            assert await portal.run(ep_calls.Holder.method, value=1) == 2
            assert await portal.run_from_ns("ep_calls", "Holder.method", value=2) == 3

    run(main)


@pytest.mark.parametrize("name", ["not_async", "a_context", "counts_up", "legacy", "NOT_CALLABLE"])
def test_what_cannot_be_called_is_refused_here(name: str) -> None:
    async def main() -> None:
        async with open_peer("ep_calls") as portal:
            before = portal.statistics().sent
            with pytest.raises(TypeError):
                await portal.run(getattr(ep_calls, name))
            assert portal.statistics().sent == before

    run(main)


REFUSED: list[tuple[str, str, dict[str, Any], type[BaseException], str]] = [
    ("ep_context", "echoes", {}, tractor.ModuleNotExposed, "ep_context"),
    ("no.such.module", "f", {}, tractor.ModuleNotExposed, "enable_modules"),
    ("os", "system", {"command": "true"}, tractor.ModuleNotExposed, "os"),
    ("ep_calls", "no_such", {}, AttributeError, "no_such"),
    ("ep_calls", "not_async", {}, TypeError, "must be an async function"),
    ("ep_calls", "NOT_CALLABLE", {}, TypeError, "must be an async function"),
    ("ep_calls", "Holder", {}, TypeError, "must be an async function"),
    ("ep_calls", "a_context", {}, TypeError, "must be an async function"),
    ("ep_calls", "counts_up", {"count": 1}, TypeError, "must be an async function"),
    ("ep_calls", "two_of", {}, TypeError, "one"),
    ("ep_calls", "two_of", {"one": 1, "six": 6}, TypeError, "six"),
    ("self", "no_such_request", {}, AttributeError, "no_such_request"),
]
"""Namespace, function, arguments; the error's type and a part of its text."""


def test_requests_that_are_refused_there_disturb_nothing(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_calls", reg_addr=reg_addr) as portal:
            for ns, name, kwargs, kind, text in REFUSED:
                with pytest.raises(tractor.RemoteActorError) as caught:
                    await portal.run_from_ns(ns, name, **kwargs)
                assert caught.value.boxed_type is kind, (ns, name)
                assert text in caught.value.message
                assert caught.value.src_uid == peer_uid(portal)
                assert await portal.run(ep_peer.ping) == "pong"

    run(main)


def test_a_refused_request_leaves_its_concurrent_siblings_alone() -> None:
    async def main() -> None:
        async with open_peer("ep_calls") as portal, trio.open_nursery() as tn:
            tn.start_soon(sleep_there, portal, "k")
            await portal.run(ep_calls.seen, key="k began")
            with pytest.raises(tractor.RemoteActorError):
                await portal.run_from_ns("ep_calls", "no_such")
            assert not await portal.run(ep_calls.noted, key="k")
            tn.cancel_scope.cancel()

    run(main)


async def sleep_there(portal: tractor.Portal, key: str) -> None:
    await portal.run(ep_calls.sleeps, key=key)


def test_calls_run_beside_each_other(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_calls", reg_addr=reg_addr) as portal:
            results: dict[int, int] = {}

            async def one(n: int) -> None:
                results[n] = await portal.run(ep_calls.echo, value=n)

            async with trio.open_nursery() as tn:
                tn.start_soon(sleep_there, portal, "k")
                async with trio.open_nursery() as calls:
                    for n in range(200):
                        calls.start_soon(one, n)
                tn.cancel_scope.cancel()
            assert results == {n: n for n in range(200)}
            # The acknowledgment of the cancel comes before this reply.
            assert await portal.run(ep_peer.ping) == "pong"
            assert portal.statistics().dialogs == 0

    run(main)


def test_a_call_is_made_once() -> None:
    async def main() -> None:
        async with open_peer("ep_calls") as portal:
            assert [await portal.run(ep_calls.counts, key="k") for _ in range(5)] == [1, 2, 3, 4, 5]

    run(main)


# -- cancellation --


def test_cancelled_caller_cancels_the_remote_task(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_calls", reg_addr=reg_addr) as portal:
            async with trio.open_nursery() as tn:
                tn.start_soon(sleep_there, portal, "k")
                await portal.run(ep_calls.seen, key="k began")
                tn.cancel_scope.cancel()
            # It has ended before the cancelled caller went on.
            assert await portal.run(ep_calls.noted, key="k")
            assert await portal.run(ep_calls.seen, key="k") == "cancelled"
            assert portal.statistics().dialogs == 0

    run(main)


def test_cancelled_caller_drops_a_value_that_comes_after_all() -> None:
    async def main() -> None:
        async with open_peer("ep_calls") as portal:
            got: list[Any] = []

            async def caller() -> None:
                got.append(await portal.run(ep_calls.returns_when_cancelled, key="k"))

            async with trio.open_nursery() as tn:
                tn.start_soon(caller)
                await portal.run(ep_calls.seen, key="k began")
                tn.cancel_scope.cancel()
            assert tn.cancel_scope.cancelled_caught
            assert await portal.run(ep_calls.seen, key="k") == "returned"
            assert got == []

    run(main)


def test_cancelled_caller_does_not_wait_for_ever() -> None:
    async def main() -> None:
        async with open_peer("ep_calls") as portal:

            async def caller() -> None:
                await portal.run(ep_calls.holds_on, key="k")

            async with trio.open_nursery() as tn:
                tn.start_soon(caller)
                await portal.run(ep_calls.seen, key="k began")
                tn.cancel_scope.cancel()
            # The caller has left; the task is still there, and what it says later is ignored.
            assert not await portal.run(ep_calls.noted, key="k")
            await portal.run(ep_calls.release, key="k")
            assert await portal.run(ep_calls.seen, key="k") == "released"
            assert await portal.run(ep_peer.ping) == "pong"

    run(main)


def test_caller_that_is_cancelled_before_it_asks() -> None:
    async def main() -> None:
        async with open_peer("ep_calls") as portal:
            with trio.CancelScope() as scope:
                scope.cancel()
                await portal.run(ep_calls.sleeps, key="k")
            assert scope.cancelled_caught
            assert await portal.run(ep_peer.ping) == "pong"
            assert portal.statistics().dialogs == 0

    run(main)


@pytest.mark.parametrize("who", ["own", "third"])
def test_call_whose_actor_is_cancelled_ends_as_ctxc(reg_addr: Any, who: str) -> None:
    async def main() -> None:
        cancellers: list[Any] = []

        async def caller(portal: tractor.Portal) -> None:
            with pytest.raises(tractor.ContextCancelled) as caught:
                await portal.run(ep_calls.sleeps, key="k")
            cancellers.append(caught.value.canceller)

        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            portal = await an.start_actor("peer", enable_modules=["ep_calls"])
            third = await an.start_actor("third", enable_modules=["ep_matrix"])
            async with trio.open_nursery() as tn:
                tn.start_soon(caller, portal)
                await portal.run(ep_calls.seen, key="k began")
                if who == "own":
                    assert await portal.cancel_actor()
                else:
                    assert await third.run(ep_matrix.cancel_actor_named, name="peer")
            assert cancellers == [own_uid() if who == "own" else peer_uid(third)]
            await third.cancel_actor()

    run(main)


# -- names of old --


def test_call_by_names_is_outdated() -> None:
    async def main() -> None:
        async with open_peer("ep_calls") as portal:
            with pytest.warns(DeprecationWarning, match="run"):
                assert await portal.run("ep_calls", "echo", value=1) == 1
            with pytest.warns(DeprecationWarning, match="chan"):
                assert portal.channel is portal.chan

    run(main)


def test_a_daemons_portal_has_no_result() -> None:
    async def main() -> None:
        async with open_peer("ep_calls") as portal:
            assert await portal.wait_for_result() is tractor.NoResult

    run(main)
