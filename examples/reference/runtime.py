"""What an actor knows of itself, of its tree and of its peers.

What to learn: each of these is at hand wherever code runs in an actor.
"""

import trio

import tractor
from tractor import discovery


@tractor.context
async def look_around(ctx: tractor.Context) -> str:
    """An endpoint knows its dialog, and who started its actor."""
    assert tractor.current_ipc_ctx() is ctx
    state: tractor.ContextState = ctx.state
    await ctx.started(type(state).__name__)
    async with discovery.get_root() as root:
        return await root.run(who_is_here)


async def who_is_here() -> str:
    me: tractor.Actor = tractor.current_actor()
    return f"{me.name}, a registrar: {isinstance(me, tractor.Registrar)}"


async def dialog(an: tractor.ActorNursery) -> None:
    portal = await an.start_actor("scout", enable_modules=[__name__])
    async with portal.open_context(look_around) as (ctx, state):
        print("state:", state)
        print("the root:", await ctx.wait_for_result())


async def peers() -> None:
    """Who is registered by a name, and whom this actor is connected with."""
    async with tractor.query_actor("scout") as found:
        print("found:", found is not None)
    print("connected:", discovery.get_peer_by_name("scout") is not None)
    async with tractor.get_registry() as registry:
        print("the registrar is this one:", isinstance(registry, tractor.LocalPortal))


def variables() -> None:
    """What the whole tree is told."""
    values = tractor.get_runtime_vars()
    print("debug mode:", tractor.debug_mode(), values["_debug_mode"])
    typed = tractor.get_runtime_vars(as_dict=False)
    print("typed:", isinstance(typed, tractor.RuntimeVars))


async def main() -> None:
    async with tractor.open_nursery(enable_modules=[__name__]) as an:
        await dialog(an)
        await peers()
        variables()
        print("files of sockets:", tractor.get_rt_dir().name != "")
        await an.cancel()
    print("the last actor:", tractor.last_actor() is not None)


if __name__ == "__main__":
    trio.run(main)
