"""Finding and ending what is left behind, under the name that tests of older programs import."""

from __future__ import annotations

from tractor.reaping._shm import find_orphaned_shm as find_orphaned_shm
from tractor.reaping._shm import reap_shm as reap_shm
from tractor.reaping._signals import reap as reap
from tractor.reaping._strays import find_descendants as find_descendants
from tractor.reaping._strays import find_orphans as find_orphans
from tractor.reaping._strays import find_zombies as find_zombies
from tractor.testing.hangs._runaway import find_runaway_subactors as find_runaway_subactors
from tractor.transport._uds_leftovers import find_orphaned_uds as find_orphaned_uds
from tractor.transport._uds_leftovers import reap_uds as reap_uds
