"""Where actors find their code, in programs as users write and start them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import msgspec
import pytest
import trio

import tractor
from tractor.spawn import usable_start_methods

PACKAGE = Path(tractor.__file__).parent
DEPENDENCIES = [str(Path(str(module.__file__)).parents[1]) for module in (trio, msgspec)]

METHODS = usable_start_methods()

# By default two levels, so that what an actor was told reaches its own subactors; or several backends.
JOB = """
import os, sys
import trio, tractor

async def hi() -> str:
    return f"hi {__name__}"

async def nested() -> str:
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("inner", enable_modules=[__name__])
        said = await portal.run(hi)
        await portal.cancel_actor()
        return said

async def main() -> None:
    for method in sys.argv[1:] or ["trio"]:
        async with tractor.open_nursery(start_method=method) as an:
            portal = await an.run_in_actor(hi if sys.argv[1:] else nested)
            print(method, "said", await portal.wait_for_result(), flush=True)

if __name__ == "__main__":
    trio.run(main)
"""


def run(
    *command: str | Path,
    cwd: Path | bytes,
    stdin: str = "",
    ok: bool = True,
    **env: str,
) -> str:
    """What a program prints, on both streams."""
    base = {k: v for k, v in os.environ.items() if k != "TRACTOR_SPAWN_METHOD"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**base, **env},
        input=stdin.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=50,
    )
    text = done.stdout.decode(errors="replace")
    assert (done.returncode == 0) is ok, text
    return text


def said(name: str, *methods: str) -> str:
    return "".join(f"{method} said hi {name}\n" for method in methods or ["trio"])


@pytest.fixture
def project(tmp_path: Path) -> Path:
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").touch()
    for path in ("job.py", "pkg/__main__.py", "pkg/mod.py"):
        (tmp_path / path).write_text(JOB)
    return tmp_path


# -- ways to start a program --


@pytest.mark.parametrize(
    "command",
    [
        "-m pkg",
        "-m pkg.mod",
        "pkg",
        "-m cProfile -o profile job.py",
        "-m cProfile -o profile -m pkg",
        "-m profile -o profile job.py",
        "-m trace --count -C counts job.py",
        "-m pdb -c continue -c quit job.py",
        "-m coverage run job.py",
    ],
)
def test_the_programs_own_main_is_found(project: Path, command: str) -> None:
    if "coverage" in command:
        pytest.importorskip("coverage")
    out = run(*command.split(), cwd=project)
    assert said("__mp_main__") in out


def test_main_of_runpy_and_of_a_thread(project: Path) -> None:
    """Nothing of it is in `sys.modules`; and a script that is over has even lost its file's name."""
    code = "import runpy; runpy.run_module('pkg.mod', run_name='__main__')"
    assert run("-c", code, cwd=project) == said("__mp_main__")
    (project / "thread.py").write_text(
        JOB.replace(
            "    trio.run(main)\n",
            "    import threading, time\n"
            "    over = lambda: threading.main_thread().join() or trio.run(main)\n"
            "    threading.Thread(target=over).start()\n",
        )
    )
    assert run("thread.py", cwd=project) == said("__mp_main__")


@pytest.mark.parametrize("name", ["trio", "cProfile"])
def test_main_while_it_runs_a_thread(project: Path, name: str) -> None:
    (project / "threads.py").write_text(
        JOB.replace(
            "    trio.run(main)\n", "    trio.run(trio.to_thread.run_sync, trio.run, main)\n"
        )
    )
    tool = ["-m", "cProfile", "-o", "profile"] if name == "cProfile" else []
    assert run(*tool, "threads.py", cwd=project) == said("__mp_main__")


def test_an_unguarded_dunder_main_is_left_alone(project: Path) -> None:
    """The usual one: `python -m pkg` just calls the program, whose functions are elsewhere."""
    body = "from pkg.mod import main\nimport trio\nprint('started')\ntrio.run(main)\n"
    (project / "pkg" / "__main__.py").write_text(body)
    assert run("-m", "pkg", *METHODS, cwd=project) == "started\n" + said("pkg.mod", *METHODS)


NO_WAY = "functions of `__main__` can't be run in an actor: "

POOL = """
import sys
import trio, tractor
from tractor.trionics import open_worker_pool

def twice(x: int) -> int:
    return 2 * x

async def thrice(x: int) -> int:
    return 3 * x

async def main() -> None:
    async with open_worker_pool(1) as pool:
        print(await pool.run(twice, x=4), await pool.run(thrice, x=4), flush=True)

if __name__ == "__main__":
    trio.run(main)
"""


@pytest.mark.parametrize("tool", [[], ["-m", "trace", "--count", "-C", "counts"]])
def test_a_worker_pool_runs_functions_of_main(project: Path, tool: list[str]) -> None:
    """Its workers have not got `__main__` enabled: one that exists to be run is loaded with the first job."""
    (project / "pkg" / "__main__.py").write_text(POOL)
    assert run(*tool, "pkg/__main__.py", cwd=project) == "8 12\n"
    if not tool:
        assert run("-m", "pkg", cwd=project) == "8 12\n"
        assert NO_WAY in run("-c", POOL, cwd=project, ok=False)
        unguarded = POOL.replace('if __name__ == "__main__":', "if True:")
        (project / "pkg" / "__main__.py").write_text(unguarded)
        assert "main guard" in run("-m", "pkg", cwd=project, ok=False)


# -- where nothing can be replayed --


@pytest.mark.parametrize(
    ("command", "stdin", "why"),
    [
        (["-c", JOB], "", "given by `python -c`"),
        (["-"], JOB, "a program read from standard input is in no file"),
        (["-i", "-c", JOB.replace('if __name__ == "__main__":', "if True:")], "", "at a prompt"),
    ],
)
def test_programs_in_no_file(tmp_path: Path, command: list[str], stdin: str, why: str) -> None:
    prompt = "-i" in command
    out = run(*command, cwd=tmp_path, stdin=stdin, ok=prompt)
    assert why in out
    assert "move them to a module (a .py file) and import that here" in out
    assert "said" not in out


def test_the_prompt_after_a_script(project: Path) -> None:
    """What is typed there is in no file, and so nothing of `__main__` is looked for in the script's."""
    out = run("-i", "job.py", cwd=project, stdin="trio.run(main)\n")
    assert out.count(said("__mp_main__")) == 1
    assert f"{NO_WAY}what is typed at a prompt is in no file" in out


def test_without_inheritance(project: Path) -> None:
    text = JOB.replace("else nested)", "else nested, inherit_parent_main=False)")
    (project / "job.py").write_text(text)
    assert "`inherit_parent_main=False` keeps that module" in run("job.py", cwd=project, ok=False)


# -- no main guard --


@pytest.mark.parametrize(
    "end",
    ["trio.run(main)", "try: trio.run(main)\nexcept Exception as exc: sys.exit(f'failed: {exc}')"],
)
def test_no_main_guard(project: Path, end: str) -> None:
    text = JOB.replace('if __name__ == "__main__":\n    trio.run(main)\n', end)
    (project / "job.py").write_text("print('a run')\n" + text)
    out = run("job.py", cwd=project, ok=False)
    assert "it has no main guard" in out
    assert "under `if __name__ == '__main__':`" in out
    assert out.count("a run\n") == 2, "the child's replay, and no further one"


def test_no_main_guard_around_a_pool_without_async(project: Path) -> None:
    text = "import tractor\ndef twice(n):\n    return 2 * n\nprint(tractor.run_pool(twice, [1], workers=1))\n"
    (project / "job.py").write_text(text)
    out = run("job.py", cwd=project, ok=False)
    assert "it has no main guard" in out
    assert "is for code without async" not in out


# -- import paths --

VENDORED = """
import os, sys
sys.path[:0] = {path!r}
import tractor
os.chdir("/")
"""


@pytest.mark.parametrize(("flag", "entry"), [("-S", "vendor"), ("-IS", "absolute")])
def test_a_vendored_tree(tmp_path: Path, entry: str, flag: str) -> None:
    """Only the program's own `sys.path` leads to the package; a relative entry means the directory of the start."""
    vendor = tmp_path / "vendor"
    vendor.mkdir()
    (vendor / "tractor").symlink_to(PACKAGE)
    path = [entry if entry == "vendor" else str(vendor), *DEPENDENCIES]
    (tmp_path / "job.py").write_text(VENDORED.format(path=path) + JOB)
    assert run(flag, "job.py", *METHODS, cwd=tmp_path) == said("__mp_main__", *METHODS)


def test_relative_entries_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "tractor").symlink_to(PACKAGE)
    (tmp_path / "lib" / "work.py").write_text(JOB)
    (tmp_path / "job.py").write_text(
        "import os, trio, work\nos.chdir('/')\nif __name__ == '__main__': trio.run(work.main)\n"
    )
    path = os.pathsep.join(["lib", *DEPENDENCIES])
    # Without `site` nobody makes the entries absolute.
    assert run("-S", "job.py", *METHODS, cwd=tmp_path, PYTHONPATH=path) == said("work", *METHODS)


def test_a_zipapp_that_holds_the_package(tmp_path: Path) -> None:
    archive = tmp_path / "app.pyz"
    # With byte code: else each process would compile it all.
    with zipfile.PyZipFile(str(archive), "w") as app:
        start = f"import sys\nsys.path += {DEPENDENCIES!r}\n"
        app.writestr("__main__.py", start + JOB)
        app.writepy(str(PACKAGE))
    assert run("-S", archive, *METHODS, cwd=tmp_path) == said("__mp_main__", *METHODS)


def test_a_tree_that_starts_its_program_itself(project: Path) -> None:
    """As PEX and shiv do: a `__main__.py` that sets the path and runs a module as the program."""
    app = project / "app"
    deps = app / "deps"
    deps.mkdir(parents=True)
    (deps / "tractor").symlink_to(PACKAGE)
    shutil.move(project / "pkg", deps / "pkg")
    (app / "__main__.py").write_text(
        "import os, runpy, sys\n"
        "here = os.path.dirname(os.path.abspath(__file__))\n"
        f"sys.path[:] = [*sys.path[1:], os.path.join(here, 'deps'), *{DEPENDENCIES!r}]\n"
        "runpy.run_module('pkg', run_name='__main__', alter_sys=True)\n"
    )
    assert run("-S", "app", *METHODS, cwd=project) == said("__mp_main__", *METHODS)


def test_a_path_that_is_no_utf8(tmp_path: Path) -> None:
    odd = os.path.join(os.fsencode(tmp_path), b"odd-\xff")
    try:
        os.mkdir(odd)
    except OSError:
        pytest.skip("this file system has no such names")
    start = "import trio, work\nif __name__ == '__main__': trio.run(work.main)\n"
    for script, text in ((b"work.py", JOB), (b"job.py", start)):
        with open(os.path.join(odd, script), "w") as file:
            file.write(text)
    path = os.fsdecode(odd)
    assert run(f"{path}/work.py", cwd=tmp_path) == said("__mp_main__")
    assert run(f"{path}/job.py", *METHODS, cwd=tmp_path) == said("work", *METHODS)


def test_no_stray_module_of_the_working_directory_is_run(project: Path, tmp_path: Path) -> None:
    """A script's path has the script's folder, not the working directory, and so have its actors'."""
    stray = tmp_path / "stray"
    stray.mkdir()
    for name in ("trio", "msgspec", "colorlog", "multiprocessing", "random"):
        (stray / f"{name}.py").write_text("print('stray')\nraise SystemExit(9)\n")
    assert run(project / "job.py", *METHODS, cwd=stray) == said("__mp_main__", *METHODS)


FLAGS = """
import sys
import trio, tractor

async def flags() -> list[str]:
    return [repr(sys.flags), repr(sys._xoptions), repr(sys.warnoptions)]

async def main() -> None:
    async with tractor.open_nursery() as an:
        portal = await an.run_in_actor(flags)
        assert await portal.wait_for_result() == await flags()

if __name__ == "__main__":
    trio.run(main)
"""


@pytest.mark.parametrize(
    "flags",
    [
        [],
        [
            "-P",
            "-s",
            "-OO",
            "-X",
            "utf8",
            "-X",
            "dev",
            "-X",
            "int_max_str_digits=0",
            "-X",
            "mine=1",
        ],
        [
            "-E",
            "-B",
            "-bb",
            "-q",
            "-W",
            "ignore::UserWarning",
            "-Werror::ImportWarning",
            "-Xpycache_prefix=pc",
        ],
    ],
)
def test_the_interpreters_flags(tmp_path: Path, flags: list[str]) -> None:
    (tmp_path / "job.py").write_text(FLAGS)
    assert run(*flags, "job.py", cwd=tmp_path) == ""


COLLECTING = """
import gc
import trio, tractor

AT_IMPORT = gc.isenabled()

async def collecting() -> tuple[bool, bool]:
    return AT_IMPORT, gc.isenabled()

async def main() -> None:
    async with tractor.open_nursery() as an:
        portal = await an.run_in_actor(collecting)
        print(await portal.wait_for_result())

if __name__ == "__main__":
    trio.run(main)
"""


@pytest.mark.parametrize("on", [True, False])
def test_garbage_is_collected_as_the_program_wants_it(tmp_path: Path, on: bool) -> None:
    (tmp_path / "job.py").write_text(COLLECTING)
    (tmp_path / "sitecustomize.py").write_text("" if on else "import gc; gc.disable()")
    assert run("job.py", cwd=tmp_path, PYTHONPATH=str(tmp_path)) == f"{(on, on)}\n"


# -- modules that were loaded by file path --

BY_FILE = """
import importlib.util, sys
import trio, tractor

def load(name, path, search=None):
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=search)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

async def main() -> None:
    here = sys.argv[1]
    plugin = load("plugin", f"{here}/plugins/plugin.py")
    load("tools", f"{here}/plugins/the-tools/__init__.py", [f"{here}/plugins/the-tools"])
    import tools.hammer
    load("nowhere.deep", f"{here}/plugins/plugin.py")
    for method in sys.argv[2:]:
        async with tractor.open_nursery(start_method=method) as an:
            modules = ["plugin", "tools.hammer", "nowhere.deep"]
            portal = await an.start_actor("one", enable_modules=modules)
            assert await portal.run(plugin.nested) == ["nowhere.deep", "plugin"]
            assert await portal.run(tools.hammer.hit) == "tools"
            assert await portal.run(sys.modules["nowhere.deep"].which) == "nowhere.deep"
            await portal.cancel_actor()
            portal = await an.run_in_actor(plugin.which)
            print(method, "said hi", await portal.wait_for_result(), flush=True)

if __name__ == "__main__":
    trio.run(main)
"""

PLUGIN = """
import tractor

async def which() -> str:
    return __name__

async def nested() -> list[str]:
    import sys
    found = []
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("two", enable_modules=["nowhere.deep", "plugin"])
        for name in ("nowhere.deep", "plugin"):
            found.append(await portal.run_from_ns(name, "which"))
        await portal.cancel_actor()
    return found
"""


def test_modules_that_were_loaded_by_file_path(tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    (plugins / "the-tools").mkdir(parents=True)
    (plugins / "plugin.py").write_text(PLUGIN)
    (plugins / "the-tools" / "__init__.py").touch()
    (plugins / "the-tools" / "hammer.py").write_text(
        "async def hit() -> str:\n    return __package__\n"
    )
    # The path leads to another one of that name.
    (tmp_path / "plugin.py").write_text("raise SystemExit('the wrong plugin')\n")
    (tmp_path / "job.py").write_text(BY_FILE)
    assert run("job.py", tmp_path, *METHODS, cwd=tmp_path) == said("plugin", *METHODS)


# -- strings that are not plain ones --

STRINGS = """
import enum, pathlib, sys
import trio, tractor

class Odd(str):
    def __str__(self): return "another text"
    __repr__ = __str__

class Name(enum.StrEnum):
    WORKER = "worker"
    UDS = "uds"
    MAIN = "__main__"
    ERROR = "error"

class Mixed(str, enum.Enum):
    OTHER = "other"

async def hi() -> str:
    return tractor.current_actor().name

async def main() -> None:
    methods = [str(arg) for arg in sys.argv[1:]]
    sys.path.insert(0, Odd("/an/entry"))
    sys.path.insert(0, pathlib.Path("/a/path"))
    sys.argv[:] = [Odd(sys.argv[0]), pathlib.Path("x"), 3]
    for method in map(Odd, methods):
        async with tractor.open_nursery(
            name=Name.WORKER, start_method=method, loglevel=Name.ERROR,
            enable_transports=[Name.UDS], enable_modules=[Odd("json")],
            registry_addrs=[(Odd(sys.path[2]), Odd("odd.sock"))],
        ) as an:
            portal = await an.start_actor(
                Name.WORKER, enable_modules=[Name.MAIN, Odd("json")], loglevel=Odd("error"),
                enable_transports=[Odd("uds")],
            )
            assert await portal.run(hi) == "worker"
            await portal.cancel_actor()
            portal = await an.run_in_actor(hi, name=Mixed.OTHER, enable_modules=[Odd("json")])
            assert await portal.wait_for_result() == "other"
        print(str.__str__(method), "said hi there", flush=True)

if __name__ == "__main__":
    trio.run(main)
"""


def test_strings_that_are_no_plain_ones(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(STRINGS)
    assert run("job.py", *METHODS, cwd=tmp_path) == said("there", *METHODS)


BELOW_THE_GUARD = """
import trio, tractor

if __name__ == "__main__":
    # The names of what starts a process, which must not be what they lead to there.
    async def f() -> int:
        return 1

    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("w", enable_modules=[__name__])
            for fn in (f, main):
                try:
                    await portal.run(fn)
                except tractor.RemoteActorError as exc:
                    print(exc.ipc_msg.message, flush=True)
            await portal.cancel_actor()

    trio.run(main)
"""


def test_what_starts_a_process_is_not_found_by_name(tmp_path: Path) -> None:
    (tmp_path / "prog.py").write_text(BELOW_THE_GUARD)
    said = run("prog.py", cwd=tmp_path)
    for name in ("f", "main"):
        assert f"__main__:{name}: this module has no attribute {name!r}" in said
