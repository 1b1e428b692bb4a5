"""Stands for an engine's command: runs a program, and passes on its stdin and stdout.  Stopped, it is a cut.

Its first argument says whose it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable


def copy(source: int, target: int, at_end: Callable[[], object]) -> None:
    while data := os.read(source, 65536):
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]
    at_end()


def main() -> int:
    program = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.stdin is not None
    assert program.stdout is not None
    args = (0, program.stdin.fileno(), program.stdin.close)
    threading.Thread(target=copy, args=args, daemon=True).start()
    copy(program.stdout.fileno(), 1, lambda: None)
    return program.wait()


if __name__ == "__main__":
    sys.exit(main())
