"""Forking: backend ``'main_thread_forkserver'``."""
