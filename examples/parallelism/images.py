"""Many arrays through a function that may fail, hang or crash: what a data engineer writes.

What to learn:

- Items and values are numpy arrays and dataclasses as they are. Large ones are shared, not sent.
- `retries=` tries again what failed by chance, `timeout=` ends what hangs, and a crash in C code costs its item alone.
- `return_exceptions=True` gives failures as values: the rest of the work is not lost.
- Items come as they are wanted, from an async generator. Where they have a `len()`, a progress bar is `tqdm(values)`.

Needs numpy: `pip install 'trio-tractor[shm]'`.
"""

import ctypes
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import trio

import tractor
from tractor.trionics import ItemTimeout, WorkerDied, open_worker_pool

SIDE = 600
"""Pixels; an image has 2.9 MB."""


@dataclass
class Image:
    """What the work is about."""

    name: str
    pixels: np.ndarray


@dataclass
class Summary:
    """What comes of it."""

    name: str
    mean: float
    edges: np.ndarray


def summarize(image: Image, notes: str) -> Summary:
    """The work itself; some images are not easy."""
    seen = Path(notes, image.name)
    if image.name == "flaky" and not seen.exists():
        seen.touch()
        raise ConnectionError("the disk was busy")
    if image.name == "broken":
        raise ValueError("not an image")
    if image.name == "endless":
        time.sleep(1000)
    if image.name == "poisoned":
        ctypes.string_at(0)
    return Summary(image.name, float(image.pixels.mean()), np.diff(image.pixels, axis=0))


async def load(names: list[str]) -> AsyncIterator[tuple[Image, str]]:
    """Images, one after the other, as they are wanted."""
    with TemporaryDirectory() as notes:
        for number, name in enumerate(names):
            await trio.lowlevel.checkpoint()
            yield Image(name, np.full((SIDE, SIDE), float(number))), notes


async def main() -> None:
    """Summarize them all."""
    names = ["cat", "flaky", "dog", "broken", "poisoned", "endless", "owl"]
    async with open_worker_pool(2, start_method="main_thread_forkserver") as pool:
        values = pool.starmap(
            summarize,
            load(names),
            retries=1,
            timeout=2,
            key=lambda item: item[0].name,
            return_exceptions=True,
        )
        done = 0
        async for value in values:
            done += 1
            match value:
                case Summary():
                    told = f"{value.name}: mean {value.mean:g}, edges {value.edges.shape}"
                case tractor.RemoteActorError():
                    told = f"failed: {value.boxed_type_str}, {value.__notes__[-1]}"
                case WorkerDied() | ItemTimeout():
                    told = f"lost: {type(value).__name__}, {value.what}"
                case _:
                    raise value
            print(f"{done} of {len(names)}  {told}")
        print("workers that were replaced:", pool.statistics().replaced > 0)


if __name__ == "__main__":
    trio.run(main)
