"""The demo: index a folder of Python files with a cluster of actors, crash one, prove that all are
gone.

Run it with ``python -m tractor.demo`` (or ``make demo``).  It is also a program to learn from:
:mod:`._workers` is what runs in the workers, :mod:`._cluster` what runs in the root.
"""

from __future__ import annotations

from tractor.demo._index import FileReport, find_files, index_file

__all__ = ["FileReport", "find_files", "index_file"]
