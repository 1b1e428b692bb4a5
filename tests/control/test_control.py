"""The control socket: what it answers, within which limits, and what it leaves behind."""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import tractor
from tractor.control import _serving
from tractor.control._client import Asked, find_actors, runtime_dirs
from tractor.control._protocol import MAX_PEERS, MAX_REQUEST, Code, Refusal
from tractor.control._serving import Serving
from tractor.control._socket import ControlSocket, control_socket
from tractor.testing import get_rando_addr

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets")


@contextmanager
def _server_of(**ops: Any) -> Iterator[ControlSocket]:
    in_thread = {name: op for name, op in ops.items() if not name.startswith("loop")}
    server = ControlSocket("victim", os.getpid(), lambda control: Serving(control, in_thread))
    for name in ops.keys() - in_thread.keys():
        server.answer(name, ops[name])
    try:
        yield server
    finally:
        server.close()
    assert not Path(server.path).exists()


def _run(main: Callable[[], Any]) -> None:
    async def limited() -> None:
        with trio.fail_after(60):
            await main()

    trio.run(limited)


async def _in_thread(fn: Callable[[], Any]) -> Any:
    return await trio.to_thread.run_sync(fn)


def _plain(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(path)
    return sock


def test_what_the_thread_answers_works_while_the_loop_is_blocked() -> None:
    async def main() -> None:
        answers: list[Any] = []
        with _server_of(hello=lambda _: {"a": 1}) as server:
            mode = os.stat(server.path)
            assert stat.S_IMODE(mode.st_mode) == 0o600

            def ask() -> None:
                with Asked(Path(server.path), 20) as asked:
                    answers.append(asked.ask("hello"))
                    answers.append(asked.ask("hello"))

            asker = threading.Thread(target=ask)
            asker.start()
            # The loop stands still meanwhile.
            asker.join()
        assert answers == [{"a": 1}] * 2

    _run(main)


def test_what_the_loop_answers() -> None:
    async def main() -> None:
        seen: list[tuple[Any, int | None]] = []

        def loop_op(request: Mapping[str, Any], pid: int | None) -> Any:
            trio.lowlevel.current_task()
            seen.append((request["x"], pid))
            if request["x"] == 2:
                raise Refusal(Code.REFUSED, "not that one")
            if request["x"] == 3:
                raise KeyError("oops")
            return request["x"]

        with _server_of(loop_op=loop_op) as server:

            def ask() -> list[Any]:
                found: list[Any] = []
                with Asked(Path(server.path), 20) as asked:
                    for x in (1, 2, 3, 4):
                        try:
                            found.append(asked.ask("loop_op", x=x))
                        except Refusal as exc:
                            found.append((exc.code, exc.text))
                return found

            assert await _in_thread(ask) == [
                1,
                (Code.REFUSED, "not that one"),
                (Code.FAILED, "KeyError('oops')"),
                4,
            ]
        assert {pid for _, pid in seen} == {os.getpid()} or sys.platform != "linux"

    _run(main)


def test_a_loop_that_does_not_answer_is_said_to_be_too_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_serving, "LOOP_LIMIT", 0.3)
    monkeypatch.setattr(_serving, "LOOK_INTERVAL", 0.05)

    async def main() -> None:
        told: list[Any] = []
        with _server_of(loop_op=lambda *_: "late", now=lambda _: "now") as server:

            def ask() -> None:
                with Asked(Path(server.path), 20) as asked:
                    try:
                        asked.ask("loop_op")
                    except Refusal as exc:
                        told.append(exc.code)
                    told.append(asked.ask("now"))

            asker = threading.Thread(target=ask)
            asker.start()
            asker.join()
            assert told == [Code.TOO_SLOW, "now"]
            # Its answer comes now, and is for nobody.
            with Asked(Path(server.path), 20) as asked:
                assert await _in_thread(lambda: asked.ask("now")) == "now"

    _run(main)


BAD: list[tuple[bytes, str]] = [
    (b"hello\n", "bad-request"),
    (b"[]\n", "bad-request"),
    (b'{"v":1}\n', "bad-request"),
    (b'{"v":2,"op":"hello"}\n', "bad-request"),
    (b'{"v":1,"op":"nope"}\n', "unknown-op"),
    (b'{"v":1,"op":"fails"}\n', "failed"),
    (b'{"v":1,"op":"' + b"x" * MAX_REQUEST + b'"}\n', "bad-request"),
    (b"[" * 3000 + b"\n", "bad-request"),
    (b"\xff\xfe\n", "bad-request"),
]


def test_what_is_no_request_is_refused_and_the_next_one_works() -> None:
    async def main() -> None:
        def fails(_: Any) -> Any:
            raise OSError("no")

        with _server_of(hello=lambda _: 1, fails=fails) as server:

            def attack() -> None:
                for line, code in BAD:
                    with _plain(server.path) as sock:
                        sock.sendall(line)
                        file = sock.makefile("rb")
                        told = json.loads(file.readline())
                        assert told["error"]["code"] == code, line
                        file.close()
                with Asked(Path(server.path), 20) as asked:
                    assert asked.ask("hello") == 1

            await _in_thread(attack)

    _run(main)


def test_lines_that_come_at_once_are_answered_in_order() -> None:
    async def main() -> None:
        with _server_of(a=lambda _: 1, loop_b=lambda r, _: r["x"]) as server:

            def ask() -> list[Any]:
                with _plain(server.path) as sock:
                    sock.sendall(
                        b'{"v":1,"op":"loop_b","x":7}\n{"v":1,"op":"a"}\n{"v":1,"op":"loop_b","x":8}\n'
                    )
                    with sock.makefile("rb") as file:
                        return [json.loads(file.readline())["ok"] for _ in range(3)]

            assert await _in_thread(ask) == [7, 1, 8]

    _run(main)


def test_too_many_connections_are_refused_and_silent_ones_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_serving, "LOOK_INTERVAL", 0.05)

    async def main() -> None:
        with _server_of(hello=lambda _: 1) as server:

            def crowd() -> None:
                socks = [_plain(server.path) for _ in range(MAX_PEERS)]
                for sock in socks:
                    sock.sendall(b'{"v":1,"op":"hello"}\n')
                    assert sock.recv(100)
                with _plain(server.path) as late:
                    assert json.loads(late.recv(1000))["error"]["code"] == "busy"
                monkeypatch.setattr(_serving, "IDLE_LIMIT", 0.1)
                for sock in socks:
                    assert sock.recv(100) == b""
                    sock.close()

            await _in_thread(crowd)

    _run(main)


def test_who_takes_nothing_of_an_answer_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_serving, "LOOK_INTERVAL", 0.05)
    monkeypatch.setattr(_serving, "STALL_LIMIT", 0.6)

    async def main() -> None:
        with _server_of(big=lambda _: "x" * 900_000, small=lambda _: 1) as server:

            def stall() -> None:
                with _plain(server.path) as sock:
                    sock.sendall(b'{"v":1,"op":"big"}\n')
                    time.sleep(1.2)
                    got = 0
                    while data := sock.recv(65536):
                        got += len(data)
                    assert got < 900_000
                with Asked(Path(server.path), 20) as asked:
                    assert asked.ask("small") == 1
                    assert len(asked.ask("big")) == 900_000

            await _in_thread(stall)

    _run(main)


def test_an_actor_says_who_it_is_and_what_its_tasks_do(monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait_here(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def main() -> None:
        async with tractor.open_root_actor(name="asked") as actor, trio.open_nursery() as tn:
            server = control_socket()
            assert server is not None
            server.answer("service", lambda *_: "acted")
            await tn.start(wait_here, name="the waiting one")
            found = await _in_thread(lambda: find_actors(runtime_dirs(), "service"))
            ((path, who),) = [one for one in found if one[1].pid == os.getpid()]
            assert (str(path), who.name, who.uuid) == (server.path, "asked", actor.aid.uuid)
            assert (who.parent, who.root) == (None, actor.aid.uuid)
            assert who.ops == [
                *("hello", "stacks", "recent", "sample", "pass", "below", "record"),
                *("log", "cancel", "service"),
            ]

            def ask() -> Any:
                with Asked(path, 20) as asked:
                    return asked.ask("stacks"), asked.ask("service")

            stacks, acted = await _in_thread(ask)
            assert acted == "acted"
            by_name = {task["name"]: task for task in stacks["tasks"]}
            waiting = by_name["the waiting one"]
            assert any(f["function"].endswith("wait_here") for f in waiting["frames"])
            assert waiting["parent"] in {task["id"] for task in stacks["tasks"]}
            assert any(thread["name"] == "MainThread" for thread in stacks["threads"])
            tn.cancel_scope.cancel()
        assert not path.exists()

    _run(main)


@pytest.mark.parametrize(
    ("setting", "ops"),
    [
        ("read", ["hello", "stacks", "recent", "sample", "pass", "below", "record"]),
        ("off", None),
        ("yes", None),
    ],
)
def test_the_setting(setting: str, ops: list[str] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACTOR_CONTROL", setting)

    async def main() -> None:
        async with tractor.open_root_actor():
            server = control_socket()
            assert (server is None) == (ops is None)
            if server is not None:
                server.answer("service", lambda *_: None)
                with Asked(Path(server.path), 20) as asked:
                    assert (await _in_thread(lambda: asked.ask("hello")))["ops"] == ops

    _run(main)


async def _stacks_of_child(name: str) -> Any:
    found = await _in_thread(lambda: find_actors(runtime_dirs(), "stacks"))
    ((path, who),) = [one for one in found if one[1].name == name]

    def ask() -> Any:
        with Asked(path, 20) as asked:
            return asked.ask("stacks")

    return who, await _in_thread(ask)


async def is_loaded(module: str) -> bool:
    return module in sys.modules


def test_every_actor_can_be_asked_and_loads_what_answers_when_it_is() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("asked_child", enable_modules=[__name__])
            answers = "tractor.control._answers"
            assert not await portal.run(is_loaded, module=answers)
            who, stacks = await _stacks_of_child("asked_child")
            assert who.parent == tractor.current_actor().aid.uuid
            assert stacks["tasks"]
            assert await portal.run(is_loaded, module=answers)
            await portal.cancel_actor()

    _run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_thread_that_nobody_asks_does_not_run() -> None:
    def switches() -> str:
        (thread,) = [one for one in threading.enumerate() if one.name == "tractor control"]
        text = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
        return text.partition("ctxt_switches:")[2].split()[0]

    async def _later(look: Callable[[], str]) -> str:
        await trio.sleep(1.0)
        return look()

    async def main() -> None:
        async with tractor.open_root_actor():
            before = switches()
            # On a busy machine it may not have come to its wait yet.
            while before != (now := await _later(switches)):
                before = now

    _run(main)


def test_the_next_root_removes_what_a_killed_one_has_left() -> None:
    async def main() -> None:
        control = runtime_dirs()[0] / "control"
        async with tractor.open_root_actor(
            enable_transports=["tcp"], registry_addrs=[get_rando_addr("tcp")]
        ):
            assert len(list(control.iterdir())) == 1
            killed = control / "killed@999999999.sock"
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(str(killed))
            assert len(list(control.iterdir())) == 2
        assert list(control.iterdir()) == [killed]
        async with tractor.open_root_actor(
            enable_transports=["tcp"], registry_addrs=[get_rando_addr("tcp")]
        ):
            assert not killed.exists()
        assert list(control.iterdir()) == []

    _run(main)


def test_switched_off_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACTOR_CONTROL", "off")

    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("silent_child")
            found = await _in_thread(lambda: find_actors(runtime_dirs(), "stacks"))
            assert [who.name for _, who in found if who.name == "silent_child"] == []
            await portal.cancel_actor()

    _run(main)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_meets_no_thread() -> None:
    def threads() -> list[str]:
        return [one.name for one in threading.enumerate() if one.name == "tractor control"]

    async def main() -> None:
        async with tractor.open_root_actor(name="forking"):
            server = control_socket()
            assert server is not None
            with Asked(Path(server.path), 20) as asked:
                assert await _in_thread(lambda: asked.ask("hello"))
                assert threads() == ["tractor control"]
                pid = os.fork()
                if pid == 0:
                    os._exit(0)
                assert threads() == []
                os.waitpid(pid, 0)
                # The connection has outlived that.
                told = await _in_thread(lambda: asked.ask("hello"))
                assert told["name"] == "forking"
                assert threads() == ["tractor control"]
            # A fork right before the end.
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)

    _run(main)
