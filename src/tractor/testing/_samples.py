"""Input for tests: sample messages, and the example scripts of a source checkout."""

from __future__ import annotations

import random
import shlex
import sys
from pathlib import Path


def repodir() -> Path:
    """The root of the source checkout that this package runs from.

    Raises:
        FileNotFoundError: it runs from an installed copy.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / "pyproject.toml").is_file():
        raise FileNotFoundError(
            f"{__package__} in {str(Path(__file__).parent)!r} is not part of a source checkout; "
            "install it with `pip install --editable`"
        )
    return root


def examples_dir() -> Path:
    """The directory of the example scripts.  Raises FileNotFoundError as `repodir` does."""
    return repodir() / "examples"


def mk_cmd(ex_name: str, exs_subpath: str = "debugging") -> str:
    """The command that runs an example script with this Python, quoted for a shell.

    Args:
        ex_name: the script's name, without ``.py``.
        exs_subpath: its folder below `examples_dir`.

    Raises:
        FileNotFoundError: as `repodir`; the script itself need not exist.
    """
    return shlex.join([sys.executable, str(examples_dir() / exs_subpath / f"{ex_name}.py")])


def generate_sample_messages(
    amount: int, rand_min: int = 0, rand_max: int = 0, silent: bool = False
) -> tuple[list[bytes], int]:
    """Messages that can be told apart and put in order: each begins with its number.

    Args:
        amount: how many.
        rand_min, rand_max: bytes of noise after the number, at least and at most; a ``rand_max``
            of 0 means exactly ``rand_min``.
        silent: print nothing.

    Returns:
        The messages, and their total size in bytes.

    Raises:
        ValueError: ``amount`` is negative, or the bounds are, or are in the wrong order.
    """
    upper = rand_max or rand_min
    if amount < 0 or not 0 <= rand_min <= upper:
        raise ValueError(f"can't make {amount} messages with {rand_min} to {rand_max} random bytes")
    source = random.Random()
    messages = [
        f"[{number:08}]".encode() + source.randbytes(source.randint(rand_min, upper))
        for number in range(amount)
    ]
    total = sum(map(len, messages))
    if not silent:
        print(f"made {amount} sample messages, {total} bytes in total")
    return messages, total
