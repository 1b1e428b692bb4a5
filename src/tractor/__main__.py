"""``python -m tractor``: see `tractor.cli`."""

from __future__ import annotations

import sys

from tractor.cli import main

if __name__ == "__main__":
    sys.exit(main())
