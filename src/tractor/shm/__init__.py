"""Shared memory: segments with a record of who made them, and what is kept in them."""
