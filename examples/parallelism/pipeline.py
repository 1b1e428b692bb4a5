"""A pipeline of three processes: one reads, one parses, and the root adds up.

What to learn:

- A stage is an async generator or a context; the next one reads it with `async for`, also when it
  is in another process. The stages talk to each other, nothing passes through the root.
- Nobody runs ahead: a stage that is not read waits, so only a few files are in memory.
- A file that can't be parsed ends the whole pipeline, with an error that says which stage it comes
  from and which file it was. No process is left, and no end mark, no queue and no `join()` is
  needed for that.

`multiprocessing_pipeline.py` beside it does the same with the standard library.
"""

import ast
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import trio

import tractor


async def read(folder: str) -> AsyncIterator[tuple[str, str]]:
    """The first stage: the name and the text of each file."""
    for path in sorted(Path(folder).glob("*.py")):
        yield path.name, path.read_text()


@tractor.context
async def parse(ctx: tractor.Context, folder: str) -> None:
    """The second stage: how many functions each file has."""
    await ctx.started()
    async with (
        ctx.open_stream() as counts,
        tractor.wait_for_actor("reader") as reader,
        reader.open_stream_from(read, folder=folder) as texts,
    ):
        async for name, text in texts:
            tree = ast.parse(text, name)
            found = sum(isinstance(node, ast.FunctionDef) for node in ast.walk(tree))
            await counts.send((name, found))


async def add_up(folder: str) -> int:
    """The whole pipeline; its processes are gone at the end, by whatever route."""
    total = 0
    async with tractor.open_nursery() as an:
        await an.start_actor("reader", enable_modules=[__name__])
        parser = await an.start_actor("parser", enable_modules=[__name__])
        async with (
            parser.open_context(parse, folder=folder) as (ctx, _),
            ctx.open_stream() as counts,
        ):
            async for _name, found in counts:
                total += found
        await an.cancel()
    return total


async def main() -> None:
    """Read a package of the standard library, then a folder with a broken file in it."""
    print("functions in json:", await add_up(str(Path(json.__file__).parent)))

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "good.py").write_text("def f(): ...\n")
        Path(folder, "worse.py").write_text("def f(:\n")
        try:
            await add_up(folder)
        except* tractor.RemoteActorError as group:
            for error in group.exceptions:
                print(str(error).splitlines()[0])


if __name__ == "__main__":
    trio.run(main)
