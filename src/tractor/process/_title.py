"""The process title: which process is which, in `ps` and `top`."""

from __future__ import annotations

from typing import Protocol


class _Named(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def pid(self) -> int | None: ...


def actor_title(name: str, pid: int | None, prefix: str = "_subactor") -> str:
    """``<prefix>[<name>@<pid>]``; what would garble a terminal or end a C string is shown as ``?``."""
    plain = "".join(c if c.isprintable() else "?" for c in name)
    return f"{prefix}[{plain}@{pid}]"


def set_actor_proctitle(actor: _Named, prefix: str = "_subactor") -> str | None:
    """Give this process the title of an actor, ``<prefix>[<name>@<pid>]``, also as its short name (``comm``).

    Args:
        actor: the actor of this process, or its ``Aid``.
        prefix: what the title begins with.

    Returns:
        The title; ``None`` where ``setproctitle`` is not installed, and nothing has changed.
    """
    title = actor_title(actor.name, actor.pid, prefix)
    return title if set_title(title) else None


def set_title(title: str) -> bool:
    """Set the process title; ``False`` where that can't be done.  Never raises."""
    try:
        import setproctitle

        # Before the first call the library looks for the arguments, and changes nothing where it fails.
        setproctitle.setproctitle(title)
    except Exception:
        return False
    return True
