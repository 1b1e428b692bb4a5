"""Sub-interpreters: backend ``'subint'``."""
