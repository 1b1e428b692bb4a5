"""Endpoint tables in TOML files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor.discovery import (
    TCPAddress,
    UDSAddress,
    load_endpoints,
    mk_maddr,
    parse_endpoints,
)


@pytest.fixture
def table(tmp_path: Path) -> Any:
    """Writes a table and loads it."""

    def load(text: str | bytes) -> Any:
        path = tmp_path / "endpoints.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_endpoints(path)

    return load


def test_a_table(table: Any) -> None:
    assert table(
        """
        # Where things are.
        registry = "/unix/run/user/1000/tractor/registry.sock"
        quotes = [
            "/ip4/127.0.0.1/tcp/4001",
            '/unix/tmp/a b\\.sock',
        ]
        nobody = []
        "a name.with dots" = "/dns/example.com/tcp/80"
        """
    ) == {
        "registry": [UDSAddress("/run/user/1000/tractor", "registry.sock")],
        "quotes": [TCPAddress("127.0.0.1", 4001), UDSAddress("/tmp", "a b\\.sock")],
        "nobody": [],
        "a name.with dots": [TCPAddress("example.com", 80)],
    }


def test_the_order_is_the_files(table: Any) -> None:
    names = ["z", "a", "m"]
    assert list(table("\n".join(f"{n} = '/ip4/127.0.0.1/tcp/1'" for n in names))) == names


def test_an_empty_file_is_an_empty_table(table: Any) -> None:
    assert table("") == table("# nothing\n") == {}


def test_paths_of_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.toml"
    path.write_text('it = "/ip6/::1/tcp/1"')
    expected = {"it": [TCPAddress("::1", 1)]}
    assert load_endpoints(path) == load_endpoints(str(path)) == expected

    class Somewhere(os.PathLike[str]):
        def __fspath__(self) -> str:
            return str(path)

    assert load_endpoints(Somewhere()) == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('it = "/ip4/x/tcp/1"', ["'it'", "'/ip4/x/tcp/1'"]),
        ('good = "/ip4/127.0.0.1/tcp/1"\nit = ["/ip4/127.0.0.1/tcp/1", "/x"]', ["'it'", "'/x'"]),
        ('it = "127.0.0.1:80"', ["'it'", "'127.0.0.1:80'"]),
        ('it = ""', ["'it'", "''"]),
        ("it = 5", ["'it'", "5"]),
        ("it = true", ["'it'", "True"]),
        ("it = 1979-05-27", ["'it'", "1979"]),
        ('it = ["127.0.0.1", 80]', ["'it'", "'127.0.0.1'"]),
        ('it = [["127.0.0.1", 80]]', ["'it'", "['127.0.0.1', 80]"]),
        ('it = ["/ip4/127.0.0.1/tcp/1", 5]', ["'it'", "5"]),
        ('it = { host = "127.0.0.1" }', ["'it'", "{'host': '127.0.0.1'}"]),
        ('[endpoints]\nit = "/ip4/127.0.0.1/tcp/1"', ["'endpoints'", "{'it':"]),
        ('[[it]]\nx = "/ip4/127.0.0.1/tcp/1"', ["'it'", "{'x':"]),
        ('a.b = "/ip4/127.0.0.1/tcp/1"', ["'a'", "{'b':"]),
        ('it = "/ip4/127.0.0.1/tcp/1"\nit = "/ip4/127.0.0.1/tcp/2"', ["overwrite"]),
        ("it = /ip4/127.0.0.1/tcp/1", ["line 1"]),
        ("it", ["'=' after a key"]),
        (b"it = '\xff'", ["utf-8"]),
        (b"\x00", ["line 1"]),
        ("it = " + "[" * 5000, ["endpoints.toml"]),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_table_is_named(table: Any, text: str | bytes, named: list[str]) -> None:
    with pytest.raises(ValueError, match=r"endpoints\.toml: ") as caught:
        table(text)
    for part in named:
        assert part in str(caught.value)


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.toml"):
        load_endpoints(tmp_path / "missing.toml")
    with pytest.raises(OSError, match=tmp_path.name):
        load_endpoints(tmp_path)


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=8)
maddrs = st.builds(
    lambda ip, port: mk_maddr(TCPAddress(str(ip), port)), st.ip_addresses(), st.integers(0, 65535)
)


@given(st.dictionaries(names, st.lists(maddrs, max_size=3), max_size=3))
def test_a_table_is_what_parse_endpoints_makes_of_it(given_table: dict[str, list[str]]) -> None:
    path = Path(os.environ["XDG_RUNTIME_DIR"]) / "endpoints.toml"

    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    path.write_text(
        "".join(
            f"{quoted(name)} = [{', '.join(map(quoted, entries))}]\n"
            for name, entries in given_table.items()
        ),
        encoding="utf-8",
    )
    assert load_endpoints(path) == parse_endpoints(given_table)
    path.unlink()


def test_the_toml_parser_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, tractor.discovery; print('tomllib' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
