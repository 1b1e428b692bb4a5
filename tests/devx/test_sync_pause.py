"""Pauses in sync code: in tasks, threads and asyncio tasks, each in its turn, and never lost."""

from __future__ import annotations

import asyncio
import io
import re
import signal
import sys
import threading
from bdb import BdbQuit
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import ep_sync_pause
import pytest
import trio

import tractor
from tractor import to_asyncio
from tractor.devx.debug import Lock
from tractor.devx.debug.lock._holder import asyncio_task, current_ident, describe
from tractor.devx.debug.repl._greenback import sync_pauses
from tractor.devx.debug.repl._taking import current_holder, take_terminal
from tractor.spawn import usable_start_methods

pytest.importorskip("greenback")

ENDPOINTS = Path(ep_sync_pause.__file__).parent

Type = Callable[..., None]


@pytest.fixture(autouse=True)
def traces_nothing_afterwards() -> Iterator[None]:
    yield
    assert sys.gettrace() is None
    assert trio.run(trio.to_thread.run_sync, sys.gettrace) is None


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Type:
    """Somebody who types these lines."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def typed(*lines: str) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))

    typed()
    return typed


def run_armed(main: Callable[[], Awaitable[Any]], **options: Any) -> None:
    async def root() -> None:
        async with tractor.open_root_actor(debug_mode=True, **options):
            await main()
            await wait_until_free()

    trio.run(root)


async def wait_until_free() -> None:
    """A thread's release is told to the loop; it arrives at one of its next turns."""
    with trio.fail_after(10):
        while Lock.statistics().holder is not None:
            await trio.sleep(0.01)


def text_of_holder() -> str:
    """Who has the terminal, for people."""
    return str(Lock.statistics().holder_task)


# -- where it can be called --


def test_no_runtime() -> None:
    with pytest.raises(tractor.NoRuntime):
        tractor.pause_from_sync()


def test_no_runtime_is_no_hindrance_on_request(
    types: Type, capfd: pytest.CaptureFixture[str]
) -> None:
    types("p 'x is', x", "c")
    x = 3

    def user(x: int) -> int:
        tractor.pause_from_sync(allow_no_runtime=True)
        return x

    assert user(x) == 3
    assert "('x is', 3)" in capfd.readouterr().out


@pytest.mark.parametrize("options", [{"debug_mode": False}, {"maybe_enable_greenback": False}])
def test_an_actor_in_which_greenback_was_not_initialised(options: dict[str, Any]) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(**{"debug_mode": True, **options}):
            with pytest.raises(tractor.InternalError, match="maybe_enable_greenback"):
                tractor.pause_from_sync()

    trio.run(main)


def test_a_task_that_is_older_than_the_root_actor() -> None:
    async def early(ready: trio.Event) -> None:
        await ready.wait()
        with pytest.raises(RuntimeError, match=r"await greenback.ensure_portal\(\)"):
            tractor.pause_from_sync()

    async def main() -> None:
        ready = trio.Event()
        async with trio.open_nursery() as tn:
            tn.start_soon(early, ready)
            await trio.lowlevel.checkpoint()
            async with tractor.open_root_actor(debug_mode=True):
                ready.set()
                await trio.testing.wait_all_tasks_blocked()

    trio.run(main)


def test_the_loop_itself_is_no_place_to_wait() -> None:
    class Pausing(trio.abc.Instrument):
        error: BaseException | None = None

        def before_io_wait(self, timeout: float) -> None:
            try:
                tractor.pause_from_sync()
            except RuntimeError as exc:
                self.error = exc

    async def main() -> None:
        pausing = Pausing()
        trio.lowlevel.add_instrument(pausing)
        await trio.sleep(0.001)
        trio.lowlevel.remove_instrument(pausing)
        assert "no task of it runs" in str(pausing.error)

    run_armed(main)


def test_each_kind_of_holder_has_its_text() -> None:
    async def main() -> None:
        assert re.fullmatch(
            r"<Task '.*main' at 0x[0-9a-f]+>", describe(trio.lowlevel.current_task())
        )
        assert asyncio_task() is None

    trio.run(main)

    class Mine(threading.Thread):
        pass

    assert re.fullmatch(r"<Thread\(a \(b\), initial\)>", describe(Mine(name="a (b)")))
    assert current_ident() is threading.current_thread()

    async def aio() -> None:
        task = asyncio.current_task()
        assert current_ident() is task
        assert re.match(r"<Task 'x' of asyncio, .*aio\(\) at 0x", describe(task))

    async def aio_main() -> None:
        await asyncio.create_task(aio(), name="x")

    asyncio.run(aio_main())


# -- the terminal is held for it --


@pytest.mark.parametrize(
    ("way", "text"),
    [
        ("task", r"<Task '.*' at 0x"),
        ("worker", r"<Thread\(pause_here from "),
        ("thread", r"<Thread\(thread of root, started "),
        ("loop", r"<Thread\(loop of root, started "),
    ],
)
def test_the_terminal_is_held_while_at_the_prompt(way: str, text: str, types: Type) -> None:
    types("n", "said = look()", "c")
    seen: list[str] = []

    def look() -> str:
        seen.append(text_of_holder())
        return "changed"

    async def main() -> None:
        await ep_sync_pause.pause_by(way, "root")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ep_sync_pause, "look", look, raising=False)
        run_armed(main)
    (holder,) = seen
    assert re.match(text, holder)


# -- asyncio tasks --


def run_infected(main: Callable[[], Awaitable[Any]]) -> None:
    async def root() -> None:
        async with tractor.open_root_actor(debug_mode=True):
            await main()
            await wait_until_free()

    to_asyncio.run_as_asyncio_guest(root)


async def aio_pause(look: Callable[[], None]) -> str:
    await asyncio.sleep(0)
    breakpoint()
    said = "goes on"
    return said


def test_a_linked_asyncio_task(types: Type) -> None:
    types("look()", "n", "c")
    seen: list[str] = []

    async def main() -> None:
        said = await to_asyncio.run_task(aio_pause, look=lambda: seen.append(text_of_holder()))
        assert said == "goes on"

    run_infected(main)
    assert re.match(r"<Task 'aio_pause' of asyncio, ", seen[0])


def test_an_asyncio_task_that_nobody_has_linked() -> None:
    async def unlinked() -> None:
        with pytest.raises(RuntimeError, match=r"await greenback.ensure_portal\(\)"):
            tractor.pause_from_sync()

    async def linked() -> None:
        await asyncio.create_task(unlinked())

    async def main() -> None:
        await to_asyncio.run_task(linked)

    run_infected(main)


def test_an_asyncio_task_with_a_portal_of_its_own(types: Type) -> None:
    types("look()", "c")
    seen: list[str] = []

    async def unlinked() -> None:
        import greenback

        await greenback.ensure_portal()
        await aio_pause(lambda: seen.append(text_of_holder()))

    async def linked() -> None:
        await asyncio.create_task(unlinked(), name="own")

    async def main() -> None:
        await to_asyncio.run_task(linked)

    run_infected(main)
    assert re.match(r"<Task 'own' of asyncio, ", seen[0])


def test_an_asyncio_task_that_is_cancelled_while_it_waits_holds_nothing() -> None:
    async def cancelled() -> None:
        with pytest.raises(asyncio.CancelledError):
            tractor.pause_from_sync()

    async def linked() -> None:
        import greenback

        async def with_portal() -> None:
            await greenback.ensure_portal()
            await cancelled()

        task = asyncio.create_task(with_portal())
        while not Lock.statistics().local:
            await asyncio.sleep(0)
        task.cancel()
        await task

    async def main() -> None:
        pauses = sync_pauses()
        lease = take_terminal(pauses, current_holder(pauses))
        await to_asyncio.run_task(linked)
        with trio.fail_after(10):
            while Lock.statistics().local:
                await trio.sleep(0.01)
        assert Lock.statistics().waiting == ()
        lease.release()

    run_infected(main)


# -- what else goes on --


@pytest.mark.parametrize("in_child_task", [False, True])
def test_ctrl_c_is_raised_in_a_busy_task_as_ever(in_child_task: bool) -> None:
    interrupted: list[str] = []

    async def busy() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
            interrupted.append("never")
        except KeyboardInterrupt:
            interrupted.append("at once")
            raise

    async def main() -> None:
        async with tractor.open_root_actor(debug_mode=True):
            if in_child_task:
                async with trio.open_nursery() as tn:
                    tn.start_soon(busy)
            else:
                await busy()

    with pytest.raises(BaseExceptionGroup if in_child_task else KeyboardInterrupt):
        trio.run(main)
    assert interrupted == ["at once"]


@pytest.mark.parametrize("portal", [False, True])
def test_protected_code_stays_protected(portal: bool) -> None:
    interrupted: list[str] = []

    @trio.lowlevel.enable_ki_protection
    async def protected() -> None:
        signal.raise_signal(signal.SIGINT)
        interrupted.append("not here")

    async def main() -> None:
        async with (
            tractor.open_root_actor(debug_mode=True, maybe_enable_greenback=portal),
            trio.open_nursery() as tn,
        ):
            tn.start_soon(protected)

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert interrupted == ["not here"]


def test_the_loop_runs_on_while_the_repl_is_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answered = trio.Event(), threading.Event()

    class Slow(io.StringIO):
        """Somebody who types once the loop has done something."""

        def readline(self, *args: Any) -> str:  # type: ignore[override]
            trio.from_thread.run_sync(asked.set)
            assert answered.wait(30)
            return super().readline(*args)

    monkeypatch.setattr("sys.stdin", Slow("c\n"))

    async def main() -> None:
        async with trio.open_nursery() as tn:
            tn.start_soon(ep_sync_pause.pause_in_worker, "root")
            await asked.wait()
            async with tractor.open_nursery() as an:
                portal = await an.start_actor("kid", enable_modules=["ep_sync_pause"])
                assert await portal.run(ep_sync_pause.ping) == "pong"
                await portal.cancel_actor()
            answered.set()

    run_armed(main)


@pytest.mark.parametrize("way", ["task", "worker"])
def test_a_further_call_while_stepping_is_a_no_op(
    way: str, types: Type, capfd: pytest.CaptureFixture[str]
) -> None:
    types("n", "n", "c")
    passed: list[str] = []

    def user() -> None:
        breakpoint()
        passed.append("first")
        breakpoint()
        passed.append("second")

    async def main() -> None:
        if way == "task":
            user()
        else:
            await trio.to_thread.run_sync(user)

    run_armed(main)
    assert passed == ["first", "second"]
    assert capfd.readouterr().err.count("Opening a pdb REPL in paused actor") == 1


@pytest.mark.parametrize("way", ["task", "worker"])
def test_a_breakpoint_that_was_set_at_the_prompt_takes_the_terminal_anew(
    way: str, types: Type, capfd: pytest.CaptureFixture[str]
) -> None:
    line = next(
        number
        for number, text in enumerate(Path(ep_sync_pause.__file__).read_text().splitlines(), 1)
        if "print(said" in text
    )
    types(f"tbreak {line}", "c", "p 'now', said", "c")

    async def main() -> None:
        await ep_sync_pause.pause_by(way, "root")

    run_armed(main)
    out, err = capfd.readouterr()
    assert "('now', 'root goes on')" in out
    assert err.count("Opening a pdb REPL in paused actor") == 2


def test_quitting_raises_in_the_thread(types: Type) -> None:
    types("q")

    async def main() -> None:
        with pytest.raises(BdbQuit):
            await trio.to_thread.run_sync(ep_sync_pause.pause_here, "root")

    run_armed(main)


def test_a_thread_that_ends_with_the_terminal_gives_it_back() -> None:
    async def main() -> None:
        pauses = sync_pauses()

        def take() -> None:
            take_terminal(pauses, current_holder(pauses))

        thread = threading.Thread(target=take)
        thread.start()
        await trio.to_thread.run_sync(thread.join)
        with trio.fail_after(30):
            lease = await trio.to_thread.run_sync(
                lambda: take_terminal(pauses, current_holder(pauses))
            )
        lease.release()

    run_armed(main)


def test_a_thread_after_the_end_of_the_runtime() -> None:
    results: list[object] = []

    async def main() -> None:
        async with tractor.open_root_actor(debug_mode=True):
            results.append(sync_pauses())

    trio.run(main)
    pauses: Any = results[0]
    with pytest.raises(tractor.NoRuntime, match="has ended"):
        thread_result(lambda: take_terminal(pauses, current_holder(pauses)))


def thread_result(fn: Callable[[], Any]) -> Any:
    box: list[Any] = []

    def run() -> None:
        try:
            box.append(fn())
        except BaseException as exc:
            box.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(box[0], BaseException):
        raise box[0]
    return box[0]


def test_a_failing_fixture_gives_the_terminal_back(types: Type) -> None:
    def fixture(**_kwargs: Any) -> Any:
        raise ValueError("sorry")

    async def main() -> None:
        with pytest.raises(ValueError, match="sorry"):
            tractor.pause_from_sync(repl_fixture=fixture)

    run_armed(main)


# -- on a terminal --

ALL_WAYS = """
import sys
sys.path.insert(0, {endpoints!r})
import trio, tractor, ep_sync_pause

async def main():
    async with tractor.open_nursery(debug_mode=True, start_method={backend!r}) as an:
        portal = await an.start_actor("kid", enable_modules=["ep_sync_pause"])
        for way in {ways!r}:
            await portal.run(ep_sync_pause.pause_by, way=way, label="kid")
            await ep_sync_pause.pause_by(way, "root")
        await portal.cancel_actor()

if __name__ == "__main__":
    trio.run(main)
"""

AT_ONCE = """
import sys
sys.path.insert(0, {endpoints!r})
import asyncio, trio, tractor, ep_sync_pause
from tractor import to_asyncio

async def aio_pause():
    await asyncio.sleep(0)
    return ep_sync_pause.pause_here("asyncio")

async def infected():
    return await to_asyncio.run_task(aio_pause)

async def main():
    async with tractor.open_nursery(debug_mode=True) as an:
        kids = [
            await an.start_actor(name, enable_modules=["ep_sync_pause", "__main__"], infect_asyncio=name == "aio")
            for name in ("aio", "one", "two")
        ]
        async with trio.open_nursery() as tn:
            for kid in kids[1:]:
                tn.start_soon(lambda kid=kid: kid.run(ep_sync_pause.pause_in_task, label="task"))
                tn.start_soon(lambda kid=kid: kid.run(ep_sync_pause.pause_in_worker, label="worker"))
            tn.start_soon(kids[0].run, infected)
            tn.start_soon(ep_sync_pause.pause_in_own_thread, "root")
            tn.start_soon(ep_sync_pause.pause_in_task, "root task")
        for kid in kids:
            await kid.cancel_actor()
    print("all done")

if __name__ == "__main__":
    trio.run(main)
"""


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Run a program on a terminal of its own."""
    pytest.importorskip("pexpect")
    if sys.platform == "win32":
        pytest.skip("no pseudo-terminals on this platform")
    sys.path.insert(0, str(Path(__file__).parent))
    from pty_terminal import Terminal

    def start(source: str, **options: Any) -> Any:
        script = tmp_path / "program.py"
        script.write_text(source)
        terminal = Terminal([sys.executable, str(script)], tmp_path, **options)
        started.append(terminal)
        return terminal

    started: list[Terminal] = []
    yield start
    for terminal in started:
        terminal.__exit__(None, None, None)


@pytest.mark.parametrize(("ctrl_c", "backend"), [(False, "main_thread_forkserver"), (True, "trio")])
def test_each_way_in_root_and_child(play: Callable[..., Any], ctrl_c: bool, backend: str) -> None:
    if backend not in usable_start_methods():
        pytest.skip(f"no {backend} on this platform")
    ways = ("task", "worker", "thread", "loop")
    source = ALL_WAYS.format(endpoints=str(ENDPOINTS), ways=ways, backend=backend)
    terminal = play(source, ctrl_c=ctrl_c)
    for way in ways:
        for name in ("kid", "root"):
            holder = "<Task '" if way == "task" else "<Thread("
            stop = terminal.stop("paused", name, holder)
            assert 'said = f"{label} goes on"' in stop.text
            terminal.command("n", "print(said, flush=True)")
            terminal.leave()
    text = terminal.end(0)
    assert "Traceback" not in text


def test_all_that_pause_at_once_have_their_turn(play: Callable[..., Any]) -> None:
    terminal = play(AT_ONCE.format(endpoints=str(ENDPOINTS)))
    seen: Counter[tuple[str, str]] = Counter()
    for _ in range(7):
        stop = terminal.stop("paused")
        seen[stop.name, "thread" if "<Thread(" in stop.holder else "task"] += 1
        terminal.command("p label", "'")
        terminal.leave()
    terminal.end(0, "all done")
    kids = [(name, kind) for name in ("one", "two", "root") for kind in ("task", "thread")]
    assert seen == Counter([("aio", "task"), *kids])


COMPLETION = """
import trio, tractor

async def main():
    async with tractor.open_root_actor(debug_mode=True):
        some_quite_long_name = 3
        await tractor.pause()
        print(some_quite_long_name)

trio.run(main)
"""


def test_tab_completes_and_ctrl_c_keeps_what_was_typed(play: Callable[..., Any]) -> None:
    terminal = play(COMPLETION)
    terminal.stop("paused", "root")
    terminal._spawn.send("p some_qu\t")
    terminal._expect("some_quite_long_name")
    terminal.insist_on_ctrl_c("Ignoring SIGINT while debug REPL in use")
    # The fresh prompt has the half-typed line, and it is still what is carried out.
    terminal._expect(re.escape("(Pdb+) p some_quite_long_name"))
    terminal._spawn.sendline(" + 1")
    terminal._expect("4")
    terminal.prompt()
    terminal.leave()
    terminal.end(0, "3")


STUCK = """
import trio, tractor

async def main():
    async with tractor.open_root_actor(debug_mode=True):
        await tractor.pause()
        await trio.sleep_forever()
        print("unreachable")

trio.run(main)
"""


def test_ctrl_c_ends_a_step_that_does_not_come_back(play: Callable[..., Any]) -> None:
    terminal = play(STUCK)
    terminal.stop("paused", "root", "trio.sleep_forever()")
    terminal._spawn.sendline("n")
    terminal._expect(re.escape("n"))
    terminal.press_ctrl_c()
    terminal._expect(re.escape("Ignoring SIGINT while debug REPL in use"))
    terminal.press_ctrl_c()
    terminal.end(-2, "KeyboardInterrupt")
