"""Structured concurrency across processes and hosts: a trio nursery whose tasks are processes.

Every public name is loaded when it is first used, so that importing the package costs little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor import devx as devx
    from tractor import discovery as discovery
    from tractor import experimental as experimental
    from tractor import ipc as ipc
    from tractor import log as log
    from tractor import msg as msg
    from tractor import notebook as notebook
    from tractor import spawn as spawn
    from tractor import testing as testing
    from tractor import to_asyncio as to_asyncio
    from tractor import trionics as trionics
    from tractor._clustering import open_actor_cluster as open_actor_cluster
    from tractor._exceptions import ActorBusy as ActorBusy
    from tractor._exceptions import ActorFailure as ActorFailure
    from tractor._exceptions import ActorTooSlowError as ActorTooSlowError
    from tractor._exceptions import AsyncioCancelled as AsyncioCancelled
    from tractor._exceptions import AsyncioRuntimeTranslationError as AsyncioRuntimeTranslationError
    from tractor._exceptions import AsyncioTaskExited as AsyncioTaskExited
    from tractor._exceptions import ContextCancelled as ContextCancelled
    from tractor._exceptions import DebugRequestError as DebugRequestError
    from tractor._exceptions import DebugStateError as DebugStateError
    from tractor._exceptions import InternalError as InternalError
    from tractor._exceptions import MessagingError as MessagingError
    from tractor._exceptions import ModuleNotExposed as ModuleNotExposed
    from tractor._exceptions import MsgTypeError as MsgTypeError
    from tractor._exceptions import NoResult as NoResult
    from tractor._exceptions import NoRuntime as NoRuntime
    from tractor._exceptions import RemoteActorError as RemoteActorError
    from tractor._exceptions import RuntimeFailure as RuntimeFailure
    from tractor._exceptions import StreamOverrun as StreamOverrun
    from tractor._exceptions import TransportClosed as TransportClosed
    from tractor._exceptions import TrioCancelled as TrioCancelled
    from tractor._exceptions import TrioTaskExited as TrioTaskExited
    from tractor._exceptions import get_err_type as get_err_type
    from tractor._exceptions import pack_error as pack_error
    from tractor._exceptions import reg_err_types as reg_err_types
    from tractor._exceptions import unpack_error as unpack_error
    from tractor._freeze import freeze_support as freeze_support
    from tractor._proto.dialog import ContextState as ContextState
    from tractor._proto.limits import Limits as Limits
    from tractor._root import open_nursery as open_nursery
    from tractor._root import open_root_actor as open_root_actor
    from tractor._root import run_daemon as run_daemon
    from tractor.devx._stack_dump import dump_task_tree as dump_task_tree
    from tractor.devx.debug._pause import breakpoint as breakpoint
    from tractor.devx.debug._pause import pause as pause
    from tractor.devx.debug._post_mortem import post_mortem as post_mortem
    from tractor.devx.debug._public import get_debug_req as get_debug_req
    from tractor.devx.debug._public import get_lock as get_lock
    from tractor.devx.debug.repl._sync import pause_from_sync as pause_from_sync
    from tractor.discovery._lookup import find_actor as find_actor
    from tractor.discovery._lookup import query_actor as query_actor
    from tractor.discovery._lookup import wait_for_actor as wait_for_actor
    from tractor.discovery._registrar import Registrar as Registrar
    from tractor.discovery._registrars import get_arbiter as get_arbiter
    from tractor.discovery._registrars import get_registry as get_registry
    from tractor.ipc._chan import Channel as Channel
    from tractor.msg._ext_types import mk_boxed_ext_struct as mk_boxed_ext_struct
    from tractor.msg._ext_types import mk_codec_hooks as mk_codec_hooks
    from tractor.msg._union import unpack_spec_types as unpack_spec_types
    from tractor.process._dirs import get_rt_dir as get_rt_dir
    from tractor.runtime._actor import Actor as Actor
    from tractor.runtime._portal import LocalPortal as LocalPortal
    from tractor.runtime._portal import Portal as Portal
    from tractor.runtime._state import current_actor as current_actor
    from tractor.runtime._state import debug_mode as debug_mode
    from tractor.runtime._state import is_root_process as is_root_process
    from tractor.runtime._state import last_actor as last_actor
    from tractor.runtime._vars import RuntimeVars as RuntimeVars
    from tractor.runtime._vars import get_runtime_vars as get_runtime_vars
    from tractor.runtime._vars import set_runtime_vars as set_runtime_vars
    from tractor.runtime.dialog._context import Context as Context
    from tractor.runtime.dialog._context import MsgStream as MsgStream
    from tractor.runtime.dialog._context import current_ipc_ctx as current_ipc_ctx
    from tractor.runtime.dialog._endpoints import context as context
    from tractor.runtime.dialog._endpoints import stream as stream
    from tractor.supervise._nursery import ActorNursery as ActorNursery
    from tractor.testing._runaway import find_runaway_subactors as find_runaway_subactors
    from tractor.transport.tls._config import TLSConfig as TLSConfig
    from tractor.trionics._broadcast import AsyncReceiver as AsyncReceiver

    Arbiter = Registrar

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "tractor.testing._runaway": ("find_runaway_subactors",),
        "tractor.msg._union": ("unpack_spec_types",),
        "tractor.msg._ext_types": (
            "mk_boxed_ext_struct",
            "mk_codec_hooks",
        ),
        "tractor.devx.debug._public": (
            "get_debug_req",
            "get_lock",
        ),
        "tractor.devx._stack_dump": ("dump_task_tree",),
        "tractor.trionics._broadcast": ("AsyncReceiver",),
        "tractor.process._dirs": ("get_rt_dir",),
        "tractor._root": (
            "open_nursery",
            "open_root_actor",
            "run_daemon",
        ),
        "tractor._clustering": ("open_actor_cluster",),
        "tractor._freeze": ("freeze_support",),
        "tractor._exceptions": (
            "ActorBusy",
            "ActorFailure",
            "ActorTooSlowError",
            "AsyncioCancelled",
            "AsyncioRuntimeTranslationError",
            "AsyncioTaskExited",
            "ContextCancelled",
            "DebugRequestError",
            "DebugStateError",
            "InternalError",
            "MessagingError",
            "ModuleNotExposed",
            "MsgTypeError",
            "NoResult",
            "NoRuntime",
            "RemoteActorError",
            "RuntimeFailure",
            "StreamOverrun",
            "TransportClosed",
            "TrioCancelled",
            "TrioTaskExited",
            "get_err_type",
            "pack_error",
            "reg_err_types",
            "unpack_error",
        ),
        "tractor.discovery._lookup": (
            "find_actor",
            "query_actor",
            "wait_for_actor",
        ),
        "tractor.discovery._registrar": ("Registrar",),
        "tractor.discovery._registrars": (
            "get_arbiter",
            "get_registry",
        ),
        "tractor.ipc._chan": ("Channel",),
        "tractor.transport.tls._config": ("TLSConfig",),
        "tractor._proto.dialog": ("ContextState",),
        "tractor._proto.limits": ("Limits",),
        "tractor.devx.debug._pause": (
            "breakpoint",
            "pause",
        ),
        "tractor.devx.debug._post_mortem": ("post_mortem",),
        "tractor.devx.debug.repl._sync": ("pause_from_sync",),
        "tractor.runtime._actor": ("Actor",),
        "tractor.runtime.dialog._context": ("Context", "MsgStream", "current_ipc_ctx"),
        "tractor.runtime.dialog._endpoints": (
            "context",
            "stream",
        ),
        "tractor.runtime._portal": (
            "LocalPortal",
            "Portal",
        ),
        "tractor.runtime._state": (
            "current_actor",
            "debug_mode",
            "is_root_process",
            "last_actor",
        ),
        "tractor.runtime._vars": (
            "RuntimeVars",
            "get_runtime_vars",
            "set_runtime_vars",
        ),
        "tractor.supervise._nursery": ("ActorNursery",),
    },
    submodules=(
        "devx",
        "discovery",
        "experimental",
        "ipc",
        "log",
        "msg",
        "notebook",
        "spawn",
        "testing",
        "to_asyncio",
        "trionics",
        "_exceptions",
        "_testing",
    ),
    aliases={"Arbiter": ("tractor.discovery._registrar", "Registrar")},
)
