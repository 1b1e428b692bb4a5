"""What a type checker knows of the packages' names; it is checked, and never run.

A line that must be refused has a comment for each checker, which is an error itself where nothing is refused.
"""

from __future__ import annotations

from typing import assert_type

import msgspec

import tractor
from tractor import Arbiter, Registrar
from tractor.devx import debug
from tractor.msg import NamespacePath, __msg_types__


def names(registrar: Registrar, error: tractor._exceptions.MsgTypeError) -> None:  # pyright: ignore[reportPrivateUsage]
    assert_type(registrar, Arbiter)
    assert_type(error, tractor.MsgTypeError)
    assert_type(tractor.current_actor().aid, tractor.msg.types.Aid)
    assert_type(debug.mk_pdb(), debug.PdbREPL)
    assert_type(NamespacePath("a:b"), NamespacePath)
    assert_type(__msg_types__, list[type[msgspec.Struct]])
    print(tractor.trionics.patches, tractor.ipc.fd_share)
    print(tractor.no_such_name)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]
    print(tractor.discovery.no_such_name)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]
