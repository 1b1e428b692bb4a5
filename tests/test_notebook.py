"""Cells whose functions actors can run: the module of them, and a real notebook's kernel."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from tractor import notebook
from tractor.spawn import _sent_modules
from tractor.spawn._sent_modules import known_modules


@pytest.fixture(autouse=True)
def no_cells(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_sent_modules, "cells", {})
    monkeypatch.setattr(notebook, "cells", _sent_modules.cells)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    yield
    sys.modules.pop(notebook.MODULE, None)


def sources() -> list[str]:
    return [source for _, source in known_modules([])["module_cells"][notebook.MODULE]]


def test_cells_are_one_module() -> None:
    first = "import os\nN = 2\ndef double(x):\n    return N * x\n"
    names = notebook.run_cell(first)
    assert sorted(names) == ["N", "double", "os"]
    second = "class Twice:\n    of = staticmethod(double)\nfor i in range(2): total = i\n"
    names = notebook.run_cell(second)
    assert sorted(names) == ["Twice", "i", "total"]
    assert names["Twice"].of(4) == 8
    assert names["Twice"].__module__ == notebook.MODULE
    assert sources() == [first, second]


def test_what_runs_again_takes_its_own_place() -> None:
    notebook.run_cell("def a(): return 1\n")
    notebook.run_cell("def b(): return 2\nc = 3\n")
    notebook.run_cell("print\n")
    notebook.run_cell("def a(): return 1\n")
    assert [s[:5] for s in sources()] == ["def b", "print", "def a"]
    notebook.run_cell("def b(): return 4\n")
    assert len(sources()) == 4, "`c` is still defined by the other one"
    notebook.run_cell("async def b(): ...\nc, d = 5, 6\n")
    assert [s[:5] for s in sources()] == ["print", "def a", "async"]


def test_a_cell_that_fails_is_no_part_of_it() -> None:
    notebook.run_cell("x = 1\n")
    with pytest.raises(SyntaxError):
        notebook.run_cell("%time x\n")
    with pytest.raises(ZeroDivisionError) as caught:
        notebook.run_cell("y = 2\ny / 0\n")
    assert sources() == ["x = 1\n"]
    assert "y / 0" in "".join(traceback.format_exception(caught.value))


def test_a_child_imports_the_same() -> None:
    data: dict[str, Any] = {"module_cells": {"of_a_parent": [["<one>", "def f(): return 'f'\n"]]}}
    _sent_modules.install_sent_modules(data)
    try:
        import of_a_parent  # type: ignore[import-not-found]

        assert of_a_parent.f() == "f"
        assert inspect.getsource(of_a_parent.f) == "def f(): return 'f'\n"
        # And hands it on.
        assert known_modules([])["module_cells"] == {
            "of_a_parent": [("<one>", "def f(): return 'f'\n")]
        }
    finally:
        sys.modules.pop("of_a_parent", None)


CELLS = [
    "%load_ext tractor.notebook",
    """%%actors
import trio
import tractor

FACTOR = 2

async def double(x: int) -> int:
    return FACTOR * x

async def fail() -> None:
    raise LookupError("in a cell")
""",
    """%%actors
@tractor.context
async def count(ctx: tractor.Context, upto: int) -> None:
    await ctx.started(await double(upto))
    async with ctx.open_stream() as stream:
        for i in range(upto):
            await stream.send(await double(i))

async def nested(x: int) -> int:
    async with tractor.open_nursery() as an:
        portal = await an.run_in_actor(double, x=x)
        return await portal.wait_for_result()
""",
    """
async def main() -> None:
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("worker", enable_modules=[double.__module__])
        print(await portal.run(double, x=FACTOR))
        async with portal.open_context(count, upto=3) as (ctx, first), ctx.open_stream() as stream:
            print(first, [value async for value in stream])
        try:
            await portal.run(fail)
        except tractor.RemoteActorError as error:
            print(error.tb_str)
        await portal.cancel_actor()

trio.run(main)
""",
    """
async def deep() -> None:
    for method in ("trio", "main_thread_forkserver"):
        async with tractor.open_nursery(start_method=method) as an:
            portal = await an.run_in_actor(nested, x=5)
            print(method, await portal.wait_for_result())

trio.run(deep)
""",
    """
async def typed() -> None: ...

async def refused() -> None:
    async with tractor.open_nursery() as an:
        await an.run_in_actor(typed)

try:
    trio.run(refused)
except tractor.RuntimeFailure as error:
    print(error)
""",
]


# In a process of its own: the client leaves sockets to the collector.
CLIENT = """
import json, sys
import nbclient, nbformat

make = nbformat.v4
book = make.new_notebook(cells=[make.new_code_cell(source) for source in json.load(sys.stdin)])
nbclient.NotebookClient(book, timeout=50, kernel_name="python3").execute()
outputs = [[out.text for out in cell.outputs if out.get("name") == "stdout"] for cell in book.cells]
print(json.dumps(["".join(texts) for texts in outputs]))
"""


def test_a_real_kernel() -> None:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    done = subprocess.run(
        [sys.executable, "-c", CLIENT],
        input=json.dumps(CELLS),
        text=True,
        stdout=subprocess.PIPE,
        timeout=55,
        check=True,
    )
    load, first, second, calls, deep, refused = json.loads(done.stdout)
    assert load == first == second == ""
    assert calls.startswith("4\n6 [0, 2, 4]\n")
    assert 'raise LookupError("in a cell")' in calls, "tracebacks show a cell's lines"
    assert deep == "trio 10\nmain_thread_forkserver 10\n"
    assert "functions of `__main__` can't be run in an actor: the cells of a notebook" in refused
    assert "begin the cell that defines the functions with `%%actors`" in refused
