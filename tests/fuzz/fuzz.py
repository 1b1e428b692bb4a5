"""Coverage-guided fuzzing of what decodes a peer's bytes, by Atheris (Linux, CPython 3.11 to 3.13).

``make fuzz ARGS='frames --seconds 600'``; without a name all targets, one after the other.  A finding is written to
``tests/fuzz/corpus/<target>/``, where the suite runs it from then on.  Small inputs that reached something new are kept
there, too, when they were copied from the directory that ``--keep`` names.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
NAMES = ("frames", "envelope", "handshake")

MAX_LEN = 4096
"""Bytes of an input."""


def fuzz(name: str, arguments: list[str]) -> None:
    """Hand this process to libFuzzer; does not return."""
    import atheris

    sys.path.insert(0, str(HERE))
    with atheris.instrument_imports(include=["tractor", "fuzz_targets"]):
        from fuzz_targets import TARGETS
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


def run(name: str, seconds: int, out: Path) -> int:
    """Fuzz one target in a process of its own; its exit status is 0 if nothing was found."""
    found = out / name
    found.mkdir()
    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={MAX_LEN}",
        f"-artifact_prefix={corpus}/",
        "-rss_limit_mb=2048",
        "-timeout=20",
        "-print_final_stats=1",
    ]
    command = [sys.executable, __file__, "--inside", name, *options, str(found), str(corpus)]
    return subprocess.run(command).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="TARGET", help=", ".join(NAMES))
    parser.add_argument("--seconds", type=int, default=600, help="for each (default 600)")
    parser.add_argument("--keep", type=Path, help="a new directory for all inputs that were found")
    if sys.argv[1:2] == ["--inside"]:
        fuzz(sys.argv[2], sys.argv[3:])
    args = parser.parse_args()
    names = args.names or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"no such targets: {sorted(unknown)}; there are: {', '.join(NAMES)}")
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) if args.keep is None else args.keep
        out.mkdir(exist_ok=True)
        status = max(run(name, args.seconds, out) for name in names)
    print("nothing was found" if status == 0 else f"findings are in {CORPUS}")
    return status


if __name__ == "__main__":
    sys.exit(main())
