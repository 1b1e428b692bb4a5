"""The stable import path of the error types and of the functions that carry them between actors."""

from __future__ import annotations

from tractor._error_registry import get_err_type as get_err_type
from tractor._error_registry import reg_err_types as reg_err_types
from tractor._errors import ActorBusy as ActorBusy
from tractor._errors import ActorFailure as ActorFailure
from tractor._errors import ActorTooSlowError as ActorTooSlowError
from tractor._errors import AsyncioCancelled as AsyncioCancelled
from tractor._errors import AsyncioRuntimeTranslationError as AsyncioRuntimeTranslationError
from tractor._errors import AsyncioTaskExited as AsyncioTaskExited
from tractor._errors import ContextCancelled as ContextCancelled
from tractor._errors import DebugRequestError as DebugRequestError
from tractor._errors import DebugStateError as DebugStateError
from tractor._errors import HostLost as HostLost
from tractor._errors import HostUnavailable as HostUnavailable
from tractor._errors import InternalError as InternalError
from tractor._errors import MessagingError as MessagingError
from tractor._errors import ModuleNotExposed as ModuleNotExposed
from tractor._errors import MsgTypeError as MsgTypeError
from tractor._errors import NoResult as NoResult
from tractor._errors import NoRuntime as NoRuntime
from tractor._errors import RemoteActorError as RemoteActorError
from tractor._errors import RestartLimitExceeded as RestartLimitExceeded
from tractor._errors import RuntimeFailure as RuntimeFailure
from tractor._errors import ServiceEnded as ServiceEnded
from tractor._errors import ServiceNotReady as ServiceNotReady
from tractor._errors import ServiceStuck as ServiceStuck
from tractor._errors import StreamOverrun as StreamOverrun
from tractor._errors import TransportClosed as TransportClosed
from tractor._errors import TrioCancelled as TrioCancelled
from tractor._errors import TrioTaskExited as TrioTaskExited
from tractor.msg._boxing import pack_error as pack_error
from tractor.msg._boxing import unpack_error as unpack_error
