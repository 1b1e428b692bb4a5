"""What a start says where the machine is full: which process could not be started, of what there may be too little."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tractor._errors import RuntimeFailure
from tractor._util._plain import safe_str

_LOOK_AT = "descriptors (`ulimit -n`), processes and threads (`ulimit -u`), memory, room for temporary files"


@contextmanager
def named_shortage(key: str, name: str) -> Iterator[None]:
    """Give errors that tell nothing by themselves a text; ``OSError`` tells what was short, and passes.

    Args:
        key: the spawn backend's.
        name: the actor's.

    Raises:
        RuntimeFailure: no thread can be started; what a backend speaks to has ended before it has answered; no
            temporary file can be made.
        BaseException: whatever else the block raises.
    """
    what = f"actor {name!r} could not be started by the spawn backend {key!r}"
    try:
        yield
    except EOFError as exc:
        raise RuntimeFailure(
            f"{what}: the process that was to start it has ended before it has answered ({safe_str(exc) or 'EOF'}); its"
            f" stderr may say why, and of these there may be too little: {_LOOK_AT}"
        ) from exc
    except OSError as exc:
        # `tempfile` says so of whatever error it had in each of its places.
        if "temporary directory" not in safe_str(exc):
            exc.add_note(what)
            raise
        raise RuntimeFailure(
            f"{what}: {safe_str(exc)}; of these there may be too little: {_LOOK_AT}"
        ) from exc
    except RuntimeError as exc:
        if "start new thread" not in safe_str(exc):
            raise
        raise RuntimeFailure(
            f"{what}: {safe_str(exc)}; of these there may be too little: {_LOOK_AT}"
        ) from exc
