"""What a payload must be, on which side that is checked, and what a violation does; over real processes.

A violation ends its own dialog and nothing else, which every test here shows again by what it leaves to the next one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import ep_payloads as ep
import ep_peer
import msgspec
import pytest
import trio
import trio.testing
from ep_payloads import PUPPETS, SAMPLES, Point, Text
from ep_tree import Tree, in_tree, module_tree

import tractor
from tractor import msg
from tractor.msg.types import Return, Started, Yield

# The fixture `tree`.
_ = module_tree


def violation(kind: type, sample: str) -> list[str]:
    """What the text of a violation must have in it."""
    name = kind.__name__
    return [
        f"invalid `{name}` msg payload",
        "has type <class ",
        f"does not match type-spec `{name}.pld: {SAMPLES[sample].text}`",
    ]


def assert_told(facts: Any, kind: type, sample: str) -> None:
    """That an error, as `ep_payloads.told()` gives it, is a violation of that message."""
    assert (facts["type"], facts["boxed"]) == ("MsgTypeError", "ValidationError")
    for part in violation(kind, sample):
        assert part in facts["message"], facts["message"]
    assert isinstance(facts["cid"], int)
    assert facts["dict_keys"] == ["cid", "msg_type", "pld"]
    assert facts["bad_msg"] == facts["expected"] == kind.__name__


def assert_violates(exc: tractor.MsgTypeError, kind: type, sample: str, cid: int) -> None:
    """That an error is a violation of that message, with all its fields."""
    assert_told(ep.told(exc), kind, sample)
    assert exc.cid == cid
    assert exc.expected_msg_type is kind
    assert exc.boxed_type is msgspec.ValidationError
    assert isinstance(exc.bad_msg, kind)
    as_dict = exc.bad_msg_as_dict
    assert as_dict is not None
    assert (as_dict["msg_type"], as_dict["cid"]) == (kind.__name__, cid)


def refusal(caught: pytest.ExceptionInfo[Any]) -> tractor.MsgTypeError:
    """The MsgTypeError that a block raised, by itself."""
    assert isinstance(caught.value, tractor.MsgTypeError), repr(caught.value)
    return caught.value


# -- who is told what, for each kind of payload spec --


@pytest.mark.parametrize("name", SAMPLES)
def test_values_of_the_spec_arrive_both_ways(tree: Tree, name: str) -> None:
    good = f"{name}.good"

    async def test(tree: Tree) -> None:
        key, sample = tree.key(), SAMPLES[name]
        steps = [["started", good], ["receive"], ["send", good]]
        async with tree.portal.open_context(PUPPETS[name], key=key, steps=steps, result=good) as (
            ctx,
            first,
        ):
            assert type(first) is type(sample.good)
            assert first == sample.good
            async with ctx.open_stream() as stream:
                await stream.send(sample.good)
                assert await stream.receive() == sample.good
            assert await ctx.wait_for_result() == sample.good
            assert ctx.outcome == sample.good
            assert ctx.maybe_error is None
        seen = await tree.portal.run(ep.view, key=key)
        assert seen["record"] == ["started", ep.shown(sample.good), "sent"]
        assert (seen["state"], seen["maybe_error"]) == ("result-returned", None)

    tree.run(lambda: test(tree))


@pytest.mark.parametrize("name", SAMPLES)
@in_tree
async def test_started_is_refused_before_it_is_sent_and_may_be_called_again(
    tree: Tree, name: str
) -> None:
    key, sample = tree.key(), SAMPLES[name]
    # Whatever the parity, and more than once.
    bad = f"{name}.bad"
    steps = [
        ["started?", bad],
        ["started?", bad, {"strict_pld_parity": True}],
        ["started", f"{name}.good"],
    ]
    async with tree.portal.open_context(
        PUPPETS[name], key=key, steps=steps, result=f"{name}.good"
    ) as (ctx, first):
        # What was refused never came.
        assert first == sample.good
        assert await ctx.wait_for_result() == sample.good
    seen = await tree.portal.run(ep.view, key=key)
    assert_told(seen["record"][0], Started, name)
    assert_told(seen["record"][1], Started, name)
    assert seen["record"][0]["cid"] == ctx.cid
    assert seen["record"][2] == "started"
    assert seen["state"] == "result-returned"


@pytest.mark.parametrize("name", SAMPLES)
@in_tree
async def test_started_that_is_refused_and_not_caught_is_the_endpoints_failure(
    tree: Tree, name: str
) -> None:
    key = tree.key()
    with pytest.raises(tractor.MsgTypeError) as caught:
        async with tree.portal.open_context(
            PUPPETS[name], key=key, steps=[["started", f"{name}.bad"]]
        ):
            raise AssertionError("the block must not be entered")
    exc = refusal(caught)
    assert_told(ep.told(exc), Started, name)
    assert exc.src_uid == ep_peer.peer_uid(tree.portal)
    seen = await tree.portal.run(ep.view, key=key)
    assert seen["state"] == "errored"
    assert_told(seen["maybe_error"], Started, name)
    assert seen["outcome_is_error"]


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("waits", ["in_the_block", "for_the_result", "after_the_block"])
@in_tree
async def test_return_is_refused_by_the_endpoints_side(tree: Tree, name: str, waits: str) -> None:
    key = tree.key()
    with pytest.raises(tractor.MsgTypeError) as caught:  # noqa: PT012
        async with tree.portal.open_context(
            PUPPETS[name],
            key=key,
            steps=[["started", f"{name}.good"]],
            result=f"{name}.bad",
        ) as (ctx, _):
            if waits == "in_the_block":
                await trio.sleep_forever()
            elif waits == "for_the_result":
                await ctx.wait_for_result()
    exc = refusal(caught)
    assert_violates(exc, Return, name, ctx.cid)
    # It came boxed, from where it was checked.
    assert exc.src_uid == exc.relay_uid == ep_peer.peer_uid(tree.portal)
    assert ctx.maybe_error is exc
    assert ctx.outcome is exc
    assert str(ctx.state) == "errored"
    seen = await tree.portal.run(ep.view, key=key)
    assert seen["state"] == "errored"
    assert_told(seen["maybe_error"], Return, name)


@pytest.mark.parametrize("name", SAMPLES)
@in_tree
async def test_yield_of_the_child_is_refused_by_the_parent(tree: Tree, name: str) -> None:
    key = tree.key()
    steps = [["started", f"{name}.good"], ["send", f"{name}.bad"], ["sleep"]]
    in_receive: list[BaseException] = []
    with pytest.raises(tractor.MsgTypeError) as caught:  # noqa: PT012
        async with (
            tree.portal.open_context(PUPPETS[name], key=key, steps=steps) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            try:
                await stream.receive()
            except tractor.MsgTypeError as bad:
                in_receive.append(bad)
                raise
    exc = refusal(caught)
    # It is raised where it was read, as it is, and not boxed.
    assert in_receive == [exc]
    assert_violates(exc, Yield, name, ctx.cid)
    assert exc.src_uid is None
    assert isinstance(exc.__cause__, Exception)
    assert ctx.maybe_error is exc
    assert ctx.outcome is exc
    assert str(ctx.state) == "errored"
    # The sender's task is unwound by an error that boxes it.
    seen = await tree.portal.run(ep.view, key=key)
    assert seen["record"][:2] == ["started", "sent"]
    assert seen["record"][2]["type"] == "Cancelled"
    assert seen["state"] == "errored"
    assert_told(seen["maybe_error"], Yield, name)
    assert str(ep_peer.own_uid()[1])[:8] in seen["maybe_error"]["text"]


@pytest.mark.parametrize("name", SAMPLES)
@in_tree
async def test_yield_of_the_parent_is_refused_by_the_child(tree: Tree, name: str) -> None:
    key = tree.key()
    steps = [["started", f"{name}.good"], ["receive"]]
    with pytest.raises(tractor.MsgTypeError) as caught:  # noqa: PT012
        async with (
            tree.portal.open_context(PUPPETS[name], key=key, steps=steps) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            await stream.send(ep.value(f"{name}.bad"))
            await trio.sleep_forever()
    exc = refusal(caught)
    assert_violates(exc, Yield, name, ctx.cid)
    assert exc.src_uid == ep_peer.peer_uid(tree.portal)
    assert ctx.maybe_error is exc
    assert ctx.outcome is exc
    assert ctx.cancelled_caught
    seen = await tree.portal.run(ep.view, key=key)
    assert_told(seen["record"][1], Yield, name)
    assert_told(seen["maybe_error"], Yield, name)
    assert seen["state"] == "errored"
    assert seen["outcome_is_error"]


# -- what the parent side checks too --


CHECKED_BY_THE_OPENER = {
    "started": ([["started", "int.bad"], ["sleep"]], None, Started),
    "yield": ([["started", "none"], ["send", "int.bad"], ["sleep"]], None, Yield),
    "return": ([["started", "none"]], "int.bad", Return),
}
"""Steps and result of an endpoint without a spec; what its opener, who has one, refuses."""


@pytest.mark.parametrize(
    ("message", "how"),
    [
        # Where the first value is read there is no context yet whose payloads could be limited.
        ("started", "other_version"),
        ("yield", "other_version"),
        ("yield", "limit"),
        ("return", "other_version"),
        ("return", "limit"),
    ],
)
def test_the_opener_checks_whatever_comes(
    tree: Tree, message: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, result, kind = CHECKED_BY_THE_OPENER[message]

    async def test(tree: Tree) -> None:
        key = tree.key()
        fn: Any = PUPPETS["any"]
        if how == "other_version":
            fn = ep.stand_in(monkeypatch, fn, int | None)
        ctx: tractor.Context | None = None
        with pytest.raises(tractor.MsgTypeError) as caught:  # noqa: PT012
            async with tree.portal.open_context(fn, key=key, steps=steps, result=result) as (
                ctx,
                _,
            ):
                with (
                    contextlib.nullcontext()
                    if how == "other_version"
                    else msg.limit_plds(int | None)
                ):
                    if kind is Return:
                        await ctx.wait_for_result()
                    async with ctx.open_stream() as stream:
                        await stream.receive()
        exc = refusal(caught)
        assert_told(ep.told(exc), kind, "int")
        assert exc.src_uid is None
        if ctx is not None:
            assert ctx.maybe_error is exc
            assert ctx.outcome is exc
        # A result that is refused came all the same; else the endpoint still ran, and was ended.
        state = "result-returned" if kind is Return else "errored"
        assert ctx is None or str(ctx.state) == state
        assert (await tree.portal.run(ep.view, key=key))["state"] == state

    tree.run(lambda: test(tree))


@pytest.mark.parametrize("waits", [True, False])
@in_tree
async def test_a_bad_result_fails_the_opener_that_asks_for_it_and_one_that_does_not(
    tree: Tree, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fn: Any = ep.stand_in(monkeypatch, PUPPETS["any"], int | None)
    with pytest.raises(tractor.MsgTypeError, match="Return") as caught:  # noqa: PT012
        async with tree.portal.open_context(
            fn, key=tree.key(), steps=[["started", "none"]], result="int.bad"
        ) as (ctx, _):
            if waits:
                for _ in range(2):
                    with pytest.raises(tractor.MsgTypeError, match="Return"):
                        await ctx.wait_for_result()
    assert ctx.maybe_error is caught.value


@in_tree
async def test_started_without_validation_is_refused_by_the_opener(tree: Tree) -> None:
    key = tree.key()
    steps = [["started", "int.bad", {"validate_pld_spec": False}], ["sleep"]]
    with pytest.raises(tractor.MsgTypeError) as caught:
        async with tree.portal.open_context(PUPPETS["int"], key=key, steps=steps):
            raise AssertionError("the block must not be entered")
    exc = refusal(caught)
    assert_told(ep.told(exc), Started, "int")
    assert exc.src_uid is None
    seen = await tree.portal.run(ep.view, key=key)
    assert seen["record"][0] == "started"
    assert seen["state"] == "errored"
    assert_told(seen["maybe_error"], Started, "int")


# -- parity --


@pytest.mark.parametrize(
    ("name", "value", "validate", "passes"),
    [
        ("any", "tuple", True, False),
        ("any", "tuple", False, False),
        ("any", "list", True, True),
        ("list", "tuple", True, False),
        ("list", "list", True, True),
        ("struct", "mark", True, False),
        ("struct", "struct.good", True, True),
        ("tagged", "tagged.good", True, True),
        ("generic", "generic.good", True, True),
        ("hooked", "hooked.good", True, True),
    ],
)
def test_strict_parity(tree: Tree, name: str, value: str, validate: bool, passes: bool) -> None:
    options = {"strict_pld_parity": True, "validate_pld_spec": validate}

    async def test(tree: Tree) -> None:
        key = tree.key()
        steps = [["started?", value, options]]
        if not passes:
            steps.append(["started", f"{name}.good" if name in SAMPLES else "none"])
        async with tree.portal.open_context(PUPPETS[name], key=key, steps=steps) as (ctx, _):
            with contextlib.suppress(tractor.MsgTypeError):
                await ctx.wait_for_result()
        seen = await tree.portal.run(ep.view, key=key)
        if passes:
            assert seen["record"] == ["started"]
        else:
            assert "invalid `Started` msg payload" in seen["record"][0]["message"]

    tree.run(lambda: test(tree))


@in_tree
async def test_without_parity_a_value_that_changes_on_the_way_is_sent(tree: Tree) -> None:
    async with tree.portal.open_context(
        PUPPETS["list"], key=tree.key(), steps=[["started", "tuple"]]
    ) as (_, first):
        assert first == [1, 2]


# -- None --


@pytest.mark.parametrize("message", ["started", "return"])
@in_tree
async def test_none_must_be_in_the_spec_where_nothing_is_given(tree: Tree, message: str) -> None:
    steps = [["started", "none" if message == "started" else "no_none.good"]]
    with pytest.raises(tractor.MsgTypeError, match=message.title()) as caught:
        async with tree.portal.open_context(PUPPETS["no_none"], key=tree.key(), steps=steps):
            await trio.sleep_forever()
    assert "None\nhas type <class 'NoneType'>" in caught.value.message


# -- what cannot be encoded --


@pytest.mark.parametrize("value", ["unencodable", "huge_int", "surrogate"])
def test_what_cannot_be_encoded_is_refused_by_its_sender(tree: Tree, value: str) -> None:
    def check(facts: Any, kind: str) -> None:
        assert facts["type"] == "MsgTypeError"
        assert f"invalid `{kind}` msg payload" in facts["message"]
        assert repr(type(ep.value(value))) in facts["message"]
        for hook in ("enc_hook", "dec_hook", "ext_types"):
            assert hook in facts["message"]
        assert isinstance(facts["cid"], int)

    async def test(tree: Tree) -> None:
        # Nothing was sent: each dialog goes on as if nothing had been tried.
        for name in ("any", "int"):
            key = tree.key()
            record: list[Any] = []
            steps = [["started?", value], ["started", "int.good"], ["send?", value], ["receive"]]
            async with tree.portal.open_context(
                PUPPETS[name], key=key, steps=steps, result="int.good"
            ) as (ctx, first):
                assert first == 7
                await ep.perform(ctx, [["send?", value], ["send", "int.good"]], record)
                assert await ctx.wait_for_result() == 7
            seen = await tree.portal.run(ep.view, key=key)
            check(seen["record"][0], "Started")
            check(seen["record"][2], "Yield")
            assert seen["record"][3] == "int: 7"
            check(record[0], "Yield")
            assert record[0]["cid"] == ctx.cid

            with pytest.raises(tractor.MsgTypeError) as caught:
                async with tree.portal.open_context(
                    PUPPETS[name], key=tree.key(), steps=[["started", "none"]], result=value
                ):
                    pass
            check(ep.told(caught.value), "Return")

    tree.run(lambda: test(tree))


@in_tree
async def test_arguments_that_cannot_be_encoded(tree: Tree) -> None:
    sent = tree.portal.chan.statistics().sent
    with pytest.raises(tractor.MsgTypeError, match=r"(?s)`Start`.*object.*enc_hook"):
        await tree.portal.run(ep.type_of, arg=object())
    with pytest.raises(tractor.MsgTypeError, match=r"(?s)`Start`.*object.*enc_hook"):
        async with tree.portal.open_context(ep.echo, first=object()):
            raise AssertionError("the block must not be entered")
    with pytest.raises(tractor.MsgTypeError, match=r"(?s)`Start`.*object.*enc_hook"):
        async with tree.portal.open_stream_from(ep.points, n=object()):  # type: ignore[call-overload]
            raise AssertionError("the block must not be entered")
    assert tree.portal.chan.statistics().sent == sent
    assert tree.portal.chan.statistics().dialogs == 0


@in_tree
async def test_results_and_yields_that_cannot_be_encoded(tree: Tree) -> None:
    with pytest.raises(tractor.RemoteActorError, match=r"(?s)`Yield`.*Text.*enc_hook") as caught:
        async with tree.portal.open_stream_from(ep.texts, n=1) as stream:
            await stream.receive()
    assert type(caught.value) is tractor.MsgTypeError
    assert caught.value.boxed_type is TypeError


# -- a violation ends its dialog, and no other --


@pytest.mark.parametrize("side", ["parent", "child"])
@in_tree
async def test_siblings_go_on(tree: Tree, side: str) -> None:
    key = tree.key()
    good, bad = "int.good", "int.bad"
    steps = [["started", good]]
    steps += [["send", bad], ["sleep"]] if side == "child" else [["receive"]]
    async with (
        tree.portal.open_context(ep.echo) as (sibling, _),
        sibling.open_stream() as sibling_stream,
    ):
        await sibling_stream.send(1)
        with pytest.raises(tractor.MsgTypeError):  # noqa: PT012
            async with (
                tree.portal.open_context(PUPPETS["int"], key=key, steps=steps) as (ctx, _),
                ctx.open_stream() as stream,
            ):
                if side == "parent":
                    await stream.send(ep.value(bad))
                await stream.receive()
        assert await sibling_stream.receive() == 1
        await sibling_stream.send(2)
        assert await sibling_stream.receive() == 2
    assert sibling.outcome == "done"


@in_tree
async def test_messages_behind_a_bad_one_are_not_lost_silently(tree: Tree) -> None:
    """A reader that catches the violation finds the stream over, with that error."""
    key = tree.key()
    steps = [["started", "int.good"], *([["send", "int.bad"]] * 2), ["sleep"]]
    with pytest.raises(tractor.MsgTypeError) as caught:  # noqa: PT012
        async with (
            tree.portal.open_context(PUPPETS["int"], key=key, steps=steps) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            with pytest.raises(tractor.MsgTypeError) as first:
                await stream.receive()
            with pytest.raises(tractor.MsgTypeError) as second:
                await stream.receive()
            with pytest.raises(tractor.MsgTypeError) as third:
                await stream.send(7)
            assert third.value in (first.value, second.value)
    assert caught.value in (first.value, second.value)
    assert ctx.maybe_error is caught.value


READERS: dict[str, Callable[[tractor.MsgStream], Awaitable[Any]]] = {}


def reader(fn: Callable[[tractor.MsgStream], Awaitable[Any]]) -> None:
    READERS[fn.__name__] = fn


@reader
async def receive(stream: tractor.MsgStream) -> Any:
    return await stream.receive()


@reader
async def receive_nowait(stream: tractor.MsgStream) -> Any:
    while not stream.statistics().buffered:
        await trio.testing.wait_all_tasks_blocked(0.001)
    return stream.receive_nowait()


@reader
async def async_for(stream: tractor.MsgStream) -> Any:
    async for value in stream:
        return value


@reader
async def subscriber(stream: tractor.MsgStream) -> Any:
    async with stream.subscribe() as values:
        return await values.receive()


@pytest.mark.parametrize("how", READERS)
@pytest.mark.parametrize("bad", [False, True])
@in_tree
async def test_every_way_to_read_checks(tree: Tree, how: str, bad: bool) -> None:
    key = tree.key()
    name = "struct.bad" if bad else "struct.good"
    steps = [["started", "none"], ["send", name], ["receive"]]
    expected: Any = pytest.raises(tractor.MsgTypeError) if bad else contextlib.nullcontext()
    with expected as caught:
        async with (
            tree.portal.open_context(PUPPETS["struct"], key=key, steps=steps) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            assert await READERS[how](stream) == Point(1, 2)
            await stream.send(None)
    if bad:
        assert_violates(refusal(caught), Yield, "struct", ctx.cid)


@in_tree
async def test_what_a_closed_stream_gives_back_is_decoded_where_it_can_be(tree: Tree) -> None:
    steps = [["started", "none"], ["send", "struct.good"], ["send", "struct.bad"]]
    async with tree.portal.open_context(PUPPETS["struct"], key=tree.key(), steps=steps) as (
        ctx,
        _,
    ):
        async with ctx.open_stream() as stream:
            while stream.statistics().buffered < 2:
                await trio.testing.wait_all_tasks_blocked(0.001)
            undelivered = await stream.aclose()
        assert undelivered[0] == Point(1, 2)
        assert msgspec.msgpack.decode(undelivered[1]) == {"x": 1}
    # What nobody read is not a violation.
    assert ctx.maybe_error is None


# -- hooks --


@pytest.mark.parametrize("name", ep.FAILURES)
@pytest.mark.parametrize("side", ["parent", "child"])
@in_tree
async def test_a_hook_that_fails_to_decode(tree: Tree, name: str, side: str) -> None:
    fn = ep.FAILING[name, "dec_hook"]
    key = tree.key()
    # `started()` would run the hook, too: None needs none.
    steps = [["started", "none"]]
    steps += [["send", "text"], ["sleep"]] if side == "child" else [["receive"]]
    with pytest.raises(tractor.MsgTypeError, match="invalid `Yield` msg payload") as caught:  # noqa: PT012
        async with (
            tree.portal.open_context(fn, key=key, steps=steps) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            if side == "parent":
                await stream.send(Text("x"))
            await stream.receive()
    assert f"the hook {name} failed" in caught.value.message
    assert ctx.maybe_error is caught.value
    seen = await tree.portal.run(ep.view, key=key)
    assert seen["maybe_error"]["type"] == "MsgTypeError"


@pytest.mark.parametrize("name", ep.FAILURES)
@pytest.mark.parametrize("which", ["enc_hook", "dec_hook"])
@in_tree
async def test_a_hook_that_fails_in_the_check_of_what_is_started_or_returned(
    tree: Tree, name: str, which: str
) -> None:
    fn = ep.FAILING[name, which]
    key = tree.key()
    async with tree.portal.open_context(
        fn, key=key, steps=[["started?", "text"], ["started", "none"]]
    ) as (_, first):
        assert first is None
    seen = await tree.portal.run(ep.view, key=key)
    assert f"the hook {name} failed" in seen["record"][0]["message"]
    assert "invalid `Started` msg payload" in seen["record"][0]["message"]
    with pytest.raises(tractor.MsgTypeError, match=f"the hook {name} failed") as caught:
        async with tree.portal.open_context(
            fn, key=tree.key(), steps=[["started", "none"]], result="text"
        ):
            await trio.sleep_forever()
    assert "invalid `Return` msg payload" in caught.value.message


@pytest.mark.parametrize("name", ep.FAILURES)
@pytest.mark.parametrize("side", ["parent", "child"])
@in_tree
async def test_a_hook_that_fails_to_encode(tree: Tree, name: str, side: str) -> None:
    """Nothing was sent, so the dialog can go on, on the stream as in `started()`."""
    fn = ep.FAILING[name, "enc_hook"]
    key = tree.key()
    record: list[Any] = []
    speaks, listens = [["send?", "text"], ["send", "none"]], [["receive"]]
    child, parent = (speaks, listens) if side == "child" else (listens, speaks)
    async with tree.portal.open_context(fn, key=key, steps=[["started", "none"], *child]) as (
        ctx,
        _,
    ):
        await ep.perform(ctx, parent, record)
    seen = (await tree.portal.run(ep.view, key=key))["record"][1:]
    failed, heard = (seen, record) if side == "child" else (record, seen)
    assert failed[0]["type"] == "MsgTypeError"
    assert "invalid `Yield` msg payload" in failed[0]["message"]
    assert f"the hook {name} failed" in failed[0]["message"]
    assert failed[1] == "sent"
    assert heard == ["NoneType: None"]


@pytest.mark.parametrize("name", ep.FAILURES)
def test_a_hook_of_the_task_that_fails_to_encode_arguments(tree: Tree, name: str) -> None:
    def fail(obj: Any) -> Any:
        raise ep.FAILURES[name](f"the hook {name} failed")

    async def test(tree: Tree) -> None:
        codec = msg.mk_codec(enc_hook=fail, ext_types=[Text])
        with (
            msg.apply_codec(codec),
            pytest.raises(tractor.MsgTypeError, match=f"the hook {name} failed"),
        ):
            await tree.portal.run(ep.type_of, arg=Text("x"))
        assert tree.portal.chan.statistics().dialogs == 0

    tree.run(lambda: test(tree))


def test_default_ext_types_are_those_that_msgspec_does_not_know() -> None:
    hooks: dict[str, Any] = {"enc_hook": ep.text_to_list, "dec_hook": ep.list_to_text}

    async def fn(ctx: tractor.Context) -> None:
        raise AssertionError("never runs")

    marked: Any = tractor.context(pld_spec=int | Text | None, **hooks)(fn)
    assert marked.__tractor_context__.ext_types == (Text,)
    marked = tractor.context(pld_spec=int, ext_types=[Text], **hooks)(fn)
    assert marked.__tractor_context__.ext_types == (Text,)


@pytest.mark.parametrize(
    "misuse",
    [
        {"enc_hook": ep.text_to_list},
        {"dec_hook": ep.list_to_text},
        {"enc_hook": ep.text_to_list, "dec_hook": ep.list_to_text, "pld_spec": int | None},
        {"dec_hook": ep.list_to_text, "pld_spec": Text, "ext_types": []},
    ],
)
def test_hooks_without_types_are_refused_where_they_are_given(misuse: dict[str, Any]) -> None:
    async def fn(ctx: tractor.Context) -> None:
        raise AssertionError("never runs")

    with pytest.raises(TypeError, match="ext_types"):
        tractor.context(**misuse)(fn)


# -- types that are not known yet, or no good --


@in_tree
async def test_forward_references(tree: Tree) -> None:
    async with tree.portal.open_context(ep.forward) as (ctx, first):
        assert first == ep.Early(ep.Later(1))
        assert type(first.later) is ep.Later
        async with ctx.open_stream() as stream:
            await stream.send(ep.Early(ep.Later(2)))
        assert await ctx.wait_for_result() == ep.Early(ep.Later(3), ep.Early(ep.Later(2)))


@in_tree
async def test_a_spec_that_cannot_be_decoded_on_the_openers_side(tree: Tree) -> None:
    for _ in range(2):
        sent = tree.portal.chan.statistics().sent
        with pytest.raises(TypeError, match=r"ep_payloads:undecodable can't be decoded"):
            async with tree.portal.open_context(ep.undecodable):
                raise AssertionError("the block must not be entered")
        assert tree.portal.chan.statistics().sent == sent


@in_tree
async def test_a_spec_that_cannot_be_decoded_on_the_endpoints_side(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    fn = ep.stand_in(monkeypatch, ep.undecodable, Any)
    for _ in range(2):
        with pytest.raises(tractor.RemoteActorError) as caught:
            async with tree.portal.open_context(fn):
                raise AssertionError("the block must not be entered")
        assert caught.value.boxed_type is TypeError
        assert "ep_payloads:undecodable can't be decoded" in caught.value.message


# -- validating without sending --


@in_tree
async def test_validate_against_the_rules_of_a_dialog(tree: Tree) -> None:
    sent = 0
    steps = [["started", "none"], ["receive"]]
    async with tree.portal.open_context(PUPPETS["struct"], key=tree.key(), steps=steps) as (
        ctx,
        _,
    ):
        sent = tree.portal.chan.statistics().sent
        for ipc in (ctx, ctx.pld_rx.pld_dec):
            for kind in (Started, Yield, Return):
                good = kind(ctx.cid, Point(1, 2))
                assert msg.validate_payload_msg(good, good.pld, ipc) is None
                bad = kind(ctx.cid, {"x": 1})
                error = msg.validate_payload_msg(bad, bad.pld, ipc, raise_mte=False)
                assert isinstance(error, tractor.MsgTypeError)
                assert_violates(error, kind, "struct", ctx.cid)
                with pytest.raises(tractor.MsgTypeError):
                    msg.validate_payload_msg(bad, bad.pld, ipc)
                changed = kind(ctx.cid, {"x": 1, "y": 2})
                assert msg.validate_payload_msg(changed, changed.pld, ipc) is None
                with pytest.raises(tractor.MsgTypeError, match="not equal"):
                    msg.validate_payload_msg(changed, changed.pld, ipc, strict_pld_parity=True)
        with msg.limit_plds(str):
            assert msg.validate_payload_msg(Yield(ctx.cid, "x"), "x", ctx) is None
        assert tree.portal.chan.statistics().sent == sent
        assert ctx.maybe_error is None
        async with ctx.open_stream() as stream:
            await stream.send(None)
