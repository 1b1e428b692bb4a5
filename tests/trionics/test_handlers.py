# ruff: noqa: E722
# A bare `except:` is one of the cases.
"""Errors that were caught are told from those that are lost: by the code of the frame that handles them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest
import trio

from tractor.trionics._masking import maybe_raise_from_masking_exc, unmasked

Case = Callable[[], Awaitable[Any]]


def fail(text: str = "the error") -> None:
    raise ValueError(text)


async def wait() -> None:
    """Where the cancellation comes."""
    await trio.sleep_forever()


# -- lost: a clean-up was cancelled while the error was on its way --


async def in_finally() -> None:
    try:
        fail()
    finally:
        await wait()


async def raised_in_the_frame_itself() -> None:
    try:
        raise ValueError("the error")
    finally:
        await wait()


async def in_finally_with_a_try() -> None:
    try:
        fail()
    finally:
        try:
            await wait()
        except KeyError:
            pass
        finally:
            len("")


async def in_finally_in_a_loop() -> None:
    for _ in range(3):
        while True:
            try:
                fail()
            finally:
                for _ in range(2):
                    await wait()


async def in_aexit() -> None:
    class Manager:
        async def __aenter__(self) -> None: ...
        async def __aexit__(self, *exc: object) -> None:
            await wait()

    async with Manager():
        fail()


async def in_a_generators_finally() -> None:
    @asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await wait()

    async with manager():
        fail()


async def below_another_manager() -> None:
    @asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        yield

    with suppress(KeyError):
        async with manager():
            await in_a_generators_finally()


async def in_an_exit_stack() -> None:
    async with AsyncExitStack() as stack:
        stack.push_async_callback(wait)
        fail()


async def raised_again() -> None:
    try:
        fail()
    except ValueError:
        await wait()
        raise


async def raised_again_with_a_name() -> None:
    try:
        fail()
    except (KeyError, ValueError) as exc:
        if exc.args:
            await wait()
        raise


async def raised_again_by_bare_except() -> None:
    try:
        fail()
    except:
        await wait()
        raise


async def after_another_was_handled() -> None:
    try:
        fail()
    finally:
        try:
            raise KeyError("handled")
        except KeyError:
            await wait()


async def after_another_was_handled_below() -> None:
    try:
        fail()
    finally:
        await caught()


async def in_a_finally_that_is_in_an_except() -> None:
    try:
        raise KeyError("handled")
    except KeyError:
        await in_finally()


async def in_a_group() -> None:
    try:
        async with trio.open_nursery():
            fail()
    finally:
        await wait()


# -- caught: the error was being handled --


async def caught() -> None:
    try:
        raise KeyError("handled")
    except KeyError:
        await wait()


async def caught_from_below() -> None:
    try:
        fail()
    except ValueError:
        await wait()


async def caught_with_a_name() -> None:
    try:
        fail()
    except ValueError as exc:
        for _ in exc.args:
            await wait()


async def caught_by_bare_except() -> None:
    try:
        fail()
    except:
        await wait()


async def caught_by_the_second_clause() -> None:
    try:
        fail()
    except KeyError:
        raise
    except (OSError, ValueError):
        await wait()


async def caught_of_a_group() -> None:
    try:
        async with trio.open_nursery():
            fail()
    except* ValueError:
        await wait()


async def tried_again() -> None:
    while True:
        try:
            fail()
        except ValueError as exc:
            delay = len(exc.args)
            async with trio.open_nursery() as tn:
                tn.start_soon(trio.sleep, delay * 100)
                await wait()


async def caught_with_a_try_inside() -> None:
    try:
        fail()
    except ValueError:
        try:
            await wait()
        finally:
            len("")


async def caught_with_a_with_inside() -> None:
    try:
        fail()
    except ValueError:
        with suppress(KeyError):
            async with AsyncExitStack():
                await wait()


async def both_caught() -> None:
    try:
        fail()
    except ValueError:
        try:
            raise KeyError("handled, too")
        except KeyError:
            await wait()


async def caught_in_a_generator() -> None:
    @asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        try:
            yield
        except ValueError:
            await wait()

    async with manager():
        fail()


LOST: list[Case] = [
    in_finally,
    raised_in_the_frame_itself,
    in_finally_with_a_try,
    in_finally_in_a_loop,
    in_aexit,
    in_a_generators_finally,
    below_another_manager,
    in_an_exit_stack,
    raised_again,
    raised_again_with_a_name,
    raised_again_by_bare_except,
    after_another_was_handled,
    after_another_was_handled_below,
    in_a_finally_that_is_in_an_except,
]
CAUGHT: list[Case] = [
    caught,
    caught_from_below,
    caught_with_a_name,
    caught_by_bare_except,
    caught_by_the_second_clause,
    caught_of_a_group,
    tried_again,
    caught_with_a_try_inside,
    caught_with_a_with_inside,
    both_caught,
    caught_in_a_generator,
]


def cancelled(case: Case) -> BaseException | None:
    """Cancel what waits in *case*; what the helper raises, or its absence."""

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            async with maybe_raise_from_masking_exc():
                await case()

    try:
        trio.run(main)
    except BaseException as exc:
        return exc
    return None


@pytest.mark.parametrize("case", LOST)
def test_what_is_lost_is_raised(case: Case) -> None:
    error = cancelled(case)
    assert isinstance(error, ValueError)
    assert str(error) == "the error"


def test_a_lost_group_is_raised() -> None:
    error = cancelled(in_a_group)
    assert isinstance(error, ExceptionGroup)
    assert isinstance(error.exceptions[0], ValueError)


@pytest.mark.parametrize("case", CAUGHT)
def test_what_is_handled_is_not(case: Case) -> None:
    assert cancelled(case) is None


def test_an_error_that_is_handled_around_the_block_is_none_of_its_business() -> None:
    async def block() -> None:
        async with maybe_raise_from_masking_exc():
            await wait()

    async def handled() -> None:
        try:
            fail()
        except ValueError:
            await block()

    async def on_its_way() -> None:
        try:
            fail()
        finally:
            await block()

    async def main(case: Case) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await case()

    trio.run(main, handled)
    # It is still to be lost further out, and so it is found there.
    trio.run(main, on_its_way)
    assert isinstance(cancelled(on_its_way), ValueError)
    assert cancelled(handled) is None


def test_errors_without_a_traceback_are_taken_for_lost() -> None:
    cancellation = KeyboardInterrupt()
    cancellation.__context__ = error = ValueError("set by hand")
    assert unmasked(cancellation, (KeyboardInterrupt,)) is error


def test_a_context_set_by_hand_is_taken_for_lost() -> None:
    found: list[BaseException] = []

    @contextmanager
    def kept(kind: type[BaseException]) -> Any:
        try:
            yield
        except kind as exc:
            found.append(exc)

    with kept(ValueError):
        fail()
    with kept(KeyboardInterrupt):
        raise KeyboardInterrupt
    error, interrupt = found
    interrupt.__context__ = error
    assert unmasked(interrupt, (KeyboardInterrupt,)) is error
