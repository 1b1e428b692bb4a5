"""Un-nesting groups, and telling whether only cancellations are inside."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tractor.trionics._groups import collapse_eg, get_collapsed_eg, is_multi_cancelled


def cancelled() -> trio.Cancelled:
    """A real one."""
    caught: list[trio.Cancelled] = []

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as exc:
                caught.append(exc)
                raise

    trio.run(main)
    return caught[0]


def group(*members: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("group", members)


A, B = ValueError("a"), KeyError("b")
SEVERAL = group(A, B)


@pytest.mark.parametrize(
    ("exc", "inner"),
    [
        (A, None),
        (SEVERAL, None),
        (group(A), A),
        (group(group(group(A))), A),
        (group(group(SEVERAL)), SEVERAL),
        (group(A, group(B)), None),
    ],
)
def test_get_collapsed_eg(exc: BaseException, inner: BaseException | None) -> None:
    assert get_collapsed_eg(exc) is inner


async def leave_with(exc: BaseException, **kwargs: Any) -> None:
    async with collapse_eg(**kwargs):
        raise exc


def test_the_member_is_raised_as_it_was() -> None:
    context, cause = OSError("context"), OSError("cause")

    async def fail() -> None:
        try:
            raise context
        except OSError:
            raise LookupError("inner") from cause

    async def main() -> None:
        async with collapse_eg(), trio.open_nursery() as outer, trio.open_nursery():
            outer.start_soon(fail)

    with pytest.raises(LookupError, match="inner") as caught:
        trio.run(main)
    error = caught.value
    assert error.__context__ is context
    assert error.__cause__ is cause
    assert error.__suppress_context__
    assert any(entry.name == "fail" for entry in caught.traceback)
    (note,) = error.__notes__
    assert "taken out of the exception group 'Exceptions from Trio nursery'" in note


def test_a_member_without_context_gets_none() -> None:
    error = ValueError()
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        trio.run(leave_with, group(error))
    assert caught.value is error
    assert error.__context__ is None
    assert error.__cause__ is None


@pytest.mark.parametrize(
    "exc", [ValueError("x"), KeyboardInterrupt(), group(ValueError(), OSError())]
)
def test_others_pass_unchanged(exc: BaseException) -> None:
    with pytest.raises(type(exc)) as caught:
        trio.run(leave_with, exc)
    assert caught.value is exc
    assert not hasattr(exc, "__notes__")


def test_a_group_of_several_inside_is_raised_whole() -> None:
    several = group(ValueError(), OSError())
    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(leave_with, group(several))
    assert caught.value is several


def test_notes_can_be_left_out_and_are_not_repeated() -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="x") as caught:
            async with collapse_eg(add_notes=False), trio.open_nursery():
                raise ValueError("x")
        assert not hasattr(caught.value, "__notes__")
        with pytest.raises(ValueError, match="y") as caught:
            async with collapse_eg(), trio.open_nursery(), collapse_eg(), trio.open_nursery():
                raise ValueError("y")
        assert len(caught.value.__notes__) == 1

    trio.run(main)


def test_ignored_types_are_absorbed_out_of_a_group_only() -> None:
    trio.run(lambda: leave_with(group(ConnectionResetError()), ignore={OSError}))
    with pytest.raises(OSError, match="bare"):
        trio.run(lambda: leave_with(OSError("bare"), ignore={OSError}))
    with pytest.raises(ValueError, match="other"):
        trio.run(lambda: leave_with(group(ValueError("other")), ignore={OSError}))


def test_the_breakpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: calls.append("bp"))
    with pytest.raises(ValueError, match="a"):
        trio.run(lambda: leave_with(group(ValueError("a")), bp=True))
    with pytest.raises(ValueError, match="b"):
        trio.run(lambda: leave_with(ValueError("b"), bp=True))
    assert calls == ["bp"]


def test_a_cancellation_still_reaches_its_scope() -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            async with collapse_eg(), trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                scope.cancel()
        assert scope.cancelled_caught

    trio.run(main)


@pytest.mark.parametrize(
    ("make", "ignored", "only"),
    [
        (lambda c: c, (), True),
        (lambda c: group(c), (), True),
        (lambda c: group(c, group(c, group(c))), (), True),
        (lambda c: ValueError(), (), False),
        (lambda c: ValueError(), (ValueError,), True),
        (lambda c: group(c, ValueError()), (), False),
        (lambda c: group(c, group(ValueError())), (), False),
        (lambda c: group(c, group(ValueError())), (ValueError,), True),
        (lambda c: group(c, ValueError(), OSError()), (ValueError,), False),
        (lambda c: KeyboardInterrupt(), (), False),
    ],
)
def test_is_multi_cancelled(
    make: Callable[[BaseException], BaseException], ignored: tuple[type[Exception]], only: bool
) -> None:
    assert bool(is_multi_cancelled(make(cancelled()), set(ignored))) is only


CANCELLED = cancelled()


@given(
    st.recursive(
        st.booleans(), lambda inner: st.lists(inner, min_size=1, max_size=4), max_leaves=12
    )
)
def test_is_multi_cancelled_on_any_tree(tree: Any) -> None:
    def build(node: Any) -> tuple[BaseException, bool]:
        if isinstance(node, bool):
            return (CANCELLED if node else ValueError()), node
        members = [build(each) for each in node]
        return group(*(exc for exc, _ in members)), all(only for _, only in members)

    exc, only = build(tree)
    assert is_multi_cancelled(exc) is only
