"""Run a script as ``python SCRIPT ARGS...`` would, with the tree's registry at a given TCP address.

Usage: ``python pty_launch.py HOST PORT SCRIPT ARGS...``

The scripts say nothing about transports, so they run over the platform's default one. Here the default for
`registry_addrs` is another, which implies the transport.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import tractor
from tractor import _root


def launch(host: str, port: str, script: str, *args: str) -> None:
    """Be that script."""
    on_tcp = functools.partial(_root.open_root_actor, registry_addrs=[(host, int(port))])
    _root.open_root_actor = tractor.open_root_actor = on_tcp
    sys.argv[:] = [script, *args]
    sys.path[0] = str(Path(script).parent)
    this = sys.modules["__main__"]
    # Children find the main module by this.
    this.__file__ = script
    exec(compile(Path(script).read_bytes(), script, "exec"), this.__dict__)


if __name__ == "__main__":
    launch(*sys.argv[1:])
