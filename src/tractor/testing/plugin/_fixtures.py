"""The fixtures of the plugin."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import trio

from tractor import log as _log
from tractor.address._types import UnwrappedAddress
from tractor.reaping._signals import reap
from tractor.reaping._strays import find_descendants
from tractor.runtime._vars import get_runtime_vars, set_runtime_vars
from tractor.testing._addrs import get_rando_addr
from tractor.testing.hangs import _timeouts
from tractor.testing.hangs._runaway import find_runaway_subactors
from tractor.testing.plugin._config import forks, session_transports
from tractor.transport._uds_leftovers import find_orphaned_uds, reap_uds

# -- what the command line says --


@pytest.fixture(scope="session")
def debug_mode(pytestconfig: pytest.Config) -> bool:
    """Whether `--tpdb` was given: for ``open_root_actor(debug_mode=...)``."""
    return bool(pytestconfig.getoption("tractor_debug_mode"))


@pytest.fixture(scope="session")
def testing_pkg_name() -> str:
    """The name of the package under test; override it to have its log at the level of `--ll`."""
    return "tractor"


@pytest.fixture(scope="session", autouse=True)
def loglevel(pytestconfig: pytest.Config, testing_pkg_name: str) -> Iterator[str | None]:
    """The level for ``open_root_actor(loglevel=...)``: a plain one of `--tl`, else `--ll`."""
    level: str | None = pytestconfig.getoption("loglevel")
    spec: str | None = pytestconfig.getoption("tractor_loglevel")
    plain = None if spec is None else _log.parse_logspec(spec)[0]
    if level is None or (testing_pkg_name == "tractor" and plain is not None):
        yield plain or level
        return
    logger = _log.get_logger(pkg_name=testing_pkg_name, mk_sublog=False).logger
    before, handlers = logger.level, list(logger.handlers)
    _log.get_console_log(level, pkg_name=testing_pkg_name)
    yield plain or level
    logger.setLevel(before)
    for handler in set(logger.handlers).difference(handlers):
        logger.removeHandler(handler)


@pytest.fixture
def test_log(request: pytest.FixtureRequest, testing_pkg_name: str) -> _log.StackLevelAdapter:
    """The logger for the test module's own words, below that of the package under test."""
    return _log.get_logger(request.path.stem, pkg_name=testing_pkg_name)


@pytest.fixture(scope="session")
def spawn_backend(pytestconfig: pytest.Config) -> str:
    """The key that was given with `--spawn-backend`."""
    return str(pytestconfig.getoption("spawn_backend"))


@pytest.fixture(scope="session")
def start_method(request: pytest.FixtureRequest, spawn_backend: str) -> str:
    """The spawn backend, as a parameter: part of the test's name."""
    return str(getattr(request, "param", spawn_backend))


@pytest.fixture(scope="session")
def is_forking_spawner(spawn_backend: str) -> bool:
    """Whether actors are made by `fork()`."""
    return forks(spawn_backend)


@pytest.fixture
def set_fork_aware_capture(
    request: pytest.FixtureRequest, is_forking_spawner: bool
) -> pytest.CaptureFixture[str]:
    """`capfd`, or with a fork backend `capsys`, for a forked actor must not share capture files."""
    capture: pytest.CaptureFixture[str]
    capture = request.getfixturevalue("capsys" if is_forking_spawner else "capfd")
    return capture


# -- transports and addresses --


@pytest.fixture(scope="session")
def tpt_protos(pytestconfig: pytest.Config) -> list[str]:
    """The keys that were given with `--tpt-proto`; without it, the one of the platform."""
    return list(session_transports(pytestconfig))


@pytest.fixture(scope="session")
def tpt_proto(request: pytest.FixtureRequest, tpt_protos: list[str]) -> str:
    """The transport: a test that takes it runs once on each of `tpt_protos`."""
    return str(getattr(request, "param", tpt_protos[0]))


@pytest.fixture(scope="session")
def reg_addr(tpt_proto: str) -> UnwrappedAddress:
    """The registry's address, random, the same for all tests of this session on one transport."""
    return get_rando_addr(tpt_proto)


# -- limits --


@pytest.fixture
def fail_after_w_trace(
    request: pytest.FixtureRequest,
) -> Callable[..., AbstractAsyncContextManager[trio.CancelScope]]:
    """`tractor.testing.fail_after_w_trace`, labelled with the test's name unless told otherwise."""

    def limit(
        seconds: float, *, label: str = request.node.name, **kwargs: Any
    ) -> AbstractAsyncContextManager[trio.CancelScope]:
        return _timeouts.fail_after_w_trace(seconds, label=label, **kwargs)

    return limit


@pytest.fixture
def afk_alarm_w_trace(
    request: pytest.FixtureRequest,
) -> Callable[..., AbstractContextManager[None]]:
    """`tractor.testing.afk_alarm_w_trace`, labelled with the test's name unless told otherwise."""

    def alarm(
        seconds: float, *, label: str = request.node.name, **kwargs: Any
    ) -> AbstractContextManager[None]:
        return _timeouts.afk_alarm_w_trace(seconds, label=label, **kwargs)

    return alarm


# -- what a test leaves behind --


@pytest.fixture(autouse=True)
def _runtime_vars_as_before() -> Iterator[None]:
    before = get_runtime_vars()
    yield
    assert isinstance(before, dict)
    set_runtime_vars(before)


@pytest.fixture
def reap_subactors_per_test(request: pytest.FixtureRequest) -> Iterator[int]:
    """End what processes the test left below this one, with a warning; yields this one's pid."""
    parent = os.getpid()
    before = {(int(pid), pid.start_time) for pid in find_descendants(parent)}
    yield parent
    left = [p for p in find_descendants(parent) if (int(p), p.start_time) not in before]
    if left:
        signalled, killed = reap(left)
        _collect(left)
        warnings.warn(
            f"{request.node.nodeid} left processes behind: SIGINT to {signalled}, "
            f"SIGKILL to {killed}",
            stacklevel=2,
        )


def _collect(pids: list[Any]) -> None:
    """Wait for those ended processes that are children of this one."""
    for pid in pids:
        with contextlib.suppress(OSError):
            os.waitpid(pid, os.WNOHANG)  # type: ignore[attr-defined, unused-ignore]


@pytest.fixture
def track_orphaned_uds_per_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Remove socket files whose actor died during the test, with a warning."""
    before = set(find_orphaned_uds())
    yield
    left = [path for path in find_orphaned_uds() if path not in before]
    if left:
        reap_uds(left)
        names = ", ".join(path.name for path in map(Path, left))
        warnings.warn(f"{request.node.nodeid} left socket files behind: {names}", stacklevel=2)


@pytest.fixture
def detect_runaway_subactors_per_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Warn of processes that the test left running and that use more than 95 % of a CPU."""
    if "reap_subactors_per_test" in request.fixturenames:
        # What is set up first ends last: look at the processes before they are ended.
        request.getfixturevalue("reap_subactors_per_test")
    yield
    for pid, share in find_runaway_subactors():
        warnings.warn(
            f"{request.node.nodeid} left process {pid} running, at {share:.0%} of a CPU",
            stacklevel=2,
        )
