"""``python -m benches``."""

from __future__ import annotations

# A subactor may replay its parent's main module: nothing is imported here for it.
if __name__ == "__main__":
    import sys

    from benches._cli import main

    sys.exit(main())
