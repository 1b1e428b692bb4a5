# ruff: noqa: SIM117
# Blocks within blocks are kept apart where their order matters.
"""`run_daemon()` and programs that share a registrar."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import ep_supervise
import pytest
import trio
from ep_supervise_tools import Program, free_uds, program, run, spoken, until

import tractor
from tractor.discovery._probe import Probe, probe_all


async def started(prog: Program) -> None:
    assert json.loads(await trio.to_thread.run_sync(prog.read_line)) == "running"


async def ended(prog: Program) -> int:
    return await trio.to_thread.run_sync(prog.finish)


async def wait_until_registrar(addr: Any) -> None:
    """Until a root that boots at the address would be a plain one."""
    while (await probe_all([addr]))[addr].probe is not Probe.REGISTRAR:
        await trio.sleep(0.01)


def test_a_daemon_serves_other_programs_until_cancelled(reg_addr: Any) -> None:
    async def main() -> None:
        with program("daemon", spoken(reg_addr), "ep_supervise") as prog:
            await started(prog)
            await wait_until_registrar(reg_addr)
            async with tractor.open_root_actor(name="client", registry_addrs=[reg_addr]) as actor:
                assert not actor.is_registrar
                async with tractor.find_actor("the_daemon", raise_on_none=True) as portal:
                    assert isinstance(portal, tractor.Portal)
                    told = await portal.run(ep_supervise.describe)
                    assert told["is_registrar"]
                    assert told["is_root"]
                    assert told["pid"] == prog.pid
                    assert await portal.cancel_actor() is True
                assert await ended(prog) == 0, prog.stderr
                assert prog.stderr == ""

    run(main)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_daemon_ends_by_a_signal_as_any_program(number: signal.Signals) -> None:
    addr = free_uds()

    async def main() -> None:
        with program("daemon", spoken(addr), "ep_supervise") as prog:
            await started(prog)
            await wait_until_registrar(addr)
            prog.process.send_signal(number)
            assert await ended(prog) == -number, prog.stderr
            assert ("KeyboardInterrupt" in prog.stderr) is (number is signal.SIGINT)

    run(main)


def test_modules_are_imported_before_anything_is_booted() -> None:
    addr = free_uds()
    with program("daemon", spoken(addr), "no_such_module_at_all") as prog:
        assert json.loads(prog.read_line()) == "running"
        assert prog.finish() == 1
        assert prog.stderr.strip().endswith(
            "ModuleNotFoundError: No module named 'no_such_module_at_all'"
        )


def test_run_daemon_blocks_in_this_process_too(monkeypatch: pytest.MonkeyPatch) -> None:
    # It would beat the argument.
    monkeypatch.delenv("TRACTOR_SPAWN_METHOD", raising=False)
    with pytest.raises(ModuleNotFoundError):
        tractor.run_daemon(["no_such_module_at_all"])
    with pytest.raises(LookupError, match="broken on purpose"):
        tractor.run_daemon(["ep_supervise_raises"])
    with pytest.raises(ValueError, match="pigeon"):
        tractor.run_daemon(["ep_supervise"], start_method="pigeon")
    assert tractor.current_actor(err_on_no_runtime=False) is None


def test_two_programs_share_a_registrar_and_see_each_others_actors(reg_addr: Any) -> None:
    async def main() -> None:
        with program("daemon", spoken(reg_addr), "ep_supervise") as daemon:
            await started(daemon)
            await wait_until_registrar(reg_addr)
            with program("root", spoken(reg_addr), "hold") as other:
                told = json.loads(await trio.to_thread.run_sync(other.read_line))
                name = told["uid"][0]
                async with tractor.open_nursery(registry_addrs=[reg_addr], name="third") as an:
                    child = await an.start_actor("child_of_third", enable_modules=["ep_supervise"])
                    assert await child.run(ep_supervise.look_up, name=name) == told["uid"]
                    async with (
                        tractor.get_registry(reg_addr) as registrar,
                        tractor.find_actor(name, raise_on_none=True) as portal,
                    ):
                        assert isinstance(portal, tractor.Portal)
                        names = await registered(registrar)
                        assert names == ["child_of_third", "the_daemon", "third", name]
                        # The other program finds a child of this one.
                        found = await portal.run(ep_supervise.look_up, name="child_of_third")
                        assert found[0] == "child_of_third"
                        await child.cancel_actor()
                        while an.children:
                            await trio.sleep(0.005)
                        assert "child_of_third" not in await registered(registrar)
                        await portal.cancel_actor()
                        assert await ended(other) == 0, other.stderr
                        assert name not in await registered(registrar)
            async with tractor.open_root_actor(registry_addrs=[reg_addr]):
                async with tractor.get_registry() as registrar:
                    assert await registered(registrar) == ["root", "the_daemon"]
            daemon.process.send_signal(signal.SIGTERM)
            assert await ended(daemon) == -signal.SIGTERM

    run(main)


async def registered(registrar: Any) -> list[str]:
    table = await registrar.run_from_ns("self", "get_registry")
    return sorted(
        (key.rpartition(".")[0] for key in table), key=lambda n: (n.startswith("prog_"), n)
    )


def test_the_entries_of_a_killed_program_vanish(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]) as actor:
            assert isinstance(actor, tractor.Registrar)
            with program("root", spoken(reg_addr), "hold") as other:
                told = json.loads(await trio.to_thread.run_sync(other.read_line))
                key = ".".join(told["uid"])
                assert key in await actor.get_registry()
                other.process.kill()
                other.process.wait()
                with trio.fail_after(20):
                    while key in await actor.get_registry():
                        await trio.sleep(0.01)
                async with tractor.find_actor(told["uid"][0]) as portal:
                    assert portal is None
            for path in map(tuple, told["accept"]):
                remove_orphan(path)

    run(main)


def remove_orphan(addr: Any) -> None:
    """A killed root has nobody to remove its socket file but the registrar, which may not have done so yet."""
    if isinstance(addr[1], str):
        Path(*addr).unlink(missing_ok=True)


def test_a_registrar_that_comes_back_is_told_again() -> None:
    addr = free_uds()

    async def main() -> None:
        with program("daemon", spoken(addr), "ep_supervise") as first:
            await started(first)
            await wait_until_registrar(addr)
            async with tractor.open_nursery(registry_addrs=[addr], name="survivor") as an:
                portal = await an.start_actor("below", enable_modules=["ep_supervise"])
                first.process.kill()
                first.process.wait()
                # Losing a registrar is not an error.
                assert await portal.run(ep_supervise.add, one=1) == 11
                with program("daemon", spoken(addr), "ep_supervise") as second:
                    await started(second)
                    await wait_until_registrar(addr)

                    async def names() -> list[str]:
                        async with tractor.get_registry(addr) as registrar:
                            return await registered(registrar)

                    with trio.fail_after(15):
                        while await names() != ["below", "survivor", "the_daemon"]:
                            await trio.sleep(0.05)
                    await portal.cancel_actor()
                    second.process.send_signal(signal.SIGTERM)
                    assert await ended(second) == -signal.SIGTERM

    run(main)


def test_waiting_across_programs_for_an_actor_that_comes_later(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]):
            found: list[Any] = []
            async with trio.open_nursery() as tn:

                async def wait() -> None:
                    async with tractor.wait_for_actor("the_late_one") as portal:
                        found.append(await portal.run(ep_supervise.pid))
                        await portal.cancel_actor()

                tn.start_soon(wait)
                async with tractor.open_nursery() as an:
                    await trio.sleep(0)
                    await an.start_actor("the_late_one", enable_modules=["ep_supervise"])
                await until(lambda: found)

    run(main)
