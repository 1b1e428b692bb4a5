"""Infected subactors: to the tree they are actors like any other, on every backend, however they end."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import ep_asyncio
import pytest
import trio

import tractor
from tractor.address._types import UnwrappedAddress
from tractor.spawn import SpawnMethodKey
from tractor.spawn._contract import get_backend
from tractor.supervise._arguments import StartOptions
from tractor.to_asyncio import run_as_asyncio_guest

pytestmark = [
    pytest.mark.parametrize("tpt_proto", ["uds" if os.name == "posix" else "tcp"], indirect=True),
    pytest.mark.usefixtures("forked_actors"),
]
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals")


def in_tree(
    reg_addr: UnwrappedAddress,
    body: Callable[[tractor.Portal], Awaitable[Any]],
    run: Callable[[Any], Any] = trio.run,
    **kwargs: Any,
) -> Any:
    """Run `body()` with a portal to an infected actor."""

    async def main() -> Any:
        with trio.fail_after(20):
            async with tractor.open_nursery(registry_addrs=[reg_addr], **kwargs) as an:
                portal = await an.start_actor(
                    "infected", enable_modules=["ep_asyncio"], infect_asyncio=True
                )
                got = await body(portal)
                await portal.cancel_actor()
                return got

    return run(main)


def available(key: str) -> bool:
    try:
        get_backend(key).is_available()
    except (RuntimeError, NotImplementedError):
        return False
    return True


BACKENDS = [
    key
    for key in ("trio", "mp_spawn", "mp_forkserver", "main_thread_forkserver", "subint")
    if available(key)
]


@pytest.mark.parametrize("backend", BACKENDS)
def test_on_every_backend(reg_addr: UnwrappedAddress, backend: SpawnMethodKey) -> None:
    async def body(portal: tractor.Portal) -> Any:
        assert list(await portal.run(ep_asyncio.is_infected)) == [True, True]
        async with portal.open_context(ep_asyncio.serve_echo) as (ctx, first):
            assert first == "ready"
            async with ctx.open_stream() as stream:
                for i in range(10):
                    await stream.send(i)
                    assert await stream.receive() == i
        assert await ctx.wait_for_result() == "done"
        for where, blocked in (await portal.run(ep_asyncio.blocked_signals)).items():
            assert blocked == [], where
        return await portal.run(ep_asyncio.run_double, value=21)

    assert in_tree(reg_addr, body, start_method=backend) == 42


@POSIX
@pytest.mark.parametrize("backend", [key for key in BACKENDS if key != "subint"])
def test_no_signal_is_blocked_where_user_code_runs_in_a_plain_actor_either(
    reg_addr: UnwrappedAddress, backend: SpawnMethodKey
) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr], start_method=backend) as an:
            portal = await an.start_actor("plain", enable_modules=["ep_asyncio"])
            for where, blocked in (await portal.run(ep_asyncio.blocked_signals)).items():
                assert blocked == [], where
            await portal.cancel_actor()

    trio.run(main)


@POSIX
@pytest.mark.parametrize("infected", [False, True])
def test_an_interrupt_before_an_actor_can_handle_it_is_kept_for_then(
    reg_addr: UnwrappedAddress, infected: bool, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    )

    async def main() -> None:
        with trio.fail_after(20):
            async with tractor.open_nursery(registry_addrs=[reg_addr], start_method="trio") as an:
                with contextlib.suppress(tractor.RuntimeFailure):
                    # Whether it was ready before it had cancelled itself is a matter of moments.
                    await an.start_actor(
                        "hit",
                        infect_asyncio=infected,
                        proc_kwargs={"env": {**os.environ, "PYTHONPATH": str(tmp_path)}},
                    )

    trio.run(main)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_error_of_an_unlinked_task_is_reported_at_the_end(
    reg_addr: UnwrappedAddress, backend: SpawnMethodKey, capfd: pytest.CaptureFixture[str]
) -> None:
    async def body(portal: tractor.Portal) -> None:
        await portal.run(ep_asyncio.keep_a_failed_task, text=f"of {backend}")

    in_tree(reg_addr, body, start_method=backend)
    err = capfd.readouterr().err
    assert err.count("Task exception was never retrieved") == 1
    assert err.count(f"ValueError: of {backend}") == 1


def test_below_an_infected_root_and_below_an_infected_actor(reg_addr: UnwrappedAddress) -> None:
    async def body(portal: tractor.Portal) -> Any:
        return await portal.run(ep_asyncio.double_below, value=4)

    assert in_tree(reg_addr, body, run_as_asyncio_guest) == 8


def test_uvloop_by_the_environment(
    reg_addr: UnwrappedAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("uvloop")
    monkeypatch.setenv("TRACTOR_ASYNCIO_LOOP", "uvloop")

    async def body(portal: tractor.Portal) -> Any:
        assert await portal.run(ep_asyncio.loop_class) == "uvloop"
        return await portal.run(ep_asyncio.run_double, value=1)

    assert in_tree(reg_addr, body) == 2


def test_a_flag_that_does_not_agree_with_the_configuration(
    reg_addr: UnwrappedAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = StartOptions.runtime_vars

    def disagree(self: Any, *args: Any) -> dict[str, Any]:
        return {**real(self, *args), "_is_infected_aio": False}

    monkeypatch.setattr(StartOptions, "runtime_vars", disagree)
    with pytest.raises(tractor.RemoteActorError, match="infected=False") as caught:
        in_tree(reg_addr, trio.sleep)  # type: ignore[arg-type]
    assert caught.value.boxed_type is tractor._errors.InternalError


# -- ends --


def test_an_error_of_an_asyncio_task_of_a_one_shot_actor(reg_addr: UnwrappedAddress) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            await an.run_in_actor(ep_asyncio.fail_main, infect_asyncio=True)

    with pytest.raises(tractor.RemoteActorError, match="from asyncio") as caught:
        trio.run(main)
    assert caught.value.boxed_type is ValueError
    assert "fail_soon" in caught.value.tb_str


async def until_noted(path: Path) -> None:
    with trio.fail_after(10):
        while not path.exists():
            await trio.sleep(0.01)


def test_an_actor_cancel_reaches_the_asyncio_task(
    reg_addr: UnwrappedAddress, tmp_path: Path
) -> None:
    path = tmp_path / "log"

    async def body(portal: tractor.Portal) -> None:
        async def hold() -> None:
            with pytest.raises(tractor.ContextCancelled):
                await portal.run(ep_asyncio.hold_link, path=str(path))

        async with trio.open_nursery() as tn:
            tn.start_soon(hold)
            await portal.run(ep_asyncio.is_infected)
            assert await portal.cancel_actor()

    in_tree(reg_addr, body)
    assert path.read_text().split("\n")[:2] == ["TrioCancelled", "lifetime stack closed"]


def test_a_peers_cancel_reaches_the_asyncio_task(
    reg_addr: UnwrappedAddress, tmp_path: Path
) -> None:
    path = tmp_path / "log"

    async def body(portal: tractor.Portal) -> None:
        async with portal.open_context(ep_asyncio.hold_link_in_context, path=str(path)) as (ctx, _):
            await ctx.cancel()
        assert ctx.cancel_acked
        assert await portal.run(ep_asyncio.run_double, value=1) == 2

    in_tree(reg_addr, body)
    assert path.read_text() == "TrioCancelled\n"


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_actor_alone(
    reg_addr: UnwrappedAddress, tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "log"

    async def body(portal: tractor.Portal) -> None:
        async with portal.open_context(ep_asyncio.hold_link_in_context, path=str(path)) as (_, pid):
            os.kill(pid, number)
            await trio.sleep_forever()

    with pytest.raises(tractor.ContextCancelled):
        in_tree(reg_addr, body)
    assert path.read_text() == "TrioCancelled\n"


@POSIX
def test_a_second_sigint_ends_an_actor_whose_shielded_work_hangs(
    reg_addr: UnwrappedAddress,
) -> None:
    async def body(portal: tractor.Portal) -> None:
        async with portal.open_context(ep_asyncio.hang_shielded) as (_, pid):
            # Two that come at once are one to it, and it may be busy.
            while True:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT)
                await trio.sleep(0.2)

    # Its runtime is torn as well, maybe before it could say more.
    ends = (tractor.ActorFailure, tractor.TransportClosed, tractor.ContextCancelled)
    with pytest.raises(ends):
        in_tree(reg_addr, body)


@POSIX
def test_sigkill_of_the_actor(reg_addr: UnwrappedAddress, tmp_path: Path) -> None:
    async def body(portal: tractor.Portal) -> None:
        async with portal.open_context(
            ep_asyncio.hold_link_in_context, path=str(tmp_path / "log")
        ) as (_, pid):
            os.kill(pid, signal.SIGKILL)
            await trio.sleep_forever()

    with pytest.raises((tractor.ActorFailure, tractor.TransportClosed, ExceptionGroup)):
        in_tree(reg_addr, body)


def test_a_task_that_swallows_cancels_does_not_hold_up_its_actor(
    reg_addr: UnwrappedAddress, caplog: pytest.LogCaptureFixture
) -> None:
    """It is given up before the teardown ladder comes to its signals."""

    async def body(portal: tractor.Portal) -> None:
        async with portal.open_context(ep_asyncio.hold_stubborn_link):
            await portal.cancel_actor()
            await trio.sleep_forever()

    with pytest.raises(tractor.RemoteActorError) as caught:
        in_tree(reg_addr, body)
    assert caught.value.boxed_type is tractor.AsyncioRuntimeTranslationError
    assert "T-800" not in caplog.text


def test_a_loop_that_is_stopped_fails_its_actor(reg_addr: UnwrappedAddress) -> None:
    async def body(portal: tractor.Portal) -> None:
        async with portal.open_context(ep_asyncio.stop_the_loop):
            await trio.sleep_forever()

    with pytest.raises((tractor.RemoteActorError, ExceptionGroup)) as caught:
        in_tree(reg_addr, body)
    errors = getattr(caught.value, "exceptions", [caught.value])
    assert tractor.AsyncioRuntimeTranslationError in [exc.boxed_type for exc in errors]


@POSIX
def test_a_loop_that_is_blocked_is_killed_by_the_ladder(
    reg_addr: UnwrappedAddress, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    marker = tmp_path / "blocked"

    async def body(portal: tractor.Portal) -> None:
        async with (
            portal.open_context(ep_asyncio.block_the_loop, marker=str(marker)) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            await stream.send("block")
            while not marker.exists():
                await trio.sleep(0.01)
            raise KeyError("the block's")

    with pytest.raises(KeyError, match="the block's"):
        in_tree(reg_addr, body)
    assert "T-800" in caplog.text
