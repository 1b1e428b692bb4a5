"""The same table with joblib, for comparison.

What to learn: what `table.py` leaves out. A process that dies ends the whole call, with all values that were not taken
yet, and nobody says which item it was. So the rest is run one by one until it is found. A second try is made in the
function.

Needs joblib, numpy and polars.
"""

import os
import signal
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import trio
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError


def measure(number: int, samples: np.ndarray, notes: str) -> pl.DataFrame:
    """The work itself: the third recording fails at first, the second one kills its process."""
    seen = Path(notes, str(number))
    if number == 2 and not seen.exists():
        seen.touch()
        raise ConnectionError("the disk was busy")
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return pl.DataFrame({"number": [number], "mean": [samples.mean()], "top": [samples.max()]})


def tried(number: int, samples: np.ndarray, notes: str) -> tuple[int, pl.DataFrame | Exception]:
    """Twice; an error is a value, so that it does not end the others."""
    value: pl.DataFrame | Exception = RuntimeError("not tried")
    for _ in range(2):
        try:
            value = measure(number, samples, notes)
            break
        except Exception as exc:
            value = exc
    return number, value


def table(recordings: list[np.ndarray], notes: str) -> pl.DataFrame:
    """A row for each recording that could be measured."""
    frames: dict[int, pl.DataFrame] = {}
    todo = list(range(len(recordings)))
    one_by_one = False
    while todo:
        chosen = todo[:1] if one_by_one else list(todo)
        calls = (delayed(tried)(number, recordings[number], notes) for number in chosen)
        broken = False
        try:
            for number, value in Parallel(2, return_as="generator_unordered")(calls):
                todo.remove(number)
                if isinstance(value, Exception):
                    print(f"lost: {type(value).__name__}")
                else:
                    frames[number] = value
                    print(f"{len(frames)} of {len(recordings)} are measured")
        except TerminatedWorkerError as exc:
            broken = True
            if one_by_one:
                todo.remove(chosen[0])
                print(f"lost: {type(exc).__name__}")
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
