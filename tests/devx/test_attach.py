"""Attaching to a running actor in debug mode."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import ep_devx
import pytest
import trio

import tractor
import tractor.devx.debug as debug
from tractor.ipc._debug_sock import debug_socks, user_sock_paths
from tractor.testing import get_rando_addr

sys.path.insert(0, str(Path(__file__).parent))

from attach_client import Terminal

# Not forked actors: from Python 3.13 on a signal does not interrupt Python code in these.
pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="needs Unix sockets"),
]

in_thread = trio.to_thread.run_sync


class Tree:
    """A root and one child, in debug mode, in which ``count_on(step=3)`` runs."""

    def __init__(self, an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        self.an = an
        self.portal = portal
        aid = portal.chan.aid
        assert aid is not None
        assert aid.pid is not None
        self.pid = aid.pid
        path = user_sock_paths(aid.name, aid.pid)[0]
        assert path is not None
        self.path = path


@asynccontextmanager
async def open_tree(
    task: Callable[..., Awaitable[object]] | None = ep_devx.count_on,
) -> AsyncIterator[Tree]:
    async with tractor.open_nursery(debug_mode=True, registry_addrs=[get_rando_addr("tcp")]) as an:
        portal = await an.start_actor("counter", enable_modules=["ep_devx"])
        tree = Tree(an, portal)
        async with trio.open_nursery() as tn:
            if task is not None:
                tn.start_soon(partial(portal.run, task, step=3))
                await wait_for_task(portal)
            yield tree
            tn.cancel_scope.cancel()
        await portal.cancel_actor()


async def wait_for_task(portal: tractor.Portal) -> None:
    while "count_on" not in await portal.run(ep_devx.picture):
        await trio.sleep(0.01)


def run(
    session: Callable[[Tree], None],
    task: Callable[..., Awaitable[object]] | None = ep_devx.count_on,
) -> None:
    """Run a session in a thread, then see that the actor goes on and nobody has the REPL."""

    async def main() -> None:
        async with open_tree(task) as tree:
            await in_thread(session, tree)
            with trio.fail_after(20):
                assert await tree.portal.run(ep_devx.pid) == tree.pid
                while debug.Lock.is_held():
                    await trio.sleep(0.01)
        assert debug_socks() == []

    trio.run(main)


@pytest.mark.parametrize("command", ["q", "c", "detach", "quit", "exit"])
def test_the_repl_is_at_the_busy_task_and_lets_go(command: str) -> None:
    def session(tree: Tree) -> None:
        with Terminal(tree.path) as term:
            seen = term.attach()
            assert f"attached to counter@{tree.pid}, task ep_devx:count_on;" in seen
            assert "ep_devx.py(" in seen
            assert "-> await trio.sleep(0.005)" in seen
            assert "trio/_core" not in seen
            assert term.line("p step, total % 3") == "(3, 0)\n"
            end = term.last_line(command)
            assert end["op"] == "end"
            assert not end["failed"]
            assert end["text"] == f"let go of counter@{tree.pid}"

    run(session)


def test_stepping_goes_on_in_that_task() -> None:
    def session(tree: Tree) -> None:
        with Terminal(tree.path) as term:
            term.attach()
            assert "-> grown = total" in term.line("next")
            assert "-> assert grown >= step" in term.line("n")
            assert term.line("p grown == total") == "True\n"
            assert "-> while True:" in term.line("n")
            assert "-> total += step" in term.line("s")
            before = int(term.line("p total"))
            assert "-> await trio.sleep(0.005)" in term.line("n")
            assert int(term.line("p total")) == before + 3
            # A value of the user's own.
            term.line("total = 3000")
            assert term.last_line("q")["op"] == "end"
        with Terminal(tree.path) as term:
            term.attach()
            assert int(term.line("p total")) >= 3000
            term.last_line("q")

    run(session)


@pytest.mark.parametrize("where", ["at the prompt", "while it runs"])
def test_who_disconnects_has_let_go(where: str) -> None:
    def session(tree: Tree) -> None:
        with Terminal(tree.path) as term:
            term.attach()
            if where == "while it runs":
                term.line("import trio")
                term.wire.send("line", text="until 10000")
        # Whoever comes next is served.
        with Terminal(tree.path) as term:
            term.attach()
            term.wire.send("eof")
            while term.recv()["op"] != "end":
                pass

    run(session)


def test_ctrl_c_ends_a_command_that_hangs() -> None:
    def session(tree: Tree) -> None:
        with Terminal(tree.path) as term:
            term.attach()
            term.wire.send("line", text="print('spinning')\n".strip())
            assert term.until_prompt() == "spinning\n"
            term.line("import itertools, sys")
            term.wire.send(
                "line", text="for _ in itertools.count(): _ or print('on it', flush=True)"
            )
            term.until("on it")
            term.wire.send("int")
            assert "KeyboardInterrupt" in term.until_prompt()
            assert term.line("p step") == "3\n"
            term.last_line("q")

    run(session)


def test_tasks_are_listed_and_chosen() -> None:
    def session(tree: Tree) -> None:
        with Terminal(tree.path) as term:
            term.attach("count_on")
            (line,) = term.line("tasks").splitlines()
            assert line.startswith(">1 ep_devx:count_on: ep_devx.py:")
            assert "-> await trio.sleep(0.005)" in term.line("task 1")
            assert "*** there is no task 'nobody'" in term.line("task nobody")
            term.last_line("q")
        with Terminal(tree.path) as term:
            term.wire.send("attach", text="nobody", color=False)
            end = term.recv()
            assert end["op"] == "end"
            assert end["failed"]
            assert "there is no task 'nobody'" in end["text"]
            assert "1 ep_devx:count_on" in end["text"]

    run(session)


def test_names_are_completed() -> None:
    def session(tree: Tree) -> None:
        with Terminal(tree.path) as term:
            term.attach()
            term.wire.send("complete", text="trio.sleep_f")
            (item,) = term.recv()["items"]
            # With or without the closing parenthesis, by version.
            assert item.startswith("trio.sleep_forever(")
            term.wire.send("complete", text="tot")
            assert term.recv()["items"] == ["total"]
            term.last_line("q")

    run(session)


def test_an_actor_that_serves_nobody_can_be_looked_at() -> None:
    def session(tree: Tree) -> None:
        with Terminal(tree.path) as term:
            assert "attached to counter" in term.attach()
            term.last_line("q")

    run(session, None)


def test_a_blocked_loop_is_stopped_where_it_is(tmp_path: Path) -> None:
    go = tmp_path / "go"

    async def main() -> None:
        async with open_tree(None) as tree:
            done: list[str] = []

            async def compute() -> None:
                done.append(await tree.portal.run(ep_devx.compute, path=str(go)))

            def session() -> None:
                with Terminal(tree.path) as term:
                    seen = term.attach()
                    assert "does not run; stopping it in what it does" in seen
                    assert "attached to counter" in seen
                    term.line("up") if "compute()" not in seen else None
                    while "compute()" not in term.line("w").split(">", 1)[1]:
                        term.line("up")
                    assert int(term.line("p rounds")) > 0
                    assert "compute()" in term.line("until")
                    end = term.last_line("c")
                    assert end["op"] == "end"

            async with trio.open_nursery() as tn:
                tn.start_soon(compute)
                while not os.path.exists(f"{go}.begun"):
                    await trio.sleep(0.01)
                await in_thread(session)
                go.touch()
            assert done == ["computed"]

    trio.run(main)


def test_the_trees_one_repl_is_waited_for(tmp_path: Path) -> None:
    go = tmp_path / "go"

    async def main() -> None:
        async with open_tree() as tree, trio.open_nursery() as tn:
            other = await tree.an.start_actor("other", enable_modules=["ep_devx"])
            tn.start_soon(partial(other.run, ep_devx.hold_the_repl, path=str(go)))
            while not debug.Lock.is_held():
                await trio.sleep(0.01)

            def session() -> None:
                with Terminal(tree.path) as term:
                    term.wire.send("attach", text="", color=False)
                    term.until("waiting for it (ctrl-c gives up)")
                    # In the queue, as everybody is.
                    waiting = trio.from_thread.run_sync(debug.Lock.statistics).waiting
                    assert [name for name, _ in waiting] == ["counter"]
                    go.touch()
                    assert "attached to counter" in term.until_prompt()
                    holder = trio.from_thread.run_sync(debug.Lock.statistics).holder
                    assert holder is not None
                    assert holder[0] == "counter"
                    term.last_line("q")

            await in_thread(session)
            await other.cancel_actor()

    trio.run(main)


def test_who_gives_up_waiting_leaves_the_queue(tmp_path: Path) -> None:
    go = tmp_path / "go"

    async def main() -> None:
        async with open_tree() as tree, trio.open_nursery() as tn:
            other = await tree.an.start_actor("other", enable_modules=["ep_devx"])
            tn.start_soon(partial(other.run, ep_devx.hold_the_repl, path=str(go)))
            while not debug.Lock.is_held():
                await trio.sleep(0.01)

            def session() -> None:
                with Terminal(tree.path) as term:
                    term.wire.send("attach", text="", color=False)
                    term.until("waiting for it (ctrl-c gives up)")

            await in_thread(session)
            with trio.fail_after(20):
                while debug.Lock.statistics().waiting:
                    await trio.sleep(0.01)
            go.touch()
            await other.cancel_actor()

    trio.run(main)


def test_the_socket_is_the_users_own_and_goes_with_a_killed_actor() -> None:
    async def main() -> None:
        async with tractor.open_nursery(
            debug_mode=True, registry_addrs=[get_rando_addr("tcp")]
        ) as an:
            portal = await an.start_actor("victim", enable_modules=["ep_devx"])
            pid = await portal.run(ep_devx.pid)
            path = user_sock_paths("victim", pid)[0]
            assert path is not None
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            os.kill(pid, 9)
            await trio.sleep_forever()

    with pytest.raises(tractor.ActorFailure):
        trio.run(main)
    assert debug_socks() == []


def test_without_debug_mode_nobody_listens() -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[get_rando_addr("tcp")]) as an:
            await an.start_actor("plain")
            assert debug_socks() == []
            await an.cancel()

    trio.run(main)


@pytest.mark.usefixtures("forked_actors")
@pytest.mark.parametrize(
    "junk", [b"\xff\xfe\n", b"[]\n", b"{}\n", b'{"op": "line"}\n', b"x" * 2**21]
)
def test_junk_costs_the_connection_only(junk: bytes) -> None:
    def session(tree: Tree) -> None:
        with Terminal(tree.path) as term:
            try:
                term.sock.sendall(junk)
                assert term.sock.recv(10) == b""
            except ConnectionError:
                pass
        with Terminal(tree.path) as term:
            term.wire.send("hello")
            told = term.recv()
            assert (told["name"], told["pid"]) == ("counter", tree.pid)

    run(session, None)
