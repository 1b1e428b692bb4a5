"""What every test gets: private directories, a leak check, a hang report, addresses.

The leak check is a promise of the package turned into a fixture: when a test is over there is no
process, no thread, no file descriptor and no socket file more than when it began.

Most of it is the package's own plugin, `tractor.testing.pytest`, as users have it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import math
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

if sys.platform != "win32":
    import fcntl

from tractor import spawn
from tractor.address._types import UnwrappedAddress
from tractor.testing import get_rando_addr
from tractor.testing._adopter import restart_below_adopter
from tractor.testing._leaks import Resources, clean_up, leaks_since

pytest_plugins = ["tractor.testing.pytest"]

# On a busy machine any example may take long; what hangs has a limit.
hypothesis.settings.register_profile(
    "suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")

# Endpoints live here: a child gets `sys.path` handed down and can import them by name.
sys.path.insert(0, str(Path(__file__).parent / "endpoints"))

LEAK_GRACE = 1.0
"""Seconds that a test's last resources may take to vanish, say an exiting process."""

WATCH_AGAIN = 30.0
"""Seconds after which the watch over stuck tests begins anew."""

_stderr = pytest.StashKey[int]()
_watched = pytest.StashKey[float]()

RUNTIME_VARIABLES = (
    "PYTHONBREAKPOINT",
    # Lines of several processes on one pipe stay whole only when each is written at once.
    "PYTHONUNBUFFERED",
    "TRACTOR_AUTHKEY_FILE",
    "TRACTOR_LOGLEVEL",
    "TRACTOR_MAX_FRAME_SIZE",
)
"""Variables that change what a program does: a test that wants one sets it itself.

All but `TRACTOR_SPAWN_METHOD`, with which the suite runs on another backend, children's programs included.
"""


# -- the process above the session --


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Before anything else: put a process above this one that is given its orphans."""
    program = Path(sys.argv[0])
    if program.name not in ("pytest", "py.test") and program.parts[-2:] != (
        "pytest",
        "__main__.py",
    ):
        return  # pytest runs within another program, which can't be started anew
    # Each of the thousands of interpreters of a session would compile all that it imports.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # Capturing has not begun, but standard input has been replaced.
    capture: Any = config.pluginmanager.get_plugin("capturemanager")
    restart_below_adopter(lambda: capture.suspend_global_capture(in_=True))


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        # A worker has a thread for its channel to the session.  Few tests fork here; what the
        # runtime forks comes from a server of its own.
        config.addinivalue_line(
            "filterwarnings", "ignore:This process .*is multi-threaded, use of f:DeprecationWarning"
        )


# -- parts of the suite --

LONG_FILES = (
    "spawn/test_finding_code.py",
    "manager/test_manager_runs.py",
    "test_examples.py",
    "spawn/test_backends_contract.py",
    "test_docs.py",
    "test_benches.py",
    "supervise/test_supervise_ladder.py",
    "testing/plugin/test_plugin_session.py",
    "faults/test_fault_table.py",
    "services/test_services_storm.py",
    "test_picture.py",
    "test_type_checkers.py",
    "observe/test_trace_truth.py",
    "observe/test_page_browser.py",
    "observe/test_elsewhere.py",
    "devx/otel/test_otel_tree.py",
    "test_recipes.py",
    "chaos/test_state_machine.py",
    "test_fuzz.py",
    "hosts/test_bed.py",
    "chaos/test_chaos.py",
)
"""Those that take longest, for few tests. Files are shared among processes whole; the last ones must be short."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--soak",
        action="store_true",
        help="run tests that do the same many times in their long form, and those with the marker `long`; "
        "give them time: -o timeout=600",
    )
    parser.addoption(
        "--set",
        dest="sets",
        metavar="NAMES",
        default="",
        help="run these parts of the suite only, with commas between them; see tests/sets.toml",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _put_long_files_first(items)
    if not config.getoption("soak"):
        _keep(config, items, lambda item: item.get_closest_marker("long") is None)
    names = [name for name in config.getoption("sets").split(",") if name]
    if not names:
        return
    sets = tomllib.loads(Path(__file__).with_name("sets.toml").read_text())
    if unknown := sorted(set(names) - set(sets)):
        raise pytest.UsageError(f"--set {','.join(unknown)}: choose from {', '.join(sets)}")
    chosen = {entry for name in names for entry in sets[name]}
    of_items = [(item, set(_beginnings(item.nodeid))) for item in items]
    unused = chosen.difference(*(beginnings for _, beginnings in of_items))
    if unused and config.args_source is config.ArgsSource.TESTPATHS:
        raise pytest.UsageError(f"tests/sets.toml: no test's name begins with {sorted(unused)}")
    chosen_items = {item for item, beginnings in of_items if not chosen.isdisjoint(beginnings)}
    _keep(config, items, chosen_items.__contains__)


def _put_long_files_first(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    rank = {here / name: number for number, name in enumerate(LONG_FILES)}
    sizes = Counter(item.path for item in items)
    items.sort(key=lambda item: (rank.get(item.path, len(rank)), -sizes[item.path]))


def _keep(
    config: pytest.Config, items: list[pytest.Item], is_kept: Callable[[pytest.Item], bool]
) -> None:
    """Deselect the others."""
    config.hook.pytest_deselected(items=[item for item in items if not is_kept(item)])
    items[:] = filter(is_kept, items)


def pytest_collection_finish() -> None:
    """What was collected stays: no later look for garbage has to go through it, and no fork to copy what that marks."""
    gc.collect()
    gc.freeze()


def _beginnings(nodeid: str) -> Iterator[str]:
    """The id of a test, and what contains it: parametrization, class, file and directories."""
    yield nodeid
    plain = nodeid.partition("[")[0]
    yield plain
    path, *parts = plain.split("::")
    for end in range(len(parts)):
        yield "::".join([path, *parts[:end]])
    yield from (parent.as_posix() for parent in Path(path).parents)


# -- private directories --


SIGHUP = getattr(signal, "SIGHUP", None)
"""`None` on Windows."""


@pytest.fixture(scope="session", autouse=True)
def private_dir(pytestconfig: pytest.Config) -> Iterator[Path]:
    """A short, private stand-in for the user's runtime, state and cache directories.

    Short, because a Unix socket's path has 108 bytes at most.  Its name is in the environment of
    every process that a test starts, and so it also tells these processes from all others.
    """
    # Ignored in the background of a script, or under `nohup`.  Programs under test would take that over.
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (SIGHUP, signal.SIG_DFL)):
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    path = Path(tempfile.mkdtemp(prefix="tr-", dir="/tmp" if os.name == "posix" else None))
    with pytest.MonkeyPatch.context() as patch:
        for variable in RUNTIME_VARIABLES:
            patch.delenv(variable, raising=False)
        if (backend := pytestconfig.getoption("spawn_backend")) != "trio":
            # For the programs that tests start.
            patch.setenv("TRACTOR_SPAWN_METHOD", backend)
        if not pytestconfig.getoption("enable_stackscope"):
            patch.delenv("TRACTOR_ENABLE_STACKSCOPE", raising=False)
        for variable, name in (
            ("XDG_RUNTIME_DIR", "r"),
            ("XDG_STATE_HOME", "s"),
            ("XDG_CACHE_HOME", "c"),
        ):
            (path / name).mkdir(mode=0o700)
            patch.setenv(variable, str(path / name))
        yield path
    shutil.rmtree(path, ignore_errors=True)


# -- the leak check --


@pytest.fixture
def take_stock() -> Callable[[], Resources]:
    """`Resources.now`, for tests that start and stop many things and compare within one test."""
    return Resources.now


@pytest.fixture(autouse=True)
def leaves_nothing_behind(private_dir: Path) -> Iterator[None]:
    """Fail a test that leaves a process, thread, descriptor or socket file; kill what it left."""
    before = Resources.now()
    yield
    left = leaks_since(before, LEAK_GRACE)
    if left:
        clean_up(before)
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def no_segment_is_left() -> Iterator[None]:
    """No shared memory is left that the test has made."""
    # Here, not above: it is an endpoint module, and most tests need no shared memory.
    import ep_shm

    before = ep_shm.segments()
    yield
    assert ep_shm.segments() <= before


# -- how long a test takes --


@pytest.fixture
def forked_actors(pytestconfig: pytest.Config) -> Iterator[None]:
    """Actors of the test's own process are forks of it, which start in a tenth of the time of an interpreter.

    For tests whose subject begins once the actors run. What each backend's children have in common, and how they
    start and end, is tested with all of them in `tests/spawn`. Programs that the test starts are not concerned.
    With `--soak`, or another backend by `--spawn-backend`, it changes nothing.
    """
    usual = pytestconfig.getoption("spawn_backend")
    if usual != "trio" or pytestconfig.getoption("soak") or not hasattr(os, "fork"):
        yield
        return
    spawn.try_set_start_method("main_thread_forkserver")
    yield
    spawn.try_set_start_method(usual)


@pytest.fixture
def either_backend(request: pytest.FixtureRequest) -> None:
    """As `forked_actors`, but for what a test does on Unix sockets, where actors are interpreters of their own.

    So a test that runs on each transport runs with each of the two kinds of actors, and not four times.
    """
    uds = "tpt_proto" in request.fixturenames and request.getfixturevalue("tpt_proto") == "uds"
    if not uds:
        request.getfixturevalue("forked_actors")


@pytest.fixture
def repeats(pytestconfig: pytest.Config) -> Callable[[int, int], int]:
    """How often: `repeats(few, many)` is the latter with `--soak`, and the former without."""
    return lambda few, many: many if pytestconfig.getoption("soak") else few


# -- tests that are stuck, and tests that other tests would disturb --


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> Iterator[None]:
    # Output is not captured yet.
    session.config.stash[_stderr] = os.dup(2)
    return (yield)


def _watch(config: pytest.Config) -> None:
    """End the session, with all stacks, should the test that begins not end in due time.

    A limit of its own for each test would start and end a thread for each, which on a busy machine
    takes longer than most tests do.
    """
    now = time.monotonic()
    if now - config.stash.get(_watched, -math.inf) > WATCH_AGAIN:
        config.stash[_watched] = now
        limit = 60.0
        with contextlib.suppress(ValueError):  # pytest-timeout is not there
            limit = float(config.getini("timeout") or limit)
        faulthandler.dump_traceback_later(
            2 * limit + WATCH_AGAIN, exit=True, file=config.stash[_stderr]
        )


@contextlib.contextmanager
def _turn(item: pytest.Item) -> Iterator[None]:
    """While a test with the marker `alone` runs, the other workers of the session wait."""
    if not hasattr(item.config, "workerinput"):
        yield
        return
    how = fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH
    # Any two files that all workers know will do.
    with open(__file__) as turn:
        # Who waits to be alone is next: nobody else comes in before it.
        with open(Path(__file__).with_name("sets.toml")) as queue:
            fcntl.flock(queue, fcntl.LOCK_EX)
            fcntl.flock(turn, how)
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    # Around all else, so that no limit of a test's time counts its wait.
    with _turn(item):
        _watch(item.config)
        return (yield)


# -- addresses: each test has its own, on each transport --


@pytest.fixture(params=["tcp", "uds"])
def tpt_proto(request: pytest.FixtureRequest) -> str:
    """The transport: a test that asks for it runs once on each, or on those of `--tpt-proto`."""
    proto: str = request.param
    if proto == "uds" and not hasattr(socket, "AF_UNIX"):
        pytest.skip("no Unix sockets on this platform")
    chosen = request.config.getoption("tpt_protos")
    if chosen is not None and proto not in chosen:
        pytest.skip(f"--tpt-proto {' '.join(chosen)}")
    return proto


@pytest.fixture
def reg_addr(tpt_proto: str) -> UnwrappedAddress:
    """A registry address, unwrapped, of the test's transport, that nobody has used."""
    return get_rando_addr(tpt_proto)
