"""What systemd tells the manager, and what it is told."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from tractor.manager._notify import Notifier, Systemd, take_from_environment

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="systemd")


def test_its_variables_are_taken_out() -> None:
    env = {
        "NOTIFY_SOCKET": "/run/x",
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": "42",
        "LISTEN_FDS": "2",
        "LISTEN_PID": "42",
        "LISTEN_FDNAMES": "http",
        "HOME": "/root",
    }
    mine = dict(env)
    assert take_from_environment(mine, 42) == Systemd(
        notify_socket="/run/x", watchdog=3.0, listening=(("http", 3), ("unknown", 4))
    )
    assert mine == {"HOME": "/root"}
    # Those of a parent, which has not taken them out, are not ours.
    mine = dict(env)
    assert take_from_environment(mine, 43) == Systemd(notify_socket="/run/x")
    assert mine == {"HOME": "/root"}
    assert take_from_environment({}, 1) == Systemd()
    assert (
        take_from_environment({"WATCHDOG_USEC": "x", "LISTEN_FDS": "-1", "LISTEN_PID": "1"}, 1)
        == Systemd()
    )
    assert take_from_environment({"WATCHDOG_USEC": "500"}, 1).watchdog == 0.0005


@pytest.mark.parametrize("is_abstract", [False, True])
def test_what_is_sent(tmp_path: Path, is_abstract: bool) -> None:
    if is_abstract and sys.platform != "linux":
        pytest.skip("abstract names are Linux's")
    path = f"@tractor-test-{os.getpid()}" if is_abstract else str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{path[1:]}" if is_abstract else path)
        sock.settimeout(5)
        notifier = Notifier(path)

        def got() -> dict[str, str]:
            return dict(line.split("=", 1) for line in sock.recv(4096).decode().splitlines())

        notifier.ready("2 of 2\nservices")
        assert got() == {"READY": "1", "STATUS": "2 of 2 services"}
        notifier.status("2 of 2 services are ready")
        notifier.status("2 of 2 services are ready")
        notifier.alive()
        assert got() == {"STATUS": "2 of 2 services are ready"}
        assert got() == {"WATCHDOG": "1"}
        notifier.reloading("reload")
        told = got()
        assert told["RELOADING"] == "1"
        assert int(told["MONOTONIC_USEC"]) > 0
        notifier.stopping("bye", 12.5)
        assert got() == {"STOPPING": "1", "EXTEND_TIMEOUT_USEC": "12500000", "STATUS": "bye"}
        notifier.close()
        notifier.close()
        notifier.alive()


def test_nobody_listens(tmp_path: Path) -> None:
    for path in ("", "relative", str(tmp_path / "gone")):
        notifier = Notifier(path)
        notifier.ready("x")
        notifier.alive()
        notifier.close()
