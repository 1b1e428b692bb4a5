"""The pytest plugin for programs that use tractor: ``pytest -p tractor.testing.pytest``.

It adds options, fixtures and markers (``pytest --help``, ``--fixtures`` and ``--markers`` list them),
puts the runtime vars back after each test, and ends the actors that a session has left.
"""

from __future__ import annotations

import pytest

from tractor.testing.plugin._collect import (
    pytest_collection_modifyitems as pytest_collection_modifyitems,
)
from tractor.testing.plugin._collect import pytest_generate_tests as pytest_generate_tests
from tractor.testing.plugin._collect import pytest_pycollect_makeitem as pytest_pycollect_makeitem
from tractor.testing.plugin._collect import pytest_pyfunc_call as pytest_pyfunc_call
from tractor.testing.plugin._config import pytest_addoption as pytest_addoption
from tractor.testing.plugin._config import pytest_configure as pytest_configure
from tractor.testing.plugin._config import undo_configuration
from tractor.testing.plugin._fixtures import _runtime_vars_as_before as _runtime_vars_as_before
from tractor.testing.plugin._fixtures import afk_alarm_w_trace as afk_alarm_w_trace
from tractor.testing.plugin._fixtures import debug_mode as debug_mode
from tractor.testing.plugin._fixtures import (
    detect_runaway_subactors_per_test as detect_runaway_subactors_per_test,
)
from tractor.testing.plugin._fixtures import fail_after_w_trace as fail_after_w_trace
from tractor.testing.plugin._fixtures import is_forking_spawner as is_forking_spawner
from tractor.testing.plugin._fixtures import loglevel as loglevel
from tractor.testing.plugin._fixtures import reap_subactors_per_test as reap_subactors_per_test
from tractor.testing.plugin._fixtures import reg_addr as reg_addr
from tractor.testing.plugin._fixtures import set_fork_aware_capture as set_fork_aware_capture
from tractor.testing.plugin._fixtures import spawn_backend as spawn_backend
from tractor.testing.plugin._fixtures import start_method as start_method
from tractor.testing.plugin._fixtures import test_log as test_log
from tractor.testing.plugin._fixtures import testing_pkg_name as testing_pkg_name
from tractor.testing.plugin._fixtures import tpt_proto as tpt_proto
from tractor.testing.plugin._fixtures import tpt_protos as tpt_protos
from tractor.testing.plugin._fixtures import (
    track_orphaned_uds_per_test as track_orphaned_uds_per_test,
)
from tractor.testing.plugin._session import pytest_sessionfinish as pytest_sessionfinish
from tractor.testing.plugin._session import pytest_sessionstart as pytest_sessionstart
from tractor.testing.plugin._session import pytest_terminal_summary as pytest_terminal_summary
from tractor.testing.plugin._session import pytest_timeout_set_timer as pytest_timeout_set_timer
from tractor.testing.plugin._session import ring_bell


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    undo_configuration(config)
    ring_bell(config)
