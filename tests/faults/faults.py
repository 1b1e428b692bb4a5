"""A small program under every shortage of the system: is the error clear, does it end, is anything left?

``make faults ARGS='--backend trio --only descriptors'``.  For each fault the largest value that bites is looked for;
that and the 19 below it are tried.  Linux, as root: each run has namespaces of its own for mounts and processes.
The exit status is 1 if an error was not clear, a run hung, or something was left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

TIME = 30.0
"""Seconds that a run may take."""

GRACE = 2.5
"""Seconds until nothing may be left: what SIGKILL of an ancestor has left goes within 2."""

NOBODY = 61_616
"""A user that has no processes."""

SILENT = (
    "",
    "EOFError",
    "Cancelled",
    "KeyError",
    "AssertionError",
    "InternalError",
    "EndOfChannel",
)
"""Boxed types that tell a user nothing."""


@dataclass(frozen=True)
class Fault:
    """Something that runs out.

    Attributes:
        most: a value that is ample.
        step: to the next value that is tried.
        least: no value below that is tried: Python itself needs it.
        limit: name of a resource limit that the program sets itself, if it is one.
        mount: what is mounted, and where, with ``%d`` for the value.
        user: run as another user, whose processes are counted.
    """

    most: int
    step: int = 1
    least: int = 1
    limit: str = ""
    mount: tuple[str, str] | None = None
    user: bool = False


FAULTS: dict[str, Fault] = {
    "descriptors": Fault(80, least=8, limit="NOFILE"),
    "processes": Fault(60, least=1, limit="NPROC", user=True),
    "memory": Fault(1 << 31, step=4 << 20, least=64 << 20, limit="AS"),
    "disk": Fault(256 << 10, step=4096, least=4096, mount=("DIRS", "size=%d")),
    "inodes": Fault(64, least=5, mount=("DIRS", "nr_inodes=%d")),
    "shm": Fault(256 << 10, step=4096, least=4096, mount=("/dev/shm", "size=%d")),
    "shm inodes": Fault(16, least=1, mount=("/dev/shm", "nr_inodes=%d")),
    # An empty directory in its place.
    "proc": Fault(1, mount=("/proc", "nr_inodes=%d")),
}


@dataclass
class Ended:
    """How a run has ended.

    Attributes:
        kind: fine, clear, unclear, hang or no word.
        errors: what the program has raised.
        left: processes and files that were left.
        seconds: how long it took.
    """

    kind: str
    errors: list[dict[str, str]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    seconds: float = 0.0
    note: str = ""

    @property
    def bad(self) -> bool:
        return self.kind not in ("fine", "clear") or bool(self.left)


def is_clear(error: dict[str, str]) -> bool:
    """Whether an error is ours, or the system's, and says something."""
    family, boxed = error["family"], error["boxed"]
    if family == "RemoteActorError":
        return boxed not in SILENT
    if family == "RuntimeError":
        return "thread" in error["text"]
    return family == "MemoryError" or (bool(family) and bool(error["text"]))


def judged(out: str, status: int | None, err: str) -> Ended:
    if status is None:
        return Ended("hang", note=err[-2000:])
    try:
        errors = json.loads(out.splitlines()[-1])
    except (ValueError, IndexError):
        return Ended("no word", note=f"exit status {status}; {err[-2000:]}")
    if not errors:
        return Ended("fine")
    return Ended("clear" if all(map(is_clear, errors)) else "unclear", errors, note=err[-2000:])


# -- within the namespaces --


def inside(name: str, value: int, backend: str) -> Ended:
    """Run the program once; this process is the first of its namespace, so whoever else lives was left."""
    fault = FAULTS[name]
    dirs = Path(tempfile.mkdtemp(prefix="fl-", dir="/tmp"))
    mount("tmpfs", str(dirs), _option(fault, "DIRS", value))
    mount("tmpfs", "/dev/shm", _option(fault, "/dev/shm", value))
    env = {k: v for k, v in os.environ.items() if not k.startswith("TRACTOR_")}
    for variable, sub in (("XDG_RUNTIME_DIR", "r"), ("XDG_STATE_HOME", "s")):
        (dirs / sub).mkdir(mode=0o700)
        env[variable] = str(dirs / sub)
    program = [sys.executable, str(HERE / "fault_program.py"), backend]
    if fault.limit:
        program.append(f"{fault.limit}={value}")
    if fault.user:
        for path in (dirs, dirs / "r", dirs / "s"):
            os.chown(path, NOBODY, NOBODY)
        caps = "+dac_read_search,+dac_override"
        user = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        program = ["setpriv", *user, f"--inh-caps={caps}", f"--ambient-caps={caps}", *program]
    began = time.monotonic()
    if fault.mount and fault.mount[0] == "/proc":
        program = ["sh", "-c", 'mount -t tmpfs none /proc; exec "$@"', "sh", *program]
        program = ["unshare", "--mount", *program]
    process = subprocess.Popen(
        program, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        out, err = process.communicate(timeout=TIME)
        status: int | None = process.returncode
    except subprocess.TimeoutExpired as exc:
        out, err, status = "", str(exc.stderr or b""), None
        process.kill()
    ended = judged(out, status, err)
    ended.seconds = time.monotonic() - began
    end = time.monotonic() + GRACE
    while (left := left_over(dirs)) and time.monotonic() < end:
        time.sleep(0.05)
    ended.left = left if status is not None else []
    return ended


def _option(fault: Fault, where: str, value: int) -> str:
    if fault.mount is not None and fault.mount[0] == where:
        return fault.mount[1] % value
    return "size=64m"


def mount(kind: str, where: str, options: str) -> None:
    subprocess.run(["mount", "-t", kind, "-o", options, "none", where], check=True)


def left_over(dirs: Path) -> list[str]:
    """Processes but this one, and files but the key."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z":
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found.append(f"process {command.strip()[:200]}")
    for top in (dirs / "r", Path("/dev/shm")):
        found += [f"file {path}" for path in top.rglob("*") if not path.is_dir()]
    return found


# -- without --


def run(name: str, value: int, backend: str) -> Ended:
    """One run, in namespaces of its own."""
    space = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    program = [sys.executable, __file__, "--inside", name, str(value), backend]
    done = subprocess.run(
        [*space, *program], capture_output=True, text=True, timeout=TIME + GRACE + 30
    )
    if done.returncode:
        raise RuntimeError(f"{name}={value} on {backend} was not run: {done.stderr}")
    return Ended(**json.loads(done.stdout.splitlines()[-1]))


def largest_that_bites(fault: Fault, bites: Callable[[int], bool]) -> int:
    """By halving: the largest value at which the program is not fine; ``least`` where it always is."""
    low, high = fault.least // fault.step, fault.most // fault.step
    while high - low > 1:
        middle = (low + high) // 2
        if bites(middle * fault.step):
            low = middle
        else:
            high = middle
    return low * fault.step


def values_of(name: str, backend: str, count: int) -> list[int]:
    """The largest value that bites, and those below it."""
    fault = FAULTS[name]
    if fault.most == fault.least:
        return [fault.most]
    top = largest_that_bites(fault, lambda value: run(name, value, backend).kind != "fine")
    values = range(top, fault.least - 1, -fault.step)
    return list(values[:count])


def tell(name: str, backend: str, value: int, ended: Ended) -> None:
    """What was wrong, with the command that runs it again."""
    print(f"  {ended.kind.upper()} {name}={value} on {backend}, {ended.seconds:.1f} s:")
    print(f"    {sys.executable} {__file__} --backend {backend} --only '{name}' --value {value}")
    for error in ended.errors:
        print(f"    {error['type']}({error['boxed']}): {error['text'][:300]!r}")
    for one in ended.left:
        print(f"    left: {one}")
    if ended.note:
        print("    | " + "\n    | ".join(ended.note.strip().splitlines()[-12:]))
    sys.stdout.flush()


def table(backends: list[str], names: list[str], count: int, values: list[int], jobs: int) -> int:
    """Run all; how many runs were bad."""
    bad = 0
    print(f"{'backend':24} {'fault':12} {'values':>24}  how they ended")
    with ThreadPoolExecutor(jobs) as pool:
        for backend in backends:
            for name in names:
                chosen = values or values_of(name, backend, count)
                ends = list(pool.map(lambda v, n=name, b=backend: run(n, v, b), chosen))
                kinds = Counter(e.kind + (", things left" if e.left else "") for e in ends)
                types = Counter(error["type"] for e in ends for error in e.errors)
                span = f"{chosen[0]} .. {chosen[-1]}"
                told = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
                of = ", ".join(f"{n} {kind}" for kind, n in types.most_common())
                slowest = max(e.seconds for e in ends)
                print(f"{backend:24} {name:12} {span:>24}  {told} ({of}); slowest {slowest:.1f} s")
                for value, ended in zip(chosen, ends, strict=True):
                    if ended.bad:
                        bad += 1
                        tell(name, backend, value, ended)
    return bad


def main() -> int:
    if sys.argv[1:2] == ["--inside"]:
        name, value, backend = sys.argv[2:]
        print(json.dumps(asdict(inside(name, int(value), backend))))
        return 0
    from tractor import spawn

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    usable = list(spawn.usable_start_methods())
    parser.add_argument("--backend", nargs="*", default=usable, choices=usable)
    parser.add_argument("--only", nargs="*", default=list(FAULTS), choices=list(FAULTS))
    parser.add_argument("--count", type=int, default=20, help="values of each fault (default 20)")
    parser.add_argument("--value", nargs="*", type=int, default=[], help="these values instead")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    bad = table(args.backend, args.only, args.count, args.value, args.jobs)
    print(f"{bad} bad ends")
    return 1 if bad else 0


if __name__ == "__main__":
    main_status: Any = main()
    sys.exit(main_status)
