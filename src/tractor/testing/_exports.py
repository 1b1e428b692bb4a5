"""The public names of `tractor.testing`; see `lazy_exports`."""

from tractor.reaping._shm import find_orphaned_shm as find_orphaned_shm
from tractor.reaping._shm import reap_shm as reap_shm
from tractor.reaping._signals import reap as reap
from tractor.reaping._strays import find_descendants as find_descendants
from tractor.reaping._strays import find_orphans as find_orphans
from tractor.reaping._strays import find_zombies as find_zombies
from tractor.testing import _reap as _reap
from tractor.testing import addr as addr
from tractor.testing._addrs import get_rando_addr as get_rando_addr
from tractor.testing._faults import break_ipc as break_ipc
from tractor.testing._faults import expect_ctxc as expect_ctxc
from tractor.testing._runner import tractor_test as tractor_test
from tractor.testing._samples import examples_dir as examples_dir
from tractor.testing._samples import generate_sample_messages as generate_sample_messages
from tractor.testing._samples import mk_cmd as mk_cmd
from tractor.testing._samples import repodir as repodir
from tractor.testing.hangs._runaway import find_runaway_subactors as find_runaway_subactors
from tractor.testing.hangs._timeouts import AFKAlarmTimeout as AFKAlarmTimeout
from tractor.testing.hangs._timeouts import afk_alarm_w_trace as afk_alarm_w_trace
from tractor.testing.hangs._timeouts import fail_after_w_trace as fail_after_w_trace
from tractor.transport._uds_leftovers import find_orphaned_uds as find_orphaned_uds
from tractor.transport._uds_leftovers import reap_uds as reap_uds
