"""From the name of an exception type to the type; and how this package's own types are pickled.

A peer names an exception type by text only.  Nothing here imports a module, or runs code, for such
a text: a type is found if it is already loaded and this actor has a reason to know it.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Collection, Iterable
from typing import Any, TypeVar

import trio

ErrType = type[BaseException]
_ErrT = TypeVar("_ErrT", bound=ErrType)

_public: dict[str, ErrType] = {}
_by_name: dict[str, ErrType] = {}
_by_path: dict[str, ErrType] = {}

_MAIN_NAMES = ("__main__", "__mp_main__")


def public_error(cls: _ErrT) -> _ErrT:
    """Class decorator: show ``cls`` as ``tractor.<name>``; its instances can be pickled and copied.

    Arguments and attributes travel; a value among them that cannot be pickled arrives as ``None``
    (an argument as its ``repr``), so that an error is never lost because of what it carries.
    """
    if not issubclass(cls, tuple(_public.values())):
        _make_portable(cls)
    cls.__module__ = "tractor"
    _public[cls.__name__] = cls
    return cls


def _make_portable(cls: ErrType) -> None:
    """Give the topmost class of a family the methods that its subclasses then inherit.

    The type is referred to by its name in our own table, not by ``tractor.<name>``: the facade need
    not be loaded.
    """

    def __reduce__(self: BaseException) -> tuple[Any, ...]:
        reduced: tuple[Any, ...] = tuple(super(cls, self).__reduce__())
        ref = _reference(type(self))
        args = tuple(arg if _can_pickle(arg) else _safe_repr(arg) for arg in reduced[1])
        state = reduced[2] if len(reduced) > 2 else None
        return (_rebuild, (ref, args), _picklable_state(state))

    def __copy__(self: BaseException) -> BaseException:
        twin = _rebuild(type(self), self.args)
        twin.__dict__.update(self.__dict__)
        return twin

    cls.__reduce__ = __reduce__  # type: ignore[assignment]
    cls.__copy__ = __copy__  # type: ignore[attr-defined]


def _reference(cls: ErrType) -> ErrType | str:
    return cls.__name__ if _public.get(cls.__name__) is cls else cls


def _rebuild(ref: ErrType | str, args: tuple[Any, ...]) -> BaseException:
    """An exception as it was built, without running its own ``__init__`` again."""
    cls = _public[ref] if isinstance(ref, str) else ref
    exc = cls.__new__(cls, *args)
    if isinstance(exc, ImportError):
        ImportError.__init__(exc, *args)
    return exc


def _picklable_state(state: dict[str, Any] | None) -> dict[str, Any] | None:
    if state is None or _can_pickle(state):
        return state
    return {
        key: _picklable_state(value)
        if type(value) is dict
        else (value if _can_pickle(value) else None)
        for key, value in state.items()
    }


def _can_pickle(value: object) -> bool:
    # Whoever pickles has loaded pickle; without it this is a deep copy, which needs no such test.
    pickle = sys.modules.get("pickle")
    if pickle is None:
        return True
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True


def _safe_repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__} object, its repr() failed>"


def type_path(cls: type) -> str:
    """The qualified name ``'module:qualname'`` of a class."""
    return f"{cls.__module__}:{cls.__qualname__}"


def reg_err_types(exc_types: Iterable[ErrType]) -> None:
    """Make the exception types ``exc_types`` of an application known, so that remote errors of these types show
    them.

    A later type replaces an earlier one of the same name.

    Raises:
        TypeError: a member is not an exception type; nothing is registered then.
    """
    types = list(exc_types)
    for cls in types:
        if not _is_error_type(cls):
            raise TypeError(f"reg_err_types() takes exception types, got {_safe_repr(cls)}")
    for cls in types:
        _by_name[cls.__name__] = cls
        _by_path[one_main(type_path(cls))] = cls


def get_err_type(type_name: str) -> ErrType | None:
    """The exception type called ``type_name``: a registered one, else one of builtins, tractor, trio or
    bdb.
    """
    name = type_name
    known = _by_name.get(name) or _member(builtins, name) or _public.get(name)
    return known or _member(trio, name) or (_member(_bdb(), name) if name in _OF_BDB else None)


_OF_BDB = ("BdbQuit",)
"""The exceptions of `bdb`, which is loaded when one of them is first asked for."""


def _bdb() -> object:
    return importlib.import_module("bdb")


def find_err_type(
    name: str, path: str = "", enabled_modules: Collection[str] = ()
) -> ErrType | None:
    """The loaded exception type that a peer calls ``name``, with the qualified name ``path``, or
    ``None``.

    In this order: a registered type of that path; a type at that path in a module that is enabled
    here and loaded; one of builtins, tractor, trio or bdb if the path lies there; a registered type
    of that name. Without a path the name alone decides.
    """
    if not path:
        return get_err_type(name)
    return (
        _by_path.get(one_main(path))
        or _find_enabled(path, enabled_modules)
        or _find_known(path)
        or _by_name.get(name)
    )


def one_main(path: str) -> str:
    """``path`` with one name for the main module, which goes by another in a child."""
    module, _, qualname = path.partition(":")
    return f"__main__:{qualname}" if module in _MAIN_NAMES else path


def _find_enabled(path: str, enabled_modules: Collection[str]) -> ErrType | None:
    module, _, qualname = path.partition(":")
    if module not in _MAIN_NAMES:
        return _member(sys.modules.get(module), qualname) if module in enabled_modules else None
    if not any(name in enabled_modules for name in _MAIN_NAMES):
        return None
    # In a child `__main__` is the runtime's own entry point, so the replayed module comes first.
    found = (_member(sys.modules.get(name), qualname) for name in reversed(_MAIN_NAMES))
    return next((cls for cls in found if cls is not None), None)


def _find_known(path: str) -> ErrType | None:
    module, _, qualname = path.partition(":")
    if module == "tractor":
        return _public.get(qualname)
    if module == "bdb":
        return _member(_bdb(), qualname) if qualname in _OF_BDB else None
    if module in ("builtins", "msgspec") or module.partition(".")[0] in ("trio", "tractor"):
        return _member(sys.modules.get(module), qualname)
    return None


def _member(module: object, qualname: str) -> ErrType | None:
    """The exception type at ``qualname`` in ``module``.

    It looks into the namespaces themselves: a module's or metaclass's ``__getattr__`` must not run
    for a name that a peer chose.
    """
    found: object = module
    for part in qualname.split("."):
        if found is not module and not isinstance(found, type):
            return None
        found = getattr(found, "__dict__", {}).get(part)
    return found if _is_error_type(found) else None  # type: ignore[return-value]


def _is_error_type(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)
