"""What the plugin puts back, ends and reports."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest

from tractor.testing.hangs._runaway import cpu_seconds

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def default_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the suite runs on another one, which is in the environment then."""
    monkeypatch.delenv("TRACTOR_SPAWN_METHOD", raising=False)
    # The plugin is named; loading what else is installed is half of a session's start.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


PLUGIN = ("-p", "tractor.testing.pytest", "-p", "no:cacheprovider")

posix_only = pytest.mark.skipif(os.name != "posix", reason="needs signals and Unix sockets")

# A process that is an actor by its command line, and leaves on SIGINT.
FAKE_ACTOR = """
import subprocess, sys, os

def start_fake_actor(folder):
    (folder / "tractor").mkdir(exist_ok=True)
    (folder / "tractor" / "__init__.py").write_text("")
    (folder / "tractor" / "_child.py").write_text(
        "import signal, sys\\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(0))\\n"
        "print('ready', flush=True)\\n"
        "while True:\\n"
        "    signal.pause()\\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-m", "tractor._child", "--uid", "('leftover', 'x')"],
        cwd=folder, stdout=subprocess.PIPE,
    )
    assert child.stdout.readline() == b"ready\\n"
    return child
"""


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess(*PLUGIN, *arguments, timeout=40)


def test_runtime_vars_are_as_before_in_each_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from tractor import get_runtime_vars
        from tractor.runtime._vars import set_runtime_vars

        @pytest.fixture(scope="module", autouse=True)
        def for_the_module():
            set_runtime_vars({"_registry_addrs": [("127.0.0.1", 1)]})

        def test_changes():
            set_runtime_vars({"_debug_mode": True, "_registry_addrs": []})

        def test_sees_the_module_s():
            vars = get_runtime_vars()
            assert vars["_debug_mode"] is False
            assert vars["_registry_addrs"] == [("127.0.0.1", 1)]
        """
    )
    run(pytester).assert_outcomes(passed=2)


@posix_only
def test_leftovers_of_the_session_are_ended_and_told(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(fake=FAKE_ACTOR)
    pytester.makepyfile(
        test_it="""
        import os, socket, subprocess, sys
        from fake import start_fake_actor
        from tractor.process._dirs import get_runtime_dir

        def test_leaves_an_actor_and_a_stranger(tmp_path):
            global child, stranger
            child = start_fake_actor(tmp_path)
            stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

        def test_leaves_a_socket_file():
            dead = subprocess.Popen([sys.executable, "-c", ""])
            dead.wait()
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(get_runtime_dir() / f"gone@{dead.pid}.sock"))
        """
    )
    pytester.makeconftest(
        """
        import pytest

        @pytest.hookimpl(trylast=True)
        def pytest_unconfigure():
            import test_it
            print("actor runs:", test_it.child.poll() is None)
            print("stranger runs:", test_it.stranger.poll() is None)
            test_it.stranger.communicate()
        """
    )
    pytester.syspathinsert()
    result = run(pytester)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "*actors that were left behind, and ended now*",
            "process * (leftover)",
            "socket file *gone@*.sock",
            "actor runs: False",
            "stranger runs: True",
        ]
    )


@posix_only
def test_a_leftover_fork_is_ended_with_a_fork_backend(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import os, signal

        def test_forks():
            read, write = os.pipe()
            if not os.fork():
                signal.signal(signal.SIGINT, lambda *_: os._exit(0))
                os.write(write, b"!")
                while True:
                    signal.pause()
            assert os.read(read, 1) == b"!"
        """
    )
    result = run(pytester, "--spawn-backend=main_thread_forkserver", "--capture=sys")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*actors that were left behind, and ended now*", "process *"])


@posix_only
def test_leftovers_of_a_test_are_ended_with_a_warning(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(fake=FAKE_ACTOR)
    pytester.makepyfile(
        test_it="""
        import itertools, os, socket, subprocess, sys
        import pytest
        from fake import start_fake_actor
        from tractor.process._dirs import get_runtime_dir
        from tractor.testing.hangs import _runaway

        def test_leaves_an_actor(
            tmp_path, reap_subactors_per_test, detect_runaway_subactors_per_test
        ):
            global child
            assert reap_subactors_per_test == os.getpid()
            child = start_fake_actor(tmp_path)

        def test_it_is_gone():
            assert child.poll() is not None

        def test_leaves_a_runaway(
            monkeypatch, tmp_path, reap_subactors_per_test, detect_runaway_subactors_per_test
        ):
            # How much of a CPU a busy process gets is up to the machine.
            seconds = itertools.count(step=100)
            monkeypatch.setattr(
                _runaway, "cpu_seconds", lambda pids: dict.fromkeys(pids, next(seconds))
            )
            start_fake_actor(tmp_path)

        @pytest.mark.usefixtures("reap_subactors_per_test", "detect_runaway_subactors_per_test")
        def test_leaves_nothing():
            subprocess.run([sys.executable, "-c", ""], check=True)

        def test_leaves_a_socket_file(track_orphaned_uds_per_test):
            global path
            dead = subprocess.Popen([sys.executable, "-c", ""])
            dead.wait()
            path = get_runtime_dir() / f"gone@{dead.pid}.sock"
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))

        def test_the_file_is_gone():
            assert not path.exists()
        """
    )
    pytester.syspathinsert()
    result = run(pytester)
    result.assert_outcomes(passed=6, warnings=4)
    result.stdout.fnmatch_lines_random(
        [
            "*test_leaves_a_runaway left process * running, at *% of a CPU",
            "*test_leaves_a_runaway left processes behind: SIGINT to [[]*[]], SIGKILL to [[][]]",
            "*test_leaves_an_actor left processes behind: SIGINT to [[]*[]], SIGKILL to [[][]]",
            "*test_leaves_a_socket_file left socket files behind: gone@*.sock",
        ]
    )


def test_cpu_time_is_that_of_the_process() -> None:
    before = os.times()
    (seconds,) = cpu_seconds([os.getpid()]).values()
    after = os.times()
    tick = 0.02
    assert before.user + before.system - tick <= seconds <= after.user + after.system + tick


def test_snapshots_are_listed_at_the_end(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        import trio

        def test_fixture_names_the_test(fail_after_w_trace, tmp_path):
            async def main():
                async with fail_after_w_trace(0.01, out_dir=tmp_path):
                    await trio.sleep_forever()
            with pytest.raises(trio.TooSlowError):
                trio.run(main)
            (found,) = tmp_path.iterdir()
            assert found.name.startswith("test_fixture_names_the_test__")

        def test_hangs():
            async def main():
                async with trio.open_nursery() as tn:
                    tn.start_soon(trio.sleep_forever, name="the-culprit")
            trio.run(main)
        """
    )
    result = run(pytester, "-p", "pytest_timeout", "-o", "timeout=3", "-o", "timeout_method=signal")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*the-culprit*",
            "*snapshots of what was hanging*",
            "*/test_fixture_names_the_test__*",
            "*/tractor/hung-dumps/*test_hangs__*",
        ]
    )


@posix_only
def test_the_alarm_is_a_fixture_too(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import time
        import pytest
        from tractor.testing import AFKAlarmTimeout

        def test_alarm(afk_alarm_w_trace, tmp_path):
            with pytest.raises(AFKAlarmTimeout, match="test_alarm: nobody"):
                with afk_alarm_w_trace(0.05, out_dir=tmp_path):
                    time.sleep(60)
            assert len(list(tmp_path.iterdir())) == 1
        """
    )
    run(pytester).assert_outcomes(passed=1)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("on_terminal", [True, False])
def test_the_bell_rings_on_a_terminal(pytester: pytest.Pytester, on_terminal: bool) -> None:
    pytester.makepyfile("def test_it(): pass")
    if not on_terminal:
        assert "\a" not in run(pytester).stdout.str()
        return
    master, slave = os.openpty()
    with open(master, "rb", buffering=0) as screen:
        with open(slave, "wb", buffering=0) as terminal:
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *PLUGIN],
                cwd=pytester.path,
                stdin=subprocess.DEVNULL,
                stdout=terminal,
                stderr=terminal,
            )
        shown = b""
        with contextlib.suppress(OSError):  # raised when the other end is closed
            while chunk := screen.read(4096):
                shown += chunk
        process.wait()
    assert b"1 passed" in shown
    assert shown.endswith(b"\a")
