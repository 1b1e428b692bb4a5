"""The backend 'subint' alone: its pure parts, its primitive, its processes without a runtime."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from tractor import spawn
from tractor.spawn import _contract
from tractor.spawn._contract import ChildProcess, SpawnRequest
from tractor.spawn.subint import _exit
from tractor.spawn.subint._backend import SubintBackend, SubintProcess
from tractor.spawn.subint._thread import run_subint_in_worker_thread

HAS_SUBINTS = sys.version_info >= (3, 14)
needs_subints = pytest.mark.skipif(not HAS_SUBINTS, reason="sub-interpreters need Python 3.14")


def request(**proc_kwargs: object) -> SpawnRequest:
    return SpawnRequest(
        name="o'neil\udcff",
        uuid="0f" * 18,
        parent_addr=("/run/x", "a@1.sock"),
        authkey=b"k" * 32,
        proc_kwargs=proc_kwargs,
    )


def interpreters() -> set[int]:
    import _interpreters

    return {number for number, _ in _interpreters.list_all()}


# -- without sub-interpreters --


@pytest.mark.skipif(HAS_SUBINTS, reason="this Python has sub-interpreters")
def test_older_pythons_say_what_is_needed() -> None:
    before = _contract.selected_start_method()
    with pytest.raises(RuntimeError, match=r"'subint' needs Python 3\.14 or newer; this is"):
        spawn.try_set_start_method("subint")
    with pytest.raises(RuntimeError, match=r"'subint' needs Python 3\.14"):
        run_subint_in_worker_thread("pass")
    assert _contract.selected_start_method() == before


def test_another_implementation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 14, 0, "final", 0))
    monkeypatch.setattr(sys.implementation, "name", "pypy")
    with pytest.raises(RuntimeError, match="'subint' needs CPython; this is pypy"):
        SubintBackend().is_available()


def test_satisfies_the_contract() -> None:
    process: type[ChildProcess] = SubintProcess
    backend: _contract.SpawnBackend = SubintBackend()
    assert process is SubintProcess
    assert backend.key == "subint"


def test_the_key_stays_listed() -> None:
    assert "subint" in _contract.known_start_methods()
    assert ("subint" in _contract.usable_start_methods()) is HAS_SUBINTS


def test_it_cannot_be_debugged() -> None:
    with pytest.raises(
        RuntimeError,
        match=r"`debug_mode` is not supported on 'subint'; supported: \['trio', 'main_thread_fork",
    ):
        _contract.require_debug_support("subint")
    _contract.require_debug_support("trio")


@pytest.mark.parametrize(
    ("exc", "status"),
    [
        (None, 0),
        (SystemExit(), 0),
        (SystemExit(None), 0),
        (SystemExit(3), 3),
        (SystemExit(-1), 255),
        (SystemExit(256), 0),
        (SystemExit(True), 1),
        (SystemExit("text"), 1),
        (SystemExit(2.5), 1),
        (KeyboardInterrupt(), -2),
        (ValueError(), 1),
        (BaseExceptionGroup("", [SystemExit(3)]), 1),
    ],
)
def test_exit_status(exc: BaseException | None, status: int) -> None:
    assert _exit.exit_status(exc) == status


# -- the primitive --


@needs_subints
def test_the_primitive_runs_code_and_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "out"
    before = interpreters()
    run_subint_in_worker_thread(
        "import threading, os, _interpreters\n"
        f"open({str(file)!r}, 'w').write(f'{{threading.get_native_id()}} "
        "{os.getpid()} {_interpreters.get_current()[0]} {__name__}')",
        thread_name="mine",
    )
    thread, pid, number, name = file.read_text().split()
    assert int(thread) != threading.get_native_id()
    assert int(pid) == os.getpid()
    assert int(number) not in before
    assert name == "__main__"
    assert interpreters() == before


@needs_subints
@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("import no_such_module_", "ModuleNotFoundError: No module named 'no_such_module_'"),
        ("x =", "SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", "ended with status 3"),
        ("raise SystemExit('why')", "SystemExit: why"),
        ("raise ExceptionGroup('two', [ValueError(), KeyError('k')])", "KeyError: 'k'"),
    ],
)
def test_the_primitive_says_what_went_wrong(code: str, text: str) -> None:
    before = interpreters()
    with pytest.raises(RuntimeError) as info:
        run_subint_in_worker_thread(code)
    assert text in str(info.value)
    assert interpreters() == before


@needs_subints
@pytest.mark.parametrize("code", ["raise SystemExit", "raise SystemExit(0)", "pass"])
def test_a_good_end(code: str) -> None:
    run_subint_in_worker_thread(code)


@needs_subints
def test_the_primitive_gives_up_after_its_limit_and_destroys_it_later(tmp_path: Path) -> None:
    before = interpreters()
    stop = tmp_path / "stop"
    with pytest.raises(
        RuntimeError,
        match=r"join_timeout=0\.2 s; abandoned: sub-interpreter \d+, which still runs, .*'stuck'",
    ):
        run_subint_in_worker_thread(
            f"import os, time\nwhile not os.path.exists({str(stop)!r}): time.sleep(0.005)",
            thread_name="stuck",
            join_timeout=0.2,
        )
    assert interpreters() > before
    stop.touch()
    wait_until(lambda: interpreters() == before and not _exit._held)


@needs_subints
def test_an_interpreter_with_threads_left_is_not_destroyed(tmp_path: Path) -> None:
    before = interpreters()
    stop = tmp_path / "stop"
    with pytest.raises(
        RuntimeError, match=r"runs no code any more.* threads still run in it: mine"
    ):
        run_subint_in_worker_thread(
            "import os, threading, time\n"
            "def wait():\n"
            f"    while not os.path.exists({str(stop)!r}): time.sleep(0.005)\n"
            "threading.Thread(target=wait, daemon=True, name='mine').start()"
        )
    assert len(interpreters() - before) == 1
    stop.touch()
    wait_until(lambda: interpreters() == before and not _exit._held)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# -- a process --


def run(main: Callable[[trio.Nursery], Awaitable[None]]) -> None:
    async def outer() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                await main(nursery)

    trio.run(outer)


def stand_in(code: str) -> SubintBackend:
    """A backend whose children run ``code`` as a function of their ChildArgs."""
    lines = "\n    ".join(["import os, select, time", *code.splitlines()])
    return SubintBackend(
        f"from tractor._child import ChildArgs\ndef run_child(args):\n    {lines}\n"
    )


UNTIL_ASKED = "select.select([args.boot_fd], [], [])\nos.read(args.boot_fd, 4096)\n"
# The first read gives the boot record, the next waits for the end of file.
UNTIL_ASKED += "return len(os.read(args.boot_fd, 1))"


@needs_subints
def test_arguments_and_no_argument_is_taken_for_the_process() -> None:
    async def main(nursery: trio.Nursery) -> None:
        code = (
            'assert args.name == "o\'neil\\udcff", args\n'
            "assert args.uuid == '0f' * 18\n"
            "assert args.parent_addr == ('/run/x', 'a@1.sock')\n"
            "assert args.loglevel is None and not args.infect_asyncio and not args.own_process\n"
            "from tractor.spawn._boot import read_boot_record\n"
            "record = read_boot_record(args.boot_fd)\n"
            "assert record.authkey == b'k' * 32 and record.stderr_fd is None\n"
            "assert record.start_method == 'trio'\n"
            "return 0"
        )
        process = await stand_in(code).start(request(), nursery)
        assert await process.wait() == 0
        assert process.pid == os.getpid()
        assert process.stderr_tail() == ""
        await process.aclose()
        with pytest.raises(TypeError, match=r"takes no `proc_kwargs`, got \['cwd'\]"):
            await SubintBackend().start(request(cwd="/"), nursery)

    run(main)


@needs_subints
@pytest.mark.parametrize("code", ["raise ValueError('boo')", "import no_such_module_"])
def test_a_failure_is_the_tail_and_is_logged(code: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main(nursery: trio.Nursery) -> None:
        process = await stand_in(code).start(request(), nursery)
        assert process.returncode is None
        assert await process.wait() == 1
        assert process.returncode == 1
        await process.drain_stderr()
        assert process.stderr_tail().startswith("Traceback (most recent call last):")
        assert process.stderr_tail().rstrip().endswith(("boo", "'no_such_module_'"))
        process.terminate()
        process.kill()
        assert process.returncode == 1
        await process.aclose()
        await process.aclose()

    run(main)
    assert "failed in its sub-interpreter:\nTraceback" in caplog.text


@needs_subints
@pytest.mark.parametrize("bootstrap", ["import no_such_module_", "x ="])
def test_a_bootstrap_that_fails(bootstrap: str) -> None:
    async def main(nursery: trio.Nursery) -> None:
        process = await SubintBackend(bootstrap).start(request(), nursery)
        assert await process.wait() == 1
        assert ("no_such_module_" in process.stderr_tail()) or (
            "SyntaxError" in process.stderr_tail()
        )
        await process.aclose()

    run(main)


@needs_subints
def test_waiting_can_be_cancelled_and_several_may(caplog: pytest.LogCaptureFixture) -> None:
    async def main(nursery: trio.Nursery) -> None:
        process = await stand_in(UNTIL_ASKED).start(request(), nursery)
        wait_until(lambda: process._thread.steps_begun == 2)
        seen: list[int] = []
        with trio.move_on_after(0.05) as limit:
            await process.wait()
        assert limit.cancelled_caught
        async with trio.open_nursery() as waiters:
            for _ in range(3):

                async def one() -> None:
                    seen.append(await process.wait())

                waiters.start_soon(one)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert "subint-trio[" in process.cmdline
            assert sys.executable in process.cmdline
            process.terminate()
        assert seen == [0, 0, 0]
        assert not process.abandoned
        await process.aclose()

    run(main)
    assert not caplog.records


@needs_subints
@pytest.mark.parametrize("how", ["terminate", "release_lifeline", "aclose", "kill"])
def test_every_way_to_ask(how: str) -> None:
    async def main(nursery: trio.Nursery) -> None:
        process = await stand_in(UNTIL_ASKED).start(request(), nursery)
        wait_until(lambda: process._thread.steps_begun == 2)
        if how == "aclose":
            await process.aclose()
        else:
            getattr(process, how)()
        assert await process.wait() == 0
        await process.aclose()

    run(main)


@needs_subints
def test_one_that_still_boots_does_not_go_on() -> None:
    async def main(nursery: trio.Nursery) -> None:
        process = await SubintBackend("import time; time.sleep(0.3)\n1/0").start(request(), nursery)
        wait_until(lambda: process._thread.steps_begun == 1)
        process.kill()
        assert await process.wait() == 1
        # It had 3 s, and was not abandoned.
        assert not process.abandoned
        assert "ZeroDivisionError" in process.stderr_tail()
        quiet = await SubintBackend("import time; time.sleep(0.3)").start(request(), nursery)
        wait_until(lambda: quiet._thread.steps_begun == 1)
        quiet.terminate()
        assert await quiet.wait() == 1
        assert quiet.stderr_tail() == ""

    run(main)


@needs_subints
@pytest.mark.parametrize("code", ["time.sleep(0.005)", "pass"])
def test_a_stuck_one_is_abandoned_and_destroyed_if_it_ends(
    code: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = interpreters()
    stop = tmp_path / "stop"

    async def main(nursery: trio.Nursery) -> None:
        loop = f"while not os.path.exists({str(stop)!r}):\n    {code}\nreturn 0"
        process = await stand_in(loop).start(request(), nursery)
        wait_until(lambda: process._thread.steps_begun == 2)
        process.terminate()
        process.kill()
        assert await process.wait() == 1
        assert process.abandoned
        assert await process.wait() == 1
        await process.aclose()
        assert len(interpreters()) == len(before) + 1
        stop.touch()
        while process._thread.join(0) is False:
            await trio.sleep(0.01)

    run(main)
    wait_until(lambda: interpreters() == before and not _exit._held)
    (warning,) = (r.getMessage() for r in caplog.records if r.levelname == "WARNING")
    assert "does not end; abandoned: sub-interpreter" in warning
    assert "which still runs" in warning


@needs_subints
def test_an_interpreter_that_cannot_be_had_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    import _interpreters

    def refuse(*_: object, **__: object) -> int:
        raise _interpreters.InterpreterError("no more of these")

    async def main(nursery: trio.Nursery) -> None:
        monkeypatch.setattr(_interpreters, "create", refuse)
        process = await SubintBackend().start(request(), nursery)
        assert await process.wait() == 1
        assert "no more of these" in process.stderr_tail()
        await process.aclose()

    run(main)


@needs_subints
def test_a_thread_that_cannot_be_had_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main(nursery: trio.Nursery) -> None:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await SubintBackend().start(request(), nursery)
        monkeypatch.undo()
        assert not _exit._held

    run(main)
