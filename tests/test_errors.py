"""Error types: their data, how they show, and how they are pickled and found by name."""

from __future__ import annotations

import bdb
import copy
import logging
import pickle
import sys
from types import ModuleType

import msgspec
import pytest
import trio

from tractor import _error_registry as registry
from tractor import _exceptions as errors
from tractor._errors import STDERR_TAIL_BYTES, RemoteActorError
from tractor.msg.types import Error, Yield

CHILD = ("child", "uuid-c")
PARENT = ("parent", "uuid-p")


class AppError(Exception):
    """A type that an application has."""


class Picky(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(one, two)


class SubFailure(errors.RuntimeFailure):
    """An application's own subtype of a public error."""


def boxed(
    name: str = "ValueError", path: str = "builtins:ValueError", **fields: object
) -> RemoteActorError:
    message = Error(
        src_uid=CHILD,
        src_type_str=name,
        boxed_type_str=name,
        src_type_path=path,
        boxed_type_path=path,
        relay_path=[CHILD],
        message="it is bad",
        tb_str="Traceback ...\nValueError: it is bad",
        sender=CHILD,
    )
    for key, value in fields.items():
        setattr(message, key, value)
    return RemoteActorError(ipc_msg=message)


@pytest.fixture
def clean_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_by_name", {})
    monkeypatch.setattr(registry, "_by_path", {})


PUBLIC = {
    "RuntimeFailure": RuntimeError,
    "ActorFailure": errors.RuntimeFailure,
    "ActorTooSlowError": errors.RuntimeFailure,
    "InternalError": RuntimeError,
    "NoRuntime": RuntimeError,
    "NoResult": RuntimeError,
    "MessagingError": Exception,
    "TransportClosed": Exception,
    "ModuleNotExposed": ModuleNotFoundError,
    "RemoteActorError": Exception,
    "ContextCancelled": RemoteActorError,
    "MsgTypeError": RemoteActorError,
    "StreamOverrun": RemoteActorError,
    "AsyncioCancelled": Exception,
    "AsyncioTaskExited": Exception,
    "TrioCancelled": Exception,
    "TrioTaskExited": Exception,
    "DebugRequestError": RuntimeError,
    "DebugStateError": errors.InternalError,
}


@pytest.mark.parametrize("name", PUBLIC)
def test_type_is_public_with_its_documented_base(name: str) -> None:
    cls = getattr(errors, name)
    assert PUBLIC[name] in cls.__mro__
    assert (cls.__module__, cls.__qualname__) == ("tractor", name)
    assert errors.get_err_type(name) is cls


def test_too_slow_bases() -> None:
    assert issubclass(errors.StreamOverrun, trio.TooSlowError)
    assert not issubclass(errors.ActorTooSlowError, trio.TooSlowError)


@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_type_pickles_and_copies(name: str, protocol: int) -> None:
    exc = getattr(errors, name)("some text")
    exc.add_note("a note")
    twins = [pickle.loads(pickle.dumps(exc, protocol)), copy.copy(exc), copy.deepcopy(exc)]
    for twin in twins:
        assert type(twin) is type(exc)
        assert (twin.args, str(twin), twin.__notes__) == (exc.args, str(exc), ["a note"])


def test_subclass_of_a_public_type_pickles() -> None:
    twin = pickle.loads(pickle.dumps(SubFailure("a", 2)))
    assert type(twin) is SubFailure
    assert twin.args == ("a", 2)


def test_value_that_cannot_be_pickled_does_not_lose_the_error() -> None:
    exc = errors.TransportClosed("gone", src_exc=OSError(lambda: None), raise_on_report=True)
    twin = pickle.loads(pickle.dumps(exc))
    assert (twin.src_exc, twin.raise_on_report, str(twin)) == (None, True, "gone")
    assert copy.copy(exc).src_exc is exc.src_exc
    assert "<lambda>" in pickle.loads(pickle.dumps(errors.NoRuntime(lambda: None))).args[0]


def test_actor_failure_carries_its_data() -> None:
    exc = errors.ActorFailure(CHILD, -9, "last words\n")
    assert (exc.uid, exc.returncode, exc.stderr_tail) == (CHILD, -9, "last words\n")
    assert "SIGKILL" in str(exc)
    assert "last words" in str(exc)
    assert str(CHILD) in str(exc)
    twin = pickle.loads(pickle.dumps(exc))
    assert (twin.uid, twin.returncode, twin.stderr_tail) == (CHILD, -9, "last words\n")


@pytest.mark.parametrize(
    ("code", "text"),
    [(None, "unknown"), (0, "exit code 0"), (3, "exit code 3"), (-15, "SIGTERM"), (-255, "255")],
)
def test_actor_failure_names_the_exit_status(code: int | None, text: str) -> None:
    assert text in str(errors.ActorFailure(CHILD, code))


def test_actor_failure_keeps_the_end_of_a_long_stderr() -> None:
    exc = errors.ActorFailure(CHILD, 1, "ä" * STDERR_TAIL_BYTES + "\udc80end")
    assert len(exc.stderr_tail.encode()) <= STDERR_TAIL_BYTES
    assert exc.stderr_tail.endswith("end")
    assert errors.ActorFailure(CHILD, 1, message="own words").args == ("own words",)


def test_transport_closed_from_its_source() -> None:
    source = ConnectionResetError("reset by peer")
    exc = errors.TransportClosed.from_src_exc(source)
    assert exc.src_exc is exc.__cause__ is source
    assert str(exc).startswith("peer IPC channel closed abruptly?")
    assert "ConnectionResetError: reset by peer" in str(exc)
    assert (exc.loglevel, exc.raise_on_report) == ("transport", False)


@pytest.mark.parametrize(
    ("loglevel", "level"),
    [("transport", 5), ("cancel", 22), ("warning", 30), ("no such level", 30)],
)
def test_transport_closed_reports_at_its_level(
    caplog: pytest.LogCaptureFixture, loglevel: str, level: int
) -> None:
    caplog.set_level(1, "tractor")
    errors.TransportClosed("gone", loglevel).report_n_maybe_raise("while sending")
    (record,) = caplog.records
    assert record.levelno == level
    assert record.getMessage() == "while sending\ngone"


def test_transport_closed_raises_on_report() -> None:
    exc = errors.TransportClosed("gone", raise_on_report=True)
    with pytest.raises(errors.TransportClosed) as caught:
        exc.report_n_maybe_raise()
    assert caught.value is exc


def test_remote_error_of_one_hop() -> None:
    exc = boxed()
    assert exc.boxed_type is exc.src_type is ValueError
    assert exc.boxed_type_str == exc.src_type_str == "ValueError"
    assert exc.src_uid == exc.relay_uid == exc.sender == CHILD
    assert exc.relay_path == [CHILD]
    assert exc.message == "it is bad"
    assert exc.msgdata["src_type_path"] == "builtins:ValueError"
    assert not exc.is_inception()


def test_remote_error_text() -> None:
    exc = boxed(trail=[(4711, "deep.py:6 in parse()")])
    first, *box = str(exc).splitlines()
    assert first == "ValueError in child@4711: it is bad  deep.py:6 in parse()"
    assert box[0] == "+-- child@4711 (uuid-c): remote task raised a 'ValueError'"
    assert box[1:-1] == ["| Traceback ...", "| ValueError: it is bad"]
    begin, *body, end = exc.pformat().splitlines()
    assert (begin, end) == ("<RemoteActorError(", ")>")
    assert [line.removeprefix("  ") for line in body] == str(exc).splitlines()
    assert "\n" not in exc.reprol()
    assert repr(exc) == exc.pformat()
    assert "ValueError: it is bad" in repr(exc)
    assert "+--" not in str(boxed(tb_str=""))


def test_text_of_an_error_whose_way_is_not_known() -> None:
    first, *_ = str(boxed()).splitlines()
    assert first == "ValueError in child (uuid-c): it is bad"
    unnamed = RemoteActorError("it is bad", boxed_type=ValueError)
    assert str(unnamed) == "ValueError: it is bad"
    assert str(boxed(relay_path=[], src_uid=("", ""), tb_str="")) == "ValueError: it is bad"
    assert str(boxed(message="", tb_str="")) == "ValueError in child (uuid-c)"
    # More steps than actors, which nobody but a broken peer sends.
    assert (
        str(boxed(trail=[(1, "a"), (2, "b")], tb_str="")) == "ValueError in child@1: it is bad  a"
    )


def test_each_hop_is_a_line_with_the_place_of_its_call() -> None:
    exc = boxed(
        relay_path=[CHILD, PARENT, ("old", "uuid-o")],
        boxed_type_str="RemoteActorError",
        trail=[(1, "deep.py:6 in parse()"), (2, "mid() at /x/y.py:9")],
        message="it is bad\nvery bad",
    )
    exc.note_caller("main() at /x/z.py:3", "root@4")
    exc.note_caller("another() at /x/z.py:4", "root@5")
    assert str(exc).splitlines()[:6] == [
        "ValueError in child@1: it is bad  deep.py:6 in parse()",
        "very bad",
        "  called by mid() at /x/y.py:9 in parent@2",
        "  relayed by old (uuid-o)",
        "  called by main() at /x/z.py:3 in root@4",
        "+-- old (uuid-o): remote task raised a 'ValueError'",
    ]
    assert exc.is_inception()
    assert exc.relay_uid == ("old", "uuid-o")


def test_one_line() -> None:
    exc = boxed(relay_path=[CHILD, PARENT], trail=[(1, "x")], message="it is bad\nvery bad")
    told = "RemoteActorError(ValueError in child@1 by way of parent (uuid-p): it is bad)"
    assert exc.reprol() == told
    assert RemoteActorError().reprol() == "RemoteActorError(<unknown>)"


def test_of_very_many_hops_the_middle_is_counted() -> None:
    lines = str(boxed(relay_path=[(f"a{n}", "") for n in range(300)], tb_str="")).splitlines()
    assert len(lines) == 14
    assert [lines[6], lines[7], lines[8]] == [
        "  relayed by a6 ()",
        "  ... 287 more ...",
        "  relayed by a294 ()",
    ]


def test_text_in_colour_is_the_same_text() -> None:
    rich_text = pytest.importorskip("rich.text", reason="rich is not installed")
    exc = boxed(trail=[(4711, "deep.py:6 in parse()")], canceller=PARENT)
    exc.note_caller("main() at /x/z.py:3", "root@4")
    shown = exc.__rich__()
    assert isinstance(shown, rich_text.Text)
    assert shown.plain == str(exc)
    assert "bold red" in {span.style for span in shown.spans}


def test_an_error_matches_what_it_boxes() -> None:
    exc = boxed()
    assert exc.matches(ValueError)
    assert exc.matches(KeyError, Exception)
    assert exc.matches(RemoteActorError)
    assert not exc.matches(KeyError, errors.ContextCancelled)
    assert not exc.matches()
    assert not RemoteActorError("own").matches(ValueError)


def test_an_error_matches_what_its_type_derives_from_though_it_is_not_known_here() -> None:
    exc = boxed("Nobody", "no_such:Nobody", kinds=["no_such:Nobody", "builtins:LookupError"])
    assert exc.src_type is None
    assert exc.matches(LookupError)
    assert not exc.matches(KeyError)
    of_main = boxed("Nobody", "__mp_main__:Local", kinds=["__mp_main__:Local"])
    assert of_main.matches(
        type("Local", (Exception,), {"__module__": "__main__", "__qualname__": "Local"})
    )


def test_remote_error_without_a_message() -> None:
    exc = RemoteActorError("oh")
    assert (exc.boxed_type, exc.src_type) == (None, None)
    assert (exc.src_uid, exc.relay_uid, exc.sender) == (None, None, None)
    assert exc.boxed_type_str == exc.src_type_str == "<unknown>"
    assert (exc.relay_path, exc.msgdata, exc.tb_str) == ([], {}, "")
    assert str(exc) == "oh (RemoteActorError)"
    assert str(RemoteActorError()) == "RemoteActorError"
    assert str(errors.StreamOverrun("too fast")) == "too fast (StreamOverrun)"


def test_extra_fields_are_kept_and_shown() -> None:
    exc = RemoteActorError("oh", colour="red", cid=3)
    assert exc.extra_body_fields == {"colour": "red"}
    assert "\n  colour='red'\n" in exc.pformat()
    for twin in (pickle.loads(pickle.dumps(exc)), copy.deepcopy(exc)):
        assert twin.extra_body_fields == {"colour": "red"}
    assert boxed().extra_body_fields == {}


def test_the_traceback_text_of_a_cancellation_is_its_text() -> None:
    exc = errors.ContextCancelled("asked for", canceller=CHILD)
    assert exc.tb_str == exc.message == "asked for"
    assert "+--" not in repr(exc)


def test_fields_override_the_message() -> None:
    message = boxed().ipc_msg
    exc = RemoteActorError("", message, boxed_type=KeyError, sender=PARENT, src_uid=None)
    assert (exc.boxed_type, exc.sender, exc.src_uid) == (KeyError, PARENT, CHILD)


def test_remote_error_pickles_with_its_message() -> None:
    for exc in (boxed(), boxed(relay_path=[CHILD, PARENT], canceller=PARENT)):
        exc.add_note("seen")
        for twin in (pickle.loads(pickle.dumps(exc)), copy.copy(exc), copy.deepcopy(exc)):
            assert str(twin) == str(exc)
            assert twin.ipc_msg == exc.ipc_msg
            assert twin.boxed_type is ValueError
            assert twin.__notes__ == ["seen"]


def test_remote_error_pickles_with_a_local_type() -> None:
    class Local(Exception):
        pass

    exc = RemoteActorError("", boxed().ipc_msg, boxed_type=Local)
    assert copy.copy(exc).boxed_type is Local
    # The type cannot travel, so the twin looks it up by its name again.
    assert pickle.loads(pickle.dumps(exc)).boxed_type is ValueError


def test_raise_from_remote_error() -> None:
    exc = boxed()
    with pytest.raises(KeyError) as caught:
        raise KeyError("x") from exc
    assert caught.value.__cause__ is exc


def test_unwrap_gives_the_source_type() -> None:
    exc = boxed()
    source = exc.unwrap()
    assert type(source) is ValueError
    assert source.args == ("it is bad",)
    assert source.__cause__ is exc


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("Nobody", "no_such_module:Nobody"),
        ("Cancelled", "trio:Cancelled"),
        ("ExceptionGroup", "builtins:ExceptionGroup"),
        ("UnicodeDecodeError", "builtins:UnicodeDecodeError"),
    ],
)
def test_unwrap_of_what_cannot_be_built(name: str, path: str) -> None:
    source = boxed(name, path).unwrap()
    assert type(source) is RuntimeError
    assert f"{name}: it is bad" in str(source)
    assert "Traceback ..." in str(source)


@pytest.mark.usefixtures("clean_registry")
def test_unwrap_of_a_type_with_other_arguments() -> None:
    errors.reg_err_types([Picky])
    exc = boxed("Picky", f"{__name__}:Picky")
    assert exc.src_type is Picky
    assert type(exc.unwrap()) is RuntimeError


@pytest.mark.parametrize("name", ["StreamOverrun", "MsgTypeError", "ActorFailure"])
def test_unwrap_of_our_own_types(name: str) -> None:
    path = f"tractor:{name}"
    exc = boxed(
        name, path, boxed_type_str="RemoteActorError", boxed_type_path="tractor:RemoteActorError"
    )
    source = exc.unwrap()
    assert type(source) is getattr(errors, name)
    assert "it is bad" in str(source)


def test_context_cancelled_tells_its_canceller(caplog: pytest.LogCaptureFixture) -> None:
    exc = errors.ContextCancelled("cancelled itself", canceller=CHILD)
    assert exc.canceller == CHILD
    assert exc.boxed_type is trio.Cancelled
    assert not caplog.records
    assert errors.ContextCancelled("silence").canceller is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_remote_error_keeps_the_canceller(caplog: pytest.LogCaptureFixture) -> None:
    assert boxed(canceller=PARENT).canceller == PARENT
    assert boxed().canceller is None
    assert not caplog.records


def test_stream_overrun_carries_the_sender() -> None:
    exc = errors.StreamOverrun("too fast", sender=CHILD)
    assert exc.sender == CHILD
    assert exc.boxed_type is exc.src_type is errors.StreamOverrun
    assert pickle.loads(pickle.dumps(exc)).sender == CHILD


def test_msg_type_error_from_decode() -> None:
    cause = ValueError("Expected `int`")
    exc = errors.MsgTypeError.from_decode("bad", Yield(7, "x"), src_exc=cause)
    assert exc.bad_msg == Yield(7, "x")
    assert exc.bad_msg_as_dict == {"msg_type": "Yield", "cid": 7, "pld": "x"}
    assert (exc.expected_msg_type, exc.cid, exc.__cause__) == (Yield, 7, cause)
    twin = pickle.loads(pickle.dumps(exc))
    assert (twin.bad_msg, twin.cid) == (exc.bad_msg, 7)


def test_msg_type_error_without_its_message() -> None:
    exc = errors.MsgTypeError("bad", cid=3)
    assert (exc.bad_msg, exc.bad_msg_as_dict, exc.expected_msg_type) == (None, None, None)
    assert exc.cid == 3
    assert exc.boxed_type is msgspec.ValidationError
    assert exc.src_type is errors.MsgTypeError
    assert errors.MsgTypeError.from_decode("bad", boxed_type=TypeError).boxed_type is TypeError


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("ValueError", ValueError),
        ("KeyboardInterrupt", KeyboardInterrupt),
        ("BdbQuit", bdb.BdbQuit),
        ("Cancelled", trio.Cancelled),
        ("TransportClosed", errors.TransportClosed),
        ("AppError", None),
        ("int", None),
        ("print", None),
        ("", None),
    ],
)
def test_get_err_type(name: str, cls: type | None) -> None:
    assert errors.get_err_type(name) is cls


@pytest.mark.usefixtures("clean_registry")
def test_registered_types_are_found() -> None:
    errors.reg_err_types([AppError])
    assert errors.get_err_type("AppError") is AppError
    assert registry.find_err_type("AppError", f"{__name__}:AppError") is AppError
    assert registry.find_err_type("AppError", "where_the_peer_has_it:AppError") is AppError


@pytest.mark.usefixtures("clean_registry")
def test_registering_something_else_registers_nothing() -> None:
    with pytest.raises(TypeError, match="int"):
        errors.reg_err_types([AppError, int])  # type: ignore[list-item]
    assert errors.get_err_type("AppError") is None


@pytest.mark.usefixtures("clean_registry")
def test_registered_name_does_not_hide_another_qualified_one() -> None:
    mine = type("ValueError", (Exception,), {"__module__": "mine"})
    errors.reg_err_types([mine])
    assert registry.find_err_type("ValueError", "builtins:ValueError") is ValueError
    assert registry.find_err_type("ValueError", "mine:ValueError") is mine


def module(name: str, monkeypatch: pytest.MonkeyPatch, **members: object) -> ModuleType:
    mod = ModuleType(name)
    vars(mod).update(members)
    monkeypatch.setitem(sys.modules, name, mod)
    return mod


def test_type_of_an_enabled_module(monkeypatch: pytest.MonkeyPatch) -> None:
    class Outer:
        class Inner(Exception):
            pass

    mod = module("enabled_mod", monkeypatch, AppError=AppError, Outer=Outer, other=registry)
    find = registry.find_err_type
    assert find("AppError", "enabled_mod:AppError", ["enabled_mod"]) is AppError
    assert find("Inner", "enabled_mod:Outer.Inner", ["enabled_mod"]) is Outer.Inner
    assert find("AppError", "enabled_mod:AppError") is None
    # No way leads on through a module that an enabled one happens to have imported.
    mod.other.AppError = AppError
    try:
        assert find("AppError", "enabled_mod:other.AppError", ["enabled_mod"]) is None
    finally:
        del mod.other.AppError


def test_finding_a_type_imports_and_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    module("lazy_mod", monkeypatch, __getattr__=asked.append)
    assert registry.find_err_type("X", "lazy_mod:X", ["lazy_mod"]) is None
    assert not asked
    assert "this" not in sys.modules
    assert registry.find_err_type("X", "this:X", ["this"]) is None
    assert "this" not in sys.modules


def test_main_module_goes_by_both_names(monkeypatch: pytest.MonkeyPatch) -> None:
    module("__mp_main__", monkeypatch, AppError=AppError)
    find = registry.find_err_type
    for name in ("__main__", "__mp_main__"):
        assert find("AppError", f"{name}:AppError", ["__mp_main__"]) is AppError
        assert find("AppError", f"{name}:AppError", ["other"]) is None


@pytest.mark.parametrize(
    "path",
    [
        "elsewhere:ValueError",
        "builtins:nothing",
        "builtins:int",
        "trio:socket.gaierror",
        "os:error",
        "ValueError",
        ":",
        "builtins:",
        "trio:Cancelled.__class__",
        "m:f.<locals>.E",
    ],
)
def test_qualified_name_that_leads_nowhere(path: str) -> None:
    assert registry.find_err_type("ValueError", path) is None


def test_types_of_trio_and_tractor_by_qualified_name() -> None:
    assert registry.find_err_type("Cancelled", "trio:Cancelled") is trio.Cancelled
    assert registry.find_err_type("NoRuntime", "tractor:NoRuntime") is errors.NoRuntime
    assert registry.find_err_type("BdbQuit", "bdb:BdbQuit") is bdb.BdbQuit
