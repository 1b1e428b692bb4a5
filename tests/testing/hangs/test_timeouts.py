"""Limits that write a snapshot before anything is unwound."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from pathlib import Path

import pytest
import trio
import trio.testing

from tractor.testing import AFKAlarmTimeout, afk_alarm_w_trace, fail_after_w_trace
from tractor.testing.hangs import _snapshot

alarms = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs SIGALRM")


@pytest.fixture(autouse=True)
def _not_in_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots that are made on purpose are not news for whoever runs these tests."""
    monkeypatch.setattr(_snapshot, "_written", [])


def run(main: object) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))  # type: ignore[arg-type]


async def hang_here() -> None:
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await tidy_up()


async def tidy_up() -> None:
    await trio.lowlevel.checkpoint()


def test_the_snapshot_shows_the_hang_and_not_its_end(tmp_path: Path) -> None:
    async def hang_below() -> None:
        async with (
            fail_after_w_trace(5, label="two words", out_dir=tmp_path),
            trio.open_nursery() as tn,
        ):
            tn.start_soon(hang_here, name="the-culprit")

    async def main() -> None:
        before = trio.current_time()
        with pytest.raises(trio.TooSlowError):
            await hang_below()
        assert trio.current_time() == before + 5

    run(main)
    (found,) = tmp_path.iterdir()
    assert found.name.startswith("two_words__")
    assert {path.name for path in found.iterdir()} == {"trace.txt", "bindspace.txt", "meta.json"}
    trace = (found / "trace.txt").read_text()
    # One line, or with stackscope a stack of them.
    assert "the-culprit" in trace
    assert "hang_here" in trace
    assert "tidy_up" not in trace
    meta = json.loads((found / "meta.json").read_text())
    assert meta["label"] == "two words"
    assert meta["reason"] == "no end within 5 s"


def test_a_loop_that_was_blocked_at_the_limit_is_shown_as_it_was(tmp_path: Path) -> None:
    clock = trio.testing.MockClock()

    async def main() -> None:
        async with fail_after_w_trace(5, label="late", out_dir=tmp_path):
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(60)
            await hang_here()

    with pytest.raises(trio.TooSlowError):
        trio.run(main, clock=clock)
    (found,) = tmp_path.iterdir()
    trace = (found / "trace.txt").read_text()
    assert "hang_here" in trace
    assert "tidy_up" not in trace


def test_no_snapshot_without_a_timeout(tmp_path: Path) -> None:
    async def main() -> None:
        async with fail_after_w_trace(5, label="fine", out_dir=tmp_path) as scope:
            assert trio.current_effective_deadline() == scope.deadline == trio.current_time() + 5
            await trio.sleep(4)
        with pytest.raises(KeyError):
            async with fail_after_w_trace(5, label="fails", out_dir=tmp_path):
                raise KeyError
        with trio.move_on_after(1):
            async with fail_after_w_trace(5, label="outer", out_dir=tmp_path):
                await trio.sleep_forever()
        await trio.sleep(10)

    run(main)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("after", "by", "ends_at"), [(0, 10, 15), (1, -3, 2), (3, 0.5, 5.5)])
def test_the_deadline_may_be_moved(tmp_path: Path, after: float, by: float, ends_at: float) -> None:
    async def move_and_sleep(seconds: float) -> None:
        async with fail_after_w_trace(5, label="moved", out_dir=tmp_path) as scope:
            await trio.sleep(after)
            scope.deadline += by
            await trio.sleep(seconds)

    async def main() -> None:
        await move_and_sleep(ends_at - after - 0.1)
        assert list(tmp_path.iterdir()) == []
        before = trio.current_time()
        with pytest.raises(trio.TooSlowError):
            await move_and_sleep(100)
        assert trio.current_time() == pytest.approx(before + ends_at)
        assert len(list(tmp_path.iterdir())) == 1

    run(main)


def test_no_time_at_all_is_a_timeout_too(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(trio.TooSlowError):
            async with fail_after_w_trace(0, label="none", out_dir=tmp_path):
                await trio.sleep_forever()

    run(main)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_snapshot_that_fails_hides_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()

    async def main() -> None:
        with pytest.raises(trio.TooSlowError):
            async with fail_after_w_trace(1, label="lost", out_dir=in_the_way / "below"):
                await trio.sleep_forever()

    run(main)
    assert "no snapshot of 'lost' could be written" in capsys.readouterr().err


# -- the alarm --


@alarms
def test_alarm_ends_what_blocks(tmp_path: Path) -> None:
    with (
        pytest.raises(AFKAlarmTimeout, match=r"^blocked: nobody came back within 0\.05 s$"),
        afk_alarm_w_trace(0.05, label="blocked", out_dir=tmp_path),
    ):
        time.sleep(60)
    (found,) = tmp_path.iterdir()
    assert "test_alarm_ends_what_blocks" in (found / "trace.txt").read_text()


@alarms
def test_alarm_brings_a_trio_run_down_in_good_order(tmp_path: Path) -> None:
    steps = []

    async def main() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
                steps.append("tidied up")

    with (
        pytest.raises(AFKAlarmTimeout),
        afk_alarm_w_trace(0.05, label="run", out_dir=tmp_path),
    ):
        trio.run(main)
    assert steps == ["tidied up"]
    (found,) = tmp_path.iterdir()
    assert "main" in (found / "trace.txt").read_text()


@alarms
def test_alarm_in_a_task_that_blocks_the_loop(tmp_path: Path) -> None:
    async def main() -> None:
        time.sleep(60)

    with (
        pytest.raises(AFKAlarmTimeout),
        afk_alarm_w_trace(0.05, label="blocked loop", out_dir=tmp_path),
    ):
        trio.run(main)


@alarms
def test_swallowed_alarm_comes_all_the_same(tmp_path: Path) -> None:
    with (
        pytest.raises(AFKAlarmTimeout),
        afk_alarm_w_trace(0.05, label="deaf", out_dir=tmp_path),
        contextlib.suppress(Exception),
    ):
        time.sleep(60)


@alarms
def test_alarm_puts_the_former_one_back(tmp_path: Path) -> None:
    def mine(signum: int, frame: object) -> None:
        pass

    before = signal.signal(signal.SIGALRM, mine)
    old_timer = signal.setitimer(signal.ITIMER_REAL, 600)
    try:
        with afk_alarm_w_trace(300, label="inner", out_dir=tmp_path):
            assert signal.getitimer(signal.ITIMER_REAL)[0] <= 300
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        assert 300 < left <= 600
        assert signal.getsignal(signal.SIGALRM) is mine
        with afk_alarm_w_trace(900, label="outer is earlier", out_dir=tmp_path):
            assert signal.getsignal(signal.SIGALRM) is mine
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *old_timer)
    assert list(tmp_path.iterdir()) == []


@alarms
def test_errors_of_the_block_are_its_own(tmp_path: Path) -> None:
    with pytest.raises(KeyError), afk_alarm_w_trace(600, label="x", out_dir=tmp_path):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_alarm_wants_some_time(seconds: float) -> None:
    with (
        pytest.raises(ValueError, match="some seconds above 0"),
        afk_alarm_w_trace(seconds, label="x"),
    ):
        pass


def test_alarm_wants_the_main_thread() -> None:
    caught: list[BaseException] = []

    def elsewhere() -> None:
        try:
            with afk_alarm_w_trace(1, label="x"):
                pass
        except RuntimeError as exc:
            caught.append(exc)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])
