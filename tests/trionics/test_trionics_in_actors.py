"""Helpers of `trionics` at work in actors."""

from __future__ import annotations

import subprocess
import sys

import ep_trionics
import pytest
from ep_supervise_tools import run

import tractor
from tractor.trionics import gather_contexts

FORKED = "main_thread_forkserver"


def test_endpoints_of_one_actor_share_an_instance() -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method=FORKED) as an:
            portal = await an.start_actor("sharer", enable_modules=["ep_trionics"])
            use = ep_trionics.use_resource
            async with portal.open_context(use, name="r") as (one, first):
                assert first == [False, 1]
                async with one.open_stream():
                    # Several contexts at once, values in their order.
                    others = [portal.open_context(use, name=name) for name in ("r", "s", "r")]
                    async with gather_contexts(others) as opened:
                        values = [value for _, value in opened]
                        assert [value[0] for value in values] == [True, False, True]
                        assert [value[1] for value in values] == [1, 2, 1]
                        for ctx, _ in opened:
                            await ctx.cancel()
                    assert await portal.run(ep_trionics.opened_and_closed) == [["r", "s"], ["s"]]
            assert await portal.run(ep_trionics.opened_and_closed) == [["r", "s"], ["s", "r"]]
            await portal.cancel_actor()

    run(main)


def test_a_cancelled_endpoint_reports_what_its_clean_up_hides_and_not_what_it_handles() -> None:
    async def main() -> None:
        async with tractor.open_nursery(start_method=FORKED) as an:
            portal = await an.start_actor("cancelled", enable_modules=["ep_trionics"])
            async with portal.open_context(ep_trionics.handles_its_errors) as (ctx, _):
                await ctx.cancel()
            assert isinstance(ctx.outcome, tractor.ContextCancelled)
            with pytest.raises(tractor.RemoteActorError, match="something important") as info:
                async with portal.open_context(ep_trionics.loses_its_error) as (ctx, _):
                    await ctx.cancel()
            assert info.value.boxed_type is OSError
            await portal.cancel_actor()

    run(main)


def test_plain_helpers_load_no_runtime() -> None:
    code = (
        "import sys, tractor.trionics as t\n"
        "t.gather_contexts, t.broadcast_receiver, t.collapse_eg, t.maybe_raise_from_masking_exc\n"
        "t.start_or_cancel, t.supervise_run_process, t.maybe_open_nursery, t.patches\n"
        "print([m for m in sys.modules if m.startswith(('tractor.runtime', 'tractor.ipc'))])\n"
        "print(sorted(set(t.__all__) - set(dir(t))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"
