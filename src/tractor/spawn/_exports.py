"""The public names of `tractor.spawn`; see `lazy_exports`."""

from tractor.spawn._contract import ChildProcess as ChildProcess
from tractor.spawn._contract import SpawnBackend as SpawnBackend
from tractor.spawn._contract import SpawnMethodKey as SpawnMethodKey
from tractor.spawn._contract import SpawnRequest as SpawnRequest
from tractor.spawn._contract import try_set_start_method as try_set_start_method
from tractor.spawn._contract import usable_start_methods as usable_start_methods
from tractor.spawn._exec import PopenChild as PopenChild
from tractor.spawn._own_child import ExitSource as ExitSource
from tractor.spawn._own_child import OwnChild as OwnChild
from tractor.spawn._pipes import BootedChild as BootedChild
from tractor.spawn._pipes import ChildPipes as ChildPipes
from tractor.spawn.fork._fork import fork_from_worker_thread as fork_from_worker_thread
from tractor.spawn.fork._forked import ForkedProc as ForkedProc
from tractor.spawn.fork._forked import wait_child as wait_child
from tractor.spawn.subint._thread import (
    run_subint_in_worker_thread as run_subint_in_worker_thread,
)
