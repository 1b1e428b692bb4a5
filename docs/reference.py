"""Which public names the API reference shows, page by page, and the writer of these pages.

To document a new public name, add it to its page below.  A name that cannot be resolved is a
warning, and so an error in `make docs`.
"""

from __future__ import annotations

import importlib
import inspect
import textwrap
from pathlib import Path
from typing import Any

import usages
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
            "run_pool",
            "open_actor_cluster",
            "TLSConfig",
            "ActorNursery",
            "freeze_support",
        ],
    ),
    "supervisors": (
        "Supervisors",
        "tractor",
        [
            "open_supervisor",
            "Supervisor",
            "Service",
            "ServiceSpec",
            "ServiceEvent",
            "Backoff",
            "Recycle",
            "RestartLimitExceeded",
            "ServiceEnded",
            "ServiceNotReady",
            "ServiceStuck",
        ],
    ),
    "notebook": (
        "Notebooks",
        "tractor.notebook",
        ["MODULE", "run_cell", "load_ipython_extension"],
    ),
    "spawn": (
        "Spawn backends",
        "tractor.spawn",
        [
            "try_set_start_method",
            "usable_start_methods",
            "SpawnBackend",
            "SpawnRequest",
            "ChildProcess",
            "ChildPipes",
            "BootedChild",
            "ExitSource",
            "OwnChild",
            "PopenChild",
            "fork_from_worker_thread",
            "wait_child",
            "ForkedProc",
        ],
    ),
    "dialogs": (
        "Portals, contexts, streams",
        "tractor",
        ["Portal", "LocalPortal", "context", "Context", "ContextState", "MsgStream", "stream"],
    ),
    "hosts": (
        "Other hosts",
        "tractor.hosts",
        [
            "open_host",
            "HostHandle",
            "HostStatistics",
            "Place",
            "HostEngine",
            "StdioEngine",
            "CallbackEngine",
            "Offer",
        ],
    ),
    "discovery": (
        "Discovery",
        "tractor",
        ["get_registry", "find_actor", "wait_for_actor", "query_actor", "registrar"],
    ),
    "peers": (
        "Roads to peers",
        "tractor.discovery",
        ["get_root", "maybe_open_portal", "open_portal", "get_peer_by_name"],
    ),
    "addresses": (
        "Addresses",
        "tractor.discovery",
        [
            "Address",
            "TCPAddress",
            "UDSAddress",
            "wrap_address",
            "is_wrapped_addr",
            "get_address_cls",
            "default_lo_addrs",
            "mk_maddr",
            "parse_maddr",
            "parse_endpoints",
            "load_endpoints",
            "prefer_addr",
            "mk_uuid",
        ],
    ),
    "introspection": (
        "Introspection",
        "tractor",
        [
            "Actor",
            "Registrar",
            "current_actor",
            "actor_state",
            "current_ipc_ctx",
            "is_root_process",
            "debug_mode",
            "last_actor",
            "get_runtime_vars",
            "set_runtime_vars",
            "RuntimeVars",
            "get_rt_dir",
        ],
    ),
    "errors": (
        "Errors",
        "tractor",
        [
            "RuntimeFailure",
            "ActorFailure",
            "HostLost",
            "HostUnavailable",
            "ActorBusy",
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
            "DebugRequestError",
            "DebugStateError",
            "reg_err_types",
            "get_err_type",
            "pack_error",
            "unpack_error",
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
            "limit_plds",
            "maybe_limit_plds",
            "PldRx",
            "validate_payload_msg",
            "drain_to_final_msg",
            "unpack_spec_types",
            "mk_codec_hooks",
            "mk_boxed_ext_struct",
            "NamespacePath",
        ],
    ),
    "hooks": (
        "Hooks for payloads",
        "tractor.msg.hooks",
        ["Hooks", "combine", "path_hooks", "nspath_hooks", "ndarray_hooks"],
    ),
    "pretty_struct": (
        "Pretty structs",
        "tractor.msg.pretty_struct",
        ["Struct", "DiffDump", "pformat", "iter_fields"],
    ),
    "ipc": (
        "Channels, transports, servers",
        "tractor.ipc",
        [
            "Channel",
            "connect_chan",
            "transport_from_addr",
            "transport_from_stream",
            "MsgTransport",
            "MsgpackTransport",
            "MsgpackTCPStream",
            "MsgpackUDSStream",
            "TransportSpec",
            "Listener",
            "ByteIO",
            "SocketIO",
            "MemoryTransport",
            "memory_pair",
            "Server",
            "open_ipc_server",
            "Endpoint",
        ],
    ),
    "shared_memory": (
        "Shared memory and rings",
        "tractor.ipc",
        [
            "open_shm_list",
            "attach_shm_list",
            "ShmList",
            "open_shm",
            "attach_shm",
            "shm_token",
            "destroy_shm",
            "ShmToken",
            "open_shm_ndarray",
            "attach_shm_ndarray",
            "maybe_open_shm_ndarray",
            "ShmArray",
            "NDToken",
            "get_shm_token",
            "SharedInt",
            "open_ringbuf",
            "RBToken",
            "RingBuffSender",
            "RingBuffReceiver",
            "EventFD",
            "open_eventfd",
            "read_eventfd",
            "write_eventfd",
            "close_eventfd",
        ],
    ),
    "fd_share": (
        "Rings by name",
        "tractor.ipc.fd_share",
        ["open_ringbuf"],
    ),
    "worker_pool": (
        "Worker pools",
        "tractor.trionics",
        [
            "open_worker_pool",
            "WorkerPool",
            "PoolMap",
            "WorkerPoolStatistics",
            "WorkerDied",
            "ItemTimeout",
            "PoolExecutor",
        ],
    ),
    "trionics": (
        "Helpers for plain trio",
        "tractor.trionics",
        [
            "gather_contexts",
            "maybe_open_context",
            "maybe_open_nursery",
            "start_or_cancel",
            "broadcast_receiver",
            "BroadcastReceiver",
            "BroadcastStatistics",
            "Lagged",
            "AsyncReceiver",
            "collapse_eg",
            "get_collapsed_eg",
            "is_multi_cancelled",
            "maybe_raise_from_masking_exc",
            "BoxedMaybeException",
            "supervise_run_process",
        ],
    ),
    "to_asyncio": (
        "asyncio inside",
        "tractor.to_asyncio",
        [
            "run_as_asyncio_guest",
            "open_channel_from",
            "run_task",
            "LinkedTaskChannel",
            "LinkedTaskStatistics",
            "run_trio_task_in_future",
            "maybe_signal_aio_task",
            "AsyncioCancelled",
            "AsyncioTaskExited",
            "TrioCancelled",
            "TrioTaskExited",
            "AsyncioRuntimeTranslationError",
        ],
    ),
    "topics": (
        "Publish and subscribe",
        "tractor.topics",
        ["publisher", "Publisher", "subscribe", "Subscription", "Item", "Slow"],
    ),
    "experimental": (
        "Experimental",
        "tractor.experimental",
        ["msgpub"],
    ),
    "reaping": (
        "Stray actors",
        "tractor.testing",
        [
            "find_descendants",
            "find_orphans",
            "find_zombies",
            "find_runaway_subactors",
            "reap",
            "find_orphaned_shm",
            "reap_shm",
            "find_orphaned_uds",
            "reap_uds",
        ],
    ),
    "debugger": (
        "The debugger",
        "tractor.devx.debug",
        [
            "pause",
            "pause_from_sync",
            "post_mortem",
            "open_crash_handler",
            "maybe_open_crash_handler",
            "maybe_init_greenback",
            "mk_pdb",
            "PdbREPL",
            "TractorConfig",
            "acquire_debug_lock",
            "maybe_wait_for_debugger",
            "maybe_pause_bp",
            "Lock",
            "LockStatistics",
            "DebugStatus",
            "get_lock",
            "get_debug_req",
            "sigint_shield",
        ],
    ),
    "seeing": (
        "Seeing what a tree does",
        "tractor.devx",
        [
            "tree_picture",
            "api_frame",
            "hide_runtime_frames",
            "CallerInfo",
            "enable_stack_on_sig",
            "dump_task_tree",
            "dump_on_hang",
            "track_resource_deltas",
            "resource_delta_fixture",
            "set_actor_proctitle",
        ],
    ),
    "pformat": (
        "Text for people",
        "tractor.devx.pformat",
        [
            "add_div",
            "pformat_boxed_tb",
            "pformat_exc",
            "pformat_caller_frame",
            "pformat_cs",
            "nest_from_op",
        ],
    ),
    "opentelemetry": ("OpenTelemetry", "tractor.devx.otel", ["instrument"]),
    "devx_cli": ("Options for command lines", "tractor.devx.cli", ["load_runtime_vars"]),
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
    "testing": (
        "Testing",
        "tractor.testing",
        [
            "tractor_test",
            "expect_ctxc",
            "break_ipc",
            "get_rando_addr",
            "fail_after_w_trace",
            "afk_alarm_w_trace",
            "AFKAlarmTimeout",
            "generate_sample_messages",
            "mk_cmd",
            "examples_dir",
            "repodir",
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


def example(usage: usages.Usage) -> str:
    """What stands below a name: a tested program that uses it, where it stands, and its lines."""
    source = usage.source
    place = f"``{source.title}``" if source.page is None else f":doc:`/{source.page}`"
    code = textwrap.indent(usage.code, "   ")
    return (
        f"*Used in* {place}, *line {usage.line}:*\n\n"
        f".. code-block:: python\n   :class: example\n\n{code}"
    )


def page(title: str, module: str, names: list[str], used: dict[int, list[usages.Usage]]) -> str:
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
        if id(value) in used:
            parts.append(example(used[id(value)][0]))
    return "\n".join(parts)


def write(folder: Path) -> None:
    """Write all pages into *folder*; a page that would not change is left alone."""
    folder.mkdir(exist_ok=True)
    used = usages.usages()
    texts = {name: page(*content, used) for name, content in PAGES.items()}
    listed = "\n".join(f"   {name}" for name in PAGES)
    texts["index"] = (
        f"{heading('API reference')}\n"
        "Every public name, with its arguments, results, errors and units. Times are seconds and\n"
        "sizes bytes, unless said. Below a name stand the lines of a program that uses it; the tests\n"
        "run each of these programs.\n\n"
        f".. toctree::\n   :maxdepth: 1\n\n{listed}\n"
    )
    for name, text in texts.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
