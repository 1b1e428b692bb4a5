"""References to Python objects by name."""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Any


class NamespacePath(str):
    """The name of a function, method or class as ``'module:name'``; a method's is
    ``'module:Class.name'``.
    """

    __slots__ = ()

    @classmethod
    def from_ref(cls, obj: Any) -> NamespacePath:
        """The path of a function, method or class.  Of a ``functools.partial``, the function's.

        Raises:
            TypeError: ``obj`` has no name of its own.
            ValueError: ``obj`` is local to a function, or a lambda, so that no path leads to it.
        """
        while isinstance(obj, functools.partial):
            obj = obj.func
        module, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
        if isinstance(getattr(obj, "__self__", None), type):
            # A class method of a subclass has the name of the class that it was looked up on.
            name = f"{obj.__self__.__qualname__}.{obj.__name__}"
            module = obj.__self__.__module__
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError(f"{obj!r} is no function, method or class; it has no path")
        if "<" in name:
            raise ValueError(f"{obj!r} is local to a function; move it to the top of {module!r}")
        return cls(f"{module}:{name}")

    def to_tuple(self) -> tuple[str, str]:
        """The pair of module and name.

        Raises:
            ValueError: this is not of the form ``'module:name'``.
        """
        module, colon, name = self.partition(":")
        if not (module and colon and name):
            raise ValueError(f"{str(self)!r} is no namespace path; the form is 'module:name'")
        return module, name

    def load_ref(self) -> Any:
        """The object itself.  Its module is imported if need be: never call this on a peer's word.

        Raises:
            ValueError: this is not of the form ``'module:name'``.
            ImportError: the module cannot be imported.
            AttributeError: it has no such member.
        """
        module, name = self.to_tuple()
        return functools.reduce(getattr, name.split("."), import_module(module))
