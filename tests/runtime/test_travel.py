"""Values of every promised type, sent between processes in every way."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import ep_travel
import msgspec
import pytest
from ep_peer import open_peer, run
from ep_travel import HOOKED, NATIVE, RELAYS, SAMPLES, same

import tractor

pytestmark = pytest.mark.usefixtures("either_backend")


def test_typed_and_hooked_payloads_arrive_as_what_they_were(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_travel", reg_addr=reg_addr) as portal:
            for name, sample in SAMPLES.items():
                async with portal.open_context(RELAYS[name]) as (ctx, first):
                    assert same(first, sample.value), name
                    async with ctx.open_stream() as stream:
                        for _ in range(2):
                            await stream.send(sample.value)
                            assert same(await stream.receive(), sample.value), name
                    assert same(await ctx.wait_for_result(), sample.value), name

    run(main, limit=20)


def test_plain_calls_give_plain_data(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_travel", reg_addr=reg_addr) as portal:
            for name, sample in NATIVE.items():
                if sample.plain is ep_travel.REFUSED:
                    for fn, kw in (
                        (ep_travel.is_plain, {"value": sample.value}),
                        (ep_travel.give, {}),
                    ):
                        with pytest.raises(tractor.MsgTypeError, match="declared type"):
                            await portal.run(fn, name=name, **kw)
                    continue
                assert await portal.run(ep_travel.is_plain, name=name, value=sample.value), name
                assert same(await portal.run(ep_travel.give, name=name), sample.plain), name

    run(main)


def test_plain_calls_refuse_what_needs_hooks() -> None:
    async def main() -> None:
        async with open_peer("ep_travel") as portal:
            for name, sample in HOOKED.items():
                with pytest.raises(tractor.MsgTypeError, match="cannot be encoded"):
                    await portal.run(ep_travel.is_plain, name=name, value=sample.value)
                with pytest.raises(tractor.RemoteActorError) as caught:
                    await portal.run(ep_travel.give, name=name)
                assert type(caught.value) is tractor.MsgTypeError
                assert caught.value.boxed_type is TypeError
                assert "enc_hook" in caught.value.message
            assert await portal.run(ep_travel.give, name="int") == -(2**63)

    run(main)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, object(), "\ud800", 1j])
def test_what_cannot_travel_is_refused_before_it_is_sent(value: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_travel") as portal:
            with pytest.raises(tractor.MsgTypeError, match="cannot be encoded"):
                await portal.run(ep_travel.is_plain, name="int", value=[value])
            assert await portal.run(ep_travel.give, name="int") == -(2**63)

    run(main)


@pytest.mark.skipon_spawn_backend(
    "subint", reason="numpy loads in one interpreter of a process only, so no array can travel"
)
def test_arrays_that_arrive_are_writable_or_views(reg_addr: Any) -> None:
    pytest.importorskip("numpy")

    async def main() -> None:
        async with open_peer("ep_travel", reg_addr=reg_addr) as portal:
            for name, copied in (("array", True), ("readonly_array", False)):
                async with (
                    portal.open_context(RELAYS[name]) as (ctx, first),
                    ctx.open_stream(),
                ):
                    assert first.flags.writeable is copied
                    assert first.flags.owndata is copied

    run(main)


def test_a_lie_about_a_path_is_refused_by_its_reader(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_travel", reg_addr=reg_addr) as portal:
            with pytest.raises(tractor.MsgTypeError, match="not a path"):
                async with (
                    portal.open_context(ep_travel.false_paths, side="child") as (ctx, _),
                    ctx.open_stream() as stream,
                ):
                    await stream.receive()
            with pytest.raises(tractor.RemoteActorError) as caught:
                async with (
                    portal.open_context(ep_travel.false_paths, side="parent") as (ctx, _),
                    ctx.open_stream() as stream,
                ):
                    await stream.send(PurePath("x"))
            assert "not a path" in str(caught.value)

    run(main)


def test_text_is_no_path() -> None:
    async def main() -> None:
        async with open_peer("ep_travel") as portal:
            with pytest.raises(tractor.RemoteActorError) as caught:
                async with (
                    portal.open_context(RELAYS["posix_path"]) as (ctx, _),
                    ctx.open_stream() as stream,
                ):
                    await stream.send("plain text")
            assert "plain text" in str(caught.value)

    run(main)


@pytest.mark.parametrize("phase", ["started", "yield"])
def test_text_that_is_no_utf8_is_a_violation_like_others(phase: str) -> None:
    async def main() -> None:
        async with open_peer("ep_travel") as portal:
            with pytest.raises(tractor.MsgTypeError):
                async with (
                    portal.open_context(ep_travel.bad_text, phase=phase) as (ctx, _),
                    ctx.open_stream() as stream,
                ):
                    await stream.receive()
            assert await portal.run(ep_travel.give, name="str") == NATIVE["str"].value

    run(main)


def test_text_that_is_no_utf8_from_the_parent() -> None:
    async def main() -> None:
        async with open_peer("ep_travel") as portal:
            with pytest.raises(tractor.RemoteActorError) as caught:
                async with (
                    portal.open_context(ep_travel.bad_text, phase="up") as (ctx, _),
                    ctx.open_stream() as stream,
                ):
                    await stream.send(msgspec.Raw(b"\xa1\x80"))
            assert type(caught.value) is tractor.MsgTypeError
            assert caught.value.boxed_type is msgspec.ValidationError
            assert await portal.run(ep_travel.give, name="str") == NATIVE["str"].value

    run(main)


def test_text_that_is_no_utf8_in_a_plain_call() -> None:
    async def main() -> None:
        async with open_peer("ep_travel") as portal:
            with pytest.raises(tractor.MsgTypeError):
                await portal.run(ep_travel.bad_text_in_a_result)
            assert await portal.run(ep_travel.give, name="str") == NATIVE["str"].value

    run(main)
