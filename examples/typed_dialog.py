"""A dialog whose types a checker knows, on both sides.

What to learn:

- `tractor.Context[First, Send, Receive]` names what an endpoint starts with, sends and receives. Its opener sees the
  same dialog from the other side: mypy and pyright know `first`, `stream.receive()` and the result.
- `pld_spec` is what the runtime checks. One spec holds for all payloads of the dialog, in both directions, so it is the
  union of all their types; structs in a union need tags.
- A wrong message ends its own dialog: the reader gets the `MsgTypeError`, the sender is told.
"""

from __future__ import annotations

import msgspec
import trio

import tractor


class Opened(msgspec.Struct, tag=True):
    """The first value: an account has been opened."""

    owner: str


class Deposit(msgspec.Struct, tag=True):
    """A command."""

    amount: int


class Withdraw(msgspec.Struct, tag=True):
    """Another command."""

    amount: int


class Balance(msgspec.Struct, tag=True):
    """What answers a command."""

    amount: int
    refused: bool = False


class Statement(msgspec.Struct, tag=True):
    """The result."""

    owner: str
    balance: int
    moves: list[int]


Command = Deposit | Withdraw


@tractor.context(pld_spec=Opened | Deposit | Withdraw | Balance | Statement)
async def account(ctx: tractor.Context[Opened, Balance, Command], owner: str) -> Statement:
    """Keep an account until the commands end."""
    await ctx.started(Opened(owner))
    moves: list[int] = []
    async with ctx.open_stream() as commands:
        async for command in commands:
            move = command.amount if isinstance(command, Deposit) else -command.amount
            refused = sum(moves) + move < 0
            if not refused:
                moves.append(move)
            await commands.send(Balance(sum(moves), refused))
    return Statement(owner, sum(moves), moves)


async def use(portal: tractor.Portal) -> None:
    """Give three commands; no value here needs a cast, nor an `isinstance`."""
    async with portal.open_context(account, owner="ada") as (ctx, opened):
        print(f"opened for {opened.owner}")
        async with ctx.open_stream() as commands:
            for command in (Deposit(50), Withdraw(80), Withdraw(20)):
                await commands.send(command)
                balance = await commands.receive()
                print(f"{command}: {balance.amount}{' (refused)' if balance.refused else ''}")
        statement = await ctx.wait_for_result()
    print(f"{statement.owner} leaves with {statement.balance}, after {statement.moves}")


async def misuse(portal: tractor.Portal) -> None:
    """Send what is not a command; a type checker would not let this pass."""
    wrong: object = {"withdraw": "all"}
    try:
        async with (
            portal.open_context(account, owner="eve") as (ctx, _),
            ctx.open_stream() as commands,
        ):
            await commands.send(wrong)  # type: ignore[arg-type]
            await commands.receive()
    except tractor.MsgTypeError as error:
        print(f"refused by {error.src_uid[0] if error.src_uid else 'us'}: {error.bad_msg_as_dict}")


async def main() -> None:
    """Use an account well, and badly."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("bank", enable_modules=[__name__])
        await use(portal)
        await misuse(portal)
        await portal.cancel_actor()


if __name__ == "__main__":
    trio.run(main)
