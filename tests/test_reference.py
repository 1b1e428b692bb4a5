"""Each name of the API reference has an example there, and the tests run it; what it links to elsewhere is listed."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"

NOT_YET: dict[str, str] = {
    "tractor": "DebugRequestError DebugStateError freeze_support run_daemon set_runtime_vars stream",
    "tractor.notebook": "MODULE load_ipython_extension run_cell",
    "tractor.spawn": (
        "BootedChild ChildPipes ChildProcess ExitSource ForkedProc OwnChild PopenChild SpawnBackend"
        " SpawnRequest fork_from_worker_thread try_set_start_method wait_child"
    ),
    "tractor.hosts": "CallbackEngine HostEngine HostHandle HostStatistics Offer StdioEngine",
    "tractor.discovery": "open_portal",
    "tractor.msg": "PldRx drain_to_final_msg limit_msg_spec maybe_limit_plds validate_payload_msg",
    "tractor.ipc": (
        "ByteIO EventFD Listener RBToken SharedInt SocketIO TransportSpec close_eventfd"
        " open_eventfd open_ipc_server open_ringbuf read_eventfd transport_from_stream write_eventfd"
    ),
    "tractor.to_asyncio": "maybe_signal_aio_task run_trio_task_in_future",
    "tractor.devx.debug": (
        "DebugStatus acquire_debug_lock maybe_init_greenback maybe_pause_bp open_crash_handler"
        " sigint_shield"
    ),
    "tractor.devx": "CallerInfo dump_task_tree resource_delta_fixture",
    "tractor.devx.cli": "load_runtime_vars",
    "tractor.testing": "expect_ctxc",
}
"""By module: names that have no example yet.  One that has got one may not stand here."""


def load(name: str) -> ModuleType:
    """A module of `docs/`, which is no package."""
    path = DOCS / name / "__init__.py" if (DOCS / name).is_dir() else DOCS / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"docs_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


usages = load("usages")
inventories = load("inventories")


def pages() -> dict[str, tuple[str, str, list[str]]]:
    """`PAGES` of `reference.py`, which itself needs Sphinx."""
    for node in ast.parse((DOCS / "reference.py").read_text()).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "PAGES":
            assert node.value is not None
            found: dict[str, tuple[str, str, list[str]]] = ast.literal_eval(node.value)
            return found
    raise AssertionError


@pytest.fixture(scope="module")
def used() -> Any:
    return usages.usages()


def test_each_name_of_the_reference_has_an_example(used: Any) -> None:
    missing: dict[str, set[str]] = {}
    for _, module, names in pages().values():
        for name in names:
            if id(getattr(importlib.import_module(module), name)) not in used:
                missing.setdefault(module, set()).add(name)
    assert missing == {module: set(names.split()) for module, names in NOT_YET.items()}


def test_an_example_shows_the_use_it_names(used: Any) -> None:
    import tractor

    (first, *_) = used[id(tractor.topics.subscribe)]
    text = (DOCS.parent / first.source.title).read_text().splitlines()
    assert "subscribe" in text[first.line - 1]
    assert "subscribe" in first.code
    assert all(len(uses[0].code.splitlines()) <= usages.MAX_LINES for uses in used.values())


def test_inventories_are_written_from_their_list() -> None:
    for site, names in inventories.listed().items():
        assert (DOCS / "inventories" / f"{site}.inv").read_bytes() == (
            inventories.inventory(site, names)
        )


def test_an_inventory_can_be_read() -> None:
    data = inventories.inventory("trio", [("py:function", "trio.run", "reference-core.html")])
    *head, packed = data.split(b"\n", 4)
    assert head[0] == b"# Sphinx inventory version 2"
    assert zlib.decompress(packed) == b"trio.run py:function 1 reference-core.html#$ -\n"


@pytest.mark.parametrize("site", ["python", "trio", "msgspec"])
def test_what_is_linked_to_exists_in_the_project_that_is_linked_to(site: str) -> None:
    for role, name, _ in inventories.listed()[site]:
        module, _, attribute = name.rpartition(".")
        if role == "py:module":
            importlib.import_module(name)
            continue
        while module and importlib.util.find_spec(module.partition(".")[0]):
            try:
                value: Any = importlib.import_module(module)
                break
            except ModuleNotFoundError:
                module, _, rest = module.rpartition(".")
                attribute = f"{rest}.{attribute}"
        else:
            value = importlib.import_module("builtins")
        for part in attribute.split("."):
            value = getattr(value, part, None) if part == "None" else getattr(value, part)
