"""The parts of an agent that need no process: the window of its link, its store of code, what fields have to be."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor.hosts._frames import Decoder, FrameError, encode, to_bytes
from tractor.hosts.agent import _fields as fields
from tractor.hosts.agent._children import RING_SIZE, Child
from tractor.hosts.agent._link import MAGIC, Link, LinkLost, Window
from tractor.hosts.agent._roster import LATEST, Roster
from tractor.hosts.agent._store import CodeStore as RealStore

pytestmark = pytest.mark.skipif(os.name != "posix", reason="an agent needs POSIX")

# -- the window --


def test_a_window_fills_and_an_answered_ping_says_what_has_come() -> None:
    window = Window()
    assert window.room == Window.SIZE
    window.sent(Window.SIZE // 2)
    assert window.wants_ping
    window.ping(1)
    assert not window.wants_ping, "that one is under way"
    window.sent(Window.SIZE // 2)
    assert window.room == 0
    window.ping(2)
    window.pong(1)
    assert window.room == Window.SIZE // 2
    window.pong(2)
    assert window.room == Window.SIZE


def test_a_frame_may_be_larger_than_what_was_left() -> None:
    window = Window()
    window.sent(Window.SIZE + 1000)
    assert window.room == 0


def test_an_answer_to_nothing_opens_no_window() -> None:
    window = Window()
    window.sent(Window.SIZE)
    window.ping(5)
    for number in (0, 4, 6, 10**9, -1):
        window.pong(number)
    assert window.room == 0


@given(st.lists(st.tuples(st.sampled_from(["sent", "ping", "pong"]), st.integers(0, 70_000))))
def test_no_more_is_open_than_was_sent_since_the_last_answered_ping(
    events: list[tuple[str, int]],
) -> None:
    window, sent, arrived, count = Window(), 0, 0, 0
    marks: dict[int, int] = {}
    for kind, size in events:
        if kind == "sent":
            window.sent(size)
            sent += size
        elif kind == "ping":
            count += 1
            window.ping(count)
            marks[count] = sent
        else:
            number = size % (count + 2)
            window.pong(number)
            arrived = max(arrived, marks.get(number, 0))
        assert window.room == max(0, Window.SIZE - (sent - arrived))


# -- the link --


class CodeStore(RealStore):
    """One that ends with its test."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _stores.append(self)


_stores: list[CodeStore] = []


@pytest.fixture(autouse=True)
def _stores_end() -> Iterator[None]:
    yield
    while _stores:
        _stores.pop().close()


@pytest.fixture
def pipes() -> Iterator[tuple[Link, int, int]]:
    """A link, and the other ends of its two directions."""
    read_fd, to_it = os.pipe()
    from_it, write_fd = os.pipe()
    link = Link(read_fd, write_fd)
    ends = [to_it, from_it]
    yield link, to_it, from_it
    link.close(0)
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            continue  # a test has closed it


def test_a_link_begins_with_its_mark(pipes: tuple[Link, int, int]) -> None:
    link, _, from_it = pipes
    link.send({"t": "hello"})
    link.flush()
    assert os.read(from_it, 100) == MAGIC + encode({"t": "hello"})


def test_a_link_that_takes_nothing_never_waits(pipes: tuple[Link, int, int]) -> None:
    link, _, from_it = pipes
    frame = {"t": "x", "y": "z" * 100_000}
    for _ in range(5):
        link.send(frame)
        link.flush()
    assert link.waiting > 400_000
    got = bytearray()
    while link.waiting:
        got += os.read(from_it, 1 << 20)
        link.flush()
    got += os.read(from_it, 1 << 20)
    assert [obj for obj, _ in Decoder().feed(bytes(got[len(MAGIC) :]))] == [frame] * 5


def test_a_link_without_a_reader_is_lost_and_keeps_nothing(pipes: tuple[Link, int, int]) -> None:
    link, _, from_it = pipes
    os.close(from_it)
    link.flush()
    assert link.lost is not None
    link.send({"t": "x"})
    assert link.waiting == 0


def test_what_comes_is_frames_and_faults(pipes: tuple[Link, int, int]) -> None:
    link, to_it, _ = pipes
    assert link.receive() == ([], [])
    os.write(to_it, encode({"t": "a"}) + b"\0\0\0\2[]" + encode({"t": "b"}))
    frames, faults = link.receive()
    assert [obj["t"] for obj, _ in frames] == ["a", "b"]
    assert len(faults) == 1
    os.write(to_it, encode({"t": "c"})[:-1])
    assert link.receive() == ([], [])
    os.close(to_it)
    with pytest.raises(LinkLost, match="within a frame"):
        link.receive()


def test_a_link_gives_its_descriptors_back_as_they_were() -> None:
    read_fd, to_it = os.pipe()
    other = os.dup(read_fd)
    link = Link(read_fd, to_it)
    assert not os.get_blocking(other)
    link.close(0)
    assert os.get_blocking(other), "a terminal that nobody can read any more is no good"
    os.close(other)


# -- the children --


def a_child(ident: str, printed: bytes) -> Child:
    """One that has neither a lifeline nor a pipe any more."""
    child = Child(ident, os.getpid(), lifeline=-1, output=-1)
    child.printed += printed
    return child


def sent(link: Link, from_it: int) -> list[dict[str, Any]]:
    """All that a link has had to send."""
    link.flush()
    return [obj for obj, _ in Decoder().feed(os.read(from_it, 1 << 20).removeprefix(MAGIC))]


def test_where_the_link_is_narrow_each_child_has_its_turn(pipes: tuple[Link, int, int]) -> None:
    link, _, from_it = pipes
    roster = Roster(link)
    for ident in ("a", "b", "c"):
        roster.add(a_child(ident, bytes(100_000)))
    for number in range(100):
        roster.window.sent(Window.SIZE // 100 + 1)
        roster.window.ping(number)
    for number in range(9):
        roster.window.pong(number)
        roster.send(0.0, stalled=False)
    got = [frame["id"] for frame in sent(link, from_it)]
    assert len(got) == 9
    assert {got.count(ident) for ident in ("a", "b", "c")} == {3}


def test_an_end_comes_behind_all_that_was_printed(pipes: tuple[Link, int, int]) -> None:
    link, _, from_it = pipes
    roster = Roster(link)
    child = a_child("a", b"x" * 40_000)
    roster.add(child)
    roster.ended(os.getpid(), 3, now=10.0)
    assert child.status == 3
    roster.send(10.0, stalled=False)
    assert [frame["t"] for frame in sent(link, from_it)] == ["err", "err", "exit"]
    assert "a" not in roster


def test_the_news_of_an_end_do_not_wait_for_ever_behind_output(
    pipes: tuple[Link, int, int],
) -> None:
    link, _, from_it = pipes
    roster = Roster(link)
    roster.add(a_child("a", b"x" * 50_000 + b"last words"))
    roster.window.sent(Window.SIZE)
    roster.ended(os.getpid(), 3, now=10.0)
    roster.send(10.5, stalled=False)
    assert sent(link, from_it) == []
    assert roster.next_at() == 10.0 + LATEST
    roster.send(10.0 + LATEST, stalled=False)
    err, end = sent(link, from_it)
    assert to_bytes(err["data"]).endswith(b"last words")
    assert len(to_bytes(err["data"])) + err["dropped"] == 50_010
    assert end == {"t": "exit", "id": "a", "status": 3}
    assert roster.next_at() is None


def test_output_is_held_up_while_the_link_works_and_dropped_where_it_does_not(
    pipes: tuple[Link, int, int],
) -> None:
    roster = Roster(pipes[0])
    child = a_child("a", bytes(RING_SIZE))
    roster.add(child)
    roster.window.sent(Window.SIZE)
    roster.send(0.0, stalled=False)
    assert child.is_full
    roster.send(0.0, stalled=True)
    assert not child.is_full
    child.printed += b"new"
    child.keep(RING_SIZE)
    assert child.dropped == 3
    assert child.take(RING_SIZE) == (bytes(RING_SIZE - 3) + b"new", 3)
    assert child.take(10) == (b"", 0)


def test_an_orphan_that_is_reaped_is_nobodys_end(pipes: tuple[Link, int, int]) -> None:
    roster = Roster(pipes[0])
    roster.add(a_child("a", b""))
    roster.ended(1, 0, now=0.0)
    assert len(roster.running()) == 1


# -- the store --


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


CODE = b"print('code')\n" * 1000


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Variables of a user with a home of its own."""
    (tmp_path / "home").mkdir()
    (tmp_path / "tmp").mkdir()
    return {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}


def test_shipped_code_is_there_for_the_next_agent(home: dict[str, str]) -> None:
    store = CodeStore(home)
    item = f"{digest(CODE)}/code.zip"
    assert store.missing([digest(CODE), item]) == [digest(CODE), item]
    assert store.take(digest(CODE), "code.zip", CODE) is None
    store.close()
    again = CodeStore(home)
    assert again.missing([digest(CODE), item]) == []
    path = Path(again.resolve(f"sha256:{item}"))
    assert path.read_bytes() == CODE
    assert path.is_relative_to(Path(home["HOME"]) / ".cache/tractor/code")
    assert again.resolve(f"sha256:{digest(CODE)}") == str(path.parent)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert again.missing([f"{digest(CODE)}/other.zip"]) == [f"{digest(CODE)}/other.zip"]


def test_the_cache_is_where_the_user_wants_it(home: dict[str, str], tmp_path: Path) -> None:
    store = CodeStore({**home, "XDG_CACHE_HOME": str(tmp_path / "x")})
    store.take(digest(CODE), "a.py", CODE)
    assert (tmp_path / "x/tractor/code" / digest(CODE) / "a.py").read_bytes() == CODE
    relative = CodeStore({**home, "XDG_CACHE_HOME": "relative"})
    assert relative.missing([digest(CODE)]) == [digest(CODE)]


def test_what_was_not_used_for_longest_makes_room(home: dict[str, str]) -> None:
    codes = [bytes([number]) * 1000 for number in range(5)]
    names = [digest(code) for code in codes]

    def ship(number: int) -> None:
        store = CodeStore(home, limit=3000)
        store.take(names[number], "a.py", codes[number])
        os.utime(folder / names[number], (number, number))
        store.close()

    folder = Path(home["HOME"]) / ".cache/tractor/code"
    for number in range(3):
        ship(number)
    # Used once more; its file alone says when.
    again = CodeStore(home)
    assert again.missing([names[0]]) == []
    again.close()
    ship(3)
    assert {path.name for path in folder.iterdir()} == {names[0], names[2], names[3]}
    # What an agent uses stays, however old it is; its own is not judged at all.
    os.utime(folder / names[2], (0, 0))
    user = CodeStore(home)
    user.resolve(f"sha256:{names[2]}")
    os.utime(folder / names[2], (0, 0))
    ship(4)
    assert {path.name for path in folder.iterdir()} == {names[0], names[2], names[4]}


def test_what_was_changed_or_emptied_there_is_missing(home: dict[str, str]) -> None:
    store = CodeStore(home)
    store.take(digest(CODE), "a.py", CODE)
    path = Path(store.resolve(f"sha256:{digest(CODE)}/a.py"))
    path.write_bytes(b"")
    assert store.missing([digest(CODE)]) == [digest(CODE)]
    with pytest.raises(ValueError, match="ship it first"):
        store.resolve(f"sha256:{digest(CODE)}/a.py")
    store.take(digest(CODE), "a.py", CODE)
    assert path.read_bytes() == CODE


def test_code_with_another_digest_is_refused(home: dict[str, str]) -> None:
    store = CodeStore(home)
    with pytest.raises(ValueError, match=f"not {digest(CODE)}"):
        store.take(digest(CODE), "a.py", CODE + b"x")
    assert store.missing([digest(CODE)]) == [digest(CODE)]
    assert not list(Path(home["HOME"]).rglob("*.py"))


def test_code_may_come_in_parts(home: dict[str, str]) -> None:
    store = CodeStore(home)
    assert store.take(digest(CODE), "a.py", CODE[:10], more=True) == 10
    assert store.take(digest(CODE), "a.py", CODE[10:30], more=True) == 30
    assert store.take(digest(CODE), "a.py", CODE[30:]) is None
    assert store.missing([digest(CODE)]) == []
    # Parts that come to nothing are forgotten.
    other = digest(b"other")
    store.take(other, "b.py", b"wrong", more=True)
    with pytest.raises(ValueError, match="has the sha256"):
        store.take(other, "b.py", b"")
    assert store.take(other, "b.py", b"other") is None


@pytest.mark.parametrize(
    ("found", "name"),
    [
        ("0" * 63, "a.py"),
        ("G" * 64, "a.py"),
        ("../" + "0" * 61, "a.py"),
        ("0" * 64, "../a.py"),
        ("0" * 64, "a/b.py"),
        ("0" * 64, ".."),
        ("0" * 64, ".hidden"),
        ("0" * 64, ""),
        ("0" * 64, "a\0b"),
        ("0" * 64, "a" * 256),
        ("0" * 64, "a\n"),
    ],
)
def test_names_lead_nowhere_else(home: dict[str, str], found: str, name: str) -> None:
    store = CodeStore(home)
    with pytest.raises(ValueError, match="is named by"):
        store.take(found, name, b"")


@pytest.mark.parametrize("item", [7, None, ["x"], "", "abc", "0" * 64 + "/", "0" * 64 + "/.."])
def test_what_names_no_code_is_told(home: dict[str, str], item: object) -> None:
    with pytest.raises(ValueError, match="is named by"):
        CodeStore(home).missing([item])


@pytest.mark.parametrize("variables", [{}, {"HOME": ""}, {"HOME": "relative"}])
def test_without_a_home_it_is_private_and_removed_at_the_end(
    home: dict[str, str], variables: dict[str, str]
) -> None:
    store = CodeStore({**variables, "TMPDIR": home["TMPDIR"]})
    store.take(digest(CODE), "a.py", CODE)
    (folder,) = Path(home["TMPDIR"]).iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert store.resolve(f"sha256:{digest(CODE)}").startswith(str(folder))
    store.close()
    store.close()
    assert list(Path(home["TMPDIR"]).iterdir()) == []


def test_a_cache_that_can_not_be_written_to_is_passed_over(home: dict[str, str]) -> None:
    # Root may write anywhere; into a file nobody can put one.
    (Path(home["HOME"]) / ".cache").write_text("")
    store = CodeStore(home)
    store.take(digest(CODE), "a.py", CODE)
    assert store.missing([digest(CODE)]) == []
    store.close()


def test_a_cache_that_is_full_is_passed_over(
    home: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CodeStore(home)
    replace = os.replace

    def full(source: str, target: str) -> None:
        if target.startswith(home["HOME"]):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    store.take(digest(CODE), "a.py", CODE)
    assert store.missing([digest(CODE)]) == []
    assert not [path for path in Path(home["HOME"]).rglob("*") if path.is_file()]
    store.close()


def test_nowhere_to_write_is_an_error(home: dict[str, str]) -> None:
    store = CodeStore({"TMPDIR": "/no/such/folder"})
    with pytest.raises(OSError, match="No such file"):
        store.take(digest(CODE), "a.py", CODE)


def test_a_folder_that_others_may_write_to_is_made_ours(home: dict[str, str]) -> None:
    folder = Path(home["HOME"]) / ".cache/tractor/code"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    CodeStore(home).take(digest(CODE), "a.py", CODE)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_is_somebody_elses_is_not_used(home: dict[str, str]) -> None:
    folder = Path(home["HOME"]) / ".cache/tractor/code"
    folder.parent.mkdir(parents=True)
    elsewhere = Path(home["TMPDIR"]) / "elsewhere"
    elsewhere.mkdir()
    folder.symlink_to(elsewhere)
    store = CodeStore(home)
    store.take(digest(CODE), "a.py", CODE)
    assert list(elsewhere.iterdir()) == []
    store.close()


def test_many_agents_ship_the_same_at_once(home: dict[str, str]) -> None:
    contents = [bytes([n]) * 100_000 for n in range(5)]
    faults: list[BaseException] = []

    def ship() -> None:
        try:
            for _ in range(10):
                store = CodeStore(home)
                for content in contents:
                    store.take(digest(content), "code.zip", content)
                    assert store.missing([f"{digest(content)}/code.zip"]) == []
                store.close()
        except BaseException as exc:
            faults.append(exc)

    threads = [threading.Thread(target=ship) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    folder = Path(home["HOME"]) / ".cache/tractor/code"
    assert len([path for path in folder.rglob("*") if path.is_file()]) == len(contents)


# -- fields --


@pytest.mark.parametrize("value", [None, True, 1.0, [], {}])
def test_an_id_is_a_string_or_a_whole_number(value: object) -> None:
    with pytest.raises(FrameError, match="'id' of a frame 'x' must be"):
        fields.ident({"t": "x", "id": value})


@pytest.mark.parametrize("value", [None, True, "1", 0, -1.0, 1e999, float("nan"), []])
def test_a_deadline_is_a_time(value: object) -> None:
    with pytest.raises(FrameError, match="seconds above 0"):
        fields.seconds({"t": "x", "deadline": value}, "deadline")


@pytest.mark.parametrize("value", [None, True, "1", 1.5])
def test_a_number_is_a_whole_one(value: object) -> None:
    with pytest.raises(FrameError, match="a whole number"):
        fields.number({"t": "x", "n": value}, "n")
