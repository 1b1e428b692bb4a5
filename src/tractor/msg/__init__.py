"""What travels between actors: messages, codecs, payload specs, and references by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor.msg._ext_types import mk_boxed_ext_struct as mk_boxed_ext_struct
    from tractor.msg._ext_types import mk_codec_hooks as mk_codec_hooks
    from tractor.msg._union import unpack_spec_types as unpack_spec_types

    from . import hooks as hooks
    from . import pretty_struct as pretty_struct
    from . import types as types
    from ._boxing import pack_error as pack_error
    from ._boxing import unpack_error as unpack_error
    from ._codec import MsgCodec as MsgCodec
    from ._codec import MsgDec as MsgDec
    from ._codec import apply_codec as apply_codec
    from ._codec import current_codec as current_codec
    from ._codec import limit_msg_spec as limit_msg_spec
    from ._codec import mk_codec as mk_codec
    from ._codec import mk_dec as mk_dec
    from ._nspath import NamespacePath as NamespacePath
    from ._payload import validate_payload_msg as validate_payload_msg
    from ._pld_rx import PldRx as PldRx
    from ._pld_rx import drain_to_final_msg as drain_to_final_msg
    from ._pld_rx import limit_plds as limit_plds
    from ._pld_rx import maybe_limit_plds as maybe_limit_plds
    from ._union import dec_type_union as dec_type_union
    from ._union import enc_type_union as enc_type_union
    from .pretty_struct import Struct as Struct
    from .types import Aid as Aid
    from .types import CancelAck as CancelAck
    from .types import Credit as Credit
    from .types import Error as Error
    from .types import Msg as Msg
    from .types import MsgType as MsgType
    from .types import PayloadMsg as PayloadMsg
    from .types import PayloadT as PayloadT
    from .types import Return as Return
    from .types import SpawnSpec as SpawnSpec
    from .types import Start as Start
    from .types import StartAck as StartAck
    from .types import Started as Started
    from .types import Stop as Stop
    from .types import Yield as Yield
    from .types import __msg_spec__ as __msg_spec__
    from .types import __msg_types__ as __msg_types__

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "tractor.msg._ext_types": (
            "mk_boxed_ext_struct",
            "mk_codec_hooks",
        ),
        "tractor.msg._boxing": (
            "pack_error",
            "unpack_error",
        ),
        "tractor.msg._codec": (
            "MsgCodec",
            "MsgDec",
            "apply_codec",
            "current_codec",
            "limit_msg_spec",
            "mk_codec",
            "mk_dec",
        ),
        "tractor.msg._nspath": ("NamespacePath",),
        "tractor.msg._payload": ("validate_payload_msg",),
        "tractor.msg._pld_rx": (
            "PldRx",
            "drain_to_final_msg",
            "limit_plds",
            "maybe_limit_plds",
        ),
        "tractor.msg._union": (
            "dec_type_union",
            "enc_type_union",
            "unpack_spec_types",
        ),
        "tractor.msg.pretty_struct": ("Struct",),
        "tractor.msg.types": (
            "Aid",
            "CancelAck",
            "Credit",
            "Error",
            "Msg",
            "MsgType",
            "PayloadMsg",
            "PayloadT",
            "Return",
            "SpawnSpec",
            "Start",
            "StartAck",
            "Started",
            "Stop",
            "Yield",
            "__msg_spec__",
            "__msg_types__",
        ),
    },
    submodules=(
        "pretty_struct",
        "types",
        "hooks",
    ),
)
