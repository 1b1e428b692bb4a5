"""What runs in the workers: the endpoints of the demo."""

from __future__ import annotations

import os

import trio

import tractor
from tractor.demo._index import FileReport, index_file


@tractor.context(pld_spec=bytes | FileReport | int | None)
async def index_files(ctx: tractor.Context) -> int:
    """Index each file whose path comes in, send its report back; return how many there were.

    Paths travel as bytes: a file name need not be valid UTF-8, a msgpack string must be.
    """
    await ctx.started()
    done = 0
    async with ctx.open_stream() as stream:
        async for path in stream:
            # In a thread, so that a large file does not keep this actor from answering a cancel.
            # Abandoned then: the process ends, and nobody waits for the rest of the file.
            report = await trio.to_thread.run_sync(
                index_file, os.fsdecode(path), abandon_on_cancel=True
            )
            await stream.send(report)
            done += 1
    return done


async def crash_on_purpose(message: str) -> None:
    """Fail with an exception that no other process can import or unpickle.

    Raises:
        IndexerOnFire: always.
    """

    class IndexerOnFire(Exception):
        def __reduce__(self) -> str:
            raise TypeError("this exception can't be pickled")

    raise IndexerOnFire(message)
