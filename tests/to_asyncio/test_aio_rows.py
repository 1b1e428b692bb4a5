"""Every row of the translation tables: in this process as an infected root, and in an actor, asked by its parent."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import ep_asyncio_rows as rows
import pytest
import trio

import tractor
from tractor.address._types import UnwrappedAddress
from tractor.to_asyncio import run_as_asyncio_guest

pytestmark = pytest.mark.usefixtures("forked_actors")


class Row(NamedTuple):
    """What a row lets out (``None``: nothing), and what both sides saw in order."""

    error: type[BaseException] | None
    log: list[Any]


ASYNCIO_CANCELLED = tractor.AsyncioCancelled
EXPECTED: dict[str, Row] = {
    "returns_and_trio_reads_on": Row(None, ["first", 1, 2, "end", "end", "value"]),
    "returns_and_trio_reads_on_strictly": Row(tractor.AsyncioTaskExited, [1, 2]),
    "returns_and_the_end_escapes": Row(None, [1, 2]),
    "returns_and_the_end_escapes_a_nursery": Row(None, [1, 2]),
    "returns_and_the_end_escapes_strictly": Row(tractor.AsyncioTaskExited, [1, 2]),
    "returns_and_trio_is_busy": Row(None, ["not cancelled", 1]),
    "returns_and_trio_is_busy_strictly": Row(tractor.AsyncioTaskExited, []),
    "raises": Row(rows.AioSideError, ["trio cancelled"]),
    "raises_and_the_result_is_awaited": Row(rows.AioSideError, ["seen in the block"]),
    "cancels_itself": Row(ASYNCIO_CANCELLED, ["trio cancelled"]),
    "is_cancelled_by_third_code": Row(ASYNCIO_CANCELLED, ["trio cancelled"]),
    "is_cancelled_as_asked": Row(
        None, ["CancelledError", "AsyncioCancelled", "AsyncioCancelled", "not cancelled"]
    ),
    "turns_the_word_into_an_error": Row(rows.AioSideError, ["TrioTaskExited"]),
    "turns_a_cancel_into_an_error": Row(rows.AioSideError, ["trio cancelled", "TrioCancelled"]),
    "trio_leaves": Row(None, ["TrioTaskExited", "left"]),
    "trio_leaves_strictly": Row(tractor.TrioTaskExited, ["TrioTaskExited"]),
    "trio_leaves_and_the_task_returns": Row(None, ["TrioTaskExited", "caught"]),
    "trio_is_cancelled": Row(None, ["trio cancelled", "TrioCancelled", "caught True"]),
    "trio_runs_into_a_deadline": Row(trio.TooSlowError, ["trio cancelled", "TrioCancelled"]),
    "trio_raises": Row(rows.TrioSideError, ["TrioCancelled", "cause TrioSideError"]),
    "both_fail": Row(ExceptionGroup, ["TrioCancelled", "cause TrioSideError", "goes on"]),
    "trios_error_causes_asyncios": Row(
        rows.TrioSideError, ["TrioCancelled", "cause TrioSideError"]
    ),
    "asyncios_error_causes_trios": Row(rows.AioSideError, []),
    "trio_cancelled_and_asyncio_fails": Row(
        rows.AioSideError, ["trio cancelled", "TrioCancelled", "goes on"]
    ),
    "asyncio_cancelled_and_trio_fails": Row(rows.TrioSideError, ["trio cancelled"]),
    "both_are_cancelled": Row(None, ["trio cancelled", "caught True"]),
    "ends_before_it_has_started": Row(tractor.AsyncioTaskExited, []),
    "fails_before_it_has_started": Row(rows.AioSideError, []),
    "cancelled_before_it_has_started": Row(ASYNCIO_CANCELLED, []),
    "cancelled_while_entering": Row(None, ["TrioCancelled", "caught True"]),
    "run_task_gives_values": Row(None, [None, 3]),
    "run_task_raises": Row(rows.AioSideError, []),
    "run_task_is_cancelled_over_there": Row(ASYNCIO_CANCELLED, []),
    "run_task_is_cancelled_here": Row(None, ["TrioCancelled", "caught True"]),
    **dict.fromkeys(rows.GROUPS, Row(ExceptionGroup, [])),
    "one_of_several_fails": Row(
        ExceptionGroup, ["trio cancelled", "TrioCancelled", "TrioCancelled"]
    ),
    "one_task_of_a_nursery_is_cancelled_alone": Row(None, ["TrioCancelled", "the other goes on"]),
    "links_within_a_link": Row(rows.AioSideError, ["TrioCancelled", "cause AioSideError"]),
}
MEMBERS: dict[str, list[type[BaseException]]] = {
    "both_fail": [rows.TrioSideError, rows.AioSideError],
    **{name: [rows.AioSideError, rows.AioSideError] for name in rows.GROUPS},
    "a_task_group_fails_beside_trio": [rows.TrioSideError, ExceptionGroup],
}
IN_ANY_ORDER = {"one_of_several_fails", "one_task_of_a_nursery_is_cancelled_alone"}


def seen(name: str, log: list[Any]) -> list[Any]:
    return sorted(log) if name in IN_ANY_ORDER else log


def test_every_row_is_expected() -> None:
    assert set(EXPECTED) == set(rows.ROWS)


@pytest.mark.parametrize("name", list(EXPECTED))
def test_row_in_an_infected_root(name: str) -> None:
    row = EXPECTED[name]
    log: list[Any] = []

    async def main() -> None:
        with trio.fail_after(10):
            await rows.ROWS[name](log)

    if row.error is None:
        run_as_asyncio_guest(main)
    else:
        with pytest.raises(row.error) as caught:
            run_as_asyncio_guest(main)
        assert type(caught.value) is row.error
        if name in MEMBERS:
            members = caught.value.exceptions  # type: ignore[attr-defined]
            kinds = sorted(type(exc).__name__ for exc in members)
            # A nursery does not keep an order.
            assert kinds == sorted(kind.__name__ for kind in MEMBERS[name])
    assert seen(name, log) == seen(name, row.log)


@pytest.mark.parametrize("tpt_proto", ["uds" if os.name == "posix" else "tcp"], indirect=True)
def test_rows_whose_peer_is_in_another_actor(reg_addr: UnwrappedAddress) -> None:
    """One call, and one context, for each row; the error arrives boxed with its own type."""

    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            portal = await an.start_actor(
                "infected", enable_modules=["ep_asyncio_rows"], infect_asyncio=True
            )
            for name, row in EXPECTED.items():
                await ask(name, row, portal, in_context=False)
                await ask(name, row, portal, in_context=True)
            await portal.cancel_actor()

    trio.run(main)


async def ask(name: str, row: Row, portal: tractor.Portal, in_context: bool) -> None:
    log: list[Any] = []
    found: type[BaseException] | None = None
    try:
        with trio.fail_after(10):
            if in_context:
                async with portal.open_context(rows.row_in_context, name=name) as (ctx, _):
                    log = await ctx.wait_for_result()
            else:
                log = await portal.run(rows.run_row, name=name)
    except tractor.RemoteActorError as exc:
        found = exc.boxed_type if type(exc) is tractor.RemoteActorError else type(exc)
    # A group that holds one error leaves an endpoint as that error.
    alone = len(MEMBERS.get(name, ())) == 0 and row.error is ExceptionGroup
    assert found is (rows.AioSideError if alone else row.error), name
    if row.error is None:
        assert seen(name, log) == seen(name, row.log), name
