"""Codecs and payload types, without a process.

What to learn: what `pld_spec=` of an endpoint does can be had by hand, for messages of your own.
"""

from decimal import Decimal
from pathlib import PurePosixPath

import trio

from tractor import msg
from tractor.msg import MsgCodec, MsgDec, NamespacePath
from tractor.msg.hooks import nspath_hooks


def payloads() -> None:
    """Bytes of a payload are decoded as a type, or refused."""
    decoder: MsgDec = msg.mk_dec(int | None)
    assert decoder.decode(b"\x07") == 7
    print("a decoder for", decoder.spec)


def codecs() -> None:
    """The codec of all messages in this task, unless another one is applied."""
    codec: MsgCodec = msg.current_codec()
    data = codec.encode(msg.types.Stop(cid=1))
    print(codec.decode(data))
    print([kind.__name__ for kind in msg.unpack_spec_types(int | str)])


def own_types() -> None:
    """Types of your own: how they are written, and how they are read."""
    hooks = msg.mk_codec_hooks({Decimal: (str, Decimal)})
    print("written as", hooks.enc_hook(Decimal("1.50")))
    Boxed = msg.mk_boxed_ext_struct(PurePosixPath)
    print(Boxed.__name__)


def references() -> None:
    """A function by its name, which travels as text."""
    name = NamespacePath.from_ref(codecs)
    print(name, name.load_ref() is codecs)
    print("written by:", nspath_hooks().enc_hook(name))


async def main() -> None:
    payloads()
    codecs()
    own_types()
    references()


if __name__ == "__main__":
    trio.run(main)
