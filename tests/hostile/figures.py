"""What each attack costs the victim and a rightful caller beside it, as a table.

``make hostile``, or ``python tests/hostile/figures.py --tpt tcp 'a frame in pieces'``: those whose names contain that.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "endpoints")]

import trio  # noqa: E402
from attacks import ATTACKS, MIB  # noqa: E402
from stage import attacked, open_victim  # noqa: E402

from tractor.testing import get_rando_addr  # noqa: E402


async def measure(names: list[str], tpt: str, directory: Path) -> None:
    print(
        f"{'MB':>5} {'kept':>5} {'maps':>6} {'lag':>6} {'call':>5} {'max':>6}  attack (times in ms)"
    )
    for name in names:
        # Each has a victim of its own: what one leaves must not flatter the next.
        async with open_victim(get_rando_addr(tpt)) as portal:
            try:
                seen = await attacked(portal, name, directory)
            except Exception as exc:
                print(f"FAILED {name}: {exc!r}", flush=True)
                continue
        print(
            f"{seen.memory / MIB:5.0f} {seen.kept / MIB:5.0f} {seen.maps:6} {seen.lag * 1e3:6.0f} "
            f"{statistics.median(seen.latencies) * 1e3:5.1f} {seen.latency * 1e3:6.0f}  {name}",
            seen.facts,
            seen.limits,
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="only attacks whose names contain one of these")
    parser.add_argument("--tpt", choices=("uds", "tcp"), default="uds")
    args = parser.parse_args()
    chosen = [
        name for name in ATTACKS if not args.names or any(part in name for part in args.names)
    ]
    with tempfile.TemporaryDirectory(prefix="ho-", dir="/tmp") as directory:
        trio.run(measure, chosen, args.tpt, Path(directory))


if __name__ == "__main__":
    main()
