"""Service files: what is right is resolved, and all that is wrong is told at once, with its place."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor.services.file._checks import circles, in_order
from tractor.services.file._positions import lines_of_keys
from tractor.services.file._problems import ServiceFileError
from tractor.services.file._service_file import ServiceFile, load_services
from tractor.services.file._tables import json_schema


def _load(tmp_path: Path, text: str, name: str = "shop.toml") -> ServiceFile:
    path = tmp_path / name
    path.write_text(text)
    return load_services(path)


def _problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ServiceFileError) as info:
        _load(tmp_path, text)
    lines = str(info.value).splitlines()
    prefix = f"{tmp_path / 'shop.toml'}"
    assert all(line.startswith(prefix) for line in lines)
    return [line.removeprefix(prefix).removeprefix(":") for line in lines]


GOOD = """
[supervisor]
strategy = "rest_for_one"
max_restarts = 5
backoff = { initial = 0.5, maximum = 2 }

[services.api]
modules = ["shop.api"]
after = ["migrate"]
replicas = 4
env = { DB = "${DB_URL}", LITERAL = "$${X} $5" }
listen = { http = "/ip4/127.0.0.1/tcp/8080" }
drain = 5
shutdown = "kill"

[services.migrate]
call = "shop.db:migrate"
args = { depth = 3, names = ["a", "b"] }
restart = "transient"
limits = { nofile = 256, as = 1000000000, core = 0 }
cwd = "."
"""


def test_a_good_file_is_resolved_in_the_order_of_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_URL", "postgres://s3cret@db")
    file = _load(tmp_path, GOOD)
    assert list(file.services) == ["migrate", "api"]
    api, migrate = file.services["api"], file.services["migrate"]
    assert api.env == {"DB": "postgres://s3cret@db", "LITERAL": "${X} $5"}
    assert (api.drain, api.shutdown, api.replicas, api.restart) == (5.0, "kill", 4, "permanent")
    assert migrate.args == {"depth": 3, "names": ["a", "b"]}
    assert migrate.limits.made() == {"nofile": 256, "as": 1_000_000_000, "core": 0}
    assert migrate.cwd == str(tmp_path)
    assert file.supervisor.max_restarts == 5
    assert file.path == tmp_path / "shop.toml"


def test_values_of_env_are_in_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_URL", "postgres://s3cret@db")
    assert "s3cret" not in repr(_load(tmp_path, GOOD))
    told = _problems(
        tmp_path, '[services.a]\nmodules=["m"]\nenv = { A = 5, B = "s3cret-${GONE_VAR}" }\n'
    )
    assert told == [
        "3: [services.a] env.A: expected `str`, got `int`",
        "3: [services.a] env.B: the manager's environment has no GONE_VAR",
    ]
    told = _problems(tmp_path, '[services.a]\nmodules=["m"]\nenv = "s3cret"\n')
    assert told == ["3: [services.a] env: expected a table, got `str`"]


WRONG: list[tuple[str, list[str]]] = [
    (
        # A limit is a number of seconds, also a large one.
        "[supervisor]\nwithin = inf\nbackoff = { maximum = inf }\n[services.a]\nmodules = ['m']\ndrain = inf\n"
        "shutdown = inf\nwatchdog = inf\nready_timeout = nan\nrecycle = { age = inf, jitter = 1 }\n",
        [
            "2: [supervisor] within = inf: expected `float` <= 1000000000.0",
            "3: [supervisor] backoff.maximum = inf: expected `float` <= 1000000000.0",
            "6: [services.a] drain = inf: expected `float` <= 1000000000.0",
            "7: [services.a] shutdown = inf: expected `float` <= 1000000000.0",
            "8: [services.a] watchdog = inf: expected `float` <= 1000000000.0",
            "9: [services.a] ready_timeout = nan: expected `float` > 0.0",
            "10: [services.a] recycle.age = inf: expected `float` <= 1000000000.0",
            "10: [services.a] recycle.jitter = 1: expected `float` <= 0.999",
            "10: [services.a] recycle: needs `age` or `rss`",
        ],
    ),
    (
        "[services.a]\nmodules = ['m']\nenv = { A = 'x${HOME' }\n",
        ["3: [services.a] env.A: a `${` has no `}`; `$${` stands for `${`"],
    ),
    (
        "[supervisr]\n[services.a]\ncal = 'x:y'\nmodules = ['m']\n",
        [
            "1: [supervisr] unknown table; did you mean 'supervisor'?",
            "3: [services.a] cal = \"x:y\": unknown key; did you mean 'call'?",
        ],
    ),
    (
        "[services.a]\nmodules = ['m']\nrestart = 'permanant'\nsignificant = true\n",
        [
            "3: [services.a] restart = \"permanant\": must be one of 'permanent', 'transient', 'temporary';"
            " did you mean 'permanent'?",
            '4: [services.a] significant = true: means nothing with auto_shutdown = "never"',
        ],
    ),
    (
        "[services.a]\nmodules = ['m']\nafter = ['bb', 'a']\n[services.bbb]\nmodules = ['m']\n",
        [
            "3: [services.a] after = \"bb\": there is no such service; did you mean 'bbb'?",
            '3: [services.a] after = "a": a service can\'t wait for itself',
        ],
    ),
    (
        "[services]\na = { modules = ['m'], after = ['b'] }\n"
        "b = { modules = ['m'], after = ['c'] }\nc = { modules = ['m'], after = ['a'] }\n",
        [
            '2: [services.a] after = "b": a circle, in which each waits for the next: a -> b -> c -> a'
        ],
    ),
    (
        "[services.a]\nmodules = ['m', 'no module']\ncall = 'just_a_name'\nargs = 5\n",
        [
            '2: [services.a] modules[1] = "no module": expected the name of a module',
            "3: [services.a] call = \"just_a_name\": expected 'module:function'",
            "4: [services.a] args = 5: expected a table, got `int`",
        ],
    ),
    (
        "[services.a]\nreplicas = 0\n\n[services.b]\nargs = { x = 1 }\n",
        [
            "1: [services.a] there is nothing to run: it needs `call` or `modules`",
            "2: [services.a] replicas = 0: expected `int` >= 1",
            "4: [services.b] there is nothing to run: it needs `call` or `modules`",
            "5: [services.b] args: there is no `call` that they could be given to",
        ],
    ),
    (
        "[services.a]\nmodules = ['m']\nlimits.nofiles = 5\nrecycle = {}\n"
        "backoff = { initial = 3, maximum = 1 }\nshutdown = 'kil'\n",
        [
            "3: [services.a] limits.nofiles = 5: unknown key; did you mean 'nofile'?",
            "4: [services.a] recycle: needs `age` or `rss`",
            "5: [services.a] backoff.maximum = 1.0: is below `initial`",
            "6: [services.a] shutdown = \"kil\": invalid enum value 'kil'",
        ],
    ),
    (
        "[services.a]\nmodules = ['m']\nreplicas = 2\n[services.'a.1']\nmodules = ['m']\n[services.'a.2']\n"
        "modules = ['m']\n",
        ["4: [services.\"a.1\"] is the name of a replica of 'a'"],
    ),
    (
        "[services.a]\nmodules = ['m']\nlisten = { x = '/ip4/1.2.3.4/tcp/99999', y = 'nowhere' }\nlog = 'lod'\n"
        "transports = ['pigeon']\ncwd = '/nowhere/at/all'\n"
        "env = { NOTIFY_SOCKET = 'x', 'A=B' = 'y' }\n",
        [
            "3: [services.a] listen.x = \"/ip4/1.2.3.4/tcp/99999\": bad multiaddr '/ip4/1.2.3.4/tcp/99999':"
            " '99999' is not a TCP port",
            '3: [services.a] listen.y = "nowhere": ',
            "4: [services.a] log = \"lod\": unknown log level 'lod'",
            "5: [services.a] transports = ['pigeon']: ",
            "6: [services.a] cwd = \"/nowhere/at/all\": there is no directory '/nowhere/at/all'",
            "7: [services.a] env.NOTIFY_SOCKET: is kept from services",
            '7: [services.a] env."A=B": the environment can\'t hold that',
        ],
    ),
    ("[supervisor]\n", [" [services] there is no service"]),
    ("services = 5\n", ["1: [services] must be a table", "1: [services] there is no service"]),
    ("[services.a]\nmodules = [\n", ["3: no TOML: "]),
    ("[services.a]\nx == 5\n", ["2: no TOML: Invalid value, column 4"]),
    (
        "[supervisor]\nwithin = 0\nname = ''\nregistry = ['/ip4/0.0.0.0/tcp/1']\n[services.a]\nmodules=['m']\n",
        [
            "2: [supervisor] within = 0: expected `float` > 0.0",
            '3: [supervisor] name = "": expected `str` of length >= 1',
            '4: [supervisor] registry = "/ip4/0.0.0.0/tcp/1": cannot connect to',
        ],
    ),
]


@pytest.mark.parametrize(("text", "told"), WRONG, ids=range(len(WRONG)))
def test_all_that_is_wrong_is_told_with_its_place(
    tmp_path: Path, text: str, told: list[str]
) -> None:
    found = _problems(tmp_path, text)
    assert len(found) == len(told), found
    for line, start in zip(found, told, strict=True):
        assert line.startswith(start), (line, start)


def test_what_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"[services.a]\n# \xff\n")
    with pytest.raises(ServiceFileError, match=r"x\.toml:2: it is not UTF-8"):
        load_services(path)
    with pytest.raises(FileNotFoundError):
        load_services(tmp_path / "none.toml")
    path.write_text("x = " + "[" * 5000 + "]" * 5000)
    with pytest.raises(ServiceFileError, match="nested too deep"):
        load_services(path)


@pytest.mark.skipif(sys.platform == "win32", reason="users of POSIX")
def test_another_user_is_for_root_with_tcp_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[services.a]\nmodules=["m"]\nuser = "no-such-user-here"\ntransports = ["uds"]\n'
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert _problems(tmp_path, text) == [
        '3: [services.a] user = "no-such-user-here": only root can start services as another user'
    ]
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    told = _problems(tmp_path, text)
    assert ["no such user" in told[0], "[supervisor]" in told[1], "[services.a]" in told[2]] == [
        True
    ] * 3


def test_what_differs_between_two_files(tmp_path: Path) -> None:
    def table(name: str, more: str = "") -> str:
        return f'[services.{name}]\nmodules = ["m"]\n{more}\n'

    old = _load(tmp_path, table("a") + table("b") + table("c"))
    new = _load(tmp_path, table("d", 'after = ["b"]') + table("b", "drain = 1") + table("a"))
    assert old.changes_to(new) == (["d"], ["c"], ["b"], [])
    assert old.changes_to(new)
    # Comments, order and how it is written make no difference.
    again = _load(tmp_path, "# hello\n" + table("c", "drain = 0") + table("b") + table("a"))
    assert not old.changes_to(again)
    text = "[supervisor]\nmax_restarts = 3\nstrategy = 'one_for_all'\n"
    stricter = _load(tmp_path, text + table("a") + table("b") + table("c"))
    assert old.changes_to(stricter) == ([], [], [], ["strategy", "max_restarts"])


def test_what_a_reload_cannot_change_is_refused(tmp_path: Path) -> None:
    services = '[services.a]\nmodules = ["m"]\n'
    old = _load(tmp_path, services)
    new = _load(tmp_path, "[supervisor]\nname = 'other'\nmax_restarts = 3\n" + services)
    with pytest.raises(ServiceFileError, match=r"\[supervisor\] name = 'other': was 'manager'"):
        old.require_reloadable(new)
    old.require_reloadable(_load(tmp_path, "[supervisor]\nmax_restarts = 3\n" + services))


def test_the_schema_that_ships_is_that_of_the_tables() -> None:
    shipped = resources.files("tractor.services.file").joinpath("services.schema.json").read_bytes()
    assert json.loads(shipped) == json.loads(json_schema())


names = st.text("abcdef", min_size=1, max_size=1)


@given(st.dictionaries(names, st.lists(names, max_size=4), max_size=6))
def test_circles_are_found_and_without_them_there_is_an_order(after: dict[str, list[str]]) -> None:
    # By brute force: whom does each reach?
    reached = {one: {b for b in after[one] if b in after and b != one} for one in after}
    for _ in after:
        for one in after:
            reached[one] |= {c for b in reached[one] for c in reached[b]}
    is_circular = any(one in reached[one] for one in after)
    found = circles(after)
    assert bool(found) == is_circular
    for circle in found:
        for one, following in zip(circle, [*circle[1:], circle[0]], strict=True):
            assert following in after[one]
            assert following != one
    if not is_circular:
        order = in_order({k: [b for b in v if b != k] for k, v in after.items()})
        assert sorted(order) == sorted(after)
        for one in order:
            assert all(
                order.index(b) < order.index(one) for b in after[one] if b in after and b != one
            )


def test_lines_of_all_ways_to_write_a_key() -> None:
    text = '''# comment [not.a.table]
a = 1
"b c".d = """
[no.table]
x = 1
""" # more
[t."q\\u0041"]
'k' = { x = 1, y = [1,
  2, "]" ], z.w = 5 }
multi = [
  { n = 1 },   # [x]
  { n = \'\'\'
   ]\'\'\' },
]
[[arr]]
v = 1
[arr.sub]
w = 1
[[arr]]
v = 1987-07-05T17:45:00Z
'''
    tomllib.loads(text)
    lines = lines_of_keys(text)
    expected: dict[tuple[Any, ...], int] = {
        ("a",): 2,
        ("b c",): 3,
        ("b c", "d"): 3,
        ("t",): 7,
        ("t", "qA"): 7,
        ("t", "qA", "k", "x"): 8,
        ("t", "qA", "k", "y", 1): 9,
        ("t", "qA", "k", "y", 2): 9,
        ("t", "qA", "k", "z", "w"): 9,
        ("t", "qA", "multi"): 10,
        ("t", "qA", "multi", 0, "n"): 11,
        ("t", "qA", "multi", 1, "n"): 12,
        ("arr", 0, "v"): 16,
        ("arr", 0, "sub", "w"): 18,
        ("arr", 1): 19,
        ("arr", 1, "v"): 20,
    }
    assert {path: lines.get(path) for path in expected} == expected


toml_names = st.sampled_from(["a", "b-1", '"q x"', "'l'", "a.b", '"\\u0041".c'])
toml_values = st.sampled_from(
    ["1", "1.5", "true", '"x # y"', "'[z]'", '"""a\n[b]\n"""', "[1, 2]", "{ k = [{}] }", "[\n1,\n]"]
)


@given(st.lists(st.tuples(toml_names, toml_values), max_size=8), st.booleans())
def test_every_key_that_tomllib_finds_has_a_line(
    pairs: list[tuple[str, str]], in_table: bool
) -> None:
    text = "[t]\n" if in_table else ""
    text += "".join(f"{key} = {value} # c\n" for key, value in pairs)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = lines_of_keys(text)

    def walk(value: Any, path: tuple[Any, ...]) -> None:
        if path:
            assert 1 <= lines[path] <= text.count("\n") + 1
        items: Any = value.items() if isinstance(value, dict) else ()
        if isinstance(value, list):
            items = enumerate(value)
        for key, member in items:
            walk(member, (*path, key))

    walk(document, ())
