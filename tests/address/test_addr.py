"""Addresses: what is one, what can be bound, which to prefer."""

from __future__ import annotations

import copy
import errno
import ipaddress
import os
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tractor.address import _policy
from tractor.address._policy import from_this_host, require_bindable, require_connectable
from tractor.address._socket_names import SUN_PATH_SIZE
from tractor.address._types import HAS_UDS, TCPAddress, UDSAddress, mk_uuid
from tractor.transport._addresses import is_wrapped_addr, prefer_addr, rank_addrs, wrap_address
from tractor.transport._table import TCP, default_lo_addrs, get_address_cls, known_transports
from tractor.transport._tcp import bind_tcp, connect_tcp

needs_uds = pytest.mark.skipif(not HAS_UDS, reason="no Unix domain sockets here")


@pytest.fixture
def runtime_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tractor.address._types.runtime_dir_path", lambda: tmp_path)
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
    with pytest.raises(TypeError, match="not an address"):
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
    assert _policy.is_local(TCPAddress("0.0.0.0", 1))
    assert not _policy.is_local(TCPAddress("203.0.113.9", 1))
    monkeypatch.setattr(socket, "gethostname", lambda: "This-Host")
    assert _policy.is_local(TCPAddress("this-host", 1))
    assert not _policy.is_local(TCPAddress("other-host", 1))


def test_uuids_are_new_each_time() -> None:
    assert len({mk_uuid() for _ in range(100)}) == 100
    assert len(mk_uuid()) == 36


# -- spellings --


@pytest.mark.parametrize(
    ("host", "kept"),
    [
        ("::FFFF:10.0.0.1", "::ffff:10.0.0.1"),
        ("::ffff:a00:1", "::ffff:10.0.0.1"),
        ("0:0:0:0:0:ffff:7f00:1", "::ffff:127.0.0.1"),
        ("::1.2.3.4", "::102:304"),
        ("fe80::1%2", "fe80::1%2"),
        ("1.2.3.com", "1.2.3.com"),
        ("0x7f.de", "0x7f.de"),
    ],
)
def test_a_host_has_one_spelling(host: str, kept: str) -> None:
    addr = TCPAddress(host, 1)
    assert addr.unwrap() == (kept, 1)
    assert TCPAddress(*addr.unwrap()) == addr


@pytest.mark.parametrize(
    "host",
    [
        "127.1",
        "0x7f.1",
        "0x7f000001",
        "127.0x1",
        "0177.0.0.01",
        "1",
        "example.1",
        "127.0.0.1.",
        "127.0.0.1%lo",
        "::1%",
        "fe80::1%a b",
        "fe80::1%ü",
        "fe80::1%\n",
        "::1/128",
        "\u0661.2.3.4",
        "a\n",
        " 127.0.0.1",
    ],
)
def test_what_a_resolver_might_take_for_an_address_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="TCP host"):
        TCPAddress(host, 1)


@pytest.mark.parametrize(
    "filedir", ["/run/x", "/run/x/", "/run//x", "//run/x", "/run/./x", "/run/x/."]
)
def test_a_directory_has_one_spelling(filedir: str) -> None:
    addr = UDSAddress(filedir, "a.sock")
    assert addr.unwrap() == ("/run/x", "a.sock")
    assert hash(addr) == hash(UDSAddress("/run/x", "a.sock"))


def test_a_directory_is_not_resolved(tmp_path: Path) -> None:
    # What '..' means depends on symlinks.
    assert UDSAddress("/run/a/../b", "x").unwrap() == ("/run/a/../b", "x")
    (tmp_path / "link").symlink_to("/")
    assert UDSAddress(str(tmp_path / "link"), "x").filedir == str(tmp_path / "link")


def test_a_path_that_no_file_can_have() -> None:
    with pytest.raises(ValueError, match="plain file name"):
        UDSAddress("/run", "a\ud800")
    # A byte that is not a UTF-8 is one that a file name can have.
    assert UDSAddress("/run", os.fsdecode(b"\xff")).is_valid


@pytest.mark.parametrize(
    ("addr", "reason"),
    [
        (TCPAddress("127.0.0.1", -1), r"1\.\.65535"),
        (TCPAddress("224.0.0.1", 1), "multicast"),
        (UDSAddress("run", "a.sock"), "must be absolute"),
        (UDSAddress("/" + "x" * 120, "a.sock"), r"128 bytes is over the \d+ of a socket address"),
    ],
)
def test_the_reason_is_told(addr: Any, reason: str) -> None:
    for check in (require_bindable, require_connectable):
        with pytest.raises(ValueError, match=reason):
            check(addr)


def test_how_this_host_reaches_a_listener() -> None:
    for bound, reached in (
        (TCPAddress("0.0.0.0", 5), TCPAddress("127.0.0.1", 5)),
        (TCPAddress("::", 5), TCPAddress("::1", 5)),
        (TCPAddress("127.0.0.1", 5), TCPAddress("127.0.0.1", 5)),
        (TCPAddress("example.com", 5), TCPAddress("example.com", 5)),
        (UDSAddress("/run", "a.sock"), UDSAddress("/run", "a.sock")),
    ):
        assert from_this_host(bound) == reached


def test_the_transports_that_somebody_asks_for() -> None:
    assert known_transports(["tcp", "tcp"]) == known_transports("tcp") == ["tcp"]
    with pytest.raises(ValueError, match="`enable_transports` is empty"):
        known_transports([])
    with pytest.raises(NotImplementedError, match="'pigeon'"):
        known_transports(["tcp", "pigeon"])


# -- names and addresses at the system's end --


def test_pid_is_no_part_of_an_address() -> None:
    known = UDSAddress("/run", "a.sock", maybe_pid=7)
    assert known == UDSAddress("/run", "a.sock")
    assert {known: 1}[UDSAddress("/run", "a.sock", 9)] == 1
    assert known.unwrap() == ("/run", "a.sock")
    assert UDSAddress.from_addr(known) is known


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "0.0.0.0",
        "localhost",
        pytest.param("::1", marks=needs_ipv6),
        pytest.param("::", marks=needs_ipv6),
        pytest.param("::ffff:127.0.0.1", marks=needs_ipv6),
    ],
)
def test_a_valid_host_can_be_bound_and_connected_to(host: str) -> None:
    async def main() -> None:
        with await bind_tcp(TCPAddress(host, 0)) as listener:
            bound = TCPAddress(*listener.getsockname()[:2])
            assert bound.is_valid
            if host != "localhost":
                assert bound.host == host
            way = from_this_host(bound)
            assert isinstance(way, TCPAddress)
            transport = await connect_tcp(way, max_frame_size=2**20)
            # Both ends have the one spelling, by which registrars compare.
            assert transport.raddr == way
            transport.abort()

    trio.run(main)


def link_local() -> str | None:
    """A link-local address of this machine with its zone."""
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        digits, *_, name = line.split()
        if digits.startswith("fe80"):
            return f"{ipaddress.IPv6Address(int(digits, 16))}%{name}"
    return None


def test_a_link_local_address_keeps_its_zone() -> None:
    host = link_local()
    if host is None:
        pytest.skip("this machine has no IPv6 link-local address")
    addr = TCPAddress(host, 0)
    assert addr.host == host
    assert _policy.is_local(addr)

    async def main() -> None:
        listener = await TCP.bind(addr)
        with listener.sock:
            assert isinstance(listener.addr, TCPAddress)
            assert listener.addr.host == host
            transport = await connect_tcp(listener.addr, max_frame_size=2**20)
            assert transport.raddr == listener.addr
            transport.abort()

    trio.run(main)


def test_a_name_is_the_first_of_its_addresses_that_can_be_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def found(*hosts: str) -> None:
        async def getaddrinfo(_host: str, port: int, **_kw: Any) -> Any:
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port)) for host in hosts]

        monkeypatch.setattr("tractor.transport._tcp.trio.socket.getaddrinfo", getaddrinfo)

    async def main() -> None:
        # 203.0.113.0/24 is for documentation: no interface has it.
        found("203.0.113.9", "127.0.0.1")
        with await bind_tcp(TCPAddress("some.name", 0)) as listener:
            host, port = listener.getsockname()
            assert host == "127.0.0.1"
            found("127.0.0.1", "127.0.0.2")
            with pytest.raises(OSError, match=r"some\.name") as taken:
                await bind_tcp(TCPAddress("some.name", port))
            assert taken.value.errno == errno.EADDRINUSE
        found("203.0.113.9")
        with pytest.raises(OSError, match=r"can't listen on some\.name:0"):
            await bind_tcp(TCPAddress("some.name", 0))
        found()
        with pytest.raises(OSError, match="has no address"):
            await bind_tcp(TCPAddress("some.name", 0))

    trio.run(main)
