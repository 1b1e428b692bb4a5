"""Which public names the API reference shows, page by page, and the writer of these pages.

To document a new public name, add it to its page below.  A name that cannot be resolved is a
warning, and so an error in `make docs`.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

from sphinx.util import logging

log = logging.getLogger(__name__)

PAGES: dict[str, tuple[str, str, list[str]]] = {
    # file: (title, module, names)
    "boot": (
        "Boot and nurseries",
        "tractor",
        [
            "open_root_actor",
            "open_nursery",
            "run_daemon",
            "open_actor_cluster",
            "ActorNursery",
        ],
    ),
    "dialogs": (
        "Portals, contexts, streams",
        "tractor",
        ["Portal", "LocalPortal", "context", "Context", "ContextState", "MsgStream", "stream"],
    ),
    "discovery": (
        "Discovery",
        "tractor",
        ["get_registry", "find_actor", "wait_for_actor", "query_actor"],
    ),
    "addresses": (
        "Addresses",
        "tractor.discovery",
        [
            "TCPAddress",
            "UDSAddress",
            "wrap_address",
            "is_wrapped_addr",
            "get_address_cls",
            "default_lo_addrs",
            "mk_maddr",
            "parse_maddr",
            "parse_endpoints",
        ],
    ),
    "introspection": (
        "Introspection",
        "tractor",
        [
            "Actor",
            "Registrar",
            "current_actor",
            "current_ipc_ctx",
            "is_root_process",
            "debug_mode",
            "get_runtime_vars",
            "RuntimeVars",
        ],
    ),
    "errors": (
        "Errors",
        "tractor",
        [
            "RuntimeFailure",
            "ActorFailure",
            "ActorTooSlowError",
            "InternalError",
            "NoRuntime",
            "NoResult",
            "MessagingError",
            "TransportClosed",
            "ModuleNotExposed",
            "RemoteActorError",
            "ContextCancelled",
            "MsgTypeError",
            "StreamOverrun",
        ],
    ),
    "msg": (
        "Messages and payloads",
        "tractor.msg",
        [
            "mk_codec",
            "MsgCodec",
            "mk_dec",
            "MsgDec",
            "apply_codec",
            "current_codec",
            "limit_msg_spec",
            "NamespacePath",
            "Struct",
        ],
    ),
    "ipc": (
        "Channels, transports, servers",
        "tractor.ipc",
        ["Channel", "MsgTransport", "MsgpackTCPStream", "MsgpackUDSStream", "Server", "Endpoint"],
    ),
    "log": (
        "Logging",
        "tractor.log",
        [
            "get_logger",
            "get_console_log",
            "add_log_level",
            "parse_logspec",
            "apply_logspec",
            "get_loglevel",
            "at_least_level",
            "StackLevelAdapter",
        ],
    ),
}


def directive(value: Any) -> str:
    """The autodoc directive for *value*, with its options."""
    if inspect.isclass(value):
        kind = "exception" if issubclass(value, BaseException) else "class"
        return f"auto{kind}:: {{}}\n   :members:\n   :show-inheritance:"
    return "autofunction:: {}" if callable(value) else "autodata:: {}"


def heading(text: str, line: str = "=") -> str:
    return f"{text}\n{line * len(text)}\n"


def page(title: str, module: str, names: list[str]) -> str:
    """The text of one page; warns about a name that *module* does not have."""
    parts = [heading(title)]
    for name in names:
        try:
            value = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            log.warning(
                "API reference: %s.%s cannot be had: %s", module, name, error, type="reference"
            )
            continue
        parts.append(f".. {directive(value).format(f'{module}.{name}')}\n")
    return "\n".join(parts)


def write(folder: Path) -> None:
    """Write all pages into *folder*; a page that would not change is left alone."""
    folder.mkdir(exist_ok=True)
    texts = {name: page(*content) for name, content in PAGES.items()}
    listed = "\n".join(f"   {name}" for name in PAGES)
    texts["index"] = (
        f"{heading('API reference')}\n"
        "Every public name, with its arguments, results, errors and units. Times are seconds and\n"
        "sizes bytes, unless said.\n\n"
        f".. toctree::\n   :maxdepth: 1\n\n{listed}\n"
    )
    for name, text in texts.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
