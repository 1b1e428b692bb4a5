"""The debugger's REPL of actors elsewhere, on the root's terminal: by a pseudo-terminal."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

if sys.platform == "win32":
    pytest.skip("no pseudo-terminals on this platform", allow_module_level=True)
pytest.importorskip("pexpect")

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "devx"))

from bed import Bed
from bed_ways import KEY, Way
from hosts_tools import STOP, plain, relayed, signal_relays
from pty_terminal import IGNORED, Terminal

from tractor.testing import get_rando_addr

pytestmark = pytest.mark.timeout(300)

PROGRAM = Path(__file__).with_name("pty_far.py")

Play = Callable[..., Terminal]


@pytest.fixture(autouse=True)
def _no_relay() -> Iterator[None]:
    yield
    signal_relays(signal.SIGKILL)


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    """Start `pty_far.py`, with an actor behind each of some hosts: each started by the one before."""
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    with ExitStack() as stack:

        def start(
            what: str,
            hosts: int | Sequence[str],
            how: Callable[..., dict[str, Any]] = plain,
            *,
            ctrl_c: bool = False,
            **more: Any,
        ) -> Terminal:
            if isinstance(hosts, int):
                hosts = [f"command://here-{number}" for number in range(hosts)]
            order = {
                "urls": hosts,
                "options": how(ship="main", deadline=2.0, env=env),
                "root": {"registry_addrs": [get_rando_addr("tcp")], "loglevel": "error", **more},
                "what": what,
            }
            argv = [sys.executable, str(PROGRAM), json.dumps(order)]
            return stack.enter_context(Terminal(argv, tmp_path, ctrl_c=ctrl_c))

        yield start


def test_a_pause_three_levels_away(play: Play) -> None:
    t = play("pause", 2, ctrl_c=True)
    t.stop("paused", "leaf", '-> print("the leaf goes on"')
    t.command("p what", "'pause'")
    t.command("n", '-> if what == "wait"')
    t.leave("c")
    t.end(0, "the root ends")


def test_a_crash_climbs_to_the_root(play: Play) -> None:
    t = play("crash", 2)
    t.stop("crashed", "leaf", "ValueError: the leaf fails")
    t.command("p 'long', 'x' * 200_000", "xxx')")
    for name in ("level_2", "level_1", "root"):
        t.leave("c")
        t.stop("crashed", name, "remote task raised a 'ValueError'")
    t.leave("q")
    t.end(1, "ValueError: the leaf fails")


def test_a_thread_pauses_there(play: Play) -> None:
    pytest.importorskip("greenback")
    t = play("sync", 1, ctrl_c=True)
    t.stop("paused", "leaf", "<Thread(", '-> print("the thread goes on"')
    t.command("n", "--Return--")
    t.leave("c")
    t.end(0, "the root ends")


def test_ctrl_c_takes_the_terminal_from_code_that_does_not_come_back(play: Play) -> None:
    t = play("wait", 1)
    t.stop("paused", "leaf")
    t.command("n", "-> if what")
    t.command("n", "-> await wait()")
    t.leave("n")
    t.wait_for("it waits")
    t.insist_on_ctrl_c(IGNORED)
    # Handed over: from now on it is an ordinary one.
    t.insist_on_ctrl_c("KeyboardInterrupt")
    t.end(-signal.SIGINT)


def test_a_lost_host_gives_the_terminal_back(play: Play) -> None:
    t = play("pause", 1, relayed)
    t.stop("paused", "leaf")
    signal_relays(STOP)
    t.stop("crashed", "root", "HostLost")
    # What is typed is seen, and answered by who has the terminal now.
    t.command("p 'line', 6 * 7", "p 'line', 6 * 7", "('line', 42)")
    t.leave("c")
    t.end(1, "HostLost")


def test_everything_ends_when_the_root_is_killed(play: Play) -> None:
    # The descendants are looked for by the leak check of each test.
    t = play("pause", 1)
    t.stop("paused", "leaf")
    os.kill(t.pid, signal.SIGKILL)
    t.end(-signal.SIGKILL, sane=False)


def test_over_a_network_that_is_lost_at_the_prompt(bed: Bed, play: Play) -> None:
    way = Way(bed, "ssh", "tunnel")
    # Each from the one above it.
    t = play(
        "pause",
        [way.url("h1"), way.url("h2")],
        lambda **given: way.options(**{**given, "env": {}}),
        enable_transports=["tcp"],
        authkey=KEY.decode(),
    )
    t.stop("paused", "leaf")
    t.command("p __import__('socket').gethostname()", "'h2'")
    bed.drop("h1")
    t.stop("crashed", "root", "HostLost")
    t.command("p 'line', 6 * 7", "('line', 42)")
    t.leave("c")
    t.end(1, "HostLost")
