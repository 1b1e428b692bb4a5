"""A program of its own that starts the services of a file under its supervisor."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

import tractor

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="descriptors are handed down")

MODULE = """
import os
import trio
import tractor

async def pid():
    return os.getpid()

async def whom(name):
    return os.environ[name]

@tractor.context
async def talk(ctx, depth: float):
    await ctx.started(depth)
    await trio.sleep_forever()

async def once():
    return 5
"""

FIRST = """
[services.talk]
call = "sf_module:talk"
args = { depth = 3 }
[services.api]
modules = ["sf_module"]
env = { X = "one" }
replicas = 2
[services.once]
call = "sf_module:once"
restart = "transient"
"""

SECOND = """
[supervisor]
max_restarts = 7
[services.api]
modules = ["sf_module"]
env = { X = "two" }
replicas = 2
[services.once]
call = "sf_module:once"
restart = "transient"
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that modules are found in."""
    (tmp_path / "sf_module.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def _run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        with trio.fail_after(60):
            await main()

    trio.run(limited)


def test_a_file_in_a_program(directory: Path) -> None:
    path = directory / "s.toml"
    path.write_text(FIRST)

    async def main() -> None:
        async with tractor.open_supervisor() as sup:
            await sup.start_file(tractor.load_services(path))
            assert list(sup.services) == ["talk", "api", "once"]
            await sup.services["talk"].portal()
            assert sup.services["talk"].first == 3.0
            # The program itself has imported nothing.
            assert "sf_module" not in sys.modules
            assert await sup.services["once"].wait() == 5
            portal = await sup.services["api"].portal()
            assert await portal.run_from_ns("sf_module", "whom", name="X") == "one"
            pids = sup.services["api"].pid
            path.write_text(SECOND)
            await sup.start_file(tractor.load_services(path))
            assert list(sup.services) == ["api", "once"]
            assert not set(sup.services["api"].pid) & set(pids)
            portal = await sup.services["api"].portal()
            assert await portal.run_from_ns("sf_module", "whom", name="X") == "two"
            assert sup.services["once"].incarnation == 1
            before = sup.services["api"].pid
            await sup.start_file(tractor.load_services(path))
            assert sup.services["api"].pid == before

    _run(main)


def test_services_of_the_program_beside_those_of_a_file(directory: Path) -> None:
    path = directory / "s.toml"
    path.write_text(SECOND)

    async def main() -> None:
        async with tractor.open_supervisor() as sup:
            own = await sup.start_service("own", trio_sleep)
            await sup.start_file(tractor.load_services(path))
            await sup.services["api"].portal()
            assert next(iter(sup.services)) == "own"
            path.write_text(SECOND + '[services.own]\nmodules = ["sf_module"]\n')
            with pytest.raises(ValueError, match="'own' is there already"):
                await sup.start_file(tractor.load_services(path))
            assert own.state == "ready"
            path.write_text('[supervisor]\nname = "other"\n' + SECOND.replace("[supervisor]\n", ""))
            with pytest.raises(tractor.ServiceFileError, match="only a new start"):
                await sup.start_file(tractor.load_services(path))

    _run(main)


def test_forked_services_are_refused(directory: Path) -> None:
    path = directory / "s.toml"
    path.write_text(SECOND)

    async def main() -> None:
        async with tractor.open_supervisor(start_method="main_thread_forkserver") as sup:
            with pytest.raises(tractor.RuntimeFailure, match="fresh interpreters"):
                await sup.start_file(tractor.load_services(path))
            assert not sup.services

    if os.environ.get("TRACTOR_SPAWN_METHOD"):
        pytest.skip("the variable beats the argument")
    if "main_thread_forkserver" not in tractor.spawn.usable_start_methods():
        pytest.skip("no fork server here")
    _run(main)


async def trio_sleep() -> None:
    """A service of the program's own."""
    await trio.sleep_forever()
