"""Addresses that nobody else has: not in this process, and not in one beside it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tractor.testing import _addrs, get_rando_addr
from tractor.transport._addresses import wrap_address

MANY = 600
"""More than the ports of two blocks."""

OTHER_SESSION = """
import json, sys
from tractor.testing import get_rando_addr
print(json.dumps([get_rando_addr("tcp") for _ in range(600)]), flush=True)
sys.stdin.read()
"""


def test_calls_never_give_the_same(tpt_proto: str) -> None:
    given = [get_rando_addr(tpt_proto) for _ in range(MANY)]
    assert len(set(given)) == MANY
    assert all(wrap_address(addr).is_valid for addr in given)


def test_sessions_side_by_side_never_get_the_same() -> None:
    sessions = [
        subprocess.Popen(
            [sys.executable, "-c", OTHER_SESSION], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    given = [get_rando_addr("tcp") for _ in range(MANY)]
    for session in sessions:
        assert session.stdout is not None
        given += [(host, port) for host, port in json.loads(session.stdout.readline())]
    for session in sessions:
        session.communicate()
    assert len(set(given)) == len(given) == 4 * MANY


def test_an_address_can_be_listened_on(tpt_proto: str) -> None:
    addr = get_rando_addr(tpt_proto)
    family = socket.AF_INET if tpt_proto == "tcp" else socket.AF_UNIX
    with socket.socket(family) as listener:
        listener.bind(addr if tpt_proto == "tcp" else str(Path(*map(str, addr))))
        listener.listen()
    if tpt_proto == "uds":
        assert f"@{os.getpid()}.sock" in str(addr[1])
        Path(*map(str, addr)).unlink()


def test_a_port_that_somebody_uses_is_left_out() -> None:
    get_rando_addr("tcp")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        _addrs._ports.append(port)
        assert get_rando_addr("tcp") != ("127.0.0.1", port)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
def test_a_forked_child_takes_ports_of_its_own() -> None:
    script = (
        "import os\n"
        "from tractor.testing import get_rando_addr\n"
        "get_rando_addr('tcp')\n"
        "read, write = os.pipe()\n"
        "child = os.fork()\n"
        "ports = {get_rando_addr('tcp')[1] for _ in range(200)}\n"
        "if not child:\n"
        "    os.write(write, ' '.join(map(str, ports)).encode())\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "other = set(map(int, os.read(read, 9999).split()))\n"
        "assert len(other) == len(ports) == 200\n"
        "assert not ports & other\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)


def test_when_all_is_reserved_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_addrs, "_ports", [])
    monkeypatch.setattr(_addrs, "_tried", set(_addrs.PORTS))
    with pytest.raises(RuntimeError, match=r"no TCP ports left for tests: every block of 256"):
        get_rando_addr("tcp")


def test_unknown_transport_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="pigeon"):
        get_rando_addr("pigeon")
