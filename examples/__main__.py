"""Let a script run where a child re-imports the program's main module: Windows' spawn rules.

There a new process finds the functions of a script only if the script can be imported by name.
Copy the script beside this file under the name ``test_example.py``, make the folder's parent the
working directory, and run ``python -m examples``: the script's ``main()`` then runs as it would by
itself, and its functions are found in every process as ``test_example:<name>``.  Another module
name may be given as the argument.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import trio

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "test_example"
    sys.path.insert(0, str(Path(__file__).parent))
    trio.run(importlib.import_module(name).main)
