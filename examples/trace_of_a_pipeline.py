"""A trace of a running program: who called whom, when, and how long that took.

What to learn:

- `tractor trace` records actors that run, from outside: they need not be prepared for it, and are as before afterwards.
- The file opens in Perfetto's viewer (https://ui.perfetto.dev): a track for each actor, a slice for each call, an arrow
  from who calls to who serves. What waits for what is seen at once: here `brew` for `grind`.
- It is plain JSON, so that a few lines find the longest call.

In a terminal one would write `tractor trace cafe -o trace.json.gz --seconds 5` while the program runs.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import trio

import tractor


async def grind(grams: int) -> int:
    """Run in the mill."""
    await trio.sleep(grams / 1000)
    return grams


async def brew(cups: int) -> str:
    """Run at the bar, which has the beans ground elsewhere."""
    async with tractor.wait_for_actor("mill") as mill:
        grams = await mill.run(grind, grams=20 * cups)
    return f"{cups} cups of {grams} g"


async def main() -> None:
    """The cafe is open while it is recorded."""
    async with tractor.open_nursery() as an:
        bar = await an.start_actor("bar", enable_modules=[__name__])
        await an.start_actor("mill", enable_modules=[__name__])
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "trace.json")
            async with trio.open_nursery() as tn:
                tn.start_soon(serve, bar)
                me = str(tractor.current_actor().pid)
                command = [sys.executable, "-m", "tractor", "trace", me, "--seconds", "2"]
                done = await trio.run_process([*command, "-o", str(file)], capture_stdout=True)
                tn.cancel_scope.cancel()
            print(done.stdout.decode().partition(";")[0].replace(str(file), "trace.json"))
            show(json.loads(file.read_bytes()))
        await an.cancel()


async def serve(bar: tractor.Portal) -> None:
    """Order again and again."""
    while True:
        await bar.run(brew, cups=3)


def show(trace: dict[str, Any]) -> None:
    """Tell what is in the file."""
    events = trace["traceEvents"]
    served = [one for one in events if one.get("cat") == "call.served" and "cut" not in one["args"]]
    for name in ("brew", "grind"):
        took = [one["dur"] / 1000 for one in served if one["name"].endswith(f":{name}")]
        print(f"{name}: {len(took)} calls, the longest took {max(took):.0f} ms")


if __name__ == "__main__":
    trio.run(main)
