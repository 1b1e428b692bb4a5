"""A picture of the whole tree, as text."""

from __future__ import annotations

import os
from pathlib import Path

import ep_devx
import msgspec
import pytest
import trio
import trio.testing

import tractor
import tractor.devx
import tractor.devx.debug as debug
from tractor._util._frames import frames_of
from tractor.devx._picture import (
    ActorPicture,
    TaskPicture,
    picture_of_task,
    pretty_picture,
    user_tasks,
)
from tractor.devx._tree_picture import tree_record
from tractor.devx.debug.lock._status import LockStatistics
from tractor.testing import get_rando_addr

LONG = 60.0
"""Seconds; never waited for."""


@pytest.fixture
def reg_addr() -> tuple[str, int | str]:
    return get_rando_addr("tcp")


# -- records and text --


def test_the_text_is_an_outline() -> None:
    leaf = ActorPicture("leaf", "c" * 32, 3, "running", note="does not answer")
    middle = ActorPicture("middle", "b" * 32, 2, "running", repl="has the REPL: x", children=[leaf])
    tasks = [
        TaskPicture("main", 0, "a.py:1 in f()", "trio.sleep()"),
        TaskPicture("x", 1, "", "ready"),
    ]
    other = ActorPicture("other", "d" * 32, None, "booting")
    top = ActorPicture(
        "top",
        "a" * 32,
        1,
        "running",
        ["/unix/x"],
        tasks,
        ["call of f() in leaf"],
        "",
        [middle, other],
    )
    assert pretty_picture(top).splitlines() == [
        "top[aaaaaa]  pid 1  running",
        "|  listens at /unix/x",
        "|  task main: a.py:1 in f(), waits in trio.sleep()",
        "|    task x, waits for its turn",
        "|  call of f() in leaf",
        "|_ middle[bbbbbb]  pid 2  running  (has the REPL: x)",
        "|  |_ leaf[cccccc]  pid 3  running",
        "|        ! does not answer",
        "|_ other[dddddd]  pid None  booting",
    ]


def test_a_record_travels() -> None:
    picture = ActorPicture(
        "x",
        "y",
        1,
        "s",
        tasks=[TaskPicture("t", 0, "", "")],
        children=[ActorPicture("z", "", 2, "s")],
    )
    there = msgspec.msgpack.encode(msgspec.to_builtins(picture))
    assert msgspec.convert(msgspec.msgpack.decode(there), ActorPicture) == picture


async def deepest() -> None:
    await trio.sleep_forever()


async def middle() -> None:
    await deepest()


def test_a_task_is_where_the_users_innermost_line_is() -> None:
    async def main() -> None:
        async with trio.open_nursery() as tn:
            tn.start_soon(middle, name="waiting")
            await trio.testing.wait_all_tasks_blocked()
            root = trio.lowlevel.current_root_task()
            assert root is not None
            tasks = {task.name.rpartition(".")[2]: (task, d) for task, d in user_tasks(root)}
            waiting, depth = tasks["waiting"]
            assert [f.f_code.co_name for f in frames_of(waiting)][:3] == [
                "middle",
                "deepest",
                "sleep_forever",
            ]
            shown = picture_of_task(waiting, depth)
            assert shown.waits_in == "trio.sleep_forever()"
            assert shown.at.endswith(" in deepest()")
            assert depth == 1
            own, _ = tasks["main"]
            assert frames_of(own)[-1].f_code.co_name == "frames_of"
            tn.start_soon(deepest, name="new")
            (new,) = [t for t in tn.child_tasks if t.name == "new"]
            assert picture_of_task(new).waits_in == "ready"
            tn.cancel_scope.cancel()

    trio.run(main)


# -- trees --


def test_every_actor_task_and_dialog_is_there(reg_addr: tuple[str, int]) -> None:
    async def main() -> tuple[str, str, int, int]:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            portal = await an.start_actor("middle", enable_modules=["ep_devx"])
            other = await an.start_actor("busy", enable_modules=["ep_devx"])
            async with (
                portal.open_context(ep_devx.with_child) as (ctx, grandchild),
                other.open_stream_from(ep_devx.numbers) as numbers,
            ):
                await numbers.receive()
                pid = await portal.run(ep_devx.pid)
                here = await tractor.devx.tree_picture(LONG)
                there = await portal.run(ep_devx.picture, limit=LONG)
                await ctx.cancel()
            await an.cancel()
            return here, there, pid, grandchild

    here, there, pid, grandchild = trio.run(main)
    for text in (here, there):
        lines = text.splitlines()
        assert lines[0].startswith("root[")
        assert f"pid {os.getpid()}  registrar, running" in lines[0]
        assert any(li.startswith("|_ middle[") and f"pid {pid}  running" in li for li in lines)
        assert any(
            li.startswith("|  |_ grandchild[") and f"pid {grandchild} " in li for li in lines
        )
        assert "task ep_devx:with_child: ep_devx.py:" in text
        assert " in with_child(), waits in trio.sleep_forever()" in text
        assert "context ep_devx:with_child() with middle[" not in text.split("|_ middle[")[1]
        assert "opened here: started" in text
        assert "served here: streaming, stream open" in text
        assert "one-way stream from ep_devx:numbers() in busy" in text
        assert "one-way stream ep_devx:numbers() for root" in text
        assert f"listens at /ip4/{reg_addr[0]}/tcp/{reg_addr[1]}" in text
        assert "_child_main" not in text, "a task of the runtime's"
    # The second was asked for in the middle, by a task of the user's there.
    assert "task ep_devx:picture" not in here
    assert " in picture(), waits in tractor.tree_picture()" in there


def test_an_actor_that_does_not_answer_is_shown_as_such(
    reg_addr: tuple[str, int], tmp_path: Path
) -> None:
    async def main() -> tuple[ActorPicture, str]:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            stuck = await an.start_actor("stuck", enable_modules=["ep_devx"])
            await an.start_actor("fine")
            async with trio.open_nursery() as tn:
                tn.start_soon(lambda: stuck.run(ep_devx.block, path=str(tmp_path / "go")))
                await trio.testing.wait_all_tasks_blocked()
                record = await tree_record(0.5)
                (tmp_path / "go").touch()
            # It has answered late, to nobody.
            again = await tree_record(LONG)
            await an.cancel()
            return record, pretty_picture(again)

    record, again = trio.run(main)
    notes = {child.name: child.note for child in record.children}
    assert notes["fine"] == ""
    assert "does not answer: no answer from stuck" in notes["stuck"]
    assert "!" not in again


def test_a_parent_that_does_not_answer_leaves_what_is_below(
    reg_addr: tuple[str, int],
) -> None:
    async def main() -> str:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            portal = await an.start_actor("child", enable_modules=["ep_devx"])
            picture: list[str] = []

            async def ask() -> None:
                picture.append(await portal.run(ep_devx.picture_without_parent))

            async with trio.open_nursery() as tn:
                tn.start_soon(ask)
            await portal.cancel_actor()
            return picture[0]

    text = trio.run(main)
    assert text.startswith("child[")
    assert "! what is above is unknown: the parent root" in text


def test_who_has_the_repl_and_who_waits_is_told(
    reg_addr: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> str:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            first = await an.start_actor("first")
            second = await an.start_actor("second")
            assert first.chan.aid is not None
            assert second.chan.aid is not None
            stats = LockStatistics(
                first.chan.aid.uid,
                "<Task 'a'>",
                (second.chan.aid.uid,),
                ("<Task 'b'>",),
                (),
                "none",
            )
            monkeypatch.setattr(debug.Lock, "statistics", classmethod(lambda cls: stats))
            text: str = await tractor.devx.tree_picture(LONG)
            monkeypatch.undo()
            await an.cancel()
            return text

    lines = trio.run(main).splitlines()
    (first,) = [line for line in lines if line.startswith("|_ first[")]
    (second,) = [line for line in lines if line.startswith("|_ second[")]
    assert first.endswith("(has the REPL: <Task 'a'>)")
    assert second.endswith("(waits for the REPL, in place 1: <Task 'b'>)")


def test_without_a_runtime_there_is_no_picture() -> None:
    with pytest.raises(tractor.NoRuntime):
        trio.run(tractor.devx.tree_picture)
