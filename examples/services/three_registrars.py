"""Three registrars as services, of which any two are killed while the application goes on finding its actors.

What to learn:

- `tractor.registrar` is an endpoint like another: a supervisor keeps registrars as it keeps any service.
- `registrar=False` makes the root leave it to them: it binds no registry address, and starts with none of them alive.
- Every actor registers with all three. One alive answers every look-up; one that comes back knows all in 2 s.
"""

import os
import signal
import tempfile

import trio

import tractor


async def quote(symbol: str) -> str:
    """Run in the application's service."""
    return f"{symbol}: 42.00"


async def look_up() -> str:
    """Run in an actor that has no channel to the service: it must ask the registrars."""
    async with tractor.find_actor("quotes", raise_on_none=True) as service:
        assert isinstance(service, tractor.Portal)
        answer: str = await service.run(quote, symbol="ACME")
        return answer


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        addrs = [(directory, f"registry_{letter}.sock") for letter in "abc"]
        async with tractor.open_supervisor(
            registrar=False,
            registry_addrs=addrs,
            max_restarts=None,
            backoff=tractor.Backoff(initial=0.1, maximum=1.0),
        ) as sup:
            registrars = [
                await sup.start_service(f"registry.{letter}", tractor.registrar, addr=addr)
                for letter, addr in zip("abc", addrs, strict=True)
            ]
            await sup.start_service("quotes", enable_modules=[__name__])
            client = await sup.start_service("client", enable_modules=[__name__])
            print(f"all are there: {await client.run(look_up)}", flush=True)

            for victims in ((0, 1), (1, 2)):
                pids = [registrars[number].pid for number in victims]
                for pid in pids:
                    assert isinstance(pid, int)
                    os.kill(pid, signal.SIGKILL)
                print(f"two are killed: {await client.run(look_up)}", flush=True)
                for number, pid in zip(victims, pids, strict=True):
                    async for portal in registrars[number].portals():
                        # The first may still be the one that was killed.
                        if portal.chan.aid is not None and portal.chan.aid.pid != pid:
                            break


if __name__ == "__main__":
    trio.run(main)
