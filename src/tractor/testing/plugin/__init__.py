"""The parts of the pytest plugin `tractor.testing.pytest`."""
