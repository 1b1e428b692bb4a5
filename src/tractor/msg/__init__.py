"""What travels between actors: messages, codecs, payload specs, and references by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor.msg import hooks as hooks
    from tractor.msg import pretty_struct as pretty_struct
    from tractor.msg import types as types
    from tractor.msg._boxing import pack_error as pack_error
    from tractor.msg._boxing import unpack_error as unpack_error
    from tractor.msg._codec import MsgCodec as MsgCodec
    from tractor.msg._codec import MsgDec as MsgDec
    from tractor.msg._codec import apply_codec as apply_codec
    from tractor.msg._codec import current_codec as current_codec
    from tractor.msg._codec import limit_msg_spec as limit_msg_spec
    from tractor.msg._codec import mk_codec as mk_codec
    from tractor.msg._codec import mk_dec as mk_dec
    from tractor.msg._ext_types import mk_boxed_ext_struct as mk_boxed_ext_struct
    from tractor.msg._ext_types import mk_codec_hooks as mk_codec_hooks
    from tractor.msg._nspath import NamespacePath as NamespacePath
    from tractor.msg._payload import validate_payload_msg as validate_payload_msg
    from tractor.msg._pld_rx import PldRx as PldRx
    from tractor.msg._pld_rx import drain_to_final_msg as drain_to_final_msg
    from tractor.msg._pld_rx import limit_plds as limit_plds
    from tractor.msg._pld_rx import maybe_limit_plds as maybe_limit_plds
    from tractor.msg._union import dec_type_union as dec_type_union
    from tractor.msg._union import enc_type_union as enc_type_union
    from tractor.msg._union import unpack_spec_types as unpack_spec_types
    from tractor.msg.pretty_struct import Struct as Struct
    from tractor.msg.types import Aid as Aid
    from tractor.msg.types import CancelAck as CancelAck
    from tractor.msg.types import Credit as Credit
    from tractor.msg.types import Error as Error
    from tractor.msg.types import Msg as Msg
    from tractor.msg.types import MsgType as MsgType
    from tractor.msg.types import PayloadMsg as PayloadMsg
    from tractor.msg.types import PayloadT as PayloadT
    from tractor.msg.types import Return as Return
    from tractor.msg.types import SpawnSpec as SpawnSpec
    from tractor.msg.types import Start as Start
    from tractor.msg.types import StartAck as StartAck
    from tractor.msg.types import Started as Started
    from tractor.msg.types import Stop as Stop
    from tractor.msg.types import Yield as Yield
    from tractor.msg.types import __msg_spec__ as __msg_spec__
    from tractor.msg.types import __msg_types__ as __msg_types__

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
