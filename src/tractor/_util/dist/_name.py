"""The name by which the package is installed, which is not that by which it is imported.

On PyPI ``tractor`` is another project, of the same import name.  Installed into one folder the files of the two are
mixed, whichever came last, and neither works.
"""

from __future__ import annotations

import contextlib
import os

NAME = "trio-tractor"
"""What ``pip install`` takes; ``pyproject.toml`` says the same."""

RECORD = NAME.replace("-", "_")
"""What the folder of its metadata begins with: ``RECORD-VERSION.dist-info``."""

_IMPORT_NAME = "tractor"
_FORMER_SUMMARY = "Structured concurrency across processes: a trio nursery whose tasks are processes"
"""Of this package when it was still installed as ``tractor``.  What is left of that does no harm."""


def pip_install(extra: str = "") -> str:
    """The command that installs the package, or one of its extras, as a hint quotes it."""
    return f"pip install '{NAME}[{extra}]'" if extra else f"pip install {NAME}"


def refuse_neighbour(package: str) -> None:
    """Return where no other distribution has files in this package's folder.

    A look at the names beside it, since :mod:`importlib.metadata` takes longer to import than all else that
    ``import tractor`` does.  An editable install and a source tree have none there.

    Args:
        package: the package's folder.

    Raises:
        ImportError: there is one; says which, and how to part the two.
    """
    site = os.path.dirname(package)
    try:
        names = os.listdir(site)
    except OSError:
        # In an archive, or frozen: what is in it was chosen by whoever made it.
        return
    for name in names:
        if not name.startswith(f"{_IMPORT_NAME}-") or not name.endswith((".dist-info", ".egg-info")):
            continue
        version = name.rpartition(".")[0].split("-")[1]
        if _summary(os.path.join(site, name)) != _FORMER_SUMMARY:
            raise ImportError(
                f"the distribution {_IMPORT_NAME!r} {version} in {site} is another project with the same import name "
                f"as {NAME!r}, and the files of both are mixed there. Keep one of them: "
                f"run `pip uninstall -y {_IMPORT_NAME} {NAME}`, then `{pip_install()}`",
                name=_IMPORT_NAME,
                path=package,
            )


def _summary(info: str) -> str | None:
    """The line ``Summary`` of a distribution's metadata; ``None``: there is none."""
    for file in ("METADATA", "PKG-INFO"):
        with contextlib.suppress(OSError), open(os.path.join(info, file), encoding="utf-8", errors="replace") as text:
            for line in text:
                if line.startswith("Summary:"):
                    return line.partition(":")[2].strip()
                if not line.strip():
                    break
    return None
