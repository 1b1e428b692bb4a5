"""The command line: ``tractor COMMAND`` and ``python -m tractor COMMAND``.

A command is a module with ``main(argv, prog) -> int`` and ``parser(prog)``, and a line in `COMMANDS`; it is
imported when it is used, so that ``tractor --help`` stays quick.
"""

from __future__ import annotations

from pathlib import Path

from tractor._util.dist._name import refuse_neighbour

# Another distribution may have put its `tractor/__init__.py` in the place of ours, which would have said so.
refuse_neighbour(str(Path(__file__).parent.parent))

from tractor.cli._main import COMMANDS as COMMANDS  # noqa: E402
from tractor.cli._main import main as main  # noqa: E402
