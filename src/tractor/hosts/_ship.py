"""Code of this host for another one: what a place's ``ship`` names, as files by the digest of their content.

A package travels as one zip archive, which the interpreter there imports from; so extension modules, and files that are
opened by their path, don't travel.  The same source gives the same archive, whoever packs it, so that it is sent once.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import os
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tractor._errors import RuntimeFailure
from tractor.hosts._place import Place
from tractor.spawn._import_path import pack, unpack
from tractor.spawn._parent_main import SHIPPED_MAIN, program_origin
from tractor.spawn._program import way_out
from tractor.spawn._sent_modules import module_digests

MAIN = "main"
"""In ``ship``: the program's own script, or the package that it is part of."""

_LEFT_OUT = {"__pycache__", ".git", ".mypy_cache", ".ruff_cache"}
_DATE = (1980, 1, 1, 0, 0, 0)


class Shipment(NamedTuple):
    """A file to be sent."""

    name: str
    digest: str
    data: bytes

    @property
    def entry(self) -> str:
        """What stands for it in a child's import path."""
        folder = f"sha256:{self.digest}"
        return f"{folder}/{self.name}" if self.name.endswith(".zip") else folder


def shipments(place: Place) -> list[Shipment]:
    """What is sent to a place before its first actor.

    Raises:
        ModuleNotFoundError: there is no such package here.
        RuntimeFailure: the program's main module is in no file; or a package can't be packed; says why.
        OSError: a file can't be read.
    """
    return [_main() if name == MAIN else _package(name) for name in place.ship]


def main_data_elsewhere(place: Place, needed: Iterable[str]) -> dict[str, Any]:
    """What stands in for ``get_parent_main_data()`` in the configuration of an actor of another host.

    Args:
        place: where it is to live.
        needed: names of the modules that it serves.

    Raises:
        RuntimeFailure: ``__main__`` is among them, and is not shipped.
    """
    needed = list(needed)
    data: dict[str, Any] = {
        "module_digests": module_digests(needed),
        "module_ship": bool(place.ship),
    }
    if MAIN not in place.ship:
        if "__main__" in needed:
            raise RuntimeFailure(
                f"functions of `__main__` can't be run on host {place.name!r}, where this program's main module is "
                "not: send it by ship='main', or move them to a module that is installed there"
            )
        return data
    data["replay_main"] = True
    data["sys_argv"] = [pack(arg) for arg in sys.argv]
    origin = program_origin() or {}
    if "init_main_from_name" in origin:
        data["init_main_from_name"] = origin["init_main_from_name"]
    else:
        shipment = _main()
        data["init_main_from_path"] = pack(f"{SHIPPED_MAIN}{shipment.digest}/{shipment.name}")
    return data


def _main() -> Shipment:
    """The program's own script; where it is a module, its top-level package."""
    origin = program_origin() or {}
    if "init_main_from_name" in origin:
        return _package(unpack(origin["init_main_from_name"]).partition(".")[0])
    if "init_main_from_path" not in origin:
        raise RuntimeFailure(
            f"ship='main': the main module is in no file that could be sent; {way_out()}"
        )
    path = Path(unpack(origin["init_main_from_path"]))
    return _shipment(path.name, path.read_bytes())


def _package(name: str) -> Shipment:
    """A package, or a module, by its name."""
    spec = importlib.util.find_spec(name) if name else None
    if spec is None or "." in name:
        raise ModuleNotFoundError(
            f"ship: there is no top-level package or module {name!r} here", name=name
        )
    found = []
    for inside, file in sorted(_files(name, spec)):
        info = file.stat()
        found.append((inside, file, info.st_mtime_ns, info.st_size))
    return _packed(name, tuple(found))


@functools.lru_cache(maxsize=4)
def _packed(name: str, files: tuple[tuple[str, Path, int, int], ...]) -> Shipment:
    """The archive of a package, made anew when a file has changed: every start asks for it.

    Args:
        name: the package's.
        files: where each stands in the archive, where it is, when it was changed, its size.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside, file, _, _ in files:
            info = zipfile.ZipInfo(inside, _DATE)
            info.external_attr = 0o644 << 16
            archive.writestr(info, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return _shipment(f"{name}.zip", buffer.getvalue())


def _files(name: str, spec: Any) -> Iterator[tuple[str, Path]]:
    """The files of a package, by where they stand in the archive."""
    tops = [Path(top) for top in spec.submodule_search_locations or ()]
    if not tops:
        if spec.origin is None or not spec.origin.endswith(".py"):
            raise RuntimeFailure(
                f"ship: module {name!r} ({spec.origin}) is no Python source, which alone can be sent; install it there"
            )
        yield f"{name}.py", Path(spec.origin)
    for top in tops:
        for folder, folders, files in os.walk(top):
            folders[:] = sorted(set(folders) - _LEFT_OUT)
            for file in files:
                if file.endswith((".so", ".pyd", ".dylib")):
                    raise RuntimeFailure(
                        f"ship: package {name!r} has an extension module, {os.path.join(folder, file)}, which can't be "
                        "sent; install the package there"
                    )
                path = Path(folder, file)
                yield f"{name}/{path.relative_to(top).as_posix()}", path


def _shipment(name: str, data: bytes) -> Shipment:
    return Shipment(name, hashlib.sha256(data).hexdigest(), data)
