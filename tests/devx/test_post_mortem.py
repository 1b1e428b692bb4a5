"""Post-mortems: for which errors, once, and in which order through a tree."""

from __future__ import annotations

import bdb
from functools import partial
from typing import Any

import ep_repl
import pytest
import trio
from repl_tree import MODULES, Results, tree, until, until_asked
from repl_user import User

import tractor
from tractor.address._types import UnwrappedAddress
from tractor.devx.debug._post_mortem import is_crash
from tractor.msg.types import Error
from tractor.trionics._groups import the_one_error

pytestmark = pytest.mark.usefixtures("forked_actors")


def cancelled() -> BaseException:
    """A `trio.Cancelled`, which only trio can make."""
    found: list[BaseException] = []

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as exc:
                found.append(exc)
                raise

    trio.run(main)
    return found[0]


def boxed(name: str, path: str) -> tractor.RemoteActorError:
    """An error of another actor."""
    uid = ("kid", "1")
    message = Error(
        src_uid=uid,
        src_type_str=name,
        boxed_type_str=name,
        src_type_path=path,
        boxed_type_path=path,
        cid=1,
    )
    return tractor.RemoteActorError("it", ipc_msg=message)


CANCELLED = cancelled()
QUIET: list[BaseException] = [
    CANCELLED,
    tractor.ContextCancelled("it", canceller=("a", "b")),
    KeyboardInterrupt(),
    bdb.BdbQuit(),
    tractor.TransportClosed("it"),
    boxed("Cancelled", "trio:Cancelled"),
    BaseExceptionGroup("all quiet", [CANCELLED, BaseExceptionGroup("in", [bdb.BdbQuit()])]),
    BaseExceptionGroup("mixed", [CANCELLED, KeyboardInterrupt()]),
]
LOUD: list[BaseException] = [
    ValueError("it"),
    SystemExit(1),
    boxed("ValueError", "builtins:ValueError"),
    boxed("BdbQuit", "bdb:BdbQuit"),
    tractor.ActorFailure(uid=("a", "b"), returncode=-9),
    tractor.StreamOverrun("it"),
    tractor.MsgTypeError("it"),
    BaseExceptionGroup("with one", [CANCELLED, ValueError("it")]),
    BaseExceptionGroup("deep", [BaseExceptionGroup("in", [CANCELLED, KeyError("it")])]),
]


@pytest.mark.parametrize("exc", QUIET, ids=lambda exc: type(exc).__name__)
def test_no_crash(exc: BaseException) -> None:
    assert not is_crash(exc)


@pytest.mark.parametrize("exc", LOUD, ids=lambda exc: type(exc).__name__)
def test_a_crash(exc: BaseException) -> None:
    assert is_crash(exc)


@pytest.mark.parametrize(
    "exc",
    # A cancellation that no scope has asked for ends trio itself.
    [exc for exc in (*QUIET, *LOUD) if exc is not CANCELLED],
    ids=lambda exc: type(exc).__name__,
)
def test_a_roots_block(user: User, exc: BaseException) -> None:
    """Whatever it ends with leaves it as itself, with a REPL before where it is a crash."""

    async def main() -> None:
        async with tractor.open_root_actor(debug_mode=True, maybe_enable_greenback=False):
            raise exc

    with pytest.raises(BaseException) as info:  # noqa: PT011
        trio.run(main)
    # A group that holds one error beside cancellations is that error.
    one = the_one_error(exc)
    assert info.value is one
    assert [prompt["error"] for prompt in user.prompts] == (
        [type(exc).__name__] if is_crash(exc) else []
    )


def test_what_is_printed(user: User, capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(debug_mode=True, maybe_enable_greenback=False):
            raise ValueError("the text")

    with pytest.raises(ValueError, match="the text"):
        trio.run(main)
    printed = capfd.readouterr().err.partition("Opening a pdb REPL in crashed actor\n")[2]
    lines = [line for line in printed.split("\n") if line]
    assert lines[0] == "x>("
    assert lines[1].startswith(" |_ <Task ")
    assert "> @ ('root', '" in lines[1]
    assert lines[2] == "Traceback (most recent call last):"
    assert "ValueError: the text" in lines


@pytest.mark.parametrize("depth", [0, 2])
def test_up_the_tree_root_last(user: User, reg_addr: UnwrappedAddress, depth: int) -> None:
    """Where it was raised, then at each parent with the boxed error; each once."""

    async def main() -> None:
        async with tree(registry_addrs=[reg_addr]) as an:
            if depth:
                what: dict[str, Any] = {"depth": depth, "what": "crash"}
                await an.run_in_actor(ep_repl.below, name="top", **what)
            else:
                await an.run_in_actor(ep_repl.crash, name="top")

    with pytest.raises(tractor.RemoteActorError, match="boom") as info:
        trio.run(main)
    assert info.value.src_type is ValueError
    actors = ["bottom_crash", "level2", "top", "root"] if depth else ["top", "root"]
    assert user.actors == actors
    errors = [prompt["error"] for prompt in user.prompts]
    assert errors == ["ValueError", *["RemoteActorError"] * (len(actors) - 1)]
    assert user.prompts[0]["function"] == "crash"


def test_siblings_in_order_of_asking(user: User) -> None:
    """Both fail; the root's own comes last and has both."""

    async def main() -> None:
        let_go = user.keep_next()
        async with tree() as an:
            await an.run_in_actor(ep_repl.crash, name="ann", text="first")
            await until_asked(1)
            await an.run_in_actor(ep_repl.crash, name="ben", text="second")
            await until_asked(2)
            let_go()

    with pytest.raises(BaseExceptionGroup) as info:
        trio.run(main)
    assert user.actors == ["ann", "ben", "root"]
    texts = {str(exc) for exc in info.value.exceptions}
    assert len(texts) == 2


def test_a_post_mortem_by_hand_does_not_count(user: User) -> None:
    async def main() -> None:
        async with tree() as an:
            ann = await an.start_actor("ann", enable_modules=MODULES)
            try:
                await ann.run(ep_repl.manual_then_crash)
            except tractor.RemoteActorError:
                await tractor.post_mortem()
                raise

    with pytest.raises(tractor.RemoteActorError):
        trio.run(main)
    assert user.actors == ["ann", "ann", "root", "root"]


def test_one_error_that_crosses_many_scopes_opens_once(user: User) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(debug_mode=True, maybe_enable_greenback=False) as actor:
            error = ValueError("it")
            for _ in range(2):
                try:
                    raise error
                except ValueError as exc:
                    await actor.hooks.on_crash(exc)
            group = BaseExceptionGroup("it again", [error])
            try:
                raise group
            except BaseExceptionGroup as exc:
                await actor.hooks.on_crash(exc)
            assert len(user.prompts) == 1
            raise BaseExceptionGroup("and another", [error, KeyError("new")])

    with pytest.raises(BaseExceptionGroup):
        trio.run(main)
    assert [prompt["error"] for prompt in user.prompts] == ["ValueError", "ExceptionGroup"]


def test_the_filter_decides_in_the_root(user: User) -> None:
    async def main(exc: Exception) -> None:
        def only_keys(exc: BaseException) -> bool:
            return isinstance(exc, KeyError)

        async with tractor.open_root_actor(
            debug_mode=True, maybe_enable_greenback=False, debug_filter=only_keys
        ):
            raise exc

    for exc in (ValueError("no"), KeyError("yes")):
        with pytest.raises(type(exc)):
            trio.run(main, exc)
    assert [prompt["error"] for prompt in user.prompts] == ["KeyError"]


def test_a_filter_that_fails_hides_no_error(user: User) -> None:
    def broken(exc: BaseException) -> bool:
        raise KeyError("the filter")

    async def main() -> None:
        async with tractor.open_root_actor(
            debug_mode=True, maybe_enable_greenback=False, debug_filter=broken
        ):
            raise ValueError("the error")

    with pytest.raises(ValueError, match="the error"):
        trio.run(main)
    assert user.prompts == []


def test_a_context_that_fails_and_one_that_is_cancelled(user: User) -> None:
    async def main() -> None:
        async with tree() as an:
            ann = await an.start_actor("ann", enable_modules=MODULES)
            with pytest.raises(tractor.RemoteActorError, match="in a context"):
                async with ann.open_context(ep_repl.context_crash) as (ctx, _):
                    await ctx.wait_for_result()
            assert user.actors == ["ann"]
            async with ann.open_context(ep_repl.context_pause) as (ctx, _):
                await ctx.wait_for_result()
            let_go = user.keep_next()
            async with trio.open_nursery() as tn:
                # Somebody else has it, so that the context only waits for it when it is cancelled.
                ben = await an.start_actor("ben", enable_modules=MODULES)
                tn.start_soon(ben.run, ep_repl.pause)
                await until_asked(1)
                async with ann.open_context(ep_repl.context_pause) as (ctx, _):
                    await until_asked(2)
                    await ctx.cancel()
                await until_asked(1)
                let_go()
            await an.cancel()

    trio.run(main)
    assert user.actors == ["ann", "ann", "ben"]


def test_a_module_that_is_not_exposed_opens_at_the_callers_only(user: User) -> None:
    async def main() -> None:
        async with tree() as an:
            ann = await an.start_actor("ann")
            await ann.run(ep_repl.pid)

    with pytest.raises(tractor.RemoteActorError) as info:
        trio.run(main)
    assert info.value.src_type is tractor.ModuleNotExposed
    assert user.actors == ["root"]


def test_an_error_on_the_way_out_of_a_cancelled_actor_is_a_crash(user: User) -> None:
    """Whatever the cancellation does meanwhile: it waits."""

    async def main() -> None:
        async with tree() as an:
            ann = await an.start_actor("ann", enable_modules=MODULES)
            async with trio.open_nursery() as tn:
                tn.start_soon(partial(Results().keep, "ann", ann.run, ep_repl.raise_after_nap))
                await ann.run(ep_repl.pid)
                await an.cancel()
                tn.cancel_scope.cancel()

    trio.run(main)
    assert user.actors == ["ann"]


def test_a_refused_post_mortem_lets_the_error_go_on(user: User) -> None:
    """The program goes on where the terminal can't be had."""

    async def main() -> None:
        async with tree() as an, trio.open_nursery() as tn:
            let_go = user.keep_next()
            results = Results()
            ann = await an.start_actor("ann", enable_modules=MODULES)
            ben = await an.start_actor("ben", enable_modules=MODULES)
            tn.start_soon(partial(results.keep, "ann", ann.run, ep_repl.pause))
            await until_asked(1)
            tractor.current_actor().cancel_soon()
            tn.start_soon(partial(results.keep, "ben", ben.run, ep_repl.crash))
            await until(lambda: "ben" in results)
            assert isinstance(results["ben"], tractor.RemoteActorError)
            let_go()
            await trio.sleep_forever()

    trio.run(main)
    assert user.actors == ["ann"]


@pytest.mark.parametrize("shield", [True, False])
def test_by_hand_in_a_cancelled_scope(
    user: User, shield: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(debug_mode=True, maybe_enable_greenback=False):
            with trio.CancelScope() as scope:
                scope.cancel()
                try:
                    raise ValueError
                except ValueError:
                    await tractor.post_mortem(shield=shield)
                await trio.lowlevel.checkpoint()
            assert scope.cancelled_caught

    trio.run(main)
    assert len(user.prompts) == shield
    assert ("await tractor.post_mortem(shield=True)" in capfd.readouterr().err) is not shield


def test_by_hand_needs_an_error_or_a_traceback(user: User) -> None:
    async def main() -> None:
        with pytest.raises(tractor.NoRuntime):
            await tractor.post_mortem()
        async with tractor.open_root_actor(debug_mode=True, maybe_enable_greenback=False):
            with pytest.raises(RuntimeError, match="found no error"):
                await tractor.post_mortem()
            try:
                raise ValueError
            except ValueError as exc:
                tb = exc.__traceback__
            await tractor.post_mortem(tb=tb)

    trio.run(main)
    assert [(prompt["kind"], prompt["error"]) for prompt in user.prompts] == [("crash", None)]
