"""Arrays in, one table out: with progress, a second try, and an item that kills its process.

What to learn:

- Items are numpy arrays and values are frames of polars, as they are. Large arrays are shared, not sent.
- `retries=1` tries once more what failed by chance. An item that kills its process costs itself alone.
- `return_exceptions=True` gives what was lost as values, and `values` has a length: `tqdm(values)` draws a bar.

`futures_table.py` beside it does the same with `concurrent.futures`, `joblib_table.py` with joblib.

Needs numpy and polars: `pip install 'trio-tractor[shm]' polars`.
"""

import os
import signal
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import trio

from tractor.trionics import open_worker_pool


def measure(number: int, samples: np.ndarray, notes: str) -> pl.DataFrame:
    """The work itself: the third recording fails at first, the second one kills its process."""
    seen = Path(notes, str(number))
    if number == 2 and not seen.exists():
        seen.touch()
        raise ConnectionError("the disk was busy")
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return pl.DataFrame({"number": [number], "mean": [samples.mean()], "top": [samples.max()]})


async def table(recordings: list[np.ndarray], notes: str) -> pl.DataFrame:
    """A row for each recording that could be measured."""
    frames = []
    items = [(number, samples, notes) for number, samples in enumerate(recordings)]
    async with open_worker_pool(2) as pool:
        values = pool.starmap(measure, items, retries=1, return_exceptions=True)
        async for value in values:
            if isinstance(value, Exception):
                print(f"lost: {type(value).__name__}")
            else:
                frames.append(value)
                print(f"{len(frames)} of {len(values)} are measured")
    return pl.concat(frames)


async def main() -> None:
    recordings = [np.full(300_000, float(number)) for number in range(6)]
    with tempfile.TemporaryDirectory() as notes:
        print("the table has", (await table(recordings, notes))["number"].to_list())


if __name__ == "__main__":
    trio.run(main)
