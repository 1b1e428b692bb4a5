"""Exceptions into messages and back."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tractor import _exceptions as errors
from tractor.msg import _boxing, mk_codec, mk_dec, validate_payload_msg
from tractor.msg.types import Aid, Error, Started, Stop, Yield

A, B, C = ("a", "uuid-a"), ("b", "uuid-b"), ("c", "uuid-c")
codec = mk_codec()


class Kept(Exception):
    """Unknown where no module of it is enabled."""


def raised(exc: BaseException) -> BaseException:
    """``exc`` with a traceback."""
    try:
        raise exc
    except BaseException as caught:
        return caught


def send(exc: BaseException, uid: tuple[str, str], **kwargs: Any) -> errors.RemoteActorError:
    """``exc`` as the next actor gets it from ``uid``."""
    message = codec.decode(codec.encode(errors.pack_error(exc, 3, uid, **kwargs)))
    received = errors.unpack_error(message)
    assert received is not None
    return received


def test_plain_error() -> None:
    exc = send(raised(ValueError("it is bad")), A)
    assert type(exc) is errors.RemoteActorError
    assert exc.boxed_type is exc.src_type is ValueError
    assert exc.message == "it is bad"
    assert exc.relay_path == [A]
    assert exc.sender == A
    assert "in raised" in exc.tb_str
    begin, _, place = str(exc).splitlines()[0].partition("  ")
    assert begin == f"ValueError in a@{os.getpid()}: it is bad"
    assert re.fullmatch(r"test_boxing\.py:\d+ in raised\(\)", place)
    assert exc.ipc_msg is not None
    assert exc.ipc_msg.cid == 3


def test_traceback_text_and_message_can_be_given() -> None:
    tb = raised(KeyError()).__traceback__
    assert "in raised" in errors.pack_error(ValueError(), tb=tb).tb_str
    message = errors.pack_error(raised(ValueError("x")), tb_str="told", message="said")
    assert (message.tb_str, message.message) == ("told", "said")


def test_frames_of_the_runtime_that_called_the_users_code_are_left_out() -> None:
    def called_by(module: str, fail: Callable[[], object]) -> BaseException:
        """What ``fail`` raises, called from a module of that name."""
        caller: dict[str, Any] = {"__name__": module}
        exec("def the_caller(fail): fail()", caller)
        with pytest.raises(BaseException) as caught:  # noqa: PT011
            caller["the_caller"](fail)
        exc = caught.value
        assert exc.__traceback__ is not None
        return exc.with_traceback(exc.__traceback__.tb_next)

    def users() -> None:
        raise ValueError("it")

    for module in ("tractor.runtime.dialog._callee", "trio._core._run"):
        text = errors.pack_error(called_by(module, users)).tb_str
        assert "in users" in text
        assert "the_caller" not in text
    assert "the_caller" in errors.pack_error(called_by("tractors", users)).tb_str
    # An error of the runtime itself.
    text = errors.pack_error(called_by("tractor.runtime.dialog._callee", None)).tb_str  # type: ignore[arg-type]
    assert "the_caller" in text
    assert "TypeError" in text


def test_source_is_empty_where_not_said() -> None:
    message = errors.pack_error(ValueError("x"))
    assert message.src_uid == ("", "")
    assert message.relay_path == [("", "")]
    assert message.cid is None


def test_no_error_message_unpacks_to_nothing() -> None:
    assert errors.unpack_error(Stop(1)) is None
    assert errors.unpack_error(None) is None


def test_peer_is_the_sender_where_the_message_names_none() -> None:
    class Chan:
        aid = Aid(*B)

    message = errors.pack_error(ValueError("x"), src_uid=A)
    message.sender = None
    exc = errors.unpack_error(message, Chan())
    assert exc is not None
    assert exc.sender == B


def test_inception_keeps_the_source() -> None:
    first = send(raised(ValueError("deep")), A)
    second = send(first, B)
    third = send(second, C)
    assert not first.is_inception()
    for exc, path in ((second, [A, B]), (third, [A, B, C])):
        assert type(exc) is errors.RemoteActorError
        assert exc.is_inception()
        assert exc.boxed_type is errors.RemoteActorError
        assert exc.src_type is ValueError
        assert (exc.src_uid, exc.relay_uid, exc.sender) == (A, path[-1], path[-1])
        assert exc.relay_path == path
        assert (exc.message, exc.tb_str) == (first.message, first.tb_str)
        assert type(exc.unwrap()) is ValueError


def test_each_actor_adds_its_step_to_the_trail() -> None:
    first = send(raised(ValueError("deep")), A)
    first.note_caller("mid() at /x/y.py:9")
    second = send(first, B)
    assert second.ipc_msg is not None
    (_, raised_at), step = second.ipc_msg.trail
    assert "in raised()" in raised_at
    assert step == (os.getpid(), "mid() at /x/y.py:9")
    # One that has told of no step is left its place.
    second.ipc_msg.trail.pop()
    third = send(second, C)
    assert third.ipc_msg is not None
    assert [pid for pid, _ in third.ipc_msg.trail] == [os.getpid(), 0, os.getpid()]


def test_the_place_is_the_users_own() -> None:
    library: dict[str, Any] = {"__name__": "trio._x", "trio": trio}
    exec("def closed(): raise trio.ClosedResourceError", library)
    with pytest.raises(trio.ClosedResourceError) as caught:
        library["closed"]()
    assert "test_boxing.py" in str(send(caught.value, A)).splitlines()[0]
    assert str(send(ValueError("never raised"), A)).splitlines()[0].endswith("never raised")


def test_a_group_matches_its_members() -> None:
    """Also those that came from further actors, and what they derive from."""
    far = send(raised(ExceptionGroup("far", [Kept("x")])), B)
    exc = send(raised(ExceptionGroup("many", [ExceptionGroup("in", [KeyError("one")]), far])), A)
    assert exc.matches(KeyError)
    assert exc.matches(LookupError)
    assert exc.matches(Kept)
    assert exc.matches(ExceptionGroup)
    assert not exc.matches(OSError)
    relayed = send(exc, C)
    assert relayed.matches(KeyError)


def test_very_deep_inception() -> None:
    exc: BaseException = raised(ValueError("deep"))
    for hop in range(300):
        exc = send(exc, (str(hop), ""))
    assert isinstance(exc, errors.RemoteActorError)
    assert len(exc.relay_path) == 300
    assert exc.src_type is ValueError
    assert str(pickle.loads(pickle.dumps(exc))) == str(exc)


def test_wrapping_a_remote_error_is_an_error_of_ones_own() -> None:
    inner = send(raised(ValueError("deep")), A)
    try:
        raise KeyError("outer") from inner
    except KeyError as exc:
        outer = send(exc, B)
    assert (outer.src_type, outer.src_uid) == (KeyError, B)
    assert not outer.is_inception()
    assert "remote task raised a 'ValueError'" in outer.tb_str


def test_cancelled_task() -> None:
    async def main() -> BaseException:
        received: BaseException | None = None
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as exc:
                received = send(exc, A, canceller=C, message="cancelled by a remote peer")
                raise
        assert received is not None
        return received

    exc = trio.run(main)
    assert type(exc) is errors.ContextCancelled
    assert exc.boxed_type is exc.src_type is trio.Cancelled
    assert (exc.canceller, exc.message) == (C, "cancelled by a remote peer")


def test_context_cancelled_of_ones_own() -> None:
    exc = send(errors.ContextCancelled("itself", canceller=A), A)
    assert type(exc) is errors.ContextCancelled
    assert (exc.boxed_type_str, exc.canceller) == ("Cancelled", A)


def test_relayed_context_cancelled_is_an_inception() -> None:
    ctxc = send(errors.ContextCancelled("by third", canceller=C), A)
    exc = send(ctxc, B)
    assert type(exc) is errors.RemoteActorError
    assert exc.boxed_type is errors.RemoteActorError
    assert exc.src_type is trio.Cancelled
    assert exc.canceller == C


@pytest.mark.parametrize("name", ["MsgTypeError", "StreamOverrun"])
def test_special_types_arrive_as_themselves_once(name: str) -> None:
    cls = getattr(errors, name)
    exc = send(raised(cls("oh", sender=C)), A)
    assert type(exc) is cls
    assert exc.src_type is cls
    assert exc.boxed_type is (msgspec.ValidationError if name == "MsgTypeError" else cls)
    assert not exc.is_inception()
    assert exc.sender == C
    relayed = send(exc, B)
    assert type(relayed) is errors.RemoteActorError
    assert (relayed.boxed_type, relayed.src_type) == (errors.RemoteActorError, cls)


def test_relayed_overrun_still_names_who_sent_too_fast() -> None:
    exc = send(send(errors.StreamOverrun("oh", sender=C), A), B)
    assert exc.sender == C


def test_application_that_builds_a_remote_error_itself() -> None:
    exc = send(raised(errors.RemoteActorError("made up")), A)
    assert exc.boxed_type is exc.src_type is errors.RemoteActorError
    assert not exc.is_inception()
    assert exc.message == "made up"


def bad_payload(value: object) -> errors.MsgTypeError:
    error = validate_payload_msg(Started(5, value), value, mk_dec(str), raise_mte=False)
    assert error is not None
    return error


def test_bad_message_travels() -> None:
    exc = send(bad_payload([1, 2]), A)
    assert isinstance(exc, errors.MsgTypeError)
    assert exc.expected_msg_type is Started
    assert exc.bad_msg_as_dict == {"msg_type": "Started", "cid": 5, "pld": [1, 2]}
    assert (exc.bad_msg.cid, msgspec.msgpack.decode(exc.bad_msg.pld)) == (5, [1, 2])
    assert "does not match type-spec `Started.pld: str`" in str(exc)
    twin = pickle.loads(pickle.dumps(exc))
    assert twin.bad_msg_as_dict == exc.bad_msg_as_dict


def test_unencodable_bad_message_travels_as_text() -> None:
    exc = send(bad_payload(object()), A)
    assert isinstance(exc, errors.MsgTypeError)
    assert exc.bad_msg is None
    assert exc.bad_msg_as_dict is not None
    assert exc.bad_msg_as_dict["pld"].startswith("<object object")
    assert exc.expected_msg_type is Started


def test_large_bad_message_stays_here() -> None:
    exc = errors.pack_error(bad_payload(b"x" * (_boxing.BAD_MSG_BYTES + 1)), src_uid=A)
    assert (exc._bad_msg, exc._bad_msg_as_dict) == (None, None)
    assert len(codec.encode(exc)) < _boxing.BAD_MSG_BYTES


TOO_DEEP = b"\x91" * 200_000 + b"\xc0"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        b"\x93\x06",
        msgspec.msgpack.encode("no message"),
        b"\x93\x06\x01" + TOO_DEEP,
        b"\x96\x03\x01\xa1\xff\xa0\x80\xc0",
    ],
)
def test_garbled_bad_message_does_no_harm(raw: bytes) -> None:
    message = errors.pack_error(bad_payload(1), src_uid=A)
    message._bad_msg, message._bad_msg_as_dict = raw, {"msg_type": "Nonsense"}
    exc = errors.unpack_error(message)
    assert isinstance(exc, errors.MsgTypeError)
    assert exc.bad_msg is exc.expected_msg_type is None


def test_type_of_an_enabled_module_is_found() -> None:
    message = errors.pack_error(AppError("x"), src_uid=A)
    known = errors.unpack_error(message, enabled_modules=[__name__])
    unknown = errors.unpack_error(message)
    assert known is not None
    assert unknown is not None
    assert known.boxed_type is known.src_type is AppError
    assert unknown.boxed_type is unknown.src_type is None
    assert unknown.boxed_type_str == unknown.src_type_str == "AppError"


class AppError(Exception):
    """A type that no receiver knows unless told."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")

    __repr__ = __str__


class Meta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name for you")


class Nameless(Exception, metaclass=Meta):
    pass


class Moduleless(Exception):
    __module__ = None  # type: ignore[assignment]


class EvilText(str):
    def encode(self, *args: object) -> bytes:
        raise RuntimeError("no bytes for you")


class EvilString(Exception):
    def __str__(self) -> str:
        return EvilText("evil")


def local_error() -> BaseException:
    class Local(Exception):
        pass

    return Local("x", object(), lambda: None)


def chained(depth: int) -> BaseException:
    exc: BaseException = ValueError("first")
    for _ in range(depth):
        outer = ValueError("next")
        outer.__cause__ = exc
        exc = outer
    return exc


def nested(depth: int) -> BaseException:
    exc: Exception = ValueError("inmost")
    for _ in range(depth):
        exc = ExceptionGroup("g", [exc])
    return exc


HOSTILE = {
    "unprintable": Unprintable(object()),
    "nameless": Nameless("x"),
    "moduleless": Moduleless("x"),
    "evil text": EvilString(),
    "surrogates": ValueError("\ud800 and \udc80"),
    "surrogate module": type("Bad", (Exception,), {"__module__": "m\udc80"})("x"),
    "local": local_error(),
    "long chain": chained(3000),
    "deep group": nested(300),
    "group": ExceptionGroup("many", [Unprintable(), ValueError("inner")]),
    "system exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
    "own sum": errors.ActorFailure(A, -9, "tail"),
    "unpicklable": ValueError(lambda: None),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_any_error_can_be_boxed(name: str) -> None:
    exc = send(raised(HOSTILE[name]), A)
    assert exc.tb_str
    assert exc.src_type_str
    assert f"remote task raised a {exc.src_type_str!r}" in str(exc)
    assert isinstance(exc.unwrap(), BaseException)
    twin = pickle.loads(pickle.dumps(send(exc, B)))
    assert twin.tb_str == exc.tb_str
    assert twin.relay_path == [A, B]


def test_group_travels_with_its_full_text() -> None:
    exc = send(raised(ExceptionGroup("many", [ValueError("one"), KeyError("two")])), A)
    assert exc.boxed_type is ExceptionGroup
    assert exc.message == "many (2 sub-exceptions)"
    assert "ValueError: one" in exc.tb_str
    assert "KeyError: 'two'" in exc.tb_str


def test_local_class_is_named_but_not_found() -> None:
    exc = send(local_error(), A)
    assert (exc.src_type, exc.src_type_str) == (None, "Local")


def test_error_message_with_names_only() -> None:
    message = Error(src_uid=A, src_type_str="Cancelled", boxed_type_str="Cancelled", canceller=B)
    exc = errors.unpack_error(message)
    assert isinstance(exc, errors.ContextCancelled)
    assert (exc.canceller, exc.relay_path, exc.relay_uid) == (B, [A], A)


uids = st.tuples(st.text(max_size=5), st.text(max_size=5))


@given(
    names=st.tuples(st.text(), st.text(), st.text(), st.text()),
    path=st.lists(uids, max_size=4),
    texts=st.tuples(st.text(), st.text()),
    canceller=st.none() | uids,
    bad=st.none() | st.binary(max_size=20),
)
def test_any_error_message_can_be_unpacked(
    names: tuple[str, str, str, str],
    path: list[tuple[str, str]],
    texts: tuple[str, str],
    canceller: tuple[str, str] | None,
    bad: bytes | None,
) -> None:
    message = Error(
        src_uid=A,
        src_type_str=names[0],
        boxed_type_str=names[1],
        src_type_path=names[2],
        boxed_type_path=names[3],
        relay_path=path,
        message=texts[0],
        tb_str=texts[1],
        canceller=canceller,
        _bad_msg=bad,
    )
    exc = errors.unpack_error(message, enabled_modules=["os", "__main__", names[2]])
    assert exc is not None
    assert exc.src_type_str == names[0]
    assert exc.canceller == canceller
    assert str(exc)
    assert exc.pformat()
    assert errors.pack_error(exc, src_uid=B).relay_path[-1] == B


def test_yield_error_names_its_dialog() -> None:
    exc = send(errors.MsgTypeError.from_decode("bad", Yield(9, 1)), A)
    assert isinstance(exc, errors.MsgTypeError)
    assert exc.bad_msg.cid == 9
    assert exc.expected_msg_type is Yield


def test_big_texts_are_cut_in_the_middle() -> None:
    start, end = "the start ", " the end"
    exc = ValueError(start + "é" * 100_000 + end)
    error = errors.pack_error(raised(exc))
    for text in (error.message, error.tb_str):
        size = len(text.encode())
        assert 64 * 1024 - 256 < size <= 64 * 1024
        assert text.endswith((end, f"{end}\n"))
        (count, total) = re.findall(r"\[\.\.\. (\d+) of (\d+) bytes cut out \.\.\.\]", text)[0]
        assert int(total) - int(count) <= size
    assert error.message.startswith(start)
    assert len((start + end).encode()) + 200_000 == int(
        re.findall(r"of (\d+) bytes", error.message)[0]
    )
    again = send(send(exc, A), B)
    assert again.message == error.message
    # One that just fits is whole.
    assert send(ValueError("x" * 64 * 1024), A).message == "x" * 64 * 1024
