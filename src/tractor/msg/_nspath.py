"""References to Python objects by name."""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Any, get_origin

from tractor._util._mains import main_modules

_MAIN, _REPLAYED_MAIN = "__main__", "__mp_main__"


class NamespacePath(str):
    """The name of a function, method or class as ``'module:name'``; a method's is
    ``'module:Class.name'``.

    The script that the root was started with is ``__main__``, in its children, too.
    """

    __slots__ = ()

    @classmethod
    def from_ref(cls, obj: Any) -> NamespacePath:
        """The path of a function, method or class.

        Of a ``functools.partial`` it is the function's, and of a method of an object that of the
        class; arguments and object are not part of a path.

        Raises:
            TypeError: ``obj`` has no name of its own, as an instance or ``list[int]`` has none.
            ValueError: it is a lambda or local to a function, so that no path leads to it.
        """
        while isinstance(obj, functools.partial):
            obj = obj.func
        module, name = _home(obj)
        if not isinstance(module, str) or not isinstance(name, str) or get_origin(obj) is not None:
            raise TypeError(f"{obj!r} is not a function, method or class; it has no path")
        if name.rpartition(".")[2] == "<lambda>":
            raise ValueError(f"{obj!r} is a lambda; use a function with a name, made by `def`")
        if "<" in name:
            raise ValueError(f"{obj!r} is local to a function; move it to the top of {module!r}")
        return cls(f"{_MAIN if module == _REPLAYED_MAIN else module}:{name}")

    def to_tuple(self) -> tuple[str, str]:
        """The pair of module and name.

        Raises:
            ValueError: this is not of the form ``'module:name'``.
        """
        module, _, name = self.partition(":")
        if not all(module.split(".")) or not all(map(str.isidentifier, name.split("."))):
            raise ValueError(f"{str(self)!r} is not a namespace path; the form is 'module:name'")
        return module, name

    def load_ref(self) -> Any:
        """The object itself.  Its module is imported if need be: never call this on a peer's word.

        Raises:
            ValueError: this is not of the form ``'module:name'``.
            ImportError: the module cannot be imported.
            AttributeError: it has no such member.
        """
        module, name = self.to_tuple()
        homes = main_modules() if module in (_MAIN, _REPLAYED_MAIN) else [import_module(module)]
        first = name.partition(".")[0]
        home = next((one for one in homes if hasattr(one, first)), homes[0])
        return functools.reduce(getattr, name.split("."), home)


def _home(obj: Any) -> tuple[Any, Any]:
    """Module and qualified name of an object, as far as it has any."""
    owner = getattr(obj, "__self__", None)
    name = getattr(obj, "__name__", None)
    if isinstance(owner, type) and isinstance(name, str):
        # A class method of a subclass has the name of the class that it was looked up on.
        return owner.__module__, f"{owner.__qualname__}.{name}"
    name = getattr(obj, "__qualname__", None)
    # Methods of classes that are written in C know their class only.
    holder = getattr(obj, "__objclass__", obj)
    return getattr(holder, "__module__", None), name
