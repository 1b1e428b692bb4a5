"""``tractor debug`` and ``tractor tree``: from another terminal."""

from __future__ import annotations

import os
import sys
import termios
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import ep_devx
import pytest
import trio

import tractor
from tractor.cli import _actors, _debug, _tree
from tractor.cli._main import COMMANDS
from tractor.reaping._table import ProcessInfo
from tractor.testing import get_rando_addr
from tractor.transport._maddr import mk_maddr

pytestmark = [
    pytest.mark.usefixtures("forked_actors"),
    pytest.mark.skipif(os.name != "posix", reason="needs Unix sockets"),
]

Main = Callable[[list[str], str], int]


def run_in_tree(
    main: Main, argv: Callable[[int], list[str]], names: list[str], **kwargs: Any
) -> int:
    """Run a command in a thread beside a root and its children; ``argv`` gets the first one's pid."""

    async def tree() -> int:
        async with tractor.open_nursery(
            **{"registry_addrs": [get_rando_addr("tcp")], **kwargs}
        ) as an:
            portals = [await an.start_actor(name, enable_modules=["ep_devx"]) for name in names]
            aid = portals[0].chan.aid if portals else None
            pid = (aid.pid if aid else None) or os.getpid()
            code = await trio.to_thread.run_sync(main, argv(pid), "tractor test")
            await an.cancel()
            return code

    return trio.run(tree)


def test_the_commands_are_in_the_table() -> None:
    assert COMMANDS["debug"].module == _debug.__name__
    assert COMMANDS["tree"].module == _tree.__name__


# -- tractor debug: whom --


def test_without_an_argument_it_lists_who_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_in_tree(_debug.main, lambda pid: [], ["one", "two"], debug_mode=True) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.partition("[")[0] for line in lines) == ["one", "root", "two"]


def test_without_anybody_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert _debug.main([], "tractor debug") == 1
    assert "no actor of yours is in debug mode" in capsys.readouterr().err


@pytest.mark.parametrize("by", ["pid", "name"])
def test_an_actor_without_debug_mode(by: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = run_in_tree(
        _debug.main,
        lambda pid: [str(pid) if by == "pid" else "plain"],
        ["plain"],
        registry_addrs=[get_rando_addr("uds")],
    )
    out, err = capsys.readouterr()
    assert code == 1
    assert out == ""
    assert "tractor test: actor 'plain' (pid " in err
    assert "is not in debug mode" in err
    assert "debug_mode=True" in err


def test_a_name_that_only_a_registrar_knows(capsys: pytest.CaptureFixture[str]) -> None:
    addr = get_rando_addr("tcp")
    code = run_in_tree(
        _debug.main,
        lambda pid: ["far", "--registry", mk_maddr(addr)],
        ["far"],
        registry_addrs=[addr],
    )
    assert code == 1
    assert "actor 'far' is registered at [('127.0.0.1', " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ("nobody-has-this-name", "there is no actor 'nobody-has-this-name'"),
        (str(2**31 - 1), f"there is no process {2**31 - 1}"),
        ("0", "there is no process 0"),
    ],
)
def test_nobody_of_that_name_or_pid(
    wanted: str, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_actors, "default_lo_addrs", lambda keys: [get_rando_addr("uds")])
    assert _debug.main([wanted], "tractor debug") == 1
    assert capsys.readouterr().err.startswith(f"tractor debug: {text}")


def test_a_process_that_is_no_actor(capsys: pytest.CaptureFixture[str]) -> None:
    assert _debug.main([str(os.getpid())], "tractor debug") == 1
    err = capsys.readouterr().err
    assert f"process {os.getpid()} is no actor, or not in debug mode" in err


def test_a_process_of_another_user(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = ProcessInfo(5, 1, os.getuid() + 1, None, "x", (), False)
    monkeypatch.setattr(_actors, "read_process", lambda pid: strange)
    assert _debug.main(["5"], "tractor debug") == 1
    assert f"not yours: it belongs to uid {os.getuid() + 1}" in capsys.readouterr().err


def test_an_ambiguous_name_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code = run_in_tree(_debug.main, lambda pid: ["twin"], ["twin", "twin"], debug_mode=True)
    err = capsys.readouterr().err
    assert code == 1
    assert "several actors are called 'twin'; give a pid:" in err
    assert err.count("\n  twin[") == 2


def test_a_bad_address_is_a_wrong_argument(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        _debug.main(["x", "--registry", "nonsense"], "tractor debug")
    assert caught.value.code == 2
    assert "'nonsense' is not a multiaddr" in capsys.readouterr().err


# -- tractor debug: the session, on a pseudo-terminal --


def test_a_session_and_its_terminal(tmp_path: Path) -> None:
    pexpect = pytest.importorskip("pexpect")
    prompt = r"\(Pdb\+\) "

    def session(pid: int) -> None:
        # Whatever goes wrong, the actor is let go, or its tree could not end.
        with pexpect.spawn(
            sys.executable,
            ["-m", "tractor", "debug", str(pid), "--task", "count_on"],
            env={**os.environ, "PYTHON_COLORS": "0", "NO_COLOR": "1", "TERM": "dumb"},
            encoding="utf-8",
            timeout=40,
        ) as child:
            modes = termios.tcgetattr(child.child_fd)
            child.expect(f"attached to counter@{pid}, task ep_devx:count_on")
            child.expect(prompt)
            child.sendline("p 'step', step")
            child.expect(r"\('step', 3\)")
            child.expect(prompt)
            # The line is dropped; nothing else happens.
            child.send("p 'half a li")
            # Readline misses an interrupt that comes while it takes a key.
            child.expect("half a li")
            child.sendintr()
            child.expect(prompt)
            child.sendline("next")
            child.expect("-> grown = total")
            child.expect(prompt)
            # Completed by the actor.
            child.send("p gro\t")
            child.expect("p grown")
            child.sendline("")
            child.expect(prompt)
            child.sendeof()
            child.expect(f"let go of counter@{pid}")
            child.expect(pexpect.EOF)
            assert termios.tcgetattr(child.child_fd)[:4] == modes[:4]
            child.wait()
            child.close()
            assert child.exitstatus == 0

    async def main() -> None:
        async with (
            tractor.open_nursery(debug_mode=True, registry_addrs=[get_rando_addr("tcp")]) as an,
            AsyncExitStack() as stack,
        ):
            portal = await an.start_actor("counter", enable_modules=["ep_devx"])
            tn = await stack.enter_async_context(trio.open_nursery())
            tn.start_soon(lambda: portal.run(ep_devx.count_on, step=3))
            while "count_on" not in await portal.run(ep_devx.picture):
                await trio.sleep(0.01)
            await trio.to_thread.run_sync(session, await portal.run(ep_devx.pid))
            tn.cancel_scope.cancel()
            await stack.aclose()
            await an.cancel()

    trio.run(main)


# -- tractor tree --


@pytest.mark.parametrize(
    "how", ["uds by pid", "uds by name", "tcp in debug mode", "tcp by registrar"]
)
def test_the_tree_is_shown(how: str, capsys: pytest.CaptureFixture[str]) -> None:
    addr = get_rando_addr(how[:3])
    kwargs: dict[str, Any] = {"registry_addrs": [addr]}
    if how == "tcp in debug mode":
        kwargs["debug_mode"] = True
    extra = ["--registry", mk_maddr(addr)] if how == "tcp by registrar" else []
    wanted = (lambda pid: [str(pid), *extra]) if "pid" in how else (lambda pid: ["below", *extra])
    assert run_in_tree(_tree.main, wanted, ["below"], **kwargs) == 0
    out, err = capsys.readouterr()
    assert out.startswith("root[")
    assert "\n|_ below[" in out
    assert err == ""


def test_only_what_is_below(capsys: pytest.CaptureFixture[str]) -> None:
    addr = get_rando_addr("uds")
    argv = ["below", "--below"]
    assert run_in_tree(_tree.main, lambda pid: argv, ["below"], registry_addrs=[addr]) == 0
    assert capsys.readouterr().out.startswith("below[")


@pytest.mark.parametrize("names", [[], ["twin", "twin"]])
def test_nobody_and_too_many(
    names: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_actors, "default_lo_addrs", lambda keys: [get_rando_addr("uds")])
    addr = get_rando_addr("uds")
    assert run_in_tree(_tree.main, lambda pid: ["twin"], names, registry_addrs=[addr]) == 1
    err = capsys.readouterr().err
    assert ("several actors are called 'twin'" if names else "there is no actor 'twin'") in err


@pytest.mark.parametrize("limit", ["0", "-1", "61", "soon"])
def test_a_limit_that_is_none(limit: str) -> None:
    with pytest.raises(SystemExit) as caught:
        _tree.main(["x", "--limit", limit], "tractor tree")
    assert caught.value.code == 2
