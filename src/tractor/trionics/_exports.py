"""The public names of `tractor.trionics`; see `lazy_exports`."""

from tractor.pool._executor import PoolExecutor as PoolExecutor
from tractor.pool._items import ItemTimeout as ItemTimeout
from tractor.pool._jobs import WorkerDied as WorkerDied
from tractor.pool._map import PoolMap as PoolMap
from tractor.pool._pool import WorkerPool as WorkerPool
from tractor.pool._pool import WorkerPoolStatistics as WorkerPoolStatistics
from tractor.pool._pool import open_worker_pool as open_worker_pool
from tractor.trionics import patches as patches
from tractor.trionics._broadcast import AsyncReceiver as AsyncReceiver
from tractor.trionics._broadcast import BroadcastChannel as BroadcastChannel
from tractor.trionics._broadcast import BroadcastReceiver as BroadcastReceiver
from tractor.trionics._broadcast import BroadcastStatistics as BroadcastStatistics
from tractor.trionics._broadcast import Lagged as Lagged
from tractor.trionics._broadcast import broadcast_receiver as broadcast_receiver
from tractor.trionics._cached import maybe_open_context as maybe_open_context
from tractor.trionics._groups import collapse_eg as collapse_eg
from tractor.trionics._groups import get_collapsed_eg as get_collapsed_eg
from tractor.trionics._groups import is_multi_cancelled as is_multi_cancelled
from tractor.trionics._masking import BoxedMaybeException as BoxedMaybeException
from tractor.trionics._masking import (
    maybe_raise_from_masking_exc as maybe_raise_from_masking_exc,
)
from tractor.trionics._nursery import gather_contexts as gather_contexts
from tractor.trionics._nursery import maybe_open_nursery as maybe_open_nursery
from tractor.trionics._nursery import start_or_cancel as start_or_cancel
from tractor.trionics._run_process import supervise_run_process as supervise_run_process
