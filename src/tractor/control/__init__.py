"""Asking a running actor from outside: a socket, and a thread that answers also while the loop is busy."""
