"""What a look has brought together becomes a list: each case without a process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from ep_observe import answered, child, facts, found, sample

from tractor.control._passing import Told
from tractor.observe._assembling import assemble, in_order
from tractor.observe._finding import Silent
from tractor.observe._in_code import tree_of
from tractor.observe._naming import matching, with_all_below
from tractor.observe._openmetrics import openmetrics
from tractor.observe._processes import Stray
from tractor.observe._table import columns_for, rows_of, summary, table
from tractor.observe._words import lag, size, span
from tractor.runtime.seen._samples import TreeSample

ROOT = sample(
    "root",
    "r-uuid",
    1,
    children=(
        child("a", "a-uuid", 2, restarts=4, last_error="ValueError: bad"),
        child("b", "b-uuid", 3),
        child("c", "c-uuid", 4),
        child("d", "d-uuid", 5, state="booting"),
        child("e", "e-uuid", 6),
        child("f", "f-uuid", 7, host="elsewhere"),
        child("s", "s-uuid", 1, start_method="subint"),
        child("x", "x-uuid", 8),
    ),
)


def test_each_actor_has_its_state() -> None:
    tree = assemble(
        found(
            answered(ROOT),
            answered(sample("a", "a-uuid", 2, "r-uuid")),
            silent=[
                Silent(Path("b"), "b", 3, ""),
                Silent(Path("x"), "x", 8, "no answer within 1 s"),
            ],
            facts={
                **{pid: facts() for pid in (1, 2, 5, 6, 8)},
                3: facts("stopped"),
                4: facts("zombie"),
            },
        )
    )
    states = {one.name: one.state for one in tree.actors}
    assert states == {
        "root": "run",
        "a": "run",
        "b": "stopped",
        "c": "zombie",
        "d": "boot",
        "e": "mute",
        "f": "mute",
        "s": "mute",
        "x": "mute",
    }
    by_name = {one.name: one for one in tree.actors}
    assert (by_name["a"].restarts, by_name["a"].last_error) == (4, "ValueError: bad")
    assert (by_name["a"].cpu, by_name["a"].rss) == (25.0, 1024)
    assert by_name["f"].host == "elsewhere"
    assert by_name["x"].why == "no answer within 1 s"
    assert {one.what for one in tree.missing} == {"b@3", "c@4", "e@6", "f@7", "s@1", "x@8"}


def test_a_child_whose_process_is_not_there_is_gone() -> None:
    tree = assemble(found(answered(ROOT), facts={1: facts()}))
    assert {one.name: one.state for one in tree.actors}["b"] == "gone"


def test_a_sub_interpreter_of_a_blocked_process_is_blocked() -> None:
    blocked = sample("root", "r-uuid", 1, state="blocked", stale=True, children=ROOT.children[6:7])
    tree = assemble(found(answered(blocked), facts={1: facts()}))
    assert [(one.name, one.state) for one in tree.actors] == [("root", "blocked"), ("s", "blocked")]


def test_those_that_nobody_knows_are_put_below_the_process_they_came_from() -> None:
    tree = assemble(
        found(
            answered(sample("root", "r-uuid", 1)),
            silent=[Silent(Path("y"), "y", 20, "")],
            strays=[Stray("root", 1), Stray("z", 21), Stray("gone", 22)],
            facts={1: facts(), 20: facts("stopped", ppid=1), 21: facts(ppid=99)},
        )
    )
    rows = [(one.name, one.state, one.parent, one.uuid) for one in tree.actors]
    assert rows == [
        ("root", "run", None, "r-uuid"),
        ("y", "stopped", "r-uuid", ""),
        ("z", "mute", None, ""),
    ]


def test_one_that_says_who_it_is_and_no_more_is_mute_with_the_reason() -> None:
    one = answered(sample("a", "a-uuid", 2), why="no answer within 1 s")._replace(sample=None)
    (told,) = assemble(found(one, facts={2: facts()})).actors
    assert (told.state, told.why, told.rss) == ("mute", "no answer within 1 s", 1024)
    # Unless it was stopped meanwhile.
    (told,) = assemble(found(one, facts={2: facts("stopped")})).actors
    assert told.state == "stopped"
    assert "SIGSTOP" in (told.why or "")


def test_a_ring_of_parents_is_shown() -> None:
    ring = [sample("a", "a", 1, "b"), sample("b", "b", 2, "a")]
    assert {one.name for one in in_order(ring)} == {"a", "b"}


ACTORS = [
    sample("root", "4c722990", 1),
    sample("feed", "81c2aa77", 2, "4c722990", cpu=8.0),
    sample("feed.0", "99999999", 3, "81c2aa77", restarts=0, cpu=90.0),
    sample("feed.1", "88888888", 4, "81c2aa77", restarts=1, cpu=10.0),
    sample("api", "77777777", 5, "4c722990"),
    sample("api", "66666666", 6, "4c722990"),
]


@pytest.mark.parametrize(
    ("wanted", "pids"),
    [
        ("root", [1]),
        ("3", [3]),
        ("api", [5, 6]),
        ("api@6", [6]),
        ("api[777777]", [5]),
        ("api[777777]@5", [5]),
        ("81c2aa", [2]),
        ("81c2a", []),
        ("feed", [2]),
        ("/ip4/127.0.0.1/tcp/1004", [4]),
        ("/nonsense", []),
        ("99", []),
    ],
)
def test_who_is_meant(wanted: str, pids: list[int]) -> None:
    addrs = {one.uuid: [["127.0.0.1", 1000 + (one.pid or 0)]] for one in ACTORS}
    assert [one.pid for one in matching(wanted, ACTORS, addrs)] == pids


def test_a_service_is_all_of_its_replicas() -> None:
    replicas = [one for one in ACTORS if one.name != "feed"]
    assert [one.pid for one in matching("feed", replicas)] == [3, 4]
    assert [one.pid for one in with_all_below(matching("feed", ACTORS), ACTORS)] == [2, 3, 4]


def names(**options: Any) -> list[str]:
    return [row.prefix + row.sample.name for row in rows_of(ACTORS, **options)]


def test_rows() -> None:
    assert names() == ["root", "├─ feed", "│  ├─ feed.0", "│  └─ feed.1", "├─ api", "└─ api"]
    assert names(depth=1) == ["root", "├─ feed", "├─ api", "└─ api"]
    assert names(only="feed.1") == ["root", "└─ feed", "   └─ feed.1"]
    assert names(sort="CPU")[2:4] == ["│  ├─ feed.0", "│  └─ feed.1"]
    assert names(sort="PID") == [
        "root",
        "├─ api",
        "├─ api",
        "└─ feed",
        "   ├─ feed.1",
        "   └─ feed.0",
    ]
    dimmed = [row.dimmed for row in rows_of(ACTORS, only="feed.1")]
    assert dimmed == [True, True, False]
    assert rows_of(ACTORS, only="nobody") == []


def test_the_table() -> None:
    actors = [
        sample(
            "root", "u", 21412, uptime=7380.0, cpu=1.2, rss=34288435, tasks=3, lag=0.0004, fill=2.0
        ),
        sample("x", "v", 21451, "u", state="blocked", uptime=61.0, cpu=99.9),
    ]
    columns = columns_for(actors)
    assert "HOST" not in columns
    assert "PSS" not in columns
    lines = table(rows_of(actors), columns)
    assert lines == [
        "NAME    PID  STATE      UP    CPU    RSS  TASKS  CALL  CTX  STR    LAG  FILL  RST",
        "root  21412  run      2h03    ~1%  32.7M      3     -    -    -  0.4ms    2%    -",
        "└─ x  21451  blocked  1m01  ~100%      -      -     -    -    -      >     -    -",
    ]
    assert [line[:20] for line in table(rows_of(actors), columns, width=20)] == [
        line[:20].rstrip() for line in lines
    ]
    (_, _, coloured) = table(rows_of(actors), columns, colour=True)
    assert "\x1b[31mblocked" in coloured
    tree = TreeSample(time=0.0, host="h", actors=tuple(actors))
    assert summary(tree) == ["2 actors in 1 tree; 1 blocked (`tractor stacks x@21451`)"]


def test_figures_for_people() -> None:
    assert [span(s) for s in (None, 12, 184, 3720, 183600)] == ["-", "12s", "3m04", "1h02", "2d03"]
    assert [size(n) for n in (None, 512, 2048, 3 * 2**30)] == ["-", "512", "2.0K", "3.0G"]
    assert [lag(s) for s in (None, 0.0004, 1.24)] == ["-", "0.4ms", "1.2s"]


def test_text_for_a_scraper() -> None:
    text = openmetrics(
        TreeSample(time=0.0, host="h", actors=(sample('a"b', "u", 1, calls_total=3),))
    )
    labels = 'name="a\\"b",uuid="u",pid="1",host="h1"'
    assert f"tractor_calls_total{{{labels}}} 3\n" in text
    assert "# TYPE tractor_calls counter\n" in text
    assert "tractor_rss" not in text
    assert text.endswith("# EOF\n")


def test_what_actors_say_over_channels() -> None:
    root = sample("root", "r", 1, children=(child("a", "a", 2, restarts=3), child("b", "b", 3)))
    told = Told(
        "root",
        "r",
        1,
        value=msgspec.to_builtins(root),
        below=[
            Told("a", "a", 2, value=msgspec.to_builtins(sample("a", "a", 2, "r"))),
            Told("b", "b", 3, why="no sign of life of its host for 3.2 s", state="lost"),
        ],
    )
    tree = tree_of(told)
    rows = [(one.name, one.state, one.parent, one.restarts) for one in tree.actors]
    assert rows == [("root", "run", None, None), ("a", "run", "r", 3), ("b", "lost", "r", None)]
    assert [one.what for one in tree.missing] == ["b@3"]
