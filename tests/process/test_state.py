"""What modules keep for the process: registered, and made anew where an actor is forked off."""

from __future__ import annotations

import ast
from pathlib import Path

import ep_state
import pytest
from ep_peer import run

import tractor
from tractor.process import _state
from tractor.process._state import ProcessVar, of_process
from tractor.spawn._contract import usable_start_methods
from tractor.testing import get_rando_addr

SRC = Path(__file__).resolve().parents[2] / "src" / "tractor"

FACTS = {
    # True of the program, and so of every copy of it.
    "tractor._error_registry": {"_public", "_by_name", "_by_path"},
    "tractor.log": {"CUSTOM_LEVELS", "STD_PALETTE", "_level_names"},
    "tractor.devx._frames": {"_hidden", "_api_codes"},
    "tractor.trionics.patches._table": {"_applied"},
    "tractor.transport._table": {"_TRANSPORTS"},
    # Of what runs: a task's block ends where it began.
    "tractor.msg._codec": {"_blocks"},
    "tractor.devx.debug.repl._greenback": {"_marked"},
    # What is done at a fork.
    "tractor.process._at_fork": {"_always", "_callbacks", "_own_handlers"},
    "tractor.process._state": {"_renewals"},
    "tractor.spawn.fork._descriptors": {"_kept_alive"},
    "tractor.spawn.fork._reset": {"_of_the_parent"},
}

OF_THE_BACKEND = {
    # With which it starts actors of its own; whether its thread is the one that the program began with; a fork server;
    # what leads to the zygote.
    "tractor.process._ancestry._above",
    "tractor.process._stat._orders",
    "tractor.spawn.zygote._tie._tie",
    "tractor.spawn._contract._selected",
    "tractor.spawn._signal_help._forked_off_thread",
}

CHANGES = {
    "add",
    "append",
    "appendleft",
    "clear",
    "discard",
    "extend",
    "pop",
    "popitem",
    "remove",
    "setdefault",
    "update",
}


def changed_names(tree: ast.Module) -> set[str]:
    """The names whose objects a module changes, or that it assigns by `global`."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            found.update(node.names)
        elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            found.add(ast.unparse(node.value))
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in CHANGES
        ):
            found.add(ast.unparse(node.func.value))
    return found


def variables(tree: ast.Module) -> dict[str, str]:
    """The variables of a module, and what makes each."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and not target.id.startswith("__"):
                found[target.id] = ast.unparse(node.value)
    return found


def unregistered(tree: ast.Module, facts: set[str]) -> set[str]:
    ours = ("ProcessVar(", "of_process(")
    locks = ("threading.Lock(", "threading.RLock(", "Lock(", "RLock(")
    changed = changed_names(tree)
    return {
        name
        for name, value in variables(tree).items()
        if (name in changed or value.startswith(locks)) and not value.startswith(ours)
    } - facts


def test_what_a_module_changes_is_registered() -> None:
    wrong = {}
    for path in sorted(SRC.rglob("*.py")):
        name = ".".join(path.relative_to(SRC.parent).with_suffix("").parts)
        left = unregistered(ast.parse(path.read_text()), FACTS.get(name, set()))
        if left:
            wrong[name] = left
    assert not wrong, "register these with tractor.process._state, or list them as facts"


@pytest.mark.parametrize(
    "source",
    [
        "_known: dict[str, int] = {}\ndef f():\n    _known['a'] = 1",
        "_known = []\ndef f():\n    _known.append(1)",
        "_known = None\ndef f():\n    global _known\n    _known = 1",
        "_known = {}\ndef f():\n    del _known['a']",
        "_known = threading.Lock()",
    ],
)
def test_the_check_sees(source: str) -> None:
    assert unregistered(ast.parse(source), set()) == {"_known"}
    assert unregistered(ast.parse(source), {"_known"}) == set()


def test_the_check_passes_over_what_is_registered_or_never_changed() -> None:
    source = (
        "_a = of_process([])\n_b = ProcessVar(lambda: 1)\n_C = {}\n"
        "def f():\n    _a.append(1)\n    _C.get(1)"
    )
    assert unregistered(ast.parse(source), set()) == set()


def test_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_state, "_renewals", [])
    var = ProcessVar(list[int])
    fact = ProcessVar(lambda: 0, survives=True)
    table = of_process({"a": 1})
    var.value.append(1)
    fact.value = 1
    _state.renew_all()
    assert not var.value
    assert not table
    assert fact.value == 1
    assert repr(fact) == "<ProcessVar 1>"


@pytest.mark.parametrize("method", [m for m in usable_start_methods() if m != "subint"])
def test_an_actor_sees_what_one_in_a_fresh_process_does(method: str) -> None:
    """Whatever its parent has used: the parent's state is not an actor's."""

    addr = get_rando_addr("uds")

    async def look(method: str) -> dict[str, tuple[str, str]]:
        async with tractor.open_nursery(registry_addrs=[addr], start_method=method) as an:
            with ep_state.everything_used():
                portal = await an.start_actor("probe", enable_modules=["ep_state"])
                seen = await portal.run(ep_state.probe)
                await portal.cancel_actor()
        return {name: value for name, value in seen.items() if name not in OF_THE_BACKEND}

    async def main() -> None:
        fresh = await look("trio")
        seen = await look(method)
        assert len(fresh) > 20
        # A forked process may have modules loaded that a fresh one has no use for: there all is as at the start.
        expected = {name: fresh.get(name, (start, start))[0] for name, (_, start) in seen.items()}
        assert {name: value for name, (value, _) in seen.items()} == expected

    run(main)
