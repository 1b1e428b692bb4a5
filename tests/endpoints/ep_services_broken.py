"""A module that can't be imported, for the tests of services that never start."""

raise ImportError("ep_services_broken is broken")
