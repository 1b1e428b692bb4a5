"""The backends on top of :mod:`multiprocessing`."""
