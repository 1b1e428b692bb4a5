"""Supervised foreign processes."""

from __future__ import annotations

import logging
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tractor.trionics import _run_process
from tractor.trionics._run_process import STDERR_TAIL, supervise_run_process


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def run(cmd: Any, **kwargs: Any) -> subprocess.CompletedProcess[bytes]:
    return trio.run(partial(supervise_run_process, cmd, **kwargs))


def relayed(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_it_gives_the_process_and_waits_for_it() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            proc = await nursery.start(supervise_run_process, python("pass"))
            assert isinstance(proc, trio.Process)
            assert (proc.stdin, proc.stdout) == (None, None)
        assert proc.returncode == 0

    trio.run(main)


def test_streams_are_not_ours() -> None:
    code = (
        "import os, sys\n"
        "null = os.stat(os.devnull)\n"
        "for fd in (0, 1):\n"
        "    assert os.path.samestat(os.fstat(fd), null), fd\n"
        "assert not any(os.isatty(fd) for fd in (0, 1, 2))\n"
    )
    for kwargs in ({}, {"stdout": None, "stdin": None, "stderr": None}):
        assert run(python(code), **kwargs).returncode == 0


def test_lines_are_relayed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1, "tractor.trionics")
    code = (
        "import sys\n"
        "sys.stdout.buffer.write('one\\r\\n\\u00e9two\\nlast'.encode()); sys.stdout.flush()\n"
        "sys.stderr.buffer.write(b'bad \\xff\\n')\n"
    )
    run(python(code), relay_stdout=True, relay_stderr=True, label="tool", relay_level="cancel")
    assert sorted(relayed(caplog)) == [
        ("CANCEL", "[tool:err] bad �"),
        ("CANCEL", "[tool:out] last"),
        ("CANCEL", "[tool:out] one"),
        ("CANCEL", "[tool:out] étwo"),
    ]


def test_the_default_label_and_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1, "tractor.trionics")
    run(python("print('x')"), relay_stdout=True)
    assert relayed(caplog) == [("IO", f"[{Path(sys.executable).name}:out] x")]


def test_a_line_without_end_is_cut(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_run_process, "MAX_LINE", 100)
    caplog.set_level(1, "tractor.trionics")
    run(python("print('x' * 1000, end='')"), relay_stdout=True, label="")
    texts = [message.removeprefix("[:out] ") for _, message in relayed(caplog)]
    assert "".join(texts) == "x" * 1000


def test_nothing_is_logged_at_a_disabled_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "tractor.trionics")
    run(python("print('x')"), relay_stdout=True)
    assert caplog.records == []


def test_a_failure_has_the_tail_of_stderr() -> None:
    code = "import sys; sys.stderr.write('a' * 100_000 + 'the end'); sys.exit(3)"
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(python(code), label="tool")
    error = caught.value
    assert error.returncode == 3
    assert error.cmd == python(code)
    assert len(error.stderr) == STDERR_TAIL == 16384
    (note,) = error.__notes__
    assert note.startswith("the last 16384 bytes that 'tool' wrote to stderr:\naaa")
    assert note.endswith("the end")


def test_a_silent_failure_has_no_note() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(python("raise SystemExit(1)"))
    assert not hasattr(caught.value, "__notes__")


def test_without_check_a_failure_is_a_result() -> None:
    assert run(python("raise SystemExit(4)"), check=False).returncode == 4


def test_files_can_be_given(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        code = "import sys; print('o'); print('e', file=sys.stderr); sys.exit(1)"
        with pytest.raises(subprocess.CalledProcessError) as caught:
            run(python(code), stdout=out, stderr=err)
    assert caught.value.stderr is None
    assert (tmp_path / "out").read_text().strip() == "o"
    assert (tmp_path / "err").read_text().strip() == "e"


def test_stderr_may_go_where_stdout_goes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1, "tractor.trionics")
    code = "import sys; print('e', file=sys.stderr)"
    run(python(code), relay_stdout=True, stderr=subprocess.STDOUT, label="t")
    assert relayed(caplog) == [("IO", "[t:out] e")]


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"stdout": subprocess.PIPE}, "stdout=PIPE makes a pipe that nobody reads"),
        ({"stderr": subprocess.PIPE}, "stderr=PIPE makes a pipe that nobody reads"),
        ({"capture_stdout": True}, "capture_stdout=True would hold all output"),
        ({"capture_stderr": True}, "capture_stderr=True would hold all output"),
        ({"relay_stdout": True, "stdout": 7}, "exclude each other"),
        ({"relay_stderr": True, "stderr": 7}, "exclude each other"),
        ({"relay_level": "loud"}, "unknown log level 'loud'"),
    ],
)
def test_wrong_options_start_nothing(kwargs: dict[str, Any], text: str, tmp_path: Path) -> None:
    mark = tmp_path / "started"
    with pytest.raises(ValueError, match=text):
        run(python(f"open({str(mark)!r}, 'w')"), **kwargs)
    assert not mark.exists()


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        run(["/no/such/program"])


def test_cancelling_ends_the_process() -> None:
    async def main() -> trio.Process:
        async with trio.open_nursery() as nursery:
            proc: trio.Process = await nursery.start(
                supervise_run_process, python("import time; time.sleep(1000)")
            )
            assert proc.returncode is None
            nursery.cancel_scope.cancel()
        return proc

    assert trio.run(main).returncode is not None


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors are inherited otherwise there")
def test_a_grandchild_that_holds_a_pipe_open_is_not_waited_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(1, "tractor.trionics")
    monkeypatch.setattr(_run_process, "DRAIN_TIMEOUT", 0.25)
    # The grandchild has the same stdin, and ends when the test closes that.
    grandchild = "import sys; sys.stdin.read()"
    code = (
        "import subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-c', {grandchild!r}])\n"
        "print('x', flush=True)\n"
    )

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            proc = await nursery.start(
                partial(
                    supervise_run_process,
                    python(code),
                    stdin=subprocess.PIPE,
                    relay_stdout=True,
                    label="t",
                )
            )
            await proc.wait()
            while not any("holds its" in message for message in caplog.messages):
                await trio.sleep(0.01)
            await proc.stdin.aclose()

    trio.run(main)
    assert ("IO", "[t:out] x") in relayed(caplog)
    assert (
        "WARNING",
        "'t' has ended, but after 0.25 s another process still holds its stdout and stderr open",
    ) in relayed(caplog)
