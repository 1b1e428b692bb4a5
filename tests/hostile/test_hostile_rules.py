"""A peer that breaks the rules of the protocol costs its own dialog or its own channel, and is told of the former."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ep_victim
import msgspec
import pytest
import trio
from ep_tree import Tree, in_tree

from tractor.testing import get_rando_addr

sys.path.insert(0, str(Path(__file__).parent))

from raw_peer import (
    AID,
    CANCEL_ACK,
    CREDIT,
    RETURN,
    SPAWN_SPEC,
    START_ACK,
    STARTED,
    STOP,
    YIELD,
    RawPeer,
    error,
    frame,
    start,
)

VICTIM = "ep_victim"


@pytest.fixture(name="tree", scope="module", params=["uds", "tcp"])
def _tree(request: pytest.FixtureRequest, private_dir: Path) -> Iterator[Tree]:
    with Tree(get_rando_addr(request.param), "ep_victim").opened() as tree:
        yield tree


async def as_peer(tree: Tree, work: Callable[[RawPeer], Any]) -> Any:
    """Run ``work`` with a connection to the tree's actor, in a thread."""
    (addr,) = await tree.portal.run(ep_victim.where)

    def there() -> Any:
        with RawPeer(tuple(addr)) as peer:
            return work(peer)

    return await trio.to_thread.run_sync(there)


def still_served(peer: RawPeer) -> bool:
    """Whether a call on the same connection is answered."""
    return peer.call(100_001, VICTIM, "double", x=4)[:3] == [RETURN, 100_001, 8]


# -- messages that are none, or do not belong -----------------------------------------------------------

ME = ("intruder", "1" * 32)

CLOSES: dict[str, bytes] = {
    "an unknown tag": frame([99, 1, 2]),
    "a negative tag": frame([-1]),
    "a tag of text": frame(["start", 1]),
    "no fields": frame([3]),
    "an empty array": frame([]),
    "a map": frame({"tag": 3, "cid": 1}),
    "nil": frame(None),
    "a frame of no bytes": struct.pack("<I", 0),
    "two values in a frame": struct.pack("<I", 6) + b"\x92\x07\x01\x92\x07\x01",
    "text that is not a UTF-8": frame(msgspec.Raw(b"\x95\x03\x01\xa1\xff\xa1x\x80")),
    "a cid of text": frame([STOP, "1"]),
    "a cid that no integer holds": frame(msgspec.Raw(b"\x92\x07\xcb\x7f\xf0\0\0\0\0\0\0")),
    "a cid within an array": frame([YIELD, [1], 0]),
    "a length over the limit": struct.pack("<I", 2**30 + 1),
    "nesting without end": frame(msgspec.Raw(b"\x93\x06\x01" + b"\x91" * 500_000 + b"\x90")),
    "a second identity": frame([AID, "other", "2" * 32, 1]),
    "a configuration": frame([SPAWN_SPEC, {}, {"_is_root": True}, {"os": ""}, [], None]),
    "another's identity": frame(start(1, VICTIM, "double", {"x": 1}, uid=("victim", "2" * 32))),
    "a dialog id of the other side": frame(start(2, VICTIM, "double", {"x": 1})),
    "a dialog id of nobody": frame(start(0, VICTIM, "double", {"x": 1})),
    "a dialog id in use": frame(start(1, VICTIM, "sleep_on"), start(1, VICTIM, "double", {"x": 1})),
    "an unknown kind of dialog": frame(start(1, VICTIM, "double", {"x": 1}, kind="thread")),
}

IGNORED: dict[str, list[Any]] = {
    "replies of dialogs that never were": [
        [kind, cid, *rest]
        for cid in (2, 99, 0, -1, 2**63, 2**64 - 1)
        for kind, *rest in (
            [START_ACK, "context"], [STARTED, 0], [YIELD, 0], [RETURN, 0], [CANCEL_ACK, True],
            [CREDIT, 1, 1], [STOP],
        )
    ],
    "errors of dialogs that never were": [error(cid) for cid in (2, 99, -1, 2**63, None)],
    "a cancel of what is not its own": [
        start(1, "self", "_cancel_task", {"cid": 2}),
        start(3, "self", "_cancel_task", {"cid": 99}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", CLOSES)
@in_tree
async def test_what_is_no_message_costs_the_channel(tree: Tree, name: str) -> None:
    def work(peer: RawPeer) -> bool:
        peer.open()
        peer.send_bytes(CLOSES[name])
        return peer.is_closed()

    assert await as_peer(tree, work)


@pytest.mark.parametrize("name", IGNORED)
@in_tree
async def test_what_belongs_to_no_dialog_is_dropped(tree: Tree, name: str) -> None:
    def work(peer: RawPeer) -> bool:
        peer.open()
        peer.send(*IGNORED[name])
        return still_served(peer)

    assert await as_peer(tree, work)


# -- identities ------------------------------------------------------------------------------------------

REFUSED_NAMES = {
    "two lines": "two\nlines",
    "a terminal's sequence": "\x1b[2J\x1b[31m",
    "a null": "nul\0",
    "delete": "\x7f",
    "a control character of Latin-1": "\x9b31m",
    "a text that runs backwards": "\u202etxt",
    "nothing": "",
    "256 bytes": "x" * 256,
    "256 bytes in fewer characters": "\u00e9" * 128,
    "a megabyte": "x" * 2**20,
}


@pytest.mark.parametrize("where", ["name", "uuid"])
@pytest.mark.parametrize("name", REFUSED_NAMES)
@in_tree
async def test_a_name_that_cannot_stand_in_a_log_is_refused(
    tree: Tree, name: str, where: str
) -> None:
    text = REFUSED_NAMES[name]

    def work(peer: RawPeer) -> bool:
        peer.prove()
        peer.send([AID, *((text, "1" * 32) if where == "name" else ("intruder", text)), 1])
        return peer.is_closed()

    assert await as_peer(tree, work)


@pytest.mark.parametrize("first", [[STOP, 1], [99], start(1, VICTIM, "double", {"x": 1})])
@in_tree
async def test_an_identity_comes_first(tree: Tree, first: list[Any]) -> None:
    def work(peer: RawPeer) -> bool:
        peer.prove()
        peer.send(first)
        return peer.is_closed()

    assert await as_peer(tree, work)


# -- what is allowed -----------------------------------------------------------------------------------------


@in_tree
async def test_a_stream_may_use_all_of_its_credit(tree: Tree) -> None:
    def work(peer: RawPeer) -> list[Any]:
        peer.open()
        peer.send(start(1, VICTIM, "reads_all", kind="context"))
        peer.send_bytes(frame([YIELD, 1, 0]) * 1024)
        peer.send([STOP, 1])
        return peer.end(1)

    assert await as_peer(tree, work) == [RETURN, 1, 1024]


@in_tree
async def test_replies_that_are_not_taken_go_with_the_channel(tree: Tree) -> None:
    """At once, not when something is collected."""
    before = await tree.portal.run(ep_victim.vitals)

    def work(peer: RawPeer) -> None:
        peer.open()
        peer.send(*[start(c, VICTIM, "large", {"size": 10**6}) for c in range(1, 100, 2)])
        assert peer.recv()[0] in (RETURN, CREDIT)

    await as_peer(tree, work)
    with trio.fail_after(20):
        while (await tree.portal.run(ep_victim.vitals))["memory"] - before["memory"] > 2e7:
            await trio.sleep(0.02)
