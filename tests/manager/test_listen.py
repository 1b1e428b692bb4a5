"""Sockets that the manager keeps for its services."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from tractor.manager._listen import KeptSockets
from tractor.services.file._tables import ServiceTable

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="descriptors are handed down")


def _service(**listen: str) -> ServiceTable:
    return ServiceTable(modules=["m"], listen=listen)


def _name_of(fd: int) -> object:
    with socket.socket(fileno=os.dup(fd)) as sock:
        return sock.getsockname()


def test_a_socket_is_bound_once_and_kept(tmp_path: Path) -> None:
    unix = tmp_path / "s.sock"
    services = {
        "a": _service(http="/ip4/127.0.0.1/tcp/0", unix=f"/unix{unix}"),
        "b": _service(http="/ip4/127.0.0.1/tcp/0", unix=f"/unix{unix}"),
    }
    kept = KeptSockets()
    first = kept.open_for(services)
    assert kept.open_for(services) == first
    # A port of one's own for each, but one address is one socket.
    assert _name_of(first["a"]["http"]) != _name_of(first["b"]["http"])
    assert first["a"]["unix"] == first["b"]["unix"]
    assert not os.get_inheritable(first["a"]["unix"])
    with socket.create_connection(_name_of(first["a"]["http"])):  # type: ignore[arg-type]
        pass
    kept.keep_only({"b": _service(unix=f"/unix{unix}")})
    assert unix.exists()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(first["b"]["http"])
    kept.close()
    assert not unix.exists()
    kept.close()


def test_one_that_fails_leaves_nothing_new() -> None:
    kept = KeptSockets()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        services = {
            "a": _service(x="/ip4/127.0.0.1/tcp/0"),
            "b": _service(y=f"/ip4/127.0.0.1/tcp/{port}"),
        }
        before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
        with pytest.raises(OSError, match="in use") as info:
            kept.open_for(services)
        assert info.value.__notes__ == [f"for listen.y of service 'b', /ip4/127.0.0.1/tcp/{port}"]
        if sys.platform == "linux":
            assert len(os.listdir("/proc/self/fd")) == before
    kept.close()


def test_a_dead_socket_file_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    kept = KeptSockets()
    kept.open_for({"a": _service(x=f"/unix{path}")})
    other = KeptSockets()
    with pytest.raises(OSError, match="in use"):
        other.open_for({"a": _service(x=f"/unix{path}")})
    assert path.exists()
    kept.close()


def test_sockets_of_systemd_are_used_by_address_or_name() -> None:
    by_address, by_name, unused = (socket.create_server(("127.0.0.1", 0)) for _ in range(3))
    port = by_address.getsockname()[1]
    kept = KeptSockets(
        [("unknown", by_address.detach()), ("web", by_name.detach()), ("other", unused.detach())]
    )
    found = kept.open_for(
        {"a": _service(web="/ip4/127.0.0.1/tcp/1", x=f"/ip4/127.0.0.1/tcp/{port}")}
    )
    assert _name_of(found["a"]["x"]) == ("127.0.0.1", port)
    assert _name_of(found["a"]["web"]) != ("127.0.0.1", 1)
    assert not any(map(os.get_inheritable, found["a"].values()))
    kept.close()
