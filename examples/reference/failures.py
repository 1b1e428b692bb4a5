"""Errors: which one says what, and how errors of your own cross processes.

What to learn: what to catch. All of the runtime's own are `RuntimeFailure`.
"""

import trio

import tractor


class OutOfTea(Exception):
    """Of this program."""


def boxed() -> None:
    """An error as a message, and back, as it happens between two actors."""
    tractor.reg_err_types([OutOfTea])
    assert tractor.get_err_type("OutOfTea") is OutOfTea
    message = tractor.pack_error(OutOfTea("none left"))
    error = tractor.unpack_error(message)
    assert isinstance(error, tractor.RemoteActorError)
    print(error.boxed_type_str, error.matches(OutOfTea))


def without_runtime() -> None:
    try:
        tractor.current_actor()
    except tractor.NoRuntime as error:
        print(type(error).__name__)


async def bare() -> str:
    return "tea"


@tractor.context
async def forgetful(ctx: tractor.Context) -> None:
    """It forgets `await ctx.started()`."""


async def not_here(portal: tractor.Portal) -> None:
    try:
        await portal.run_from_ns("no.such.module", "bare")
    except tractor.ModuleNotExposed as error:
        print(type(error).__name__)
    except tractor.RemoteActorError as error:
        print("refused:", error.boxed_type is tractor.ModuleNotExposed)


async def broken_rules(portal: tractor.Portal) -> None:
    try:
        async with portal.open_context(forgetful):
            pass
    except tractor.RemoteActorError as error:
        print("broke a rule:", error.boxed_type is tractor.MessagingError)


async def a_lost_peer(portal: tractor.Portal) -> str:
    """What a caller may want to tell apart."""
    try:
        return await portal.run(bare)
    except tractor.ContextCancelled as error:
        return f"cancelled by {error.canceller}"
    except tractor.StreamOverrun:
        return "too slow for a strict stream"
    except tractor.ActorTooSlowError:
        return "asked to cancel, and did not say so in time"
    except tractor.HostUnavailable:
        return "no road to that host"
    except tractor.HostLost:
        return "the host was cut off, and its actors have ended"
    except tractor.NoResult:
        return "it has ended without a result"
    except tractor.InternalError as error:
        return f"a bug of the runtime: {error}"


async def main() -> None:
    boxed()
    without_runtime()
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("shop", enable_modules=[__name__])
        await not_here(portal)
        await broken_rules(portal)
        print(await a_lost_peer(portal))
        await an.cancel()


if __name__ == "__main__":
    trio.run(main)
