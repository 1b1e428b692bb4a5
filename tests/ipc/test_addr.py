"""Addresses: what is one, what can be bound, which to prefer."""

from __future__ import annotations

import copy
import os
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tractor.ipc import _addr
from tractor.ipc._addr import (
    HAS_UDS,
    TCPAddress,
    UDSAddress,
    default_lo_addrs,
    get_address_cls,
    is_wrapped_addr,
    mk_uuid,
    prefer_addr,
    rank_addrs,
    require_bindable,
    require_connectable,
    wrap_address,
)
from tractor.ipc._addr_types import SUN_PATH_SIZE

needs_uds = pytest.mark.skipif(not HAS_UDS, reason="no Unix domain sockets here")


@pytest.fixture
def runtime_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tractor.ipc._addr_types.runtime_dir_path", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("host", "kept"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("FE80::1%eth0", "fe80::1%eth0"),
        ("Example.COM", "example.com"),
        ("my_host-1", "my_host-1"),
        ("host.", "host."),
    ],
)
def test_tcp_hosts(host: str, kept: str) -> None:
    assert TCPAddress(host, 1).unwrap() == (kept, 1)


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "a..b",
        "-a",
        "a-",
        "a b",
        "256.0.0.1",
        "1.2.3",
        "[::1]",
        "x" * 64,
        "a." * 127 + "a",
        "ü.de",
        "a/b",
    ],
)
def test_bad_tcp_hosts(host: str) -> None:
    with pytest.raises(ValueError, match="neither an IP literal nor a DNS name"):
        TCPAddress(host, 1)


@pytest.mark.parametrize("port", ["80", 80.0, True, None])
def test_a_port_is_an_int(port: Any) -> None:
    with pytest.raises(TypeError):
        TCPAddress("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "port", "valid"),
    [
        ("127.0.0.1", 1, True),
        ("127.0.0.1", 65535, True),
        ("127.0.0.1", 0, False),
        ("127.0.0.1", 65536, False),
        ("127.0.0.1", -1, False),
        ("8.8.8.8", 1, True),
        ("2001:db8::1", 1, True),
        ("0.0.0.0", 1, True),
        ("::", 1, True),
        ("224.0.0.1", 1, False),
        ("ff02::1", 1, False),
        ("::ffff:224.0.0.1", 1, False),
        ("example.com", 1, True),
    ],
)
def test_tcp_validity(host: str, port: int, valid: bool) -> None:
    assert TCPAddress(host, port).is_valid is valid


@pytest.mark.parametrize(
    ("host", "loopback", "wildcard"),
    [
        ("127.8.8.8", True, False),
        ("::1", True, False),
        ("::ffff:127.0.0.1", True, False),
        ("localhost", True, False),
        ("localhost.example.com", False, False),
        ("10.0.0.1", False, False),
        ("0.0.0.0", False, True),
        ("::", False, True),
    ],
)
def test_tcp_reach(host: str, loopback: bool, wildcard: bool) -> None:
    addr = TCPAddress(host, 1)
    assert (addr.is_loopback, addr.is_wildcard) == (loopback, wildcard)


def test_checks_at_the_point_of_use() -> None:
    require_bindable(TCPAddress("::", 0))
    require_connectable(TCPAddress("example.com", 80))
    for addr in (TCPAddress("224.0.0.1", 0), TCPAddress("127.0.0.1", 70000)):
        with pytest.raises(ValueError, match=addr.host):
            require_bindable(addr)
    for addr in (
        TCPAddress("127.0.0.1", 0),
        TCPAddress("0.0.0.0", 80),
        TCPAddress("224.0.0.1", 80),
    ):
        with pytest.raises(ValueError, match=addr.host):
            require_connectable(addr)
    with pytest.raises(ValueError, match="absolute"):
        require_bindable(UDSAddress("relative", "x.sock"))


@pytest.mark.parametrize(
    "make",
    [lambda: TCPAddress("127.0.0.1", 1), lambda: UDSAddress("/run/x", "a.sock", 7)],
    ids=["tcp", "uds"],
)
def test_addresses_are_frozen_values(make: Callable[[], Any]) -> None:
    addr = make()
    assert addr == make()
    assert hash(addr) == hash(make())
    assert pickle.loads(pickle.dumps(addr)) == copy.deepcopy(addr) == addr
    assert type(addr).from_addr(addr.unwrap()) == type(addr).from_addr(list(addr.unwrap())) == addr
    assert isinstance(addr.unwrap(), addr.unwrapped_type)
    for field in addr.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(addr, field, None)


def test_uds_addresses_are_their_file() -> None:
    addr = UDSAddress("/run/x", "a.sock")
    assert addr == UDSAddress("/run/x/", "a.sock", maybe_pid=3)
    assert addr != UDSAddress("/run/x", "b.sock")
    assert addr != TCPAddress("a", 1)
    assert (addr.sockpath, addr.bindspace) == (Path("/run/x/a.sock"), Path("/run/x"))
    assert UDSAddress(Path("/run/x"), "a.sock").filedir == "/run/x"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("directory", "name"), [("/x", "a/b"), ("/x", ".."), ("/x", ""), ("/x", "a\0"), ("/\0", "a")]
)
def test_bad_uds_names(directory: str, name: str) -> None:
    with pytest.raises(ValueError, match="plain file name"):
        UDSAddress(directory, name)


def test_uds_validity() -> None:
    assert UDSAddress("/run", "a.sock").is_valid
    assert not UDSAddress("run", "a.sock").is_valid
    room = SUN_PATH_SIZE - 1 - len("/run/")
    assert UDSAddress("/run", "x" * room).is_valid
    assert not UDSAddress("/run", "x" * (room + 1)).is_valid


@needs_uds
def test_the_longest_valid_path_is_what_the_kernel_takes(tmp_path: Path) -> None:
    room = SUN_PATH_SIZE - 1 - len(os.fsencode(tmp_path)) - 1
    addr = UDSAddress(str(tmp_path), "x" * room)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(addr.sockpath))
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(OSError, match="too long"):
        sock.bind(str(addr.sockpath) + "x")


def test_socket_names() -> None:
    name = UDSAddress.get_sockname
    assert name("worker", 42, "/run") == "worker@42.sock"
    assert name("root.worker_0", 42, Path("/run")) == "root.worker_0@42.sock"
    hashed = name("../evil", 42, "/run")
    assert hashed.startswith("actor.")
    assert hashed.endswith("@42.sock")
    assert "/" not in hashed
    assert (
        len({name(bad, 42, "/run") for bad in ("a/b", "a b", "", ".a", "\ud800", "x" * 200)}) == 6
    )
    assert name("x" * 200, 1, "/run") == name("x" * 200, 1, "/run")
    with pytest.raises(ValueError, match="no room"):
        name("a/b", 1, "/" + "d" * 100)


def test_random_uds_address(runtime_dir: Path, tmp_path: Path) -> None:
    plain = UDSAddress.get_random(name="worker", pid=42, uuid="abcdef123")
    assert plain.unwrap() == (str(runtime_dir), "worker@42.sock")
    plain.sockpath.touch()
    assert (
        UDSAddress.get_random(name="worker", pid=42, uuid="abcdef123").filename
        == "worker-abcdef@42.sock"
    )
    elsewhere = UDSAddress.get_random(tmp_path / "sub", name="worker")
    assert elsewhere.unwrap() == (str(tmp_path / "sub"), f"worker@{os.getpid()}.sock")
    assert UDSAddress.get_random() != UDSAddress.get_random()


def test_random_tcp_address() -> None:
    assert TCPAddress.get_random() == TCPAddress("127.0.0.1", 0)
    assert TCPAddress.get_random("::1").bindspace == "::1"


def test_root_addresses(runtime_dir: Path) -> None:
    assert TCPAddress.get_root().unwrap() == ("127.0.0.1", 1616)
    assert UDSAddress.get_root().unwrap() == (str(runtime_dir), "registry@1616.sock")
    assert UDSAddress.def_bindspace == runtime_dir


@needs_uds
def test_transport_keys(runtime_dir: Path) -> None:
    assert get_address_cls("tcp") is TCPAddress
    assert get_address_cls("uds") is UDSAddress
    assert default_lo_addrs(["uds", "tcp"]) == [
        (str(runtime_dir), "registry@1616.sock"),
        ("127.0.0.1", 1616),
    ]
    with pytest.raises(NotImplementedError, match=r"'carrier-pigeon'.*tcp.*uds"):
        default_lo_addrs(["tcp", "carrier-pigeon"])


@needs_uds
def test_wrapping() -> None:
    tcp, uds = TCPAddress("127.0.0.1", 80), UDSAddress("/run", "a.sock")
    assert wrap_address(tcp) is tcp
    assert wrap_address(("127.0.0.1", 80)) == wrap_address(["127.0.0.1", 80]) == tcp
    assert wrap_address(("/run", "a.sock")) == wrap_address(["/run", "a.sock"]) == uds
    assert wrap_address("/ip4/127.0.0.1/tcp/80") == tcp
    assert wrap_address("/unix/run/a.sock") == uds
    assert is_wrapped_addr(tcp)
    assert not is_wrapped_addr(tcp.unwrap())


@pytest.mark.parametrize(
    "bad",
    [
        None,
        (None, None),
        (),
        ("a",),
        ("a", 1, 2),
        (1, "a"),
        ("a", True),
        "127.0.0.1:80",
        b"/x",
        5,
        {"a": 1},
    ],
)
def test_what_is_no_address(bad: object) -> None:
    with pytest.raises(TypeError, match="no address"):
        wrap_address(bad)


def test_a_form_with_an_impossible_value_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="no room here"):
        wrap_address(("no room here", 80))
    with pytest.raises(ValueError, match="/ip4/x"):
        wrap_address("/ip4/x")


@pytest.mark.parametrize("cls", [TCPAddress, UDSAddress])
def test_from_addr_refuses_other_forms(cls: Any) -> None:
    for bad in (("a", None), "ab", ("a", 1) if cls is UDSAddress else ("a", "b")):
        with pytest.raises(TypeError, match="pair"):
            cls.from_addr(bad)


def test_preference(tmp_path: Path) -> None:
    (tmp_path / "here.sock").touch()
    (tmp_path / "newer.sock").touch()
    near = [(str(tmp_path), "here.sock"), (str(tmp_path), "newer.sock")]
    own = [("127.0.0.1", 1), ("::1", 2)]
    # 192.0.2.0/24 is for documentation; a name is never resolved.
    far = [("198.51.100.7", 3), ("elsewhere.example", 4)]
    gone = [(str(tmp_path), "gone.sock")]
    mixed: list[Any] = [far[0], gone[0], own[0], near[0], near[1], own[1], far[1]]
    assert rank_addrs(mixed) == [near[1], near[0], own[1], own[0], far[1], far[0], gone[0]]
    assert prefer_addr(mixed) == near[1]
    assert prefer_addr([*far, *own]) == own[1]
    assert prefer_addr(["/ip4/198.51.100.7/tcp/1", TCPAddress("localhost", 1)]) == TCPAddress(
        "localhost", 1
    )
    with pytest.raises(ValueError, match="empty"):
        prefer_addr([])


def test_the_own_interfaces_are_local(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _addr.is_local(TCPAddress("0.0.0.0", 1))
    assert not _addr.is_local(TCPAddress("203.0.113.9", 1))
    monkeypatch.setattr(socket, "gethostname", lambda: "This-Host")
    assert _addr.is_local(TCPAddress("this-host", 1))
    assert not _addr.is_local(TCPAddress("other-host", 1))


def test_uuids_are_new_each_time() -> None:
    assert len({mk_uuid() for _ in range(100)}) == 100
    assert len(mk_uuid()) == 36
