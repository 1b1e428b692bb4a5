"""The command line of the benches."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from benches import (
    _backends,
    _growth,
    _hosts,
    _messages,
    _observing,
    _pool,
    _processes,
    _security,
    _shared_memory,
    _typed,
)
from benches._machine import byte_code, facts, load
from benches._peers import PEERS, run_peers
from benches._peers import table as peers_table
from benches._report import Result, as_json, table
from benches._rows import Options, Row, Series, rows

__all__ = ["main"]

# Each of these fills the table of rows.
_ = (_backends, _hosts, _messages, _observing, _pool, _processes, _security, _typed)

ORDER = (
    "call",
    "recorded_call",
    "concurrent",
    "context",
    "ping_pong",
    "one_way",
    "one_way_bulk",
    "one_way_context",
    "one_way_large",
    "typed_one_way",
    "typed_ping_pong",
    "import",
    "import_all",
    "start",
    "start_8",
    "start_30",
    *_backends.ROWS,
    "cancel_tree",
    "host_start",
    "host_call",
    "kill_report",
    "memory",
    "find_actor",
    "find_sibling",
    "attack_flood",
    "attack_storm",
    *_pool.ROWS,
    "auth_connect",
    "auth_call",
    "auth_one_way",
    "auth_ping_pong",
    *_shared_memory.ROWS,
)


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benches",
        description="What tractor costs, each figure beside a floor measured in the same run.",
    )
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help=f"rows to run, default all: {', '.join(ORDER)}"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="tiny counts, no judging: does it run?"
    )
    parser.add_argument("--transport", choices=("uds", "tcp", "shm"), default="uds")
    parser.add_argument(
        "--repeat", type=int, default=10, metavar="N", help="samples of each figure (default 10)"
    )
    parser.add_argument(
        "--statistic",
        choices=("best", "median"),
        default="best",
        help="which of the N samples counts, for floor and measurement alike (default best)",
    )
    parser.add_argument(
        "--free",
        action="store_true",
        help="leave every choice of CPUs to the kernel; else round trips, and their floor, run on one CPU",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there as well")
    parser.add_argument(
        "--peers",
        action="store_true",
        help=f"run {', '.join(PEERS)} beside it; Ray and xoscar come with the extra `benches`",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the benches; the exit status is 1 when a row could not be measured, else 0 (also for a target missed)."""
    given = sys.argv[1:] if argv is None else argv
    if given[:1] == ["growth"]:
        if sys.flags.dont_write_bytecode:
            return _again_with_byte_code(argv)
        return _growth.main(given[1:])
    parsed = parser()
    args = parsed.parse_args(argv)
    unknown = [name for name in args.rows if name not in rows]
    if unknown:
        parsed.error(f"no such rows: {', '.join(unknown)}; there are: {', '.join(ORDER)}")
    if args.repeat < 1:
        parsed.error(f"--repeat must be at least 1, not {args.repeat}")
    if sys.flags.dont_write_bytecode:
        return _again_with_byte_code(argv)
    options = Options(args.transport, args.repeat, args.smoke, not args.free)
    if options.smoke:
        options = replace(options, repeat=1)
    machine = {**facts(), "load before": load()}
    print(f"tractor's benches over {options.transport}: {_statistic(options, args.statistic)}\n")
    results = [
        _measure(rows[name], options) for name in ORDER if not args.rows or name in args.rows
    ]
    peers = run_peers(options) if args.peers else {}
    machine |= {"byte code": byte_code(), "load after": load()}
    print(table(results, options, args.statistic))
    if peers:
        print("\n" + peers_table(peers))
    print()
    for name, fact in machine.items():
        print(f"{name}: {fact}")
    if args.json is not None:
        record = as_json(results, options, args.statistic, machine, peers)
        args.json.write_text(json.dumps(record, indent=2) + "\n")
    return 1 if any(result.error for result in results) else 0


def _statistic(options: Options, statistic: str) -> str:
    if options.smoke:
        return "a smoke run, whose figures mean nothing"
    which = "the best" if statistic == "best" else "the median"
    return f"{which} of {options.repeat} samples (3 of memory), taken in turns with the floor's"


def _again_with_byte_code(argv: list[str] | None) -> int:
    """Run in an interpreter that may write byte code: else every actor would compile all that it imports."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "benches", *(sys.argv[1:] if argv is None else argv)]
    return subprocess.run(command, env=env).returncode


def _measure(row: Row, options: Options) -> Result:
    began = time.perf_counter()
    try:
        result = Result(row, row.run(options))
    except Exception as exc:
        # One row that fails must not take the figures of the others with it.
        result = Result(row, Series(), f"{type(exc).__name__}: {exc}")
    took = time.perf_counter() - began
    print(f"{row.name}: {'FAILED' if result.error else 'done'} in {took:.1f} s", file=sys.stderr)
    return result
