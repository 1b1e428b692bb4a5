"""Forking a process that has loaded the runtime and nothing of the user's: backend ``'zygote'``."""
