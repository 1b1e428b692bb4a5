"""The command line: ``tractor COMMAND`` and ``python -m tractor COMMAND``.

A command is a module with ``main(argv, prog) -> int`` and a line in `COMMANDS`; it is imported when
it is used, so that ``tractor --help`` stays quick.
"""

from __future__ import annotations

from tractor.cli._main import COMMANDS as COMMANDS
from tractor.cli._main import main as main
