"""Parts that other packages add: the entry points of a group, looked at on demand.

Nothing here runs before a key is met that is none of our own, so a program without such parts does not pay for the
search through the installed packages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar, cast

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


class EntryPointTable(Generic[T]):
    """What the entry points of one group are, by name.

    Args:
        group: The group's name.
        what: What one of them is, for messages.
        fault_of: What is wrong with a loaded one of that key, in words; ``None``: nothing.
        make: Turns what the entry point names into what is used.  What it raises is a fault, too.
    """

    def __init__(
        self,
        group: str,
        what: str,
        fault_of: Callable[[str, object], str | None],
        make: Callable[[object], object] = lambda loaded: loaded,
    ) -> None:
        self._group = group
        self._what = what
        self._fault_of = fault_of
        self._make = make
        self._loaded: dict[str, T] = {}
        self._found: dict[str, list[EntryPoint]] | None = None

    def load(self, key: str) -> T | None:
        """The part named ``key``; ``None`` where no package has one.

        Raises:
            ImportError: A package says that it has one, but it can't be loaded or is not what it must be; the text
                names the entry point.
        """
        if key in self._loaded:
            return self._loaded[key]
        points = self._entry_points().get(key, [])
        if not points:
            return None
        where = f"{self._what} {key!r} (entry point {self._group!r}: {_named(points)})"
        if len(points) > 1:
            raise ImportError(
                f"{where} is provided by several packages; uninstall all but one of them"
            )
        try:
            part = self._make(points[0].load())
        except Exception as exc:
            raise ImportError(f"{where} can't be loaded: {type(exc).__name__}: {exc}") from exc
        fault = self._fault_of(key, part)
        if fault is not None:
            raise ImportError(f"{where} can't be used: {fault}")
        self._loaded[key] = cast("T", part)
        return self._loaded[key]

    def loaded(self) -> list[T]:
        """Those that were loaded so far."""
        return list(self._loaded.values())

    def names(self) -> list[str]:
        """The keys for which some package has an entry point, loaded or not, working or not."""
        return sorted(self._entry_points())

    def forget(self) -> None:
        """Look for entry points again, say after ``sys.path`` has changed; what was loaded is forgotten."""
        self._found = None
        self._loaded.clear()

    def _entry_points(self) -> dict[str, list[EntryPoint]]:
        if self._found is None:
            import importlib.metadata

            self._found = {}
            for point in importlib.metadata.entry_points(group=self._group):
                # A package that is on the path twice (a checkout and its installation) is one provider.
                same = [p for p in self._found.get(point.name, ()) if p.value == point.value]
                if not same:
                    self._found.setdefault(point.name, []).append(point)
        return self._found


def _named(points: list[EntryPoint]) -> str:
    return ", ".join(
        f"{p.name} = {p.value}" + (f" of {p.dist.name} {p.dist.version}" if p.dist else "")
        for p in points
    )


def part_or_made(loaded: object) -> object:
    """What an entry point gives that names an object, or a class that makes one without arguments."""
    return loaded() if isinstance(loaded, type) else loaded


def faults_of(protocol: str, names: Sequence[str]) -> Callable[[str, object], str | None]:
    """What looks for faults of a part that has these attributes, ``key`` among them.

    Args:
        protocol: what such a part is called.
        names: of the attributes.
    """

    def fault_of(key: str, part: object) -> str | None:
        missing = [name for name in names if not hasattr(part, name)]
        if missing:
            listed = ", ".join(map(repr, missing))
            return f"a {type(part).__name__!r} without {listed} is not a {protocol}"
        named = part.key  # type: ignore[attr-defined]
        return None if named == key else f"its key is {named!r}"

    return fault_of
