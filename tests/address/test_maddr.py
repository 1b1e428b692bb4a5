"""Multiaddr strings, alone and held against the `multiaddr` package."""

from __future__ import annotations

import ipaddress
import os
import posixpath
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tractor.address._policy import maddr_of
from tractor.address._types import Address, TCPAddress, UDSAddress
from tractor.transport._addresses import parse_maddr, wrap_address
from tractor.transport._maddr import mk_maddr, parse_endpoints

try:
    import multiaddr
except ImportError:
    multiaddr = None

needs_reference = pytest.mark.skipif(multiaddr is None, reason="the package multiaddr is missing")

PAIRS: list[tuple[str, Any]] = [
    ("/ip4/127.0.0.1/tcp/1616", TCPAddress("127.0.0.1", 1616)),
    ("/ip4/0.0.0.0/tcp/0", TCPAddress("0.0.0.0", 0)),
    ("/ip4/255.255.255.255/tcp/9", TCPAddress("255.255.255.255", 9)),
    ("/ip6/::1/tcp/65535", TCPAddress("::1", 65535)),
    ("/ip6/::/tcp/1", TCPAddress("::", 1)),
    ("/ip6/2001:db8::8:800:200c:417a/tcp/1", TCPAddress("2001:db8::8:800:200c:417a", 1)),
    ("/ip6/::ffff:10.0.0.1/tcp/1", TCPAddress("::ffff:a00:1", 1)),
    ("/dns/example.com/tcp/80", TCPAddress("example.com", 80)),
    ("/dns/localhost/tcp/80", TCPAddress("localhost", 80)),
    ("/dns/example.com./tcp/80", TCPAddress("example.com.", 80)),
    ("/dns/xn--bcher-kva.example/tcp/80", TCPAddress("xn--bcher-kva.example", 80)),
    ("/unix/run/user/1000/tractor/a@1.sock", UDSAddress("/run/user/1000/tractor", "a@1.sock")),
    ("/unix/tmp/a b.sock", UDSAddress("/tmp", "a b.sock")),
    ("/unix/tmp/über.sock", UDSAddress("/tmp", "über.sock")),
    ("/unix/tmp/100%25%0A%5C.sock", UDSAddress("/tmp", "100%\n\\.sock")),
    ("/unix/tmp/a/../b.sock", UDSAddress("/tmp/a/..", "b.sock")),
    ("/unix/tmp/unix/b.sock", UDSAddress("/tmp/unix", "b.sock")),
    ("/unix/a.sock", UDSAddress("/", "a.sock")),
]
"""Each multiaddr is the one spelling of its address."""

OTHER_SPELLINGS = [
    ("/ip6/FE80:0:0:0:0:0:0:1/tcp/1", "/ip6/fe80::1/tcp/1"),
    ("/ip6/::ffff:a00:1/tcp/1", "/ip6/::ffff:10.0.0.1/tcp/1"),
    ("/dns4/example.com/tcp/80", "/dns/example.com/tcp/80"),
    ("/dns6/example.com/tcp/80", "/dns/example.com/tcp/80"),
    ("/dns/Example.COM/tcp/80", "/dns/example.com/tcp/80"),
    ("/unix//tmp/x", "/unix/tmp/x"),
    ("/unix/%2Ftmp%2Fx", "/unix/tmp/x"),
    ("/unix/tmp//y/./x", "/unix/tmp/y/x"),
    ("/unix/tmp/a%20%c3%bc", "/unix/tmp/a ü"),
]

WRONG = [
    "",
    "/",
    "//",
    "ip4/127.0.0.1/tcp/1",
    "x/ip4/127.0.0.1/tcp/1",
    "//ip4/127.0.0.1/tcp/1",
    " /ip4/127.0.0.1/tcp/1",
    "/ip4",
    "/ip4/",
    "/ip4/127.0.0.1",
    "/ip4/127.0.0.1/",
    "/ip4/127.0.0.1/tcp",
    "/ip4/127.0.0.1/tcp/",
    "/ip4/127.0.0.1/tcp/1/",
    "/ip4/127.0.0.1/tcp/1\n",
    "/ip4//tcp/1",
    "/ip4/127.0.0.1//tcp/1",
    "/ip4/127.0.0.1/tcp//1",
    "/ip4/127.0.0.1/tcp/1/http",
    "/ip4/127.0.0.1/tcp/1/tcp/2",
    "/ip4/127.0.0.1/tcp/1/ip4/127.0.0.1/tcp/1",
    "/ip4/127.0.0.1/tcp/1/unix/tmp/x",
    "/ip4/127.0.0.1/udp/1",
    "/ip4/127.0.0.1/unix/1",
    "/tcp/1/ip4/127.0.0.1",
    "/tcp/1",
    "/IP4/127.0.0.1/tcp/1",
    "/ip4/127.0.0.1/TCP/1",
    "/ip4/127.0.0.1/tcp/65536",
    "/ip4/127.0.0.1/tcp/99999999999999999999",
    "/ip4/127.0.0.1/tcp/-1",
    "/ip4/127.0.0.1/tcp/+1",
    "/ip4/127.0.0.1/tcp/ 1",
    "/ip4/127.0.0.1/tcp/1 ",
    "/ip4/127.0.0.1/tcp/01",
    "/ip4/127.0.0.1/tcp/00",
    "/ip4/127.0.0.1/tcp/1_0",
    "/ip4/127.0.0.1/tcp/0x10",
    "/ip4/127.0.0.1/tcp/\u0661",
    "/ip4/127.0.0.1/tcp/\uff11",
    "/ip4/127.0.0.1/tcp/²",
    "/ip4/127.0.0.1/tcp/http",
    "/ip4/127.0.0.1/tcp/%31",
    "/ip4/::1/tcp/1",
    "/ip4/::ffff:127.0.0.1/tcp/1",
    "/ip4/127.0.0.01/tcp/1",
    "/ip4/127.0.0.0x1/tcp/1",
    "/ip4/127.1/tcp/1",
    "/ip4/256.0.0.1/tcp/1",
    "/ip4/1.2.3.4.5/tcp/1",
    "/ip4/127.0.0.1%25lo/tcp/1",
    "/ip4/\u0661.2.3.4/tcp/1",
    "/ip4/example.com/tcp/1",
    "/ip6/127.0.0.1/tcp/1",
    "/ip6/[::1]/tcp/1",
    "/ip6/::1::/tcp/1",
    "/ip6/12345::/tcp/1",
    "/ip6/1:2:3:4:5:6:7:8:9/tcp/1",
    "/ip6/fe80::1%/tcp/1",
    "/ip6/fe80::1%%eth0/tcp/1",
    "/ip6/fe80::1%a b/tcp/1",
    "/ip6/fe80::1%ü/tcp/1",
    "/ip6/localhost/tcp/1",
    "/ip6zone/eth0/ip6/fe80::1/tcp/1",
    "/dns/127.0.0.1/tcp/1",
    "/dns/::1/tcp/1",
    "/dns/256.0.0.1/tcp/1",
    "/dns/0x7f.1/tcp/1",
    "/dns/127.0x1/tcp/1",
    "/dns/0x7f000001/tcp/1",
    "/dns/a b/tcp/1",
    "/dns//tcp/1",
    "/dns/./tcp/1",
    "/dns/a..b/tcp/1",
    "/dns/example.com../tcp/1",
    "/dns/.example.com/tcp/1",
    "/dns/-a/tcp/1",
    "/dns/a-/tcp/1",
    "/dns/bücher.example/tcp/1",
    "/dns/*.example.com/tcp/1",
    "/dns/user@example.com/tcp/1",
    "/dns/" + "a" * 64 + "/tcp/1",
    "/dns/" + "a." * 127 + "a/tcp/1",
    "/dnsaddr/example.com/tcp/1",
    "/unix",
    "/unix/",
    "/unix//",
    "/unix/.",
    "/unix/..",
    "/unix/%2F",
    "/unix/tmp/",
    "/unix/tmp/.",
    "/unix/tmp/..",
    "/unix/tmp/%2e%2E",
    "/unix/tmp/a\0b",
    "/unix/tmp/a%00b",
    "/unix/tmp/100%",
    "/unix/tmp/%2",
    "/unix/tmp/%zz",
    "/unix/tmp/%\uff12\uff10",
    "/unix/tmp/\ud800",
    "/onion/abc/tcp/1",
    "/memory/1",
]


@pytest.mark.parametrize(("maddr", "addr"), PAIRS)
def test_both_ways(maddr: str, addr: Any) -> None:
    assert parse_maddr(maddr) == addr
    forms: list[Any] = [addr, addr.unwrap(), list(addr.unwrap()), maddr]
    for form in forms:
        assert mk_maddr(form) == maddr
    assert wrap_address(maddr) == type(addr).from_addr(maddr) == addr


@pytest.mark.parametrize(("given", "usual"), OTHER_SPELLINGS)
def test_other_spellings_of_the_same_address(given: str, usual: str) -> None:
    assert parse_maddr(given) == parse_maddr(usual)
    assert parse_maddr(given).unwrap() == parse_maddr(usual).unwrap()
    assert mk_maddr(given) == usual


@pytest.mark.parametrize("wrong", WRONG, ids=ascii)
def test_what_is_no_multiaddr_is_named(wrong: str) -> None:
    with pytest.raises(ValueError, match="bad multiaddr") as caught:
        parse_maddr(wrong)
    assert repr(wrong) in str(caught.value)


def test_a_multiaddr_is_a_string() -> None:
    for other in (("127.0.0.1", 1), None, b"/ip4/127.0.0.1/tcp/1", 5):
        with pytest.raises(TypeError):
            parse_maddr(other)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not an address"):
        mk_maddr("127.0.0.1:1")


def test_what_has_no_multiaddr() -> None:
    with pytest.raises(ValueError, match="relative"):
        mk_maddr(("run", "a.sock"))

    class Loft:
        proto_key = "pigeon"

        def __repr__(self) -> str:
            return "Loft(7)"

        @classmethod
        def recognises(cls, addr: object) -> bool:
            return False

    loft: Any = Loft()
    with pytest.raises(ValueError, match=r"'pigeon' has no multiaddr form: Loft\(7\)"):
        maddr_of(loft)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_ip_address_comes_back(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    addr = TCPAddress(str(ip), port)
    assert parse_maddr(mk_maddr(addr)) == addr


path_parts = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1).filter(
        lambda part: part not in (".", "..")
    ),
    min_size=1,
    max_size=4,
)


@given(path_parts)
@example(["%41"])
@example(["a\\b", "\n"])
@example([os.fsdecode(b"\xff\xfe")])
def test_every_absolute_path_comes_back(parts: list[str]) -> None:
    addr = UDSAddress("/" + "/".join(parts[:-1]), parts[-1])
    assert parse_maddr(mk_maddr(addr)) == addr
    # The string can be written anywhere.
    mk_maddr(addr).encode()


@given(st.text())
def test_any_string_is_an_address_or_a_value_error(text: str) -> None:
    for form in ("{}", "/ip4/{}", "/dns/{}/tcp/1", "/ip6/::{}/tcp/1", "/unix/{}"):
        maddr = form.format(text)
        try:
            addr = parse_maddr(maddr)
        except ValueError:
            continue
        assert parse_maddr(mk_maddr(addr)) == addr


# -- held against the reference --

# Each difference on purpose, by name.

ONLY_OURS = {
    "a path may keep its own leading slash": "/unix//tmp/x",
    "an IPv6 zone follows its address": "/ip6/fe80::1%eth0/tcp/1",
    "a DNS name need not follow the rules of IDNA": "/dns/my_host/tcp/1",
}

OF_ANOTHER_MEANING = {
    "a backslash is a character of a file name": "/unix/tmp/a\\b",
    "a byte that is not a UTF-8 is kept": "/unix/tmp/%ff",
}

ONLY_THE_REFERENCE = {
    "the first slash must be there": "ip4/127.0.0.1/tcp/1",
    "slashes are not doubled": "//ip4/127.0.0.1/tcp/1",
    "nothing follows the port": "/ip4/127.0.0.1/tcp/1/",
    "a port has no sign": "/ip4/127.0.0.1/tcp/+1",
    "a port has no blank": "/ip4/127.0.0.1/tcp/ 1",
    "a port has no underscore": "/ip4/127.0.0.1/tcp/1_0",
    "a port has no leading zero": "/ip4/127.0.0.1/tcp/01",
    "a port is written in ASCII": "/ip4/127.0.0.1/tcp/\u0661",
    "an IP literal is not a DNS name": "/dns/127.0.0.1/tcp/1",
    "what a resolver reads as an IP address is not a DNS name": "/dns/0x7f.1/tcp/1",
    "a DNS name is written in ASCII": "/dns/b\xfccher.example/tcp/1",
    "a path names a file": "/unix/tmp/",
    "a path has no NUL byte": "/unix/tmp/a%00b",
    "a percent sign begins an escape": "/unix/tmp/100%",
    "there is exactly one host and one port": "/ip4/127.0.0.1/tcp/1/tcp/2",
    "other protocols are unknown": "/dnsaddr/example.com/tcp/1",
    "a zone is not part of its own": "/ip6zone/eth0/ip6/fe80::1/tcp/1",
}

Meaning = tuple[str, ...]


def meaning(addr: Address) -> Meaning:
    """What an address of ours means, in terms that the reference has too."""
    if isinstance(addr, UDSAddress):
        return "unix", one_path(os.fsencode(addr.sockpath))
    assert isinstance(addr, TCPAddress)
    return "tcp", one_host(addr.host), str(addr.port)


def one_host(host: str) -> str:
    try:
        return ipaddress.ip_address(host).packed.hex()
    except ValueError:
        return host.lower()


def one_path(raw: bytes) -> str:
    return os.fsdecode(posixpath.normpath(b"/" + raw.lstrip(b"/")))


def ours(text: str) -> Meaning | None:
    """What we take *text* for; `None` if we refuse it."""
    try:
        return meaning(parse_maddr(text))
    except ValueError:
        return None


def reference(text: str) -> Meaning | None:
    """What the reference takes *text* for; `None` if it refuses it."""
    try:
        found = multiaddr.Multiaddr(text)
        parts = [(proto.name, value) for proto, value in found.items()]
        # The text that the package makes of a path is not what it has read; its binary form is.
        raw = found.to_bytes()
    except Exception:  # its helpers raise what they like
        return None
    names = [name for name, _ in parts]
    if names == ["unix"]:
        # A varint of two bytes for `unix`, one for the length, the path.
        length_size = next(i for i, byte in enumerate(raw[2:], 1) if byte < 0x80)
        return "unix", one_path(raw[2 + length_size :])
    if len(names) == 2 and names[0] in ("ip4", "ip6", "dns", "dns4", "dns6") and names[1] == "tcp":
        (_, host), (_, port) = parts
        return "tcp", one_host(host), port
    return ("another kind", *names)


@needs_reference
@pytest.mark.parametrize("maddr", [maddr for maddr, _ in PAIRS])
def test_the_reference_means_the_same_by_what_we_write(maddr: str) -> None:
    assert ours(maddr) == reference(maddr) is not None
    # What the reference prints means the same to us; it prints a slash for a backslash.
    if "%5C" not in maddr:
        assert ours(str(multiaddr.Multiaddr(maddr))) == ours(maddr)


@needs_reference
@pytest.mark.parametrize("text", ONLY_OURS.values(), ids=ONLY_OURS.keys())
def test_what_only_we_read(text: str) -> None:
    assert ours(text) is not None
    assert reference(text) is None


@needs_reference
@pytest.mark.parametrize("text", OF_ANOTHER_MEANING.values(), ids=OF_ANOTHER_MEANING.keys())
def test_what_we_read_otherwise(text: str) -> None:
    assert ours(text) is not None
    assert reference(text) not in (None, ours(text))


@needs_reference
@pytest.mark.parametrize("text", ONLY_THE_REFERENCE.values(), ids=ONLY_THE_REFERENCE.keys())
def test_what_only_the_reference_reads(text: str) -> None:
    assert ours(text) is None
    assert reference(text) is not None


def difference(text: str) -> str | None:
    """Which of the named differences can explain that we take *text* otherwise than the reference."""
    _, kind, tail = text.split("/", 2)
    if kind == "ip6" and "%" in tail:
        return "an IPv6 zone follows its address"
    if kind.startswith("dns"):
        return "a DNS name need not follow the rules of IDNA"
    if kind != "unix":
        return None
    if tail.startswith("/"):
        return "a path may keep its own leading slash"
    if "\\" in tail:
        return "a backslash is a character of a file name"
    if "\udc80" <= max(os.fspath(_sockpath(text))) <= "\udcff":
        return "a byte that is not a UTF-8 is kept"
    return None


def _sockpath(text: str) -> Any:
    addr = parse_maddr(text)
    assert isinstance(addr, UDSAddress)
    return addr.sockpath


def check_against_the_reference(text: str) -> None:
    mine = ours(text)
    if mine is None:
        return
    its = reference(text)
    if mine == its:
        return
    assert difference(text) in {**ONLY_OURS, **OF_ANOTHER_MEANING}, (text, mine, its)


@needs_reference
@pytest.mark.parametrize(
    "text", [*WRONG, *(text for pair in OTHER_SPELLINGS for text in pair)], ids=ascii
)
def test_nasty_strings(text: str) -> None:
    check_against_the_reference(text)


hosts = st.one_of(
    st.ip_addresses().map(str),
    st.ip_addresses(v=6).map(lambda ip: ip.exploded.upper()),
    st.from_regex(r"[a-z0-9_.%:\-]{0,12}", fullmatch=True),
    st.sampled_from(["localhost", "a.b.", "::1%lo", "::ffff:1.2.3.4", "[::1]", "0", "0x1", "x-"]),
)
ports = st.one_of(
    st.integers(-2, 70_000).map(str),
    st.from_regex(r"[0-9+_ x]{0,6}", fullmatch=True),
    st.text(max_size=3),
)
kinds = st.sampled_from(["ip4", "ip6", "dns", "dns4", "dns6", "dnsaddr", "IP4", "unix", "tcp", ""])
tcp_texts = st.builds(
    "/{}/{}/{}/{}{}".format,
    kinds,
    hosts,
    st.sampled_from(["tcp", "tcp", "tcp", "udp", "", "TCP"]),
    ports,
    st.sampled_from(["", "", "", "/", "/tcp/1", " "]),
)
paths = st.one_of(st.from_regex(r"[a-c./%0-9 \\]{0,14}", fullmatch=True), st.text(max_size=12))


@needs_reference
@given(tcp_texts)
def test_tcp_forms_mean_what_the_reference_says(text: str) -> None:
    check_against_the_reference(text)


@needs_reference
@given(paths)
@example("tmp/%41%2fb")
@example("../../x")
@example("unix/x")
def test_paths_mean_what_the_reference_says(path: str) -> None:
    check_against_the_reference(f"/unix/{path}")


# -- tables of endpoints --


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
    bad: list[Any] = [[None], [5], "/ip4/127.0.0.1/tcp/1", 5, None]
    for entries in bad:
        with pytest.raises(TypeError, match="'data'"):
            parse_endpoints({"data": entries})
