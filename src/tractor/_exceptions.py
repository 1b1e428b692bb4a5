"""The stable import path of the error types and of the functions that carry them between actors."""

from __future__ import annotations

from ._error_registry import get_err_type as get_err_type
from ._error_registry import reg_err_types as reg_err_types
from ._errors import ActorBusy as ActorBusy
from ._errors import ActorFailure as ActorFailure
from ._errors import ActorTooSlowError as ActorTooSlowError
from ._errors import AsyncioCancelled as AsyncioCancelled
from ._errors import AsyncioRuntimeTranslationError as AsyncioRuntimeTranslationError
from ._errors import AsyncioTaskExited as AsyncioTaskExited
from ._errors import ContextCancelled as ContextCancelled
from ._errors import DebugRequestError as DebugRequestError
from ._errors import DebugStateError as DebugStateError
from ._errors import InternalError as InternalError
from ._errors import MessagingError as MessagingError
from ._errors import ModuleNotExposed as ModuleNotExposed
from ._errors import MsgTypeError as MsgTypeError
from ._errors import NoResult as NoResult
from ._errors import NoRuntime as NoRuntime
from ._errors import RemoteActorError as RemoteActorError
from ._errors import RuntimeFailure as RuntimeFailure
from ._errors import StreamOverrun as StreamOverrun
from ._errors import TransportClosed as TransportClosed
from ._errors import TrioCancelled as TrioCancelled
from ._errors import TrioTaskExited as TrioTaskExited
from .msg._boxing import pack_error as pack_error
from .msg._boxing import unpack_error as unpack_error
