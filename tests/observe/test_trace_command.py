"""``tractor trace``: whom it records, how it ends, and what it says of what is missing."""

from __future__ import annotations

import gzip
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from ep_observe import command
from ep_trace import Fake

from tractor.control import _recording
from tractor.runtime.seen._events import Rung

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets")

Result = tuple[int, str, str]


def read(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    found = msgspec.json.decode(gzip.decompress(data) if path.suffix == ".gz" else data)
    assert isinstance(found, dict)
    return found


def counted(path: Path) -> Counter[tuple[str, str]]:
    return Counter((one["ph"], one["name"]) for one in read(path)["traceEvents"])


def traced(
    meanwhile: Callable[[], Awaitable[None]], *argv: str, seconds: str = "60"
) -> Callable[[], Awaitable[Result]]:
    """Run the command while something happens."""

    async def both() -> Result:
        with trio.fail_after(60):
            async with trio.open_nursery() as tn:
                tn.start_soon(meanwhile)
                return await command("trace", "--seconds", seconds, "--limit", "5", *argv)
        raise AssertionError("not reached")

    return both


async def until(true: Callable[[], object]) -> None:
    while not true():
        await trio.sleep(0.01)


def test_those_below_it_are_recorded_and_who_comes_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "t.json.gz"

    async def main() -> None:
        top, other = Fake("trace-top"), Fake("trace-other")
        made = [top]

        async def meanwhile() -> None:
            await until(lambda: top.instruments)
            top.call()
            made.append(Fake("trace-late", top))
            await until(lambda: made[1].instruments)
            made[1].call()
            # It ends when all have.
            made[1].control.close()
            # Its last events come at once, and so do those of what ended itself.
            top.call()
            await trio.sleep(0.3)
            top.control.close()

        code, out, err = await traced(meanwhile, "trace-top", "-o", str(path))()
        assert (code, err) == (0, "")
        assert f"{path}: 6 events of 2 actors in " in out
        assert not other.instruments
        other.control.close()

    trio.run(main)
    found = read(path)
    names = [one["args"]["name"] for one in found["traceEvents"] if one["name"] == "process_name"]
    assert [name.partition("[")[0] for name in names] == ["trace-top", "trace-late"]
    assert [one["end"] for one in found["metadata"]["actors"]] == ["ended", "ended"]
    counts = counted(path)
    assert counts["X", "m:f"] == 3
    # Looked at meanwhile.
    assert counts["C", "RSS"]
    assert counts["C", "lag"]
    assert counts["C", "m:c to x@1 #1"]


def test_it_ends_after_its_time_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.json"

    async def main() -> None:
        one = Fake("trace-top")

        async def meanwhile() -> None:
            await until(lambda: one.instruments)
            one.call()

        argv = ("trace-top", "-o", str(path), "--json")
        code, out, err = await traced(meanwhile, *argv, seconds="0.3")()
        assert (code, err) == (0, "")
        told = msgspec.json.decode(out)
        assert told["v"] == 1
        assert (told["file"], told["lost"], told["left-out"]) == (str(path), 0, 0)
        assert told["seconds"] == pytest.approx(0.3, abs=0.29)
        assert [actor["end"] for actor in told["actors"]] == ["open"]
        await until(lambda: not one.instruments)
        one.control.close()

    trio.run(main)
    assert counted(path)["X", "m:f"] == 1


def test_what_was_lost_is_said(tmp_path: Path) -> None:
    path = tmp_path / "t.json"

    async def main() -> None:
        one = Fake("trace-top")

        async def meanwhile() -> None:
            await until(lambda: one.instruments)
            for number in range(12):
                one.tell(Rung(one.now(), one.uuid, "c", f"child {number}", 1))
            one.control.close()

        argv = ("trace-top", "-o", str(path), "--events", "5")
        code, _, err = await traced(meanwhile, *argv)()
        assert code == 0
        assert f"trace-top@{os.getpid()}: 7 events lost" in err

    trio.run(main)
    found = read(path)
    assert found["metadata"]["lost"] == 7
    assert found["metadata"]["actors"][0]["events"] == 5
    assert counted(path)["i", "7 events lost"] == 1


def test_who_records_nothing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.json"

    async def main() -> None:
        one = Fake("trace-top")
        old = Fake("trace-old", one, ops=["hello", "sample"])

        async def meanwhile() -> None:
            await until(lambda: one.instruments)
            one.control.close()

        code, _, err = await traced(meanwhile, "trace-top", "-o", str(path))()
        assert code == 1
        assert f"trace-old@{os.getpid()}: its version, 0, records nothing" in err
        old.control.close()

    trio.run(main)
    # A busy machine may leave out a look, too, which is named as well.
    missing = [one["what"] for one in read(path)["metadata"]["missing"]]
    assert [what for what in missing if what.startswith("trace-old@")]


def test_others_that_record_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_recording, "AT_A_TIME", 0)
    path = tmp_path / "t.json"

    async def main() -> None:
        one = Fake("trace-top")

        async def meanwhile() -> None:
            pass

        argv = ("trace-top", "-o", str(path))
        code, out, err = await traced(meanwhile, *argv, seconds="0.3")()
        assert (code, out) == (1, "")
        assert "tells nothing: 0 recordings of this actor run already" in err
        one.control.close()

    trio.run(main)
    assert not path.exists()


def test_an_event_of_a_later_version_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "t.json"

    class Dream(Rung, frozen=True, array_like=True, gc=False, tag="dream"):
        pass

    async def main() -> None:
        one = Fake("trace-top")

        async def meanwhile() -> None:
            await until(lambda: one.instruments)
            one.call()
            one.tell(Dream(one.now(), one.uuid, "c", "child", 1))
            one.call()
            one.control.close()

        code, _, err = await traced(meanwhile, "trace-top", "-o", str(path))()
        assert code == 0
        assert f"trace-top@{os.getpid()}: 1 events of a kind that is not known" in err

    trio.run(main)
    assert counted(path)["X", "m:f"] == 2


def test_a_clock_of_another_time_namespace(tmp_path: Path) -> None:
    path = tmp_path / "t.json"

    async def main() -> None:
        one = Fake("trace-top")
        one.ahead = 10**15

        async def meanwhile() -> None:
            await until(lambda: one.instruments)
            await trio.sleep(0.3)
            one.call()
            one.control.close()

        assert (await traced(meanwhile, "trace-top", "-o", str(path))())[0] == 0

    trio.run(main)
    found = read(path)
    (actor,) = found["metadata"]["actors"]
    assert actor["clock-offset-us"] == pytest.approx(-(10**12), abs=10**6)
    assert 0 < actor["clock-error-us"] < 10**6
    (call,) = [one for one in found["traceEvents"] if one["ph"] == "X"]
    assert 0 < call["ts"] < 60e6


def test_a_place_that_cant_be_written_to_is_told_before_anything_is_recorded(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        one = Fake("trace-top")
        path = tmp_path / "nowhere" / "t.json"
        code, out, err = await command("trace", "trace-top", "-o", str(path))
        assert (code, out) == (1, "")
        assert err == f"tractor trace: {path} can't be written: No such file or directory\n"
        one.control.close()

    trio.run(main)


def test_nobody_of_that_name(tmp_path: Path) -> None:
    path = tmp_path / "t.json"

    async def main() -> None:
        code, _, err = await command("trace", "no-such-actor", "-o", str(path))
        assert code == 1
        assert "there is no actor 'no-such-actor'" in err

    trio.run(main)
    assert not path.exists()


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("-o", "x", "--seconds", "601"),
        ("-o", "x", "--events", "0"),
        ("-o", "x", "--seconds", "x"),
    ],
)
def test_wrong_usage(argv: tuple[str, ...], tmp_path: Path) -> None:
    async def main() -> None:
        code, _, _ = await command("trace", *argv)
        assert code == 2

    trio.run(main)
