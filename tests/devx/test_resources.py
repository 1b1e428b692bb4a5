"""Counting threads and sub-interpreters before and after a block."""

from __future__ import annotations

import importlib
import threading

import pytest

from tractor.devx._resources import resource_delta_fixture, track_resource_deltas

pytest_plugins = ["pytester"]


def test_what_a_block_leaves_is_reported() -> None:
    lines: list[str] = []
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    with track_resource_deltas("the block", writer=lines.append) as (threads, subints):
        assert threads == threading.active_count()
        thread.start()
    done.set()
    thread.join()
    assert lines == [f"the block: threads {threads}->{threads + 1}, subints {subints}->{subints}"]


def test_it_is_reported_on_stderr_also_after_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), track_resource_deltas("x"):
        raise ZeroDivisionError
    out, err = capsys.readouterr()
    count = threading.active_count()
    assert out == ""
    assert err.startswith(f"x: threads {count}->{count}, subints ")


def test_sub_interpreters_are_counted() -> None:
    interpreters = pytest.importorskip("_interpreters")
    lines: list[str] = []
    with track_resource_deltas("x", writer=lines.append) as (_, subints):
        made = interpreters.create("legacy")
    interpreters.destroy(made)
    assert lines[0].endswith(f"subints {subints}->{subints + 1}")


def test_where_there_are_none_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with track_resource_deltas(writer=lambda line: None) as (_, subints):
        assert subints == 0


def test_the_fixture_reports_by_node_id(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        "from tractor.devx._resources import resource_delta_fixture\n"
        "deltas = resource_delta_fixture(writer=lambda line: print('TOLD', line))\n"
        "named = resource_delta_fixture(autouse=False, writer=lambda line: print('NAMED', line))\n"
    )
    pytester.makepyfile(test_it="def test_one(): pass\ndef test_two(named): assert named[0] >= 1")
    result = pytester.runpytest_inprocess("-s", "-p", "no:tractor.testing.pytest")
    result.assert_outcomes(passed=2)
    text = result.stdout.str()
    assert "TOLD test_it.py::test_one: threads " in text
    assert "TOLD test_it.py::test_two: threads " in text
    assert "NAMED test_it.py::test_two: threads " in text
    assert "NAMED test_it.py::test_one" not in text


def test_a_fixture_of_pytests_comes_out() -> None:
    assert "fixture" in type(resource_delta_fixture()).__name__.lower()
