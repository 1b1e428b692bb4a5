"""Names that programs written for the reference API use: each does what it says."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ep_context
import ep_streams
import msgspec
import pytest
import trio

import tractor
from tractor.devx.debug import DebugStatus, Lock
from tractor.msg import PldRx, mk_dec
from tractor.msg.types import Yield


def test_private_modules_are_attributes_after_a_plain_import() -> None:
    code = (
        "import tractor\n"
        "assert tractor._exceptions.MsgTypeError is tractor.MsgTypeError\n"
        "assert tractor._testing is tractor.testing\n"
        "import tractor._testing.addr, tractor._testing._reap\n"
        "from tractor._testing.addr import get_rando_addr\n"
        "assert get_rando_addr is tractor.testing.get_rando_addr\n"
        "assert tractor._testing._reap.find_runaway_subactors() == []\n"
        "assert tractor.find_runaway_subactors is tractor.testing.find_runaway_subactors\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_a_busy_child_is_found() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        try:
            found: list[int] = []
            # Its share depends on the machine.
            while child.pid not in found:
                found = [pid for pid, _ in tractor.find_runaway_subactors(threshold=0.05)]
        finally:
            child.kill()


def test_the_last_actor_is_known(tmp_path: Path) -> None:
    code = (
        "import trio, tractor\n"
        "assert tractor.last_actor() is None\n"
        "async def main():\n"
        "    async with tractor.open_root_actor() as actor:\n"
        "        assert tractor.last_actor() is actor is tractor.current_actor()\n"
        "trio.run(main)\n"
        "assert tractor.current_actor(err_on_no_runtime=False) is None\n"
        "assert tractor.last_actor().name == 'root'\n"
    )
    env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30, env=env)


def test_runtime_vars_can_be_set() -> None:
    before = tractor.get_runtime_vars(as_dict=False)
    try:
        tractor.set_runtime_vars({"use_greenback": True, "no_such": 1})
        assert tractor.get_runtime_vars()["use_greenback"] is True
        tractor.set_runtime_vars(tractor.RuntimeVars(use_stackscope=True))
        assert tractor.get_runtime_vars()["use_greenback"] is False
        assert tractor.get_runtime_vars()["use_stackscope"] is True
    finally:
        tractor.set_runtime_vars(before)


def test_the_runtime_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    path = tractor.get_rt_dir("sub")
    assert path == tmp_path / "tractor" / "sub"
    assert path.stat().st_mode & 0o777 == 0o700


class Point:
    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y


def test_hooks_are_made_from_pairs_of_functions() -> None:
    hooks = tractor.mk_codec_hooks({Point: (lambda p: [p.x, p.y], lambda xy: Point(*xy))})
    raw = msgspec.msgpack.encode([Point(1, 2)], enc_hook=hooks.enc_hook)
    (plain,) = msgspec.msgpack.decode(raw)
    assert plain == {"ext_type": f"{__name__}:Point", "value": [1, 2]}
    (point,) = msgspec.msgpack.decode(raw, type=list[Point], dec_hook=hooks.dec_hook)
    assert (type(point), point.x, point.y) == (Point, 1, 2)
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(
            msgspec.msgpack.encode([[1, 2]]), type=list[Point], dec_hook=hooks.dec_hook
        )
    with pytest.raises(TypeError, match="no hook is there"):
        msgspec.msgpack.encode(object(), enc_hook=hooks.enc_hook)
    with pytest.raises(TypeError):
        tractor.mk_boxed_ext_struct("Point")  # type: ignore[arg-type]


def test_a_spec_is_unpacked() -> None:
    assert tractor.unpack_spec_types(int | str | None) == {int, str, type(None)}
    assert tractor.unpack_spec_types(int) == {int}


def test_a_payload_is_decoded_alone() -> None:
    rx = PldRx(mk_dec(int))
    assert rx.decode_pld(Yield(3, msgspec.Raw(b"\x05"))) == 5
    assert rx.decode_pld(Yield(3, "ready")) == "ready"
    with pytest.raises(tractor.MsgTypeError) as caught:
        rx.decode_pld(Yield(3, msgspec.Raw(b"\xa1x")))
    assert caught.value.boxed_type is msgspec.ValidationError
    assert caught.value.cid == 3


def test_receivers() -> None:
    send, receive = trio.open_memory_channel[int](0)
    assert isinstance(receive, tractor.AsyncReceiver)
    assert not isinstance(send, tractor.AsyncReceiver)


def test_a_console_level_by_name() -> None:
    log = logging.getLogger("somebody.elses")
    log.setLevel("CANCEL")
    assert (log.level, logging.getLevelName(22)) == (22, "CANCEL")


def test_nothing_is_debugged() -> None:
    assert tractor.get_lock() is Lock
    assert tractor.get_debug_req() is None
    assert (Lock.ctx_in_debug, Lock.remote_task_in_debug, Lock.subactor_in_debug) == (None,) * 3
    assert (DebugStatus.repl, DebugStatus.repl_task, DebugStatus.is_main_trio_thread()) == (
        None,
        None,
        False,
    )
    assert not Lock.release()
    assert not DebugStatus.release()
    assert Lock.repr() == "<Lock free, 0 wait, REPL here: none>"
    assert DebugStatus.repr() == "<DebugStatus none, holder None>"


def test_a_dump_on_demand(caplog: pytest.LogCaptureFixture) -> None:
    path = Path(f"/tmp/tractor-stackscope-{os.getpid()}.log")
    try:

        async def main() -> str:
            return tractor.dump_task_tree()

        assert "main" in trio.run(main)
        assert "start-of-" in path.read_text()
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.usefixtures("either_backend")
def test_in_a_tree(reg_addr: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The records of a tree name its backend, both spellings of a registrar lead to it, and streams give messages."""

    @asynccontextmanager
    async def shared() -> Any:
        yield 1

    async def main() -> None:
        with caplog.at_level("RUNTIME", "tractor"):
            async with tractor.open_nursery(registry_addr=reg_addr, loglevel="runtime") as an:
                actor = tractor.current_actor()
                portal = await an.start_actor("named", enable_modules=["ep_streams"])
                (child,) = an.children.values()
                backend = actor.statistics().start_method
                assert backend == child.start_method
                assert backend
                assert f"spawn backend {backend!r}" in repr(actor)
                async with tractor.find_actor("named", registry_addr=reg_addr) as found:
                    assert found is not None
                with pytest.raises(RuntimeError, match="bind_addrs"):
                    await an.start_actor("nowhere", bind_addrs=[])
                async with tractor.open_nursery(registry_addr=("127.0.0.1", 9)):
                    assert "has no effect" in caplog.records[-1].getMessage()
                with pytest.raises(TypeError, match="not both"):
                    async with tractor.find_actor("x", [reg_addr], registry_addr=reg_addr):
                        pass
                async with tractor.get_registry() as local:
                    assert isinstance(local, tractor.LocalPortal)
                    assert local.channel is local.chan
                async with (
                    tractor.trionics.maybe_open_context(shared) as (first, _),
                    tractor.trionics.maybe_open_context(shared) as (second, _),
                ):
                    assert (first, second) == (False, True)
                await _streams(portal)
                await an.cancel()
        said = [record.getMessage() for record in caplog.records]
        assert any("cache hit" in text for text in said)
        assert said[-2:] == ["Root actor terminated", "Actor-runtime-shutdown"]
        assert any(f"spawn backend {backend!r}" in text for text in said)

    trio.run(main)


def test_a_root_listens_somewhere(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="tpt_bind_addrs"):
            async with tractor.open_root_actor(tpt_bind_addrs=[]):
                pass
        # A directory that is missing is made, with those above it.
        home = tmp_path / "not" / "there"
        async with tractor.open_nursery(registry_addr=(str(home), "registry.sock")):
            assert (home / "registry.sock").exists()
        for path in (home, home.parent):
            assert path.stat().st_mode & 0o777 == 0o700

    trio.run(main)


@pytest.mark.usefixtures("forked_actors")
@pytest.mark.parametrize("start", [False, True])
def test_a_cancelled_context_names_the_scope(
    reg_addr: Any, caplog: pytest.LogCaptureFixture, start: bool
) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addr=reg_addr, loglevel="cancel") as an:
            portal = await an.start_actor("slow", enable_modules=["ep_context"])
            with trio.move_on_after(0.2):
                if start:
                    async with portal.open_context(ep_context.waits):
                        await trio.sleep_forever()
                else:
                    # It never calls `started()`.
                    async with portal.open_context(ep_context.sleeps_before_started):
                        raise AssertionError("the block must not be entered")
            await an.cancel()

    trio.run(main)
    (said,) = [
        r.getMessage()
        for r in caplog.records
        if "was cancelled by a cancel scope" in r.getMessage()
    ]
    assert ("which waits for `started()`" in said) is not start
    where = re.search(r"a cancel scope in .*main\(\) at (.*):(\d+), by its deadline", said)
    assert where is not None, said
    assert where[1] == __file__
    line = Path(__file__).read_text().splitlines()[int(where[2]) - 1]
    assert "trio.move_on_after(0.2)" in line


async def _streams(portal: tractor.Portal) -> None:
    async with portal.open_context(ep_streams.echoes) as (ctx, _):
        with pytest.raises(RuntimeError, match="no stream here"):
            await ctx.send_stop()
        async with ctx.open_stream() as stream:
            rx = ctx.pld_rx
            for value in (1, "two", [3]):
                await stream.send(data=value, hide_tb=False)
            msg = await rx.recv_msg(stream)
            assert isinstance(msg, Yield)
            assert rx.decode_pld(msg) == 1
            assert await rx.recv_pld(stream) == "two"
            while True:
                try:
                    msg = rx.recv_msg_nowait(stream)
                    break
                except trio.WouldBlock:
                    await trio.sleep(0.01)
            assert rx.decode_pld(msg) == [3]
            await ctx.send_stop()
            assert stream.closed
        await ctx.wait_for_result(hide_tb=False)
    ctx.maybe_raise(hide_tb=False, from_src_exc=None)
