"""What the plugin does with tests before they run: variations, markers, async tests."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pytest
import trio

from tractor.spawn._contract import known_start_methods
from tractor.testing._runner import WIRED, is_tractor_test
from tractor.testing.plugin import _fixtures
from tractor.testing.plugin._config import session_transports
from tractor.transport._table import transport_keys


def pytest_pycollect_makeitem(collector: object, name: str, obj: object) -> None:
    """A test that runs in a root actor needs what the root is booted with, named or not."""
    function = getattr(obj, "__func__", obj)
    if is_tractor_test(function):
        pytest.mark.usefixtures(*WIRED)(function)


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name, values in (
        ("start_method", [metafunc.config.getoption("spawn_backend")]),
        ("tpt_proto", session_transports(metafunc.config)),
    ):
        if name in metafunc.fixturenames and _is_ours(metafunc, name):
            metafunc.parametrize(name, values, indirect=True, scope="session")


def _is_ours(metafunc: pytest.Metafunc, name: str) -> bool:
    """Whether a fixture is the plugin's: neither overridden nor given values by the test."""
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
        if name in ([n.strip() for n in names.split(",")] if isinstance(names, str) else names):
            return False
    defined = getattr(metafunc, "_arg2fixturedefs", {}).get(name)
    return not defined or defined[-1].func.__module__ == _fixtures.__name__


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wrong = sorted({fault for item in items for fault in _unknown_keys(item)})
    if wrong:
        raise pytest.UsageError("\n".join(wrong))
    for item in items:
        for reason in (_by_backend(item), _by_transport(item), _by_ctrl_c(item)):
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


def _unknown_keys(item: pytest.Item) -> list[str]:
    """What is wrong with the keys of an item's markers, its class's and module's included."""
    faults = []
    for marker, known in (
        ("skipon_spawn_backend", known_start_methods()),
        ("no_tpt", transport_keys()),
    ):
        for mark in item.iter_markers(marker):
            strange = [key for key in mark.args if key not in known]
            if strange or not mark.args:
                what = f"the unknown {strange!r}" if strange else "no key"
                where = item.nodeid.partition("[")[0]
                faults.append(f"{where}: {marker}() has {what}; choose from {', '.join(known)}")
    return faults


def _parameter(item: pytest.Item, name: str) -> Any:
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get(name)


def _by_backend(item: pytest.Item) -> str | None:
    backend = _parameter(item, "start_method") or item.config.getoption("spawn_backend")
    for mark in item.iter_markers("skipon_spawn_backend"):
        if backend in mark.args:
            return mark.kwargs.get("reason") or f"not for spawn backend {backend!r}"
    return None


def _by_transport(item: pytest.Item) -> str | None:
    transports = session_transports(item.config)
    # A test that does not say on which transport it runs may use each of the session's.
    only = transports[0] if len(transports) == 1 else None
    transport = _parameter(item, "tpt_proto") or only
    for mark in item.iter_markers("no_tpt"):
        if transport in mark.args:
            return mark.kwargs.get("reason") or f"not for transport {transport!r}"
    return None


def _by_ctrl_c(item: pytest.Item) -> str | None:
    if _parameter(item, "ctlc"):
        for mark in item.iter_markers("ctlcs_bish"):
            if all(mark.args):
                return mark.kwargs.get("reason") or "ctrl-c does not end this one reliably here"
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an async test that has the marker `trio`; pytest-trio does so where it is installed."""
    if (
        pyfuncitem.get_closest_marker("trio") is None
        or pyfuncitem.config.pluginmanager.has_plugin("trio")
        or is_tractor_test(getattr(pyfuncitem.obj, "__func__", pyfuncitem.obj))
    ):
        return None
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        pytest.fail(f"{pyfuncitem.name} has the marker `trio`, but is not async", pytrace=False)
    arguments = {
        name: pyfuncitem.funcargs[name]
        for name in inspect.signature(test).parameters
        if name in pyfuncitem.funcargs
    }
    trio.run(functools.partial(test, **arguments))
    return True
