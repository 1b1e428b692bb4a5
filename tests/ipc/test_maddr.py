"""Multiaddr strings."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor.ipc._addr import TCPAddress, UDSAddress
from tractor.ipc._maddr import mk_maddr, parse_endpoints, parse_maddr

PAIRS = [
    ("/ip4/127.0.0.1/tcp/1616", TCPAddress("127.0.0.1", 1616)),
    ("/ip4/0.0.0.0/tcp/0", TCPAddress("0.0.0.0", 0)),
    ("/ip6/::1/tcp/65535", TCPAddress("::1", 65535)),
    ("/dns/example.com/tcp/80", TCPAddress("example.com", 80)),
    ("/unix/run/user/1000/tractor/a@1.sock", UDSAddress("/run/user/1000/tractor", "a@1.sock")),
    ("/unix/tmp/a b%2Fc.sock", UDSAddress("/tmp", "a b%2Fc.sock")),
    ("/unix/a.sock", UDSAddress("/", "a.sock")),
]


@pytest.mark.parametrize(("maddr", "addr"), PAIRS)
def test_both_ways(maddr: str, addr: Any) -> None:
    assert parse_maddr(maddr) == addr
    assert mk_maddr(addr) == maddr
    assert mk_maddr(addr.unwrap()) == maddr


@pytest.mark.parametrize("kind", ["dns", "dns4", "dns6"])
def test_dns_kinds(kind: str) -> None:
    assert parse_maddr(f"/{kind}/example.com/tcp/80") == TCPAddress("example.com", 80)


def test_a_doubled_slash_before_a_path() -> None:
    assert parse_maddr("/unix//tmp/x") == UDSAddress("/tmp", "x")


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "/",
        "ip4/127.0.0.1/tcp/1",
        "x/ip4/127.0.0.1/tcp/1",
        "//ip4/127.0.0.1/tcp/1",
        "/ip4",
        "/ip4/127.0.0.1",
        "/ip4/127.0.0.1/tcp",
        "/ip4/127.0.0.1/tcp/",
        "/ip4/127.0.0.1/tcp/1/",
        "/ip4/127.0.0.1/tcp/1/http",
        "/ip4/127.0.0.1/udp/1",
        "/ip4/127.0.0.1/tcp/65536",
        "/ip4/127.0.0.1/tcp/-1",
        "/ip4/127.0.0.1/tcp/+1",
        "/ip4/127.0.0.1/tcp/1_0",
        "/ip4/127.0.0.1/tcp/\u0661",
        "/ip4/::1/tcp/1",
        "/ip6/127.0.0.1/tcp/1",
        "/ip4/example.com/tcp/1",
        "/dns/127.0.0.1/tcp/1",
        "/dns/a b/tcp/1",
        "/dns//tcp/1",
        "/unix",
        "/unix/",
        "/unix/tmp/",
        "/unix/tmp/..",
        "/unix/tmp/a\0b",
        "/onion/abc/tcp/1",
    ],
)
def test_what_is_no_multiaddr_is_named(bad: str) -> None:
    with pytest.raises(ValueError, match="bad multiaddr") as caught:
        parse_maddr(bad)
    assert repr(bad) in str(caught.value)


def test_a_multiaddr_is_a_string() -> None:
    with pytest.raises(TypeError):
        parse_maddr(("127.0.0.1", 1))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        mk_maddr("/ip4/127.0.0.1/tcp/1")  # type: ignore[arg-type]


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_ip_address_comes_back(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    addr = TCPAddress(str(ip), port)
    assert parse_maddr(mk_maddr(addr)) == addr


@given(
    st.lists(st.text(st.characters(exclude_characters="/\0"), min_size=1), min_size=1, max_size=4)
)
def test_every_absolute_path_comes_back(parts: list[str]) -> None:
    if {".", ".."} & set(parts):
        return
    addr = UDSAddress("/" + "/".join(parts[:-1]), parts[-1])
    assert parse_maddr(mk_maddr(addr)) == addr


@given(st.text())
def test_any_string_is_an_address_or_a_value_error(text: str) -> None:
    for maddr in (text, f"/ip4/{text}", f"/dns/{text}/tcp/1", f"/unix/{text}"):
        try:
            addr = parse_maddr(maddr)
        except ValueError:
            continue
        assert parse_maddr(mk_maddr(addr)) == addr


def test_endpoints() -> None:
    table: dict[str, list[object]] = {
        "registry": ["/ip4/127.0.0.1/tcp/1", ("/run", "a.sock")],
        "empty": [],
        "own": [TCPAddress("::1", 2)],
    }
    assert parse_endpoints(table) == {
        "registry": [TCPAddress("127.0.0.1", 1), UDSAddress("/run", "a.sock")],
        "empty": [],
        "own": [TCPAddress("::1", 2)],
    }


def test_bad_endpoints_are_named() -> None:
    with pytest.raises(ValueError, match=r"'data'.*'/ip4/x'"):
        parse_endpoints({"data": ["/ip4/x"]})
    with pytest.raises(TypeError, match="'data'"):
        parse_endpoints({"data": [None]})
    with pytest.raises(TypeError, match="'data'"):
        parse_endpoints({"data": "/ip4/127.0.0.1/tcp/1"})
