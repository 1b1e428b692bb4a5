"""What the plugin does when a test hangs, and at the end of a session."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tractor._util._task_tree import format_here
from tractor.reaping._signals import reap
from tractor.reaping._strays import StrayId, find_descendants
from tractor.reaping._table import read_process
from tractor.testing.hangs._snapshot import default_dir, try_snapshot, written_snapshots
from tractor.testing.plugin._config import forks
from tractor.transport._uds_leftovers import find_orphaned_uds, reap_uds

_written_before = pytest.StashKey[int]()
_socket_files_before = pytest.StashKey[frozenset[Path]]()
_snapshot_dir = pytest.StashKey[Path]()
"""That of the user: a test may well have a cache of its own, and remove it."""
_reaped = pytest.StashKey[list[str]]()


def pytest_sessionstart(session: pytest.Session) -> None:
    stash = session.config.stash
    stash[_written_before] = len(written_snapshots())
    stash[_socket_files_before] = frozenset(_orphaned_files())
    stash[_snapshot_dir] = default_dir()
    stash[_reaped] = []


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Iterator[Any]:
    """Before pytest-timeout fails a test: print the task tree, and write a snapshot."""
    result = yield
    if settings.method == "signal":
        fail_test: Any = signal.getsignal(signal.SIGALRM)  # type: ignore[attr-defined, unused-ignore]
        out_dir = item.config.stash.get(_snapshot_dir, None)

        def report_and_fail(signum: int, frame: Any) -> None:
            __tracebackhide__ = True
            print(format_here(), file=sys.stderr)
            label = item.nodeid.rpartition("/")[2]
            try_snapshot(label, f"timeout of {settings.timeout} s", out_dir=out_dir)
            fail_test(signum, frame)

        signal.signal(signal.SIGALRM, report_and_fail)  # type: ignore[attr-defined, unused-ignore]
    return result


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what actors are left, and remove the socket files that dead ones left."""
    reaped = session.config.stash.get(_reaped, None)
    # Workers of pytest-xdist do this for themselves, and may not be at their end yet.
    if reaped is None or session.config.pluginmanager.has_plugin("dsession"):
        return
    # Not on Windows, and on macOS not without psutil.
    with contextlib.suppress(NotImplementedError, RuntimeError):
        left = _left_actors(session.config)
        if left:
            reap(left)
            for pid in left:
                with contextlib.suppress(OSError):
                    os.waitpid(pid, os.WNOHANG)  # type: ignore[attr-defined, unused-ignore]
            reaped.extend(f"process {int(pid)} ({pid.name})" for pid in left)
    before = session.config.stash[_socket_files_before]
    removed, _ = reap_uds(path for path in _orphaned_files() if path not in before)
    reaped.extend(f"socket file {path}" for path in removed)


def _left_actors(config: pytest.Config) -> list[StrayId]:
    me = os.getpid()
    left = find_descendants(me, only_actors=True)
    if forks(config.getoption("spawn_backend")):
        # A forked actor is recognised by its title.  Where nothing could give it one, it has
        # pytest's own command line.
        own, known = read_process(me), set(left)
        for pid in find_descendants(me):
            process = read_process(pid)
            if pid not in known and process and own and process.argv == own.argv:
                left.append(pid)
    return left


def _orphaned_files() -> list[Path]:
    try:
        return find_orphaned_uds()
    except OSError:
        return []


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if reaped := config.stash.get(_reaped, []):
        terminalreporter.section("actors that were left behind, and ended now")
        for line in reaped:
            terminalreporter.write_line(line)
    if snapshots := written_snapshots()[config.stash.get(_written_before, 0) :]:
        terminalreporter.section("snapshots of what was hanging")
        for path in snapshots:
            terminalreporter.write_line(str(path))


def ring_bell(config: pytest.Config) -> None:
    """Ring the terminal's bell, where there is one: a long session is over."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if isinstance(reporter, pytest.TerminalReporter) and reporter.isatty:
        reporter.write("\a", flush=True)
