# ruff: noqa: PT012
# A nursery raises at the end of its block, so the block belongs into `pytest.raises()`.
"""Starting subactors: arguments, and children that never become usable."""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import ep_supervise
import pytest
import trio
from ep_marks import gets_signals
from ep_supervise_tools import alive, one_daemon, place_of, program, run, until_gone

import tractor
from tractor._proto.children.ladder import LadderEvent
from tractor.discovery import wrap_address
from tractor.spawn._contract import selected_start_method
from tractor.supervise._child import Child

HERE = ["ep_supervise"]


starts_a_program = pytest.mark.skipon_spawn_backend(
    "main_thread_forkserver",
    "mp_forkserver",
    "subint",
    reason="its `proc_kwargs` are those of `subprocess.Popen`",
)


# -- what a started actor is --


@pytest.mark.usefixtures("either_backend")
def test_a_daemon_serves_until_it_is_cancelled(tpt_proto: str, reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            portal = await an.start_actor("server", enable_modules=HERE)
            told = await portal.run(ep_supervise.describe)
            assert told["name"] == "server"
            assert (told["pid"] == os.getpid()) == (selected_start_method() == "subint")
            assert portal.chan.aid is not None
            assert portal.chan.aid.pid == told["pid"]
            place = place_of(portal)
            for flag in ("is_root", "is_root_process", "is_registrar", "infected"):
                assert told[flag] is False, flag
            assert told["vars"]["_is_root"] is False
            assert told["modules"] == HERE
            assert told["reg_addrs"] == [list(reg_addr)]
            assert told["vars"]["_root_addrs"] == [list(reg_addr)]
            (addr,) = told["accept_addrs"]
            assert wrap_address(tuple(addr)).proto_key == tpt_proto
            assert await portal.run(ep_supervise.add, one=1, two=2) == 3
            assert await portal.cancel_actor()
        assert not alive(place)
        assert not portal.chan.connected()

    run(main)


def test_a_one_shot_runs_one_function_and_goes() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.run_in_actor(ep_supervise.add, one=1, two=5)
            named = await an.run_in_actor(ep_supervise.uid, name="own_name")
            assert await portal.wait_for_result() == 6
            assert await portal.wait_for_result() == 6, "the result is kept"
            assert portal.chan.aid is not None
            assert portal.chan.aid.name == "add"
        assert (await named.wait_for_result())[0] == "own_name"
        assert an.statistics().spawned == 2
        assert an.statistics().reaped == 2

    run(main)


def test_the_nursery_waits_for_one_shots_without_being_asked() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.run_in_actor(ep_supervise.pid)
        assert not an.cancel_called
        assert not alive(await portal.wait_for_result())

    run(main)


def test_the_portal_of_a_daemon_has_no_result(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with one_daemon() as (_, portal):
            with caplog.at_level("WARNING", "tractor"):
                assert await portal.wait_for_result() is tractor.NoResult
            await portal.cancel_actor()

    run(main)
    assert caplog.records


@pytest.mark.parametrize(
    "function", [ep_supervise.plain_function, ep_supervise.generator, "add", None]
)
def test_run_in_actor_takes_async_functions_only(function: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            with pytest.raises(TypeError, match="async function"):
                await an.run_in_actor(function)
            assert an.statistics().spawned == 0

    run(main)


def test_arguments_that_do_not_fit_the_function() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            with pytest.raises(TypeError, match="three"):
                await an.run_in_actor(ep_supervise.add, three=3)  # type: ignore[call-overload]
            assert an.statistics().spawned == 0

    run(main)


@pytest.mark.parametrize("name", ["", 7, None])
def test_a_name_is_a_string_with_something_in_it(name: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            with pytest.raises(TypeError, match="name"):
                await an.start_actor(name)
            with pytest.raises(ValueError, match="UTF-8"):
                await an.start_actor("\ud800")
            for refused in ("x" * 256, "two\nlines"):
                with pytest.raises(ValueError, match="255 bytes of printable text"):
                    await an.start_actor(refused)
            assert an.statistics().spawned == 0

    run(main)


@pytest.mark.parametrize("name", ["a b", "sl/ash", "ünïcødé", "x" * 255, "quo'te\"", "..", "--uid"])
def test_strange_names_work(name: str) -> None:
    async def main() -> None:
        async with one_daemon(name) as (_, portal):
            assert (await portal.run(ep_supervise.uid))[0] == name
            await portal.cancel_actor()

    run(main)


@pytest.mark.usefixtures("either_backend")
def test_names_need_not_be_unique() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            twins = [await an.start_actor("twin", enable_modules=HERE) for _ in range(2)]
            uids = {tuple(await portal.run(ep_supervise.uid)) for portal in twins}
            assert len(uids) == 2
            assert set(an.children) == uids
            await an.cancel()

    run(main)


@pytest.mark.usefixtures("either_backend")
def test_own_bind_addresses(reg_addr: Any, tpt_proto: str) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor(
                "bound", bind_addrs=[reg_addr], enable_transports=[tpt_proto], enable_modules=HERE
            )
            told = await portal.run(ep_supervise.describe)
            assert told["accept_addrs"] == [list(reg_addr)]
            await portal.cancel_actor()

    run(main)


@pytest.mark.usefixtures("either_backend")
def test_bind_addresses_that_are_in_use(reg_addr: Any, tpt_proto: str) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            with pytest.raises(tractor.RemoteActorError) as info:
                await an.start_actor("late", bind_addrs=[reg_addr])
            assert str(reg_addr[1]) in str(info.value)
            assert an.children == {}
            portal = await an.start_actor("other", enable_modules=HERE)
            assert await portal.run(ep_supervise.add, one=1) == 11
            await portal.cancel_actor()

    run(main)


def test_a_transport_of_its_own() -> None:
    async def main() -> None:
        async with tractor.open_nursery(enable_transports=["uds"]) as an:
            portal = await an.start_actor("tcp", enable_transports=["tcp"], enable_modules=HERE)
            told = await portal.run(ep_supervise.describe)
            assert told["vars"]["_enable_tpts"] == ["tcp"]
            assert [wrap_address(tuple(a)).proto_key for a in told["accept_addrs"]] == ["tcp"]
            await portal.cancel_actor()

    run(main)


def test_a_transport_that_does_not_exist() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            with pytest.raises(NotImplementedError, match="pigeon"):
                await an.start_actor("x", enable_transports=["pigeon"])
            assert an.statistics().spawned == 0

    run(main)


@pytest.mark.usefixtures("either_backend")
def test_the_log_level_is_inherited_unless_overridden() -> None:
    async def main() -> None:
        async with tractor.open_nursery(loglevel="critical") as an:
            one = await an.start_actor("one", enable_modules=HERE)
            two = await an.start_actor("two", enable_modules=HERE, loglevel="error")
            assert (await one.run(ep_supervise.describe))["loglevel"] == "critical"
            assert (await two.run(ep_supervise.describe))["loglevel"] == "error"
            await an.cancel()

    run(main)


@starts_a_program
def test_proc_kwargs_go_to_the_process() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor(
                "x",
                enable_modules=HERE,
                proc_kwargs={"env": {**os.environ, "EP_SUPERVISE": "here"}},
            )
            assert (await portal.run(ep_supervise.describe))["environ"] == "here"
            await portal.cancel_actor()

    run(main)


def test_an_own_trio_nursery_hosts_the_supervision() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an, trio.open_nursery() as tn:
            before = len(tn.child_tasks)
            portal = await an.start_actor("x", nursery=tn)
            assert len(tn.child_tasks) == before + 1
            await portal.cancel_actor()
        assert an.statistics().reaped == 1

    run(main)


def test_the_nursery_shows_its_children() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            assert dict(an.children) == {}
            portal = await an.start_actor("shown")
            assert portal.chan.aid is not None
            ((uid, record),) = an.children.items()
            assert uid == portal.chan.aid.uid
            assert record.aid.uid == uid
            assert record.pid == portal.chan.aid.pid
            assert isinstance(record.portal, tractor.Portal)
            assert isinstance(record.state, str)
            stats = an.statistics()
            assert stats.children == {record.state: 1}
            assert (stats.spawned, stats.reaped, stats.escalations) == (1, 0, 0)
            with pytest.raises(AttributeError):
                stats.spawned = 9  # type: ignore[misc]
            assert repr(an) == an.pformat()
            assert repr(portal) == portal.pformat()
            assert "shown" in repr(portal)
            assert portal.statistics().connected
            await portal.cancel_actor()
        assert dict(an.children) == {}

    run(main)


def test_nothing_can_be_started_in_a_nursery_that_is_over() -> None:
    async def main() -> None:
        async with tractor.open_root_actor():
            async with tractor.open_nursery() as cancelled:
                await cancelled.cancel()
                with pytest.raises(tractor.RuntimeFailure, match="late"):
                    await cancelled.start_actor("late")
            with pytest.raises(tractor.RuntimeFailure, match="late"):
                await cancelled.start_actor("late")
            assert cancelled.statistics().spawned == 0

    run(main)


# -- children that die before they are usable --


@gets_signals
def test_a_module_that_ends_the_process() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            with pytest.raises(tractor.ActorFailure) as info:
                await an.start_actor("dies", enable_modules=["ep_supervise_dies"])
            exc = info.value
            assert isinstance(exc, tractor.RuntimeFailure)
            assert exc.uid is not None
            assert exc.uid[0] == "dies"
            assert exc.returncode == 7
            assert "the last word of ep_supervise_dies" in exc.stderr_tail
            assert "the last word of ep_supervise_dies" in str(exc)
            assert "dies" in str(exc)
            await lives_on(an)

    run(main)


async def lives_on(an: tractor.ActorNursery) -> None:
    """The nursery has lost nothing but the one child."""
    assert dict(an.children) == {}
    portal = await an.start_actor("next", enable_modules=HERE)
    assert await portal.run(ep_supervise.add, one=1) == 11
    await portal.cancel_actor()


@starts_a_program
def test_an_interpreter_that_cannot_start() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            with pytest.raises(tractor.ActorFailure) as info:
                await an.start_actor(
                    "homeless",
                    proc_kwargs={"env": {**os.environ, "PYTHONHOME": "/nonexistent"}},
                )
            assert info.value.returncode == 1
            assert "Fatal Python error" in info.value.stderr_tail
            assert len(info.value.stderr_tail.encode()) <= 16 * 1024
            await lives_on(an)

    run(main)


@starts_a_program
def test_another_program_in_the_place_of_python() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            with pytest.raises(tractor.ActorFailure) as info:
                await an.start_actor("false", proc_kwargs={"executable": "/bin/false"})
            assert info.value.returncode == 1
            await lives_on(an)

    run(main)


@starts_a_program
def test_a_program_that_does_not_exist() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            with pytest.raises(FileNotFoundError):
                await an.start_actor("x", proc_kwargs={"executable": "/no/such/program"})
            with pytest.raises(TypeError):
                await an.start_actor("x", proc_kwargs={"no_such_argument": 1})
            await lives_on(an)

    run(main)


@pytest.fixture
def never_boots(tmp_path: Path) -> dict[str, Any]:
    """`proc_kwargs` of an interpreter that never gets as far as to run anything of ours."""
    (tmp_path / "sitecustomize.py").write_text("import time\ntime.sleep(1000)\n")
    return {"env": {**os.environ, "PYTHONPATH": str(tmp_path)}}


@starts_a_program
def test_a_child_that_is_killed_while_it_boots(never_boots: dict[str, Any]) -> None:

    async def main() -> None:
        async with tractor.open_nursery() as an:
            async with trio.open_nursery() as tn:

                async def start() -> None:
                    with pytest.raises(tractor.ActorFailure) as info:
                        await an.start_actor("stuck", proc_kwargs=never_boots)
                    assert info.value.returncode == -9

                tn.start_soon(start)
                while not an.children:
                    await trio.sleep(0)
                (record,) = an.children.values()
                while record.pid is None:
                    await trio.sleep(0)
                    (record,) = an.children.values()
                os.kill(record.pid, 9)
            await lives_on(an)

    run(main)


@starts_a_program
def test_a_move_on_around_a_start_leaves_nothing(never_boots: dict[str, Any]) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            pids: list[int] = []
            for seconds in (0.0, 0.02, 0.12):
                with trio.move_on_after(seconds) as scope:
                    portal = await an.start_actor("brief")
                if scope.cancelled_caught:
                    assert dict(an.children) == {}
                else:
                    assert portal.chan.aid is not None
                    pids.append(portal.chan.aid.pid or 0)
                    await portal.cancel_actor()
            with trio.move_on_after(0.2) as scope:
                await an.start_actor("stuck", proc_kwargs=never_boots)
            assert scope.cancelled_caught
            assert dict(an.children) == {}
            await until_gone(pids)
        assert not an.cancel_called

    run(main)


@starts_a_program
def test_a_start_that_is_broken_off_early_has_nothing_to_wait_for(
    never_boots: dict[str, Any],
) -> None:
    """None of the program's code has begun there: no time passes before the signal."""

    async def main() -> None:
        async with tractor.open_nursery() as an, trio.open_nursery() as tn:
            tn.start_soon(partial(an.start_actor, "stuck", proc_kwargs=never_boots))
            while not (children := list(tractor.current_actor().children.values())):
                await trio.sleep(0)
            (child,) = children
            while child.info().pid is None:
                await trio.sleep(0)
            tn.cancel_scope.cancel()
        assert isinstance(child, Child)
        assert child.ladder is not None
        assert child.ladder.history[0] is LadderEvent.HARD_KILL

    run(main)


@gets_signals
def test_a_child_that_connects_after_it_was_given_up_ends_by_the_signal() -> None:
    """Quietly: it is hung up on, so that it does not wait for its parent's word."""

    async def main() -> None:
        async with tractor.open_nursery() as an, trio.open_nursery() as tn:
            tn.start_soon(an.start_actor, "late")
            while not (children := list(tractor.current_actor().children.values())):
                await trio.sleep(0)
            (child,) = children
            assert isinstance(child, Child)
            while child.process is None:
                await trio.sleep(0)
            tn.cancel_scope.cancel()
        assert child.ladder is not None
        # On a busy machine its interpreter may need longer than it has.
        if not child.ladder.escalations:
            assert child.returncode == -signal.SIGTERM
            assert child.process.stderr_tail() == ""

    run(main)


@starts_a_program
def test_leaving_the_block_while_a_child_boots(never_boots: dict[str, Any]) -> None:
    error = LookupError("of the body")

    async def main() -> None:
        async with tractor.open_root_actor(), trio.open_nursery() as starters:
            with pytest.raises(LookupError) as info:
                async with tractor.open_nursery() as an:
                    starters.start_soon(start, an)
                    while not an.children:
                        await trio.sleep(0)
                    raise error
            assert info.value is error
            assert dict(an.children) == {}

    async def start(an: tractor.ActorNursery) -> None:
        with pytest.raises(tractor.ActorFailure):
            await an.start_actor("stuck", proc_kwargs=never_boots)

    run(main)


# -- modules to enable --


def test_a_module_that_does_not_exist() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
                await an.start_actor("x", enable_modules=["no_such_module_at_all"])
            assert an.statistics().spawned == 0, "the parent can tell by itself"
            await lives_on(an)

    run(main)


def test_a_module_that_raises_when_it_is_imported() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            with pytest.raises(tractor.RemoteActorError) as info:
                await an.start_actor("x", enable_modules=["ep_supervise_raises"])
            assert info.value.boxed_type is LookupError
            assert "ep_supervise_raises is broken on purpose" in str(info.value)
            assert info.value.src_uid is not None
            assert info.value.src_uid[0] == "x"
            await lives_on(an)

    run(main)


@pytest.mark.parametrize("modules", ["ep_supervise", [7], [None]])
def test_modules_are_given_as_a_list_of_names(modules: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            with pytest.raises(TypeError):
                await an.start_actor("x", enable_modules=modules)
            assert an.statistics().spawned == 0

    run(main)


def test_a_module_that_is_not_enabled() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("closed")
            with pytest.raises(tractor.RemoteActorError) as info:
                await portal.run(ep_supervise.not_in_any_child)
            assert info.value.boxed_type is tractor.ModuleNotExposed
            assert "ep_supervise" in str(info.value)
            assert "enable_modules" in str(info.value)
            await portal.cancel_actor()

    run(main)


# -- the parent's main --


def test_a_script_hands_its_main_down() -> None:
    with program("script_endpoints", "yes") as script:
        told = json.loads(script.read_line())
        assert told == {"replayed": True, "same": True, "value": "of the script"}
        line = json.loads(script.read_line())
        assert line.startswith("of the script, pid ")
        assert int(line.rpartition(" ")[2]) != script.pid
        assert script.finish() == 0, script.stderr
        assert script.stderr == ""


def test_a_script_keeps_its_main_to_itself() -> None:
    with program("script_endpoints", "no") as script:
        told = json.loads(script.read_line())
        assert told == {"replayed": False, "same": False, "value": None}
        assert script.finish() == 0, script.stderr


def test_a_function_of_the_script_as_a_one_shot() -> None:
    with program("one_shot_of_script") as script:
        assert json.loads(script.read_line()).startswith("of the script, pid ")
        assert script.finish() == 0, script.stderr


def test_a_script_run_as_a_module(tmp_path: Path) -> None:
    package = tmp_path / "some_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "script.py").write_text(
        "import trio, tractor\n"
        "from some_package import helper\n"
        "async def where():\n"
        "    return f'{__name__} {__spec__.name} {helper.VALUE}'\n"
        "async def main():\n"
        "    async with tractor.open_nursery() as an:\n"
        "        portal = await an.run_in_actor(where)\n"
        "        print(await portal.wait_for_result(), flush=True)\n"
        "if __name__ == '__main__':\n"
        "    trio.run(main)\n"
    )
    (package / "helper.py").write_text("VALUE = 42\n")
    launcher = tmp_path / "launch.py"
    launcher.write_text(
        "import os, sys\n"
        f"os.chdir({str(tmp_path)!r})\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'some_package.script'])\n"
    )
    with program(script=launcher) as script:
        line = script.read_line()
        assert script.finish() == 0, script.stderr
    assert line == "__mp_main__ some_package.script 42"
