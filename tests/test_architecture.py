"""Imports go down: the layer table of ARCHITECTURE.md, checked on the syntax trees of src/tractor.

A module imports only from its own or a lower layer, at the top of the file, and no two modules
import each other.  Imports under `if TYPE_CHECKING:` and inside of functions count like others: who
knows whom is the same question for types.  Only a package's lazy `__getattr__` is passed over.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tractor.hosts._bundle import DIALS_BACK

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "tractor"

LAYERS: dict[str, int] = {
    # The longest prefix decides; `x.__init__` is the package file alone.
    "_errors": 0,
    "_error_registry": 0,
    "log": 0,
    "_util": 0,
    "trionics": 0,
    "trionics.__init__": 11,
    "trionics._exports": 11,
    "trionics._cached": 11,
    "process": 1,
    "process._state": 0,
    "msg": 2,
    "_proto": 2,
    "_exceptions": 2,
    "address": 3,
    "transport": 4,
    "shm": 5,
    "ipc": 5,
    "ipc.__init__": 11,
    "ipc._exports": 11,
    "ipc.fd_share": 11,
    "runtime": 6,
    "spawn": 7,
    "hosts": 7,
    "supervise": 8,
    "discovery": 9,
    "_root": 10,
    "_root_options": 10,
    "_boot_actor": 10,
    "_child": 10,
    "_tools": 10,
    "_clustering": 10,
    "control": 11,
    "manager": 11,
    "observe": 11,
    "pool": 11,
    "services": 11,
    "reaping": 11,
    "to_asyncio": 11,
    "devx": 11,
    "experimental": 11,
    "topics": 11,
    "_freeze": 11,
    "notebook": 11,
    "testing": 11,
    "_testing": 11,
    "demo": 11,
    "cli": 11,
    "reap": 11,
    "__main__": 11,
    "_exports": 11,
    "__init__": 11,
}

PLUGS_IN = "tractor._tools"
"""The one module that imports from above, and late: what it loads, only some programs use."""

MAY_BE_IMPORTED_LATE = {
    # Optional, or too slow for `import tractor` and the start of every actor.
    "_posixshmem",  # macOS and other POSIX systems without /dev/shm
    "_interpreters",  # Python 3.14
    "argparse",
    "asyncio",
    "bdb",
    "colorlog",
    "difflib",  # only where a name is wrong
    "dask",
    "distributed",
    "ctypes",  # the boot's id, neither on Linux nor on Windows
    "resource",  # POSIX; only where limits are set
    "greenback",
    "fcntl",  # POSIX
    "importlib",  # importlib.metadata
    "logging",  # logging.config
    "multiaddr",
    "multiprocessing",
    "numpy",
    "pdbp",
    "platformdirs",
    "polars",
    "psutil",
    "pyarrow",
    "pytest",
    "ray",
    "readline",
    "rich",
    "runpy",
    "setproctitle",
    "ssl",  # in an agent
    "stackscope",
    "trustme",
    "tomllib",
    "typer",
    "uvloop",
    "winreg",  # Windows
    "tractor.cli.watch._top_app",  # textual
    "tractor.devx.otel._making",  # OpenTelemetry
    "tractor.observe.page._serve",  # starlette, hypercorn
    "tractor.devx.debug.repl._repl",  # pdbp
    "tractor.devx.debug.attach._repl",  # pdbp
    "tractor.devx.debug.relay._repl",  # pdbp
    "tractor._util.dist._version",  # importlib.metadata
    # JSON, TOML, zip archives: only where actors are started on other hosts
    "tractor.hosts._backend",
    "tractor.hosts._handle",
    "tractor.hosts._ship",
    "tractor.hosts._table",
    "tractor.shm._segment",  # multiprocessing.shared_memory
}

FILES_IN_A_FOLDER = 17

PRIVATE_REACHES = 1.85
"""A thousand lines."""

NOT_IN_PROTO = {"asyncio", "datetime", "select", "socket", "ssl", "subprocess", "time", "trio"}
"""What a pure protocol machine has no use for: it has no socket, no clock and never waits."""


# -- the checker --


@dataclass(frozen=True)
class Edge:
    """One import statement's target, a module of the package or a top-level name from outside."""

    target: str
    line: int
    late: bool
    """It stands inside a function."""
    type_only: bool
    """It stands under `if TYPE_CHECKING:`."""


@dataclass(frozen=True)
class Module:
    name: str
    """Dotted; a package's own file ends in `.__init__`, so that every file has its own name."""
    edges: tuple[Edge, ...]


class _Imports(ast.NodeVisitor):
    def __init__(self, name: str, known: frozenset[str]) -> None:
        self.name = name
        self.known = known
        self.edges: list[Edge] = []
        self._functions: list[str] = []
        self._type_only = False
        self._is_package = name.endswith(".__init__")

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._functions.append(node.name)
        self.generic_visit(node)
        self._functions.pop()

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) not in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            self.generic_visit(node)
            return
        before, self._type_only = self._type_only, True
        for statement in node.body:
            self.visit(statement)
        self._type_only = before
        for statement in node.orelse:
            self.visit(statement)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            above = self.name.removesuffix(".__init__").split(".")
            keep = len(above) - node.level + self._is_package
            base = ".".join([*above[:keep], *([base] if base else [])])
        for alias in node.names:
            submodule = f"{base}.{alias.name}"
            self._add(submodule if self._file_of(submodule) else base, node.lineno)

    def visit_Call(self, node: ast.Call) -> None:
        # An import by name is an import, too, where the name can be read.
        called = ast.unparse(node.func)
        if called in ("import_module", "importlib.import_module", "__import__") and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                self._add(name.value, node.lineno)
        self.generic_visit(node)

    def _file_of(self, dotted: str) -> str | None:
        return next((n for n in (dotted, f"{dotted}.__init__") if n in self.known), None)

    def _add(self, dotted: str, line: int) -> None:
        if dotted.split(".")[0] == PACKAGE:
            target = self._file_of(dotted) or dotted
        else:
            target = dotted.split(".")[0]
        # A package's `__getattr__` is how a facade is lazy (PEP 562): the package needs none of it.
        if self._is_package and self._functions[:1] == ["__getattr__"]:
            return
        self.edges.append(Edge(target, line, bool(self._functions), self._type_only))


def parse(sources: dict[str, str]) -> list[Module]:
    """The modules of *sources*, which maps full dotted names to source text."""
    known = frozenset(sources)
    modules = []
    for name, text in sorted(sources.items()):
        visitor = _Imports(name, known)
        visitor.visit(ast.parse(text))
        modules.append(Module(name, tuple(visitor.edges)))
    return modules


def layer_of(name: str) -> int | None:
    """The layer of a module's full dotted name, or `None` if the table has no place for it."""
    parts = name.split(".")[1:] or ["__init__"]
    for length in range(len(parts), 0, -1):
        layer = LAYERS.get(".".join(parts[:length]))
        if layer is not None:
            return layer
    return None


def private_reaches(text: str) -> Iterator[int]:
    """The lines on which an attribute is private and not the object's own."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and re.match("_(?!_)", node.attr):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not own:
                yield node.lineno


def is_ours(target: str) -> bool:
    return target.split(".")[0] == PACKAGE


def without_layer(modules: Iterable[Module]) -> Iterator[str]:
    for module in modules:
        if layer_of(module.name) is None:
            yield f"{module.name}: has no layer; add it to LAYERS and to ARCHITECTURE.md"


def upward(modules: Iterable[Module]) -> Iterator[str]:
    for module in modules:
        own = layer_of(module.name)
        for edge in module.edges:
            other = layer_of(edge.target) if is_ours(edge.target) else None
            plugged_in = module.name == PLUGS_IN and (edge.late or edge.type_only)
            if own is not None and other is not None and other > own and not plugged_in:
                yield (
                    f"{module.name}:{edge.line}: layer {own} imports {edge.target} of layer {other}"
                )


def late(modules: Iterable[Module]) -> Iterator[str]:
    for module in modules:
        for edge in module.edges:
            allowed = edge.target in MAY_BE_IMPORTED_LATE or module.name == PLUGS_IN
            if edge.late and not allowed:
                yield f"{module.name}:{edge.line}: imports {edge.target} inside a function"


def cycles(modules: Iterable[Module]) -> Iterator[str]:
    """Circles of imports of any kind: at the top of a file, for type checkers alone, or late."""
    graph = {
        module.name: sorted({e.target for e in module.edges if is_ours(e.target)})
        for module in modules
    }
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> Iterator[str]:
        if name in path:
            circle = path[path.index(name) :]
            first = circle.index(min(circle))
            yield " -> ".join([*circle[first:], *circle[:first], circle[first]])
        elif name not in done:
            for target in graph.get(name, ()):
                yield from walk(target, [*path, name])
            done.add(name)

    for name in graph:
        yield from walk(name, [])


def impure(sources: dict[str, str]) -> Iterator[str]:
    """Clocks, sockets and waiting in `_proto`."""
    pure = {name: text for name, text in sources.items() if "._proto." in name}
    for module in parse(pure):
        for edge in module.edges:
            if edge.target in NOT_IN_PROTO and not edge.type_only:
                yield f"{module.name}:{edge.line}: a pure machine imports {edge.target}"
    for name, text in pure.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncWith | ast.AsyncFor):
                yield f"{name}:{node.lineno}: a pure machine waits"


# -- the package --


def read_package() -> dict[str, str]:
    source = ROOT / "src"
    return {
        ".".join(path.relative_to(source).with_suffix("").parts): path.read_text()
        for path in sorted((source / PACKAGE).rglob("*.py"))
    }


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    found = read_package()
    assert len(found) > 10
    return found


@pytest.fixture(scope="module")
def modules(sources: dict[str, str]) -> list[Module]:
    return parse(sources)


def report(violations: Iterable[str]) -> None:
    found = list(violations)
    assert not found, "\n" + "\n".join(found)


def test_every_module_has_a_layer(modules: list[Module]) -> None:
    report(without_layer(modules))


def test_no_import_goes_up(modules: list[Module]) -> None:
    report(upward(modules))


def test_no_modules_import_each_other(modules: list[Module]) -> None:
    report(cycles(modules))


def test_no_import_inside_a_function(modules: list[Module]) -> None:
    report(late(modules))


def test_no_folder_is_crowded(sources: dict[str, str]) -> None:
    """Who opens one sees at a glance what is in it."""
    files = Counter(name.rpartition(".")[0] for name in sources)
    assert {folder: count for folder, count in files.items() if count > FILES_IN_A_FOLDER} == {}


def test_private_state_is_left_to_its_owner(sources: dict[str, str]) -> None:
    """Of this package, trio and the standard library; some reaches there is no way around."""
    reaches = [f"{name}:{line}" for name, text in sources.items() for line in private_reaches(text)]
    lines = sum(text.count("\n") for text in sources.values())
    assert len(reaches) * 1000 / lines <= PRIVATE_REACHES, reaches


def test_protocol_machines_are_pure(sources: dict[str, str]) -> None:
    report(impure(sources))


def test_the_agent_needs_the_standard_library_alone(modules: list[Module]) -> None:
    """And what is sent before: it runs on hosts that may have nothing else, or another version."""
    by_name = {module.name: module for module in modules}
    for place, name in enumerate(DIALS_BACK):
        there = {*sys.stdlib_module_names, *DIALS_BACK[:place]}
        report(
            f"{name}:{edge.line}: imports {edge.target}"
            for edge in by_name[name].edges
            if edge.target not in there
        )
    agent = {name for name in by_name if ".hosts.agent._" in name}
    assert {name for name in agent if not name.endswith("__init__")} <= {*DIALS_BACK}


def test_the_table_is_the_one_in_architecture_md() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", text, re.MULTILINE)
    told = {
        place.removesuffix("/").removesuffix(".py").replace("/", "."): int(layer)
        for layer, places in rows
        for place in re.findall(r"`([^`]+)`", places)
    }
    assert len(told) > 15
    wrong = {place: layer for place, layer in told.items() if layer_of(f"tractor.{place}") != layer}
    assert not wrong, "ARCHITECTURE.md and LAYERS differ"


def test_modules_that_text_names_are_there(sources: dict[str, str]) -> None:
    """Also those in strings and comments, which stay behind when a module moves."""
    found = [
        f"{name}: {named}"
        for name, text in sources.items()
        for named in [
            *re.findall(r"\btractor(?:\.\w+)+", text),
            *(
                path.removesuffix(".py").lstrip("/").replace("/", ".")
                for path in re.findall(r"/?tractor/[\w/]+\.py\b", text)
            ),
        ]
        if _leads_nowhere(named, sources)
    ]
    found += [
        f"ARCHITECTURE.md: {path}"
        for path in re.findall(r"`([\w/]+/\w+\.py)", (ROOT / "ARCHITECTURE.md").read_text())
        if not any((ROOT / top / path).exists() for top in ("", "src", "src/tractor"))
    ]
    assert found == []


def _leads_nowhere(dotted: str, sources: dict[str, str]) -> bool:
    """Whether a private part of a dotted name is neither a module nor anything that its package speaks of."""
    package, parts = PACKAGE, dotted.split(".")[1:]
    for part in parts:
        if f"{package}.__init__" not in sources:
            return False
        if not {f"{package}.{part}", f"{package}.{part}.__init__"} & sources.keys():
            known = sources[f"{package}.__init__"] + sources.get(f"{package}._exports", "")
            return part.startswith("_") and not re.search(rf"\b{part}\b", known)
        package = f"{package}.{part}"
    return False


@pytest.mark.parametrize("folder", ["examples", "benches", "docs"])
def test_what_users_read_imports_only_public_names(folder: str) -> None:
    private = re.compile(
        r"^\s*(?:from|import) tractor(?:\.\w+)*\._(?!exceptions\b)\w+", re.MULTILINE
    )
    report(
        f"{path.relative_to(ROOT)}: {found.strip()}"
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".rst", ".md") and "_build" not in path.parts
        for found in private.findall(path.read_text())
    )


# -- the checker catches what it is there to catch --

GOOD = {
    "tractor.__init__": (
        "def __getattr__(name):\n    import_module('tractor.devx')\n    from . import _root\n"
    ),
    "tractor._errors": "import enum",
    "tractor.msg.__init__": "from tractor.msg.types import Start",
    "tractor.msg.types": "from .._errors import X\nimport msgspec",
    "tractor._proto.__init__": "",
    "tractor._proto.dialog.flow": "from tractor.msg import types",
    "tractor.ipc.__init__": "from tractor.ipc._chan import Channel",
    "tractor.ipc._chan": "from tractor.transport import _tcp",
    "tractor.transport.__init__": "",
    "tractor.transport._tcp": "import socket",
    "tractor._root": "import tractor.ipc._chan",
    "tractor.devx.__init__": "from tractor import _root\ndef f():\n    import greenback",
}


def _dotted(name: str) -> str:
    return name.replace("____init__", ".@").replace("__", ".").replace("@", "__init__")


def violations(**changed: str) -> list[str]:
    """Everything wrong with the good package after some of its modules (`__` for a dot) changed."""
    changes = {f"tractor.{_dotted(name)}": text for name, text in changed.items()}
    package = {**GOOD, **changes}
    found = parse(package)
    return [
        *without_layer(found),
        *upward(found),
        *cycles(found),
        *late(found),
        *impure(package),
    ]


def test_a_good_package_passes() -> None:
    assert violations() == []


@pytest.mark.parametrize(
    "line",
    [
        "from tractor._root import x",
        "from .._root import x",
        "from .. import _root",
        "from tractor import _root",
        "import tractor._root",
        "import tractor._root as r",
        "if TYPE_CHECKING:\n    from tractor._root import x",
        "try:\n    import tractor._root\nexcept ImportError:\n    pass",
        "m = importlib.import_module('tractor._root')",
        "class C:\n    import tractor._root",
    ],
)
def test_an_upward_import_is_caught(line: str) -> None:
    (found,) = violations(msg__types=line)
    assert "layer 2 imports tractor._root of layer 10" in found
    assert found.startswith("tractor.msg.types:")


@pytest.mark.parametrize("line", ["import tractor", "from tractor import Context"])
def test_the_facade_is_not_for_the_package_itself(line: str) -> None:
    (found,) = violations(transport___tcp=line)
    assert "layer 4 imports tractor.__init__ of layer 11" in found


def test_a_package_file_may_have_a_layer_of_its_own() -> None:
    (found, *_) = violations(transport___tcp="from tractor.ipc import Channel")
    assert found == "tractor.transport._tcp:1: layer 4 imports tractor.ipc.__init__ of layer 11"


def test_a_cycle_is_caught_and_named() -> None:
    found = violations(msg__types="from . import codec", msg__codec="from tractor.msg import types")
    assert "tractor.msg.codec -> tractor.msg.types -> tractor.msg.codec" in found


def test_a_cycle_through_a_package_file_is_caught() -> None:
    (found,) = violations(msg__types="from tractor.msg import Start")
    assert found == "tractor.msg.__init__ -> tractor.msg.types -> tractor.msg.__init__"


@pytest.mark.parametrize(
    "line",
    [
        "if TYPE_CHECKING:\n    from . import codec\nelse:\n    import enum",
        "if typing.TYPE_CHECKING:\n    from tractor.msg.codec import mk_codec",
        "def f():\n    from tractor.msg import codec",
        "class C:\n    def f(self):\n        import tractor.msg.codec as c",
        "def f():\n    return importlib.import_module('tractor.msg.codec')",
    ],
)
def test_an_import_for_types_or_a_late_one_closes_a_cycle_too(line: str) -> None:
    found = violations(msg__types=line, msg__codec="from . import types")
    assert "tractor.msg.codec -> tractor.msg.types -> tractor.msg.codec" in found


def test_a_cycle_of_type_only_imports_over_three_modules_is_caught() -> None:
    only = "if TYPE_CHECKING:\n    from tractor.msg import "
    found = violations(msg__types=f"{only}a", msg__a=f"{only}b", msg__b=f"{only}types")
    assert found == ["tractor.msg.a -> tractor.msg.b -> tractor.msg.types -> tractor.msg.a"]


def test_a_facade_may_name_for_types_what_it_loads_lazily() -> None:
    facade = (
        "if TYPE_CHECKING:\n    from tractor.msg.types import Start\ndef __getattr__(name):\n    "
    )
    facade += "from tractor.msg import types"
    assert violations(msg____init__=facade) == []
    (found,) = violations(msg____init__=facade, msg__types="from tractor.msg import Start")
    assert found == "tractor.msg.__init__ -> tractor.msg.types -> tractor.msg.__init__"


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    import json",
        "async def f():\n    from json import loads",
        "class C:\n    def f(self):\n        if x:\n            import json",
        "def f():\n    return importlib.import_module('json')",
        "def __getattr__(name):\n    import json",
    ],
)
def test_an_import_inside_a_function_is_caught(source: str) -> None:
    (found,) = violations(msg__types=source)
    assert "imports json inside a function" in found


def test_a_module_without_a_layer_is_caught() -> None:
    (found,) = violations(surprise="")
    assert found.startswith("tractor.surprise: has no layer")


def test_a_private_reach_is_caught() -> None:
    text = "self._a = x._b\nx.__class__\nself.y._c()\ncls._d\nx.e"
    assert list(private_reaches(text)) == [1, 3]


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("import trio", "imports trio"),
        ("from time import monotonic", "imports time"),
        ("async def f(): ...", "waits"),
    ],
)
def test_an_impure_machine_is_caught(source: str, fault: str) -> None:
    (found,) = violations(_proto__flow=source)
    assert fault in found
