"""The table of transports, and those of other packages: the toy of docs/guide/transports.rst is installed for real."""

from __future__ import annotations

import importlib
import os
import re
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from ep_run import run

import tractor
from tractor._errors import RuntimeFailure, TransportClosed
from tractor.address._policy import is_local
from tractor.address._types import HAS_UDS, TCPAddress
from tractor.ipc import TransportSpec, open_ipc_server
from tractor.ipc._chan import Channel, transport_from_addr, transport_from_stream
from tractor.ipc._endpoint import Endpoint, bind_endpoints
from tractor.msg.types import Aid
from tractor.transport import _table
from tractor.transport._addresses import rank_addrs, wrap_address
from tractor.transport._settings import WireSettings, reset_wire_settings, set_wire_settings
from tractor.transport._table import (
    default_lo_addrs,
    get_address_cls,
    needs_key,
    transport_by_key,
    transport_of,
    transport_of_stream,
)

pytestmark = pytest.mark.usefixtures("forked_actors")

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "guide" / "transports.rst"
KEY = b"the key of this test's tree"

Install = Callable[..., Path]


def toy_source() -> str:
    """The module that the guide shows."""
    found = re.search(
        r"^\.\. code-block:: python\n\n((?:(?: {3}.*)?\n)+)", _after_toml(), re.MULTILINE
    )
    assert found is not None
    return textwrap.dedent(found[1])


def _after_toml() -> str:
    return GUIDE.read_text().partition("code-block:: toml")[2]


def write_dist(site: Path, name: str, entry_points: str, source: str | None = None) -> None:
    """Install a distribution, as pip would, into a directory of its own."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[tractor.transports]\n{entry_points}\n")
    if source is not None:
        (site / f"{name}.py").write_text(source)


@pytest.fixture(autouse=True)
def _fresh_tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_table, "_TRANSPORTS", dict(_table._TRANSPORTS))
    _table.forget_plugins()
    set_wire_settings(WireSettings(authkey=KEY, key_is_explicit=True))
    yield
    reset_wire_settings()
    _table.forget_plugins()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts distributions on `sys.path` for the length of the test."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def put(name: str, entry_points: str, source: str | None = None) -> Path:
        write_dist(site, name, entry_points, source)
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        _table.forget_plugins()
        return site

    return put


@pytest.fixture
def toy(install: Install, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The toy transport's module, installed."""
    install("toy_road", "toy = toy_road:TOY", toy_source())
    module = importlib.import_module("toy_road")
    monkeypatch.setitem(sys.modules, "toy_road", module)
    return module


# -- the built-in ones ---------------------------------------------------------------------------------


def test_every_built_in_record_fits_its_classes() -> None:
    for key in ("tcp", "uds") if HAS_UDS else ("tcp",):
        spec = transport_by_key(key)
        assert spec.key == spec.address_type.proto_key == spec.stream_type.address_type.proto_key
        assert get_address_cls(key) is spec.address_type
        assert transport_of(spec.address_type.get_root()) is spec
        for family in spec.families:
            stream: Any = SimpleNamespace(socket=SimpleNamespace(family=family))
            assert transport_of_stream(stream) is spec


def test_only_the_kernel_s_word_replaces_the_key() -> None:
    assert needs_key("tcp")
    if HAS_UDS:
        assert not needs_key("uds")


def test_a_stream_without_a_known_socket_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="MemorySendStream"):
        transport_from_stream(trio.testing.MemorySendStream())  # type: ignore[arg-type]


def test_nothing_is_searched_for_the_built_in_transports() -> None:
    """`importlib.metadata` takes longer to import than the whole channel layer."""
    script = (
        "import sys, trio\n"
        "before = set(sys.modules)\n"
        "import tractor, tractor.ipc\n"
        "from tractor.discovery import get_address_cls, wrap_address\n"
        "get_address_cls('tcp'), wrap_address(('127.0.0.1', 1)), wrap_address(('/tmp', 'a'))\n"
        "async def main():\n"
        "    async with tractor.open_nursery(registry_addrs=[('127.0.0.1', 0x4321)]): pass\n"
        "trio.run(main)\n"
        "print('importlib.metadata' in set(sys.modules) - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "False\n"


# -- finding another package's -------------------------------------------------------------------------


def test_a_key_finds_the_installed_transport(toy: Any) -> None:
    assert get_address_cls("toy") is toy.ToyAddress
    assert default_lo_addrs(["tcp", "toy"])[1] == ("toy://here", 16167)
    assert transport_by_key("toy") is toy.TOY


@pytest.mark.parametrize("form", [tuple, list])
def test_an_unwrapped_address_finds_the_installed_transport(toy: Any, form: Any) -> None:
    assert wrap_address(form(["toy://here", 5])) == toy.ToyAddress(5)


def test_a_wrapped_address_is_known_before_its_transport_was_used(toy: Any) -> None:
    addr = toy.ToyAddress(5)
    assert wrap_address(addr) is addr


def test_the_transport_itself_says_what_is_wrong_with_its_address(toy: Any) -> None:
    with pytest.raises(ValueError, match="a toy address is"):
        wrap_address(("toy://there", 5))


def test_an_address_ranks_by_what_it_says_of_itself(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far, tcp = toy.ToyAddress(5), toy.ToyAddress(6), TCPAddress("127.0.0.1", 7)
    assert is_local(near)
    assert rank_addrs([tcp, near]) == [near, tcp]
    monkeypatch.setattr(toy.ToyAddress, "is_loopback", False)
    assert not is_local(far)
    assert rank_addrs([far, tcp]) == [tcp, far]


def test_what_is_not_installed_is_said_so(toy: Any) -> None:
    names = [*(["shm"] if sys.platform == "linux" else []), "tcp", "toy", *(["uds"] * HAS_UDS)]
    known = re.escape(f"known are {names}")
    with pytest.raises(NotImplementedError, match=f"no transport 'quic' .*{known}"):
        get_address_cls("quic")
    with pytest.raises(NotImplementedError, match="no transport 'quic'"):
        transport_by_key("quic")
    with pytest.raises(ValueError, match=f"'quic', which is not installed: {known}"):
        wrap_address(("quic://host", 5))


BROKEN = {
    "no module": ("toy = no_such_module:TOY", None, "No module named 'no_such_module'"),
    "no attribute": ("toy = toy_road:NONE", "TOY = 1\n", "AttributeError"),
    "raises": ("toy = toy_road:TOY", "raise OSError('no such hardware')\n", "no such hardware"),
    "no record": ("toy = toy_road:TOY", "TOY = 1\n", "is a 'int', no tractor.ipc.TransportSpec"),
    "another key": ("troy = toy_road:TOY", None, "its record has the key 'toy'"),
    "malformed": ("toy = toy_road:", "TOY = 1\n", "toy_road"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_entry_point_is_named(install: Install, fault: str) -> None:
    entry_point, source, why = BROKEN[fault]
    install("toy_road", entry_point, toy_source() if source is None else source)
    key = entry_point.partition(" ")[0]
    for use in (get_address_cls, transport_by_key, lambda k: wrap_address((f"{k}://here", 5))):
        with pytest.raises(ImportError) as info:
            use(key)
        text = str(info.value)
        assert entry_point.strip() in text
        assert "'tractor.transports'" in text
        assert "toy_road 1.0" in text
        assert why in text
    # The others go on.
    assert wrap_address(("127.0.0.1", 80)) == TCPAddress("127.0.0.1", 80)


def test_an_address_class_of_another_key_is_refused(install: Install) -> None:
    source = toy_source().replace('proto_key: ClassVar[str] = "toy"', 'proto_key = "tcp"')
    install("toy_road", "toy = toy_road:TOY", source)
    with pytest.raises(ImportError, match=r"ToyAddress.proto_key is 'tcp'"):
        get_address_cls("toy")


def test_two_packages_with_one_key_are_refused(install: Install, toy: Any) -> None:
    install("toy_too", "toy = toy_too:TOY", toy_source())
    with pytest.raises(ImportError, match="several packages") as info:
        get_address_cls("toy")
    assert "toy_road 1.0" in str(info.value)
    assert "toy_too 1.0" in str(info.value)


def test_a_built_in_transport_is_not_replaced(install: Install) -> None:
    before = transport_by_key("tcp")
    install("toy_road", "tcp = toy_road:TOY", toy_source())
    assert transport_by_key("tcp") is before
    assert get_address_cls("tcp") is TCPAddress


def test_a_broken_one_stops_a_root_before_it_binds(install: Install) -> None:
    install("toy_road", "toy = toy_road:TOY", "TOY = 1\n")

    async def main() -> None:
        with pytest.raises(ImportError, match="toy = toy_road:TOY of toy_road"):
            async with tractor.open_root_actor(enable_transports=["toy"]):
                raise AssertionError("it was opened")

    run(main)


# -- using it ------------------------------------------------------------------------------------------


async def greet(addr: Any, key: bytes = KEY) -> Aid:
    transport = await transport_from_addr(addr)
    async with Channel(transport, "connect") as chan:
        return await chan.handshake(Aid("guest", "1" * 36, 1), key)


def test_peers_over_it_prove_the_key(toy: Any) -> None:
    async def main() -> None:
        async with open_ipc_server(aid=lambda: Aid("host", "2" * 36, 2)) as server:
            (endpoint,) = await server.listen_on(accept_addrs=[("toy://here", 0)])
            assert endpoint.addr.proto_key == "toy"
            assert server.proto_keys == ["toy"]
            assert (await greet(endpoint.addr)).name == "host"
            with pytest.raises(TransportClosed):
                await greet(endpoint.addr, b"another tree's key")
            assert (await greet(endpoint.addr.unwrap())).name == "host"
            assert server.statistics().refused == 1

    run(main)


def test_a_transport_that_authenticates_by_itself_needs_no_key(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy, "TOY", msgspec.structs.replace(toy.TOY, authenticates=True))

    async def main() -> None:
        async with open_ipc_server(aid=lambda: Aid("host", "2" * 36, 2)) as server:
            (endpoint,) = await server.listen_on(accept_addrs=[("toy://here", 0)])
            assert (await greet(endpoint.addr, b"another tree's key")).name == "host"

    run(main)


@pytest.mark.parametrize("explicit", [False, True])
def test_what_others_may_reach_needs_an_explicit_key(
    toy: Any, monkeypatch: pytest.MonkeyPatch, explicit: bool
) -> None:
    monkeypatch.delattr(toy.ToyAddress, "is_loopback")
    set_wire_settings(WireSettings(authkey=KEY, key_is_explicit=explicit))

    async def main() -> None:
        if explicit:
            (endpoint,) = await bind_endpoints([("toy://here", 0)])
            endpoint.close_listener()
            return
        with pytest.raises(RuntimeFailure, match=r"toy://here.*authkey=") as info:
            await bind_endpoints([("toy://here", 0)])
        assert "TLSConfig" not in str(info.value)

    run(main)


def test_what_binding_left_behind_is_cleaned_up_once(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned: list[bool] = []

    async def bind(addr: Any) -> Any:
        bound = await toy.bind(addr)
        return msgspec.structs.replace(
            bound, clean_up=lambda: cleaned.append(bound.sock.fileno() >= 0)
        )

    monkeypatch.setattr(toy, "TOY", msgspec.structs.replace(toy.TOY, bind=bind))

    async def main() -> None:
        endpoint = Endpoint(wrap_address(("toy://here", 0)))
        await endpoint.start_listener()
        with pytest.raises(RuntimeError, match="listens already"):
            await endpoint.start_listener()
        endpoint.close_listener()
        endpoint.close_listener()

    run(main)
    assert cleaned == [True]


def test_a_connected_stream_is_recognised_by_a_family_of_its_own(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = msgspec.structs.replace(toy.TOY, families=(socket.AF_INET, 4242))
    monkeypatch.setattr(toy, "TOY", spec)
    stream: Any = SimpleNamespace(socket=SimpleNamespace(family=4242))
    with pytest.raises(NotImplementedError, match="4242"):
        transport_of_stream(stream)
    get_address_cls("toy")
    assert transport_of_stream(stream) is spec
    stream.socket.family = socket.AF_INET
    assert transport_of_stream(stream).key == "tcp"


PROGRAM = """
import os, sys
import trio
import tractor

async def road():
    parent = tractor.current_actor().parent_chan
    keys = [a.proto_key for a in tractor.current_actor().ipc_server.addrs]
    return parent.raddr.proto_key, keys, "toy_road" in sys.modules

async def road_to(name):
    async with tractor.find_actor(name) as portal:
        return portal.chan.raddr.proto_key, portal.chan.maddr.split("/")[1], await portal.run(road)

@tractor.context
async def double(ctx: tractor.Context):
    await ctx.started(os.getpid())
    async with ctx.open_stream() as stream:
        async for n in stream:
            await stream.send(2 * n)

async def main():
    async with tractor.open_nursery(
        registry_addrs=[("toy://here", PORT)], enable_transports=["toy"]
    ) as an:
        one = await an.start_actor("one", enable_modules=[__name__])
        two = await an.start_actor("two", enable_modules=[__name__])
        print(await one.run(road))
        print(await one.run(road_to, name="two"))
        async with one.open_context(double) as (ctx, pid), ctx.open_stream() as stream:
            for n in range(3):
                await stream.send(b"x" * n * 1_000_000 if n else 21)
                got = await stream.receive()
                print(got if n == 0 else len(got))
        await an.cancel()

if __name__ == "__main__":
    trio.run(main)
"""


def test_a_tree_of_actors_talks_over_it(tmp_path: Path) -> None:
    site = tmp_path / "site"
    write_dist(site, "toy_road", "toy = toy_road:TOY", toy_source())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = tmp_path / "prog.py"
    script.write_text(PROGRAM.replace("PORT", str(port)))
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "['toy', ['toy'], True]",
        "['toy', 'toy', ['toy', ['toy'], True]]",
        "42",
        "2000000",
        "4000000",
    ]


def test_the_record_of_the_guide_says_what_the_guide_says(toy: Any) -> None:
    assert isinstance(toy.TOY, TransportSpec)
    assert toy.TOY.key == "toy"
    assert 'toy = "toy_road:TOY"' in _after_toml()
