"""The same table with the standard library's `concurrent.futures`, for comparison.

What to learn: what `table.py` leaves out. A process that dies breaks the whole executor: each call that is not done
fails alike, and nobody says which one it was. So the rest is run one by one, in executors of their own, until it is
found. A second try is a count for each item; arrays are pickled.
"""

import os
import signal
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl
import trio


def measure(number: int, samples: np.ndarray, notes: str) -> pl.DataFrame:
    """The work itself: the third recording fails at first, the second one kills its process."""
    seen = Path(notes, str(number))
    if number == 2 and not seen.exists():
        seen.touch()
        raise ConnectionError("the disk was busy")
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return pl.DataFrame({"number": [number], "mean": [samples.mean()], "top": [samples.max()]})


def table(recordings: list[np.ndarray], notes: str) -> pl.DataFrame:
    """A row for each recording that could be measured."""
    frames: dict[int, pl.DataFrame] = {}
    tries_left = dict.fromkeys(range(len(recordings)), 2)
    # Fresh processes, as actors are: forking a program that has threads is unsafe.
    context = get_context("spawn")
    one_by_one = False
    while tries_left:
        chosen = list(tries_left)[:1] if one_by_one else list(tries_left)
        broken = False
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            futures = {
                executor.submit(measure, number, recordings[number], notes): number
                for number in chosen
            }
            for future in as_completed(futures):
                number = futures[future]
                try:
                    frames[number] = future.result()
                except BrokenProcessPool as exc:
                    broken = True
                    if one_by_one:
                        del tries_left[number]
                        print(f"lost: {type(exc).__name__}")
                except Exception as exc:
                    tries_left[number] -= 1
                    if not tries_left[number]:
                        del tries_left[number]
                        print(f"lost: {type(exc).__name__}")
                else:
                    del tries_left[number]
                    print(f"{len(frames)} of {len(recordings)} are measured")
        # Once the one that broke it is known, all others may run beside each other again.
        one_by_one = broken != one_by_one
    return pl.concat([frames[number] for number in sorted(frames)])


async def main() -> None:
    recordings = [np.full(300_000, float(number)) for number in range(6)]
    with tempfile.TemporaryDirectory() as notes:
        measured = await trio.to_thread.run_sync(table, recordings, notes)
        print("the table has", measured["number"].to_list())


if __name__ == "__main__":
    trio.run(main)
