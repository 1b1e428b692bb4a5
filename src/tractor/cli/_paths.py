"""Paths as they are given on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path


def absolute_path(text: str) -> Path:
    """The path that an argument names, from the working directory or a home directory (``~``); for argparse.

    Raises:
        argparse.ArgumentTypeError: it is empty, or in the home directory of a user that is not known.
    """
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as exc:
        raise argparse.ArgumentTypeError(f"{text!r}: {exc}") from None
