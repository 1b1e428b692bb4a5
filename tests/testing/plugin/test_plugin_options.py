"""The plugin's command line: what it switches on, what it refuses, what it puts back."""

from __future__ import annotations

import os

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def default_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the suite runs on another one, which is in the environment then."""
    monkeypatch.delenv("TRACTOR_SPAWN_METHOD", raising=False)
    # The plugin is named; loading what else is installed is half of a session's start.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


PLUGIN = ("-p", "tractor.testing.pytest", "-p", "no:cacheprovider")


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess(*PLUGIN, *arguments, timeout=30)


def test_options_reach_the_fixtures(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import logging, os, signal
        from tractor.spawn._contract import selected_start_method

        def test_values(
            debug_mode, loglevel, spawn_backend, start_method, tpt_protos, tpt_proto,
            is_forking_spawner, testing_pkg_name,
        ):
            assert debug_mode is True
            assert loglevel == "info"
            assert spawn_backend == start_method == selected_start_method() == "trio"
            assert is_forking_spawner is False
            assert tpt_protos == [tpt_proto] == ["tcp"]
            assert testing_pkg_name == "tractor"
            assert logging.getLogger("tractor").level == logging.INFO
            assert logging.getLogger("tractor.ipc").level == 5
            assert os.environ["TRACTOR_ENABLE_STACKSCOPE"] == "1"
            if hasattr(signal, "SIGUSR1"):
                assert callable(signal.getsignal(signal.SIGUSR1))
        """
    )
    result = run(
        pytester,
        *("--tpdb", "--ll", "info", "--tl", "ipc:transport", "--spawn-backend", "trio"),
        *("--enable-stackscope", "--tpt-proto=tcp"),
    )
    result.assert_outcomes(passed=1)


def test_without_options_nothing_is_switched_on(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import logging, os
        from tractor.log import get_console_log

        def test_values(debug_mode, loglevel, tpt_protos):
            assert debug_mode is False
            assert loglevel is None
            assert tpt_protos == ["uds" if os.name == "posix" else "tcp"]
            assert "TRACTOR_ENABLE_STACKSCOPE" not in os.environ
            assert not logging.getLogger("tractor").handlers
        """
    )
    run(pytester).assert_outcomes(passed=1)


def test_the_other_spellings(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(scope="session")
        def testing_pkg_name():
            return "mylib"
        """
    )
    pytester.makepyfile(
        test_words="""
        import logging

        def test_values(debug_mode, loglevel, test_log, capsys):
            assert debug_mode is True
            assert loglevel == "cancel"
            assert test_log.logger.name == "mylib.test_words"
            assert logging.getLogger("mylib").level == logging.WARNING
            assert logging.getLogger("tractor").level == 22
            test_log.warning("seen")
            test_log.info("too low")
            err = capsys.readouterr().err
            assert "seen" in err
            assert "too low" not in err
        """
    )
    result = run(pytester, "--debug-mode", "--loglevel=warning", "--tractor-loglevel=cancel")
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("--spawn-backend", "subint_fork"),
            ["*--spawn-backend subint_fork: not available here", "*usable here: 'trio'*"],
        ),
        (
            ("--spawn-backend", "teleport"),
            ["*'teleport'*mp_forkserver*"],
        ),
        (
            ("--tpt-proto", "tcp", "test_it.py"),
            ["*--tpt-proto tcp test_it.py*", "*known here:*tcp*"],
        ),
        (("--ll", "loud"), ["*--ll loud*unknown log level 'loud'*"]),
        (("--tl", "info,ipc:debug"), ["*--tl info,ipc:debug*"]),
    ],
    ids=lambda value: value[0].strip("-") if isinstance(value, tuple) else "",
)
def test_what_cannot_work_is_a_usage_error(
    pytester: pytest.Pytester, arguments: tuple[str, ...], told: list[str]
) -> None:
    pytester.makepyfile(test_it="def test_it(): raise RuntimeError('has run')")
    # In this process: it is over before it has begun.
    result = pytester.runpytest_inprocess(*PLUGIN, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(told)


def test_a_test_takes_turns_on_several_transports(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        seen = {}

        def test_first(reg_addr, tpt_proto):
            seen[tpt_proto] = reg_addr

        def test_same_address(reg_addr, tpt_proto):
            assert seen[tpt_proto] == reg_addr

        @pytest.mark.parametrize("tpt_proto", ["tcp"])
        def test_own_values(tpt_proto):
            assert tpt_proto == "tcp"

        def test_distinct():
            assert len(set(seen.values())) == 2
        """
    )
    if os.name != "posix":
        pytest.skip("no Unix sockets on this platform")
    result = run(pytester, "-v", "--tpt-proto", "tcp", "uds")
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines_random(
        ["*test_first[[]tcp[]]*", "*test_first[[]uds[]]*", "*test_own_values[[]tcp[]]*"]
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork backend on this platform")
@pytest.mark.parametrize(
    ("capture", "in_ci"), [("fd", False), ("fd", True), ("sys", True), ("no", False)]
)
def test_fork_backends_need_capture_that_a_child_does_not_share(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, capture: str, in_ci: bool
) -> None:
    if in_ci:
        monkeypatch.setenv("CI", "true")
    pytester.makepyfile(
        test_it="""
        from tractor.spawn._contract import selected_start_method

        def test_it(is_forking_spawner, start_method, set_fork_aware_capture):
            assert is_forking_spawner
            assert start_method == selected_start_method() == "main_thread_forkserver"
            print("hi")
            assert set_fork_aware_capture.readouterr().out == "hi\\n"
            assert set_fork_aware_capture.__class__.__name__ == "CaptureFixture"
        """
    )
    result = run(pytester, "--spawn-backend", "main_thread_forkserver", f"--capture={capture}")
    if capture == "fd" and in_ci:
        assert result.ret == 2
        result.stderr.fnmatch_lines(["*run with --capture=sys or -s*"])
    else:
        result.assert_outcomes(passed=1, warnings=int(capture == "fd"))
        assert ("run with --capture=sys or -s" in result.stdout.str()) == (capture == "fd")
