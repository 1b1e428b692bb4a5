"""The demo as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from tractor.demo import __main__ as program
from tractor.demo._asyncio_act import AsyncioAct, asyncio_complaints
from tractor.demo._cluster import Run
from tractor.demo._proof import crash_complaints, index_complaints, process_complaints
from tractor.demo._shm_act import NUMBERS, ShmAct, render_shm_act, shm_complaints

TIME_LIMIT = 45
"""Seconds after which a run hangs."""

COMMAND = (sys.executable, "-m", "tractor.demo")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty good files and one that is none."""
    path = tmp_path / "some folder"
    (path / "sub").mkdir(parents=True)
    for number in range(20):
        text = "".join(f"def f{n}():\n    return {n}\n" for n in range(number + 1))
        (path / "sub" / f"m{number:02}.py").write_text(text)
    (path / "bad.py").write_text("def (:\n")
    return path


def run_demo(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=False,
    )


def rows(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_indexes_crashes_and_leaves_nobody(folder: Path, tpt_proto: str) -> None:
    done = run_demo(folder, "--workers", "2", "--transport", tpt_proto)

    assert done.returncode == 0, done.stdout + done.stderr
    shown = rows(done.stdout)
    assert f"21 Python files in {folder}, 2 workers over {tpt_proto}" in shown
    assert "files 21" in shown
    assert "defined names 210" in shown
    assert "not indexable 1" in shown
    assert any(row.startswith("bad.py: SyntaxError") for row in shown)
    assert "IndexerOnFire" in done.stdout
    assert "in crash_on_purpose" in done.stdout
    assert "200 of 200 answers were right" in done.stdout
    assert "the server's task got TrioTaskExited" in done.stdout
    pids = re.findall(r"indexer_\d +(\d+) ", done.stdout)
    assert len(set(pids)) == 2
    assert f"no process is left (workers were: {', '.join(pids)})" in shown
    assert "100% 21/21 files" in " ".join(done.stderr.split())


def test_ends_in_peace_when_told_so(folder: Path) -> None:
    done = run_demo(folder, "--workers", "1", "--no-crash", "--limit", "5")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "files 5" in rows(done.stdout)
    assert "Traceback" not in done.stdout + done.stderr
    assert "no process is left" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to a process group")
def test_ctrl_c_ends_everything() -> None:
    with subprocess.Popen(
        # They take several times as long as this test lets them.
        [*COMMAND, "--workers", "2", "--limit", "200"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A group of its own: like a terminal's ctrl-c, the signal goes to parent and children.
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        try:
            process.stderr.readline()  # the first line of progress: they are at work
            os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=TIME_LIMIT)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise

    assert process.returncode == 130, out + err
    assert err.strip().endswith("interrupted")
    assert re.search(r"no process is left \(workers were: \d+, \d+\)", out)


def test_killed_worker_fails_the_run_and_leaves_nobody() -> None:
    with subprocess.Popen(
        [*COMMAND, "--workers", "2", "--limit", "200"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            process.stderr.readline()  # the first line of progress: they are at work
            victim, *_ = psutil.Process(process.pid).children()
            victim.kill()
            out, err = process.communicate(timeout=TIME_LIMIT)
        except BaseException:
            process.kill()
            raise

    assert process.returncode == 1, out + err
    assert "killed by SIGKILL" in err
    assert re.search(r"no process is left \(workers were: \d+, \d+\)", out)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no/such/folder"], "there is no folder 'no/such/folder'"),
        ([__file__], "is a file; give the folder"),
        (["--workers", "0"], "workers must be a whole number from 1 on, not '0'"),
        (["--workers", "-3"], "workers must be a whole number from 1 on, not '-3'"),
        (["--workers", "two"], "workers must be a whole number from 1 on, not 'two'"),
        (["--limit", "0"], "limit must be a whole number from 1 on, not '0'"),
        (["--transport", "pigeon"], "pigeon"),
        (["--colour"], "--colour"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: Sequence[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leaving:
        program.main(arguments)

    assert leaving.value.code == 2
    assert says in capsys.readouterr().err


def test_folder_without_python(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").touch()

    with pytest.raises(SystemExit) as leaving:
        program.main([str(tmp_path)])

    assert leaving.value.code == 2
    assert f"there is no .py file in {str(tmp_path)!r} or below it" in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        program.main(["--help"])

    assert leaving.value.code == 0
    assert "--no-crash" in capsys.readouterr().out


# -- a proof that can't fail is none --


def test_lost_files_are_noticed() -> None:
    run = Run(returned=3)
    run.summary.files = 2

    assert index_complaints(run, files=3) == ["3 files were found, 2 reported on"]
    run.summary.files, run.returned = 3, 4
    assert index_complaints(run, files=3) == ["3 files were found, the workers say that they did 4"]


def test_missing_crash_is_noticed() -> None:
    assert crash_complaints(Run()) == ["a worker was told to crash, and no error came back"]


def test_an_asyncio_side_that_did_not_end_with_its_block_is_noticed() -> None:
    act = AsyncioAct(pid=1, right=200, seconds=1.0, served=199, ended_by="")
    answered, told = asyncio_complaints(act)
    assert "199 answered" in answered
    assert "got ''" in told


def test_processes_that_are_left_are_noticed() -> None:
    assert process_complaints(Run()) == []
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        known, unknown = Run(pids={"worker": process.pid}), Run()

        assert process_complaints(known) == [f"process {process.pid} (worker) still exists"]
        if sys.platform == "linux":
            assert process_complaints(unknown) == [
                f"process {process.pid}, a child of this one, still exists"
            ]
    assert process_complaints(known) == []


def test_shared_memory_that_is_left_or_wrong_is_noticed() -> None:
    good = ShmAct(pid=1, key="k", total=sum(range(NUMBERS)), late=NUMBERS - 1)
    assert shm_complaints(good) == []
    assert "killed that process" in render_shm_act(good)
    wrong, left = shm_complaints(ShmAct(pid=1, key="k", total=5, late=0, left=True))
    assert "came to 5" in wrong
    assert "'k' of a killed actor was still there" in left
    skipped = ShmAct(skipped="no such thing here")
    assert shm_complaints(skipped) == []
    assert render_shm_act(skipped) == "shared memory: skipped: no such thing here"
